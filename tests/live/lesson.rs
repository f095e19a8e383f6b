//! `docs/time-wait-and-close-wait.md`: its session is played, and each of its screens compared with
//! what tcptrace says at that point.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    support::netns::Netns,
    tests,
    tracer::{DEADLINE, netns, run},
};

tests![what_the_page_shows_happens];

const PAGE: &str = include_str!("../../docs/time-wait-and-close-wait.md");

/// A part of the page's session.
enum Step {
    /// Typed into Python.
    Python(String),
    /// A command, and what it printed.
    Screen { args: Vec<String>, shown: String },
}

/// The blocks of the page: `python` is typed, `text` that begins with a prompt is a screen.
fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```").filter(|kind| !kind.is_empty()) else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|l| *l != "```").collect();
        let command = block.first().and_then(|l| l.strip_prefix("$ sudo tcptrace "));
        match (kind, command) {
            ("python", _) => steps.push(Step::Python(block.join("\n"))),
            ("text", Some(command)) => steps.push(Step::Screen {
                args: command.split_whitespace().map(str::to_owned).collect(),
                shown: block[1..].join("\n"),
            }),
            _ => {}
        }
    }
    steps
}

/// Python in a namespace of its own, block by block.
struct Python {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Python {
    fn start(ns: &Netns) -> Self {
        // Each block arrives as one line, its text quoted.
        const LOOP: &str = "import ast, sys\nscope = {}\nfor line in sys.stdin:\n \
                            exec(ast.literal_eval(line), scope)\n print('done', flush=True)";
        let mut command = Command::new("python3");
        command.args(["-c", LOOP]).stdin(Stdio::piped()).stdout(Stdio::piped());
        ns.enter_in(&mut command).expect("the namespace is there");
        let mut child = command.spawn().expect("python3 starts");
        let stdin = child.stdin.take().expect("stdin");
        let stdout = BufReader::new(child.stdout.take().expect("stdout"));
        Self { child, stdin, stdout }
    }

    fn run(&mut self, block: &str) {
        // A string of JSON is one of Python, too.
        writeln!(self.stdin, "{}", serde_json::Value::from(block)).expect("it reads");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it answers");
        assert_eq!(line.trim(), "done", "{block}");
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many sockets there are in each state, and states and verdicts of a screen's rows, in order
/// of their names.
fn rows(screen: &str) -> (Option<&str>, Vec<(String, String)>) {
    let counts = screen.lines().find(|l| l.starts_with("  all by state"));
    let table = screen.lines().skip_while(|l| !l.starts_with("AGE ")).skip(1);
    let mut rows: Vec<_> = table
        .take_while(|l| !l.is_empty())
        .filter_map(|row| {
            let mut words = row.split_whitespace().skip(1).map(str::to_owned);
            Some((words.next()?, words.next()?))
        })
        .collect();
    rows.sort();
    (counts, rows)
}

fn what_the_page_shows_happens() {
    let ns = netns();
    let path = ns.path().to_str().expect("a plain path").to_owned();
    let mut python = Python::start(&ns);
    let mut screens = 0;
    for step in steps() {
        match step {
            Step::Python(block) => python.run(&block),
            Step::Screen { args, shown } => {
                screens += 1;
                let args: Vec<&str> =
                    args.iter().map(|a| if a.starts_with("pid:") { &path } else { &**a }).collect();
                let wanted = rows(&shown);
                let deadline = Instant::now() + DEADLINE;
                // A FIN needs a moment to arrive, and some states a while to be told from others.
                loop {
                    let (status, out, err) = run(&args);
                    assert_eq!(status.code(), Some(0), "{err}");
                    if rows(&out) == wanted {
                        break;
                    }
                    assert!(Instant::now() < deadline, "{args:?}: {wanted:?} shown, but\n{out}");
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
    assert!(screens >= 8, "{screens} screens: the page has more");
}

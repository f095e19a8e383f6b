//! Where threads are: `explain PID --stacks`, on programs whose functions are known.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Instant,
};

use serde_json::{Value, json};

use tcptrace::view::json::schema;

use crate::{
    origins::build::has,
    tests,
    tracer::{DEADLINE, Pair, netns, run, tcptrace},
};

tests![
    threads_of_a_c_program,
    a_thread_that_never_waits,
    mangled_names_and_none_at_all,
    a_file_that_was_replaced,
    what_a_debugger_has_is_left_alone,
    nothing_is_stopped_unasked,
    killed_while_it_stops_threads,
    go_without_symbols,
    python_is_read_without_a_stop,
    python_with_a_perf_map,
    of_those_who_leak,
];

/// Ends with its guard.
struct Program(Child);

impl Program {
    fn start(path: &Path, args: &[&str]) -> Self {
        let child = Command::new(path).args(args).stdin(Stdio::piped()).spawn().expect("starts");
        Self(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// No thread of it is stopped, and nobody traces it.
    fn assert_free(&self) {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("threads");
        for task in tasks {
            let path = task.expect("a thread").path().join("status");
            let status = fs::read_to_string(&path).expect("a status");
            let field = |name| status.lines().find(|l| l.starts_with(name)).unwrap_or_default();
            let state = field("State:");
            assert!(!state.contains("T (") && !state.contains("t ("), "{state}");
            assert_eq!(field("TracerPid:"), "TracerPid:\t0");
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Why a test of this module can't run here.
pub fn missing(name: &str) -> Option<String> {
    let programs: &[(&str, &str)] = match name {
        "of_those_who_leak" => &[],
        "go_without_symbols" => &[("go", "version")],
        "mangled_names_and_none_at_all" => {
            &[("c++", "-v"), ("strip", "--version"), ("objcopy", "--version")]
        }
        "python_is_read_without_a_stop" => return no_python("3.13"),
        "python_with_a_perf_map" => return no_python("3.12"),
        _ => &[("cc", "-v")],
    };
    let (program, _) = programs.iter().find(|(program, asks)| !has(program, asks))?;
    Some(format!("it builds a program with {program}, which is not here"))
}

fn no_python(version: &str) -> Option<String> {
    python(version).is_none().then(|| format!("there is no python{version} here"))
}

/// Compiles a program of `tests/live/programs`.
fn compiled(dir: &Path, compiler: &str, source: &str, flags: &[&str]) -> PathBuf {
    let text = match source {
        "threads.c" => include_str!("programs/threads.c"),
        _ => include_str!("programs/fetcher.cc"),
    };
    let (from, to) = (dir.join(source), dir.join("program"));
    fs::write(&from, text).expect("a source");
    let mut command = Command::new(compiler);
    command.args(["-O2", "-g", "-fomit-frame-pointer", "-pthread"]).args(flags);
    let status = command.arg("-o").arg(&to).arg(&from).status().expect(compiler);
    assert!(status.success(), "{compiler}: {status}");
    to
}

/// The line of a source that ends in this comment.
fn line_of(source: &str, comment: &str) -> u64 {
    let at = source.lines().position(|l| l.ends_with(comment)).expect("the comment");
    at as u64 + 1
}

/// What `--stacks` says in JSON, once it says enough.
fn stacks(program: &Program, enough: impl Fn(&Value) -> bool) -> (Value, String) {
    let deadline = Instant::now() + DEADLINE;
    let pid = program.pid().to_string();
    loop {
        let args = ["explain", &pid, "--stacks", "--no-bpf", "--format", "json"];
        let (status, out, err) = run(&args);
        assert_eq!(status.code(), Some(0), "{err}");
        program.assert_free();
        let line = out.lines().next().expect("a line");
        let process: Value = serde_json::from_str(line).expect("JSON");
        if enough(&process["stacks"]) {
            return (process, err);
        }
        assert!(Instant::now() < deadline, "{err}{process:#}");
    }
}

fn frame<'a>(thread: &'a Value, function: &str) -> Option<&'a Value> {
    thread["frames"].as_array()?.iter().find(|f| f["function"] == function)
}

fn with<'a>(stacks: &'a Value, function: &str) -> Vec<&'a Value> {
    let threads = stacks.as_array().map(Vec::as_slice).unwrap_or_default();
    threads.iter().filter(|t| frame(t, function).is_some()).collect()
}

fn threads_of_a_c_program() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = compiled(dir.path(), "cc", "threads.c", &[]);
    let mut program = Program::start(&path, &[]);
    let (process, err) = stacks(&program, |stacks| {
        with(stacks, "waits_for_data").len() == 3 && with(stacks, "main").len() == 1
    });
    let told = format!("--stacks stops 4 threads of {} for some microseconds each", program.pid());
    assert!(err.contains(&told), "{err}");
    let source = include_str!("programs/threads.c");
    for thread in with(&process["stacks"], "waits_for_data") {
        let frames = thread["frames"].as_array().expect("frames");
        for (function, comment) in [("waits_for_data", "// here"), ("serves", "// and here")] {
            let frame = frame(thread, function).expect("the function");
            assert_eq!((&frame["code"], &frame["unknown"]), (&json!("own"), &Value::Null));
            assert_eq!(frame["line"], line_of(source, comment), "{frame}");
            assert!(frame["file"].as_str().is_some_and(|f| f.ends_with("threads.c")), "{frame}");
            assert_eq!(frame["module"], path.to_str().expect("UTF-8"));
        }
        assert_eq!(frames[0]["code"], "library", "{thread}");
        assert_eq!(thread["cut"], Value::Null, "to the thread's first function: {thread}");
        assert_eq!(thread["name"], "program");
    }
    let (_, page, _) = run(&["explain", &program.pid().to_string(), "--stacks", "--no-bpf"]);
    assert!(
        page.contains("3 of 4 threads: ") && page.contains(" ← waits_for_data threads.c:"),
        "{page}"
    );
    // It goes on as if nothing had been.
    program.assert_free();
    program.0.stdin.take().expect("stdin").write_all(b"q").expect("written");
    assert_eq!(program.0.wait().expect("it ends").code(), Some(7));
}

fn a_thread_that_never_waits() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = compiled(dir.path(), "cc", "threads.c", &[]);
    let program = Program::start(&path, &["on"]);
    let (process, _) = stacks(&program, |stacks| with(stacks, "spins").len() == 1);
    let thread = with(&process["stacks"], "spins")[0];
    assert_eq!(thread["frames"][0]["function"], "spins");
    assert!(frame(thread, "main").is_some(), "{thread}");
}

fn mangled_names_and_none_at_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let flags = ["-Wl,--build-id=0xabcdef0123"];
    let path = compiled(dir.path(), "c++", "fetcher.cc", &flags);
    let program = Program::start(&path, &[]);
    let (process, _) = stacks(&program, |s| with(s, "crawler::Fetcher::fetch").len() == 1);
    let thread = &process["stacks"][0];
    let fetch = frame(thread, "crawler::Fetcher::fetch").expect("the method");
    assert_eq!(fetch["line"], line_of(include_str!("programs/fetcher.cc"), "// here"), "{fetch}");
    assert!(frame(thread, "crawler::run<crawler::Fetcher>").is_some(), "{thread:#}");

    let bare = dir.path().join("bare");
    let strip = Command::new("strip").arg("-o").arg(&bare).arg(&path).status();
    assert!(strip.is_ok_and(|status| status.success()), "strip");
    let program = Program::start(&bare, &[]);
    let unnamed = |f: &Value| f["code"] == "own" && f["function"].is_null();
    let (process, _) = stacks(&program, |stacks| {
        stacks[0]["frames"].as_array().is_some_and(|list| list.iter().any(unnamed))
    });
    let thread = &process["stacks"][0];
    let bare_frame = thread["frames"].as_array().and_then(|l| l.iter().find(|f| unnamed(f)));
    let why = bare_frame.expect("the frame")["unknown"].as_str().expect("a reason").to_owned();
    assert!(why.contains("install debug symbols of build id abcdef0123"), "{why}");
    assert_eq!(thread["cut"], Value::Null, "its way out is known all the same: {thread:#}");

    // Installed next to it, where `.gnu_debuglink` says.
    let debug = dir.path().join("program.debug");
    let objcopy = |args: &[&str]| {
        let status = Command::new("objcopy").args(args).current_dir(dir.path()).status();
        status.is_ok_and(|status| status.success())
    };
    let linked = debug.to_str().is_some()
        && objcopy(&["--only-keep-debug", "program", "program.debug"])
        && objcopy(&["--add-gnu-debuglink=program.debug", "bare", "linked"]);
    assert!(linked, "objcopy is there wherever strip is");
    let program = Program::start(&dir.path().join("linked"), &[]);
    let (process, _) = stacks(&program, |s| with(s, "crawler::Fetcher::fetch").len() == 1);
    let fetch = frame(&process["stacks"][0], "crawler::Fetcher::fetch");
    assert!(fetch.expect("the method")["line"].is_u64(), "{process:#}");
}

fn a_file_that_was_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = compiled(dir.path(), "cc", "threads.c", &[]);
    let program = Program::start(&path, &[]);
    stacks(&program, |stacks| with(stacks, "waits_for_data").len() == 3);
    // As an update does it. The mapping leads to the old one all the same, for who has the rights.
    let other = dir.path().join("other");
    fs::copy("/bin/sh", &other).expect("a copy");
    fs::rename(&other, &path).expect("replaced");
    let (process, _) = stacks(&program, |s| with(s, "waits_for_data").len() == 3);
    let thread = with(&process["stacks"], "serves")[0];
    assert!(frame(thread, "serves").is_some_and(|f| f["line"].is_u64()), "{thread}");
}

fn what_a_debugger_has_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = compiled(dir.path(), "cc", "threads.c", &[]);
    let program = Program::start(&path, &[]);
    let pid = program.pid();
    let (tell, told) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let debugger = thread::spawn(move || {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: nothing of ours is read or written by this request.
        let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid as libc::pid_t, none, none) };
        tell.send(seized).expect("sent");
        // When this thread ends, the kernel lets go of the program.
        let _ = ended.recv();
    });
    assert_eq!(told.recv(), Ok(0), "it is ours");
    let args = ["explain", &pid.to_string(), "--stacks", "--no-bpf", "--format", "json"];
    let (status, out, err) = run(&args);
    assert_eq!(status.code(), Some(0), "{err}");
    let process: Value = serde_json::from_str(out.lines().next().expect("a line")).expect("JSON");
    let why = process["unknown"]["stacks"].as_str().unwrap_or_default();
    assert!(process["stacks"].is_null() && why.contains("debugger"), "{process:#}");
    assert!(!err.contains("stops"), "nothing was stopped: {err}");
    drop(end);
    debugger.join().expect("a thread");
}

fn killed_while_it_stops_threads() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = compiled(dir.path(), "cc", "threads.c", &[]);
    let program = Program::start(&path, &["on"]);
    stacks(&program, |s| with(s, "waits_for_data").len() == 3);
    for _ in 0..20 {
        let mut explain = tcptrace()
            .args(["explain", &program.pid().to_string(), "--stacks", "--no-bpf"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        // It says so, and then does it.
        let mut said = BufReader::new(explain.stderr.take().expect("stderr")).lines();
        assert!(said.any(|line| line.is_ok_and(|l| l.contains("stops 4 threads"))));
        explain.kill().expect("killed");
        explain.wait().expect("ended");
        program.assert_free();
    }
}

fn go_without_symbols() {
    let source = include_str!("programs/main.go");
    let dir = tempfile::tempdir().expect("a directory");
    let (from, to) = (dir.path().join("main.go"), dir.path().join("program"));
    fs::write(&from, source).expect("a source");
    let mut go = Command::new("go");
    go.args(["build", "-ldflags=-s -w", "-o"]).arg(&to).arg(&from).current_dir(dir.path());
    let status = go.status().expect("go");
    assert!(status.success(), "go: {status}");
    let program = Program::start(&to, &[]);
    let (process, _) = stacks(&program, |s| {
        with(s, "main.works").len() == 1 && with(s, "main.(*Crawler).fetch").len() == 1
    });
    for (function, comment) in [("main.(*Crawler).fetch", "// here"), ("main.works", "// and here")]
    {
        let thread = with(&process["stacks"], function)[0];
        let frame = frame(thread, function).expect("the function");
        assert_eq!((&frame["code"], &frame["unknown"]), (&json!("own"), &Value::Null));
        assert_eq!(frame["line"], line_of(source, comment), "{frame}");
        assert_eq!(thread["cut"], Value::Null, "to the goroutine's beginning: {thread:#}");
    }
}

/// A Python of this version, where there is one: in PATH, or pyenv's.
fn python(version: &str) -> Option<PathBuf> {
    let mut places = vec![PathBuf::from(format!("python{version}"))];
    let home = std::env::var("HOME").unwrap_or_default();
    let versions = fs::read_dir(format!("{home}/.pyenv/versions")).into_iter().flatten().flatten();
    places.extend(versions.map(|v| v.path().join(format!("bin/python{version}"))));
    let runs = |path: &PathBuf| {
        let asked = Command::new(path).args(["-c", "import sys; print(sys.executable)"]).output();
        let asked = asked.ok().filter(|asked| asked.status.success())?;
        Some(PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim()))
    };
    places.iter().find_map(runs)
}

/// Runs the crawler until both of its threads are where they wait, and holds the frames against its
/// source; the lines, where those are known.
fn crawls(python: &Path, args: &[&str], lines: bool) -> (Value, String) {
    let source = include_str!("programs/crawler.py");
    let dir = tempfile::tempdir().expect("a directory");
    let script = dir.path().join("crawler.py");
    fs::write(&script, source).expect("a script");
    let script = script.to_str().expect("UTF-8");
    let program = Program::start(python, &[args, &[script]].concat());
    let fetching =
        |s: &Value| with(s, "Crawler.fetch").len() == 2 && with(s, "<module>").len() == 1;
    let (process, err) = stacks(&program, fetching);
    for thread in with(&process["stacks"], "Crawler.fetch") {
        for (function, comment) in [("Crawler.fetch", "# here"), ("serve", "# and here")] {
            let frame = frame(thread, function).expect("the function");
            assert_eq!((&frame["file"], &frame["code"]), (&json!(script), &json!("own")));
            let line = if lines { json!(line_of(source, comment)) } else { Value::Null };
            assert_eq!(frame["line"], line, "{frame}");
        }
        let library = thread["frames"].as_array().and_then(|frames| {
            frames
                .iter()
                .find(|f| f["function"].as_str().is_some_and(|n| n.ends_with("_bootstrap")))
        });
        assert_eq!(library.expect("Python's own")["code"], "library");
        assert_eq!(thread["cut"], Value::Null, "{thread:#}");
    }
    (process, err)
}

fn python_is_read_without_a_stop() {
    let python = python("3.13").expect("it is there");
    let (_, err) = crawls(&python, &[], true);
    assert!(!err.contains("stops"), "{err}");
}

fn python_with_a_perf_map() {
    let python = python("3.12").expect("it is there");
    let (process, err) = crawls(&python, &["-X", "perf"], false);
    assert!(err.contains("stops 3 threads"), "{err}");
    let thread = with(&process["stacks"], "Crawler.fetch")[0];
    assert!(frame(thread, "_PyEval_EvalFrameDefault").is_some_and(|f| f["code"] == "runtime"));
}

fn nothing_is_stopped_unasked() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = compiled(dir.path(), "cc", "threads.c", &[]);
    let program = Program::start(&path, &[]);
    let (_, out, err) =
        run(&["explain", &program.pid().to_string(), "--no-bpf", "--format", "json"]);
    let process: Value = serde_json::from_str(out.lines().next().expect("a line")).expect("JSON");
    assert!(process["stacks"].is_null() && !err.contains("stops"), "{err}{process:#}");
    let why = process["unknown"]["stacks"].as_str().unwrap_or_default();
    assert!(why.contains("--stacks"), "{why}");
}

/// Two servers, of which one leaks twice and the other once, and a client that is none.
fn of_those_who_leak() {
    let ns = netns();
    let (mut twice, mut once) = (Pair::new(&ns), Pair::new(&ns));
    let more = twice.client.number(&format!("connect {}", twice.address)).expect("connects");
    // The first descriptor that the server made is its listener.
    let listener = twice.served - 1;
    twice.server.number(&format!("accept {listener}")).expect("accepts");
    twice.client.tell(&format!("close {more}")).expect("closes");
    twice.client_closes();
    once.client_closes();
    let path = ns.path();
    let netns = ["--netns", path.to_str().expect("a plain path")];
    let (twice, once) = (twice.server.pid(), once.server.pid());
    let deadline = Instant::now() + DEADLINE;
    loop {
        let args = [&["snapshot", "--stacks", "--format", "json"], &netns[..]].concat();
        let (status, out, err) = run(&args);
        assert_eq!(status.code(), Some(0), "{err}");
        let lines: Vec<Value> =
            out.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        lines.iter().for_each(|line| assert_eq!(schema::check(line), Ok(()), "docs/json.md"));
        let events: Vec<&str> = lines.iter().filter_map(|l| l["event"].as_str()).collect();
        let last = lines.last().expect("a summary");
        if last["leaks"] != 3 {
            assert!(Instant::now() < deadline, "{out}");
            continue;
        }
        assert_eq!(events, ["socket", "socket", "socket", "stacks", "stacks", "summary"], "{out}");
        for (line, pid, leaks) in [(&lines[3], twice, 2), (&lines[4], once, 1)] {
            assert_eq!((&line["pid"], &line["leaks"]), (&json!(pid), &json!(leaks)), "{line:#}");
            let threads = line["stacks"].as_array().expect("threads");
            let main = threads.iter().find(|t| t["thread"] == pid).expect("its first thread");
            assert!(frame(main, "main").is_some(), "to its beginning: {main:#}");
            assert!(err.contains(&format!(" of {pid} for some microseconds each")), "{err}");
        }
        break;
    }
    let (_, page, _) = run(&[&["snapshot", "--stacks"], &netns[..]].concat());
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text:?} in {page}"));
    let section = |pid| at(&format!("[{pid}] now, the innermost call first"));
    assert!(section(twice) < section(once) && section(once) < at("3 sockets, 3 leaks"), "{page}");
    let (_, page, err) = run(&[&["snapshot"], &netns[..]].concat());
    assert!(!page.contains("innermost call") && !err.contains("stops"), "not asked for: {err}");
}

//! What a machine's console proves, and the tables made of it.

use std::{fmt::Write, time::Duration};

use super::{kernels::Kernel, machine::Console};

/// What is shown of a machine that did not pass.
const LAST_LINES: usize = 40;

/// The commands that each machine tries.
const COMMANDS: [&str; 3] = ["watch", "snapshot", "explain"];

/// One kernel's run.
pub struct Outcome {
    name: String,
    /// The package's.
    pub version: String,
    /// What the kernel calls itself, or of what could not be booted its name.
    release: String,
    /// `PASS passed failed ignored`, or why there is no such line.
    result: Result<Verdict, String>,
    commands: Vec<(String, String)>,
    took: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Verdict {
    passed: bool,
    /// Passed, failed, ignored.
    counts: [u32; 3],
}

impl Verdict {
    /// A verdict on tests that ran. Where none ran, or they ended without saying which failed, why.
    fn checked(self, console: &[String]) -> Result<Self, String> {
        let [passed, failed, _] = self.counts;
        if let Some(missing) = console.iter().find_map(|line| line.strip_prefix("MISSING ")) {
            return Err(format!("no {missing} in the machine"));
        }
        match (self.passed, passed, failed) {
            (_, 0, 0) => Err("no test ran".to_owned()),
            (true, ..) | (_, _, 1..) => Ok(self),
            _ => Err(format!("the tests ended with an error, {passed} had passed")),
        }
    }
}

impl Outcome {
    /// One that never booted.
    pub fn failed(name: &str, why: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: String::new(),
            release: name.to_owned(),
            result: Err(why.to_owned()),
            commands: Vec::new(),
            took: Duration::ZERO,
        }
    }

    /// Judges a console: exactly one verdict line counts. Shows the end of one that failed.
    pub fn of(kernel: &Kernel, console: &Console, deadline: Duration) -> Self {
        let (release, result) = match &verdicts(&console.lines)[..] {
            [(release, verdict)] => (release.clone(), verdict.checked(&console.lines)),
            [] if console.late => {
                (kernel.name.clone(), Err(format!("no verdict within {} s", deadline.as_secs())))
            }
            [] => (kernel.name.clone(), Err("it ended without a verdict".to_owned())),
            many => (kernel.name.clone(), Err(format!("{} verdicts", many.len()))),
        };
        let commands = console.lines.iter().filter_map(|line| {
            let (name, result) = line.strip_prefix("COMMAND ")?.split_once(' ')?;
            Some((name.to_owned(), result.to_owned()))
        });
        let outcome = Self {
            name: kernel.name.clone(),
            version: kernel.version.clone(),
            release,
            result,
            commands: commands.collect(),
            took: console.took,
        };
        if !outcome.passed() {
            let from = console.lines.len().saturating_sub(LAST_LINES);
            eprintln!("the end of the console:\n  {}", console.lines[from..].join("\n  "));
        }
        outcome
    }

    /// Tests passed, and each command does something defined.
    pub fn passed(&self) -> bool {
        self.result.as_ref().is_ok_and(|verdict| verdict.passed && verdict.counts[0] > 0)
            && COMMANDS.iter().all(|command| !matches!(self.command(command), "fails" | "unknown"))
    }

    fn command(&self, name: &str) -> &str {
        let found = self.commands.iter().find(|(command, _)| command == name);
        found.and_then(|(_, result)| result.split(' ').next()).unwrap_or("unknown")
    }

    /// The one verdict line.
    pub fn line(&self) -> String {
        let word = if self.passed() { "PASS" } else { "FAIL" };
        let why = match &self.result {
            Ok(Verdict { counts: [passed, failed, ignored], .. }) => {
                format!("{passed} {failed} {ignored}")
            }
            Err(why) => format!("0 0 0 ({why})"),
        };
        format!("VERDICT {} {word} {why}", self.release)
    }
}

/// The lines `VERDICT release PASS|FAIL passed failed ignored`. The console may have put a message
/// of the kernel's before them.
fn verdicts(lines: &[String]) -> Vec<(String, Verdict)> {
    let read = |line: &String| {
        let (_, rest) = line.split_once("VERDICT ")?;
        let words: Vec<&str> = rest.split(' ').collect();
        let [release, word, passed, failed, ignored] = words[..] else { return None };
        let counts = [passed.parse().ok()?, failed.parse().ok()?, ignored.parse().ok()?];
        Some((release.to_owned(), Verdict { passed: word == "PASS", counts }))
    };
    lines.iter().filter_map(read).collect()
}

/// Kernel, what ran, result.
pub fn table(outcomes: &[Outcome], left_out: &str) -> String {
    let mut out = format!("{:8} {:30} {:>6}  {}\n", "KERNEL", "RELEASE", "TIME", "LIVE TESTS");
    for outcome in outcomes {
        let result = match &outcome.result {
            Ok(Verdict { counts: [passed, failed, ignored], .. }) => {
                format!("{passed} passed, {failed} failed, {ignored} ignored ({left_out})")
            }
            Err(why) => why.clone(),
        };
        let word = if outcome.passed() { "ok" } else { "FAILED" };
        let took = format!("{:.0}s", outcome.took.as_secs_f64());
        let _ =
            writeln!(out, "{:8} {:30} {took:>6}  {word}: {result}", outcome.name, outcome.release);
        for (command, result) in &outcome.commands {
            let _ = writeln!(out, "{:8}   {command} {result}", "");
        }
    }
    out
}

/// The README's table.
pub fn markdown(outcomes: &[Outcome]) -> String {
    let mut out = String::from(
        "| kernel | watch | snapshot | explain | live tests |\n|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        let [watch, snapshot, explain] = COMMANDS.map(|command| outcome.command(command));
        let tests = match &outcome.result {
            _ if outcome.passed() => "pass".to_owned(),
            Ok(Verdict { counts: [_, failed, _], .. }) => format!("{failed} failed"),
            Err(why) => why.clone(),
        };
        // Debian's revision says nothing of the kernel.
        let version = outcome.version.split('-').next().filter(|version| !version.is_empty());
        let kernel = version.unwrap_or(&outcome.name).replace('~', "-");
        let _ = writeln!(out, "| {kernel} | {watch} | {snapshot} | {explain} | {tests} |");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &str) -> Console {
        Console {
            lines: text.lines().map(str::to_owned).collect(),
            took: Duration::ZERO,
            late: false,
        }
    }

    fn outcome(text: &str) -> Outcome {
        let kernel = Kernel {
            name: "6.1".into(),
            version: "6.1.192-2".into(),
            image: "/x".into(),
            modules: Vec::new(),
            cards: Vec::new(),
        };
        Outcome::of(&kernel, &console(text), Duration::from_secs(1))
    }

    const COMMANDS_WORK: &str =
        "COMMAND watch works\nCOMMAND snapshot works\nCOMMAND explain works\n";

    #[test]
    fn one_verdict_line_and_nothing_else_counts() {
        let good = outcome(&format!("{COMMANDS_WORK}[ 1.0] noise\nVERDICT 6.1.0-56 PASS 80 0 3"));
        assert!(good.passed());
        assert_eq!(good.line(), "VERDICT 6.1.0-56 PASS 80 0 3");
        for bad in [
            "Kernel panic - not syncing",
            "VERDICT 6.1.0-56 PASS 80 0 3\nVERDICT 6.1.0-56 PASS 80 0 3",
            "VERDICT 6.1.0-56 FAIL 79 1 3",
            "VERDICT 6.1.0-56 PASS 0 0 0",
            "VERDICT 6.1.0-56 PASS",
        ] {
            assert!(!outcome(&format!("{COMMANDS_WORK}{bad}")).passed(), "{bad}");
        }
        assert!(!outcome("VERDICT 6.1.0-56 PASS 80 0 3").passed(), "the commands were not tried");
    }

    #[test]
    fn where_nothing_ran_nothing_passed() {
        for (said, why) in [
            ("VERDICT 6.1.0-56 FAIL 0 0 0", "no test ran"),
            ("VERDICT 6.1.0-56 PASS 0 0 0", "no test ran"),
            ("VERDICT 6.1.0-56 PASS 0 0 80", "no test ran"),
            ("MISSING /tmp/a/tcptrace\nVERDICT 6.1.0-56 PASS 80 0 0", "no /tmp/a/tcptrace"),
            ("VERDICT 6.1.0-56 FAIL 80 0 0", "ended with an error"),
        ] {
            let outcome = outcome(&format!("{COMMANDS_WORK}{said}"));
            assert!(!outcome.passed(), "{said}");
            let line = outcome.line();
            assert!(
                line.starts_with("VERDICT 6.1.0-56 FAIL 0 0 0 (") && line.contains(why),
                "{line}"
            );
            for text in [markdown(&[outcome]), table(&[super::tests::outcome(said)], "-")] {
                assert!(text.contains(why) && !text.contains("0 failed"), "{text}");
            }
        }
    }

    #[test]
    fn the_readme_says_what_each_command_does() {
        let old = outcome(
            "COMMAND watch refused tcptrace: kernel 5.10.0 is too old\nCOMMAND snapshot degraded \
             tcptrace: x\nCOMMAND explain degraded tcptrace: x\nVERDICT 5.10.0-46 PASS 30 0 60",
        );
        assert!(markdown(&[old]).ends_with("| 6.1.192 | refused | degraded | degraded | pass |\n"));
    }
}

//! Exit codes: part of the interface.

use std::{fmt, io::Write, panic, process, process::ExitCode};

use crate::view::text::safe;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; also ended by Ctrl-C, or by the reader of the pipe.
    Done,
    /// Something went wrong on the way.
    Failed,
    /// The command line makes no sense here.
    Usage,
    /// `--fail-on-leak`, and there are leaks that count; `doctor --fail-on`, and there are findings
    /// that do.
    LeaksFound,
    /// The kernel or the rights do not allow it.
    NotAllowed,
    /// `run`: what the command that was run ended with.
    Command(u8),
}

impl Exit {
    /// Our own, in the order of their codes.
    pub const ALL: [Self; 5] =
        [Self::Done, Self::Failed, Self::Usage, Self::LeaksFound, Self::NotAllowed];

    /// The number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::LeaksFound => 3,
            Self::NotAllowed => 4,
            Self::Command(code) => code,
        }
    }

    /// What it means, as the manual pages say it.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "Done; also ended by Ctrl-C or by the reader of the pipe.",
            Self::Failed => "Something failed on the way; stderr says what.",
            Self::Usage => "Wrong usage, or something that was named does not exist.",
            Self::LeaksFound => {
                "With --fail-on-leak: leaks are open at the end; with --fail-on-leak=any: leaks \
                 were reported. With doctor --fail-on: there are findings of that harm, or worse. \
                 With run: the command left sockets behind."
            }
            Self::NotAllowed => "The kernel or the rights do not allow it; stderr says which.",
            Self::Command(_) => "run: what the command ended with.",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that knows how the program ends.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// The one line, without the program's name.
    pub message: String,
}

impl Failure {
    /// The command line makes no sense here.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, message: message.to_string() }
    }
}

impl From<crate::source::live::bpf::preflight::Refusal> for Failure {
    fn from(e: crate::source::live::bpf::preflight::Refusal) -> Self {
        Self { exit: Exit::NotAllowed, message: e.to_string() }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(e: anyhow::Error) -> Self {
        Self { exit: Exit::Failed, message: format!("{e:#}") }
    }
}

/// From now on a panic of any thread ends the program: one line on stderr, and the exit code.
/// Without this, a thread that ends so would leave the others to say that nothing was found.
pub fn on_panic() {
    panic::set_hook(Box::new(|info| {
        let said = info.payload_as_str().unwrap_or("no reason given");
        let at = info.location().map_or_else(String::new, |at| format!(" ({at})"));
        // Where nobody hears it, the exit code still says it.
        let _ = writeln!(
            anstream::stderr(),
            "tcptrace: a bug in tcptrace: {}{at}; please report it",
            safe(said)
        );
        process::exit(Exit::Failed.code().into())
    }));
}

#[cfg(test)]
mod tests {
    use std::{env, process::Command, thread};

    use super::*;

    const PLAYED: &str = "TCPTRACE_TEST_PANICS";

    #[test]
    fn a_panic_of_any_thread_is_one_line_and_an_exit_code() {
        if env::var_os(PLAYED).is_some() {
            on_panic();
            drop(thread::spawn(|| panic!("all of it\nis \x1b[1mone line")).join());
            // Never comes here.
            process::exit(42);
        }
        let name = "exit::tests::a_panic_of_any_thread_is_one_line_and_an_exit_code";
        let mut command = Command::new(env::current_exe().expect("this test"));
        command.args([name, "--exact", "--nocapture"]).env(PLAYED, "").env("RUST_BACKTRACE", "1");
        let output = command.output().expect("it runs");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.starts_with("tcptrace: a bug in tcptrace: all of it"), "{said}");
        assert!(said.contains("exit.rs:") && !said.contains('\x1b'), "{said}");
    }

    #[test]
    fn codes_are_the_interface() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 3, 4]);
    }
}

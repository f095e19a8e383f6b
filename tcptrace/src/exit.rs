//! Exit codes: part of the interface.

use std::{fmt, process::ExitCode};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; also ended by Ctrl-C, or by the reader of the pipe.
    Done,
    /// Something went wrong on the way.
    Failed,
    /// The command line makes no sense here.
    Usage,
    /// `--fail-on-leak`, and leaks were found.
    LeaksFound,
    /// The kernel or the rights do not allow it.
    NotAllowed,
}

impl Exit {
    /// In the order of their codes.
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
        }
    }

    /// What it means, as the manual pages say it.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "Done; also ended by Ctrl-C or by the reader of the pipe.",
            Self::Failed => "Something failed on the way; stderr says what.",
            Self::Usage => "Wrong usage, or something that was named does not exist.",
            Self::LeaksFound => "With --fail-on-leak: leaks were found.",
            Self::NotAllowed => "The kernel or the rights do not allow it; stderr says which.",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_interface() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 3, 4]);
    }
}

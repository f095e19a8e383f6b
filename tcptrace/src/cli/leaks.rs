//! Which leaks make a script fail.

use std::io::{self, ErrorKind};

use clap::ValueEnum;

use crate::{
    cli::ended_by,
    exit::{Exit, Failure},
};

#[derive(Debug, clap::Args)]
#[group(id = "leaks")]
pub struct Args {
    /// End with exit code 3 if leaks are open at the end; with =any, if any were reported
    #[arg(
        long,
        value_name = "WHICH",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "open",
        hide_possible_values = true,
        long_help = concat!(
            "End with exit code 3 if there are leaks, also where the reader of the output has ",
            "gone before.\n\n",
            "open (what --fail-on-leak alone means): leaks that are open at the end; any: also ",
            "those that were reported and then closed. For a snapshot, which is one moment, they ",
            "are the same.",
        )
    )]
    fail_on_leak: Option<FailOn>,
}

/// The leaks that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// Those that are open at the end
    Open,
    /// Each one that was reported
    Any,
}

/// Leaks, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaks {
    /// Reported and not resolved.
    pub open: u64,
    /// Reported, resolved or not.
    pub all: u64,
}

impl Args {
    /// How a command ends that found these leaks; `said` is what became of saying so.
    pub fn exit(&self, leaks: Leaks, said: io::Result<()>) -> Result<Exit, Failure> {
        let fails = match self.fail_on_leak {
            None => false,
            Some(FailOn::Open) => leaks.open > 0,
            Some(FailOn::Any) => leaks.all > 0,
        };
        match said {
            // A reader that has seen enough does not make the leaks go.
            Err(e) if e.kind() != ErrorKind::BrokenPipe => ended_by(e),
            _ if fails => Ok(Exit::LeaksFound),
            _ => Ok(Exit::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        leaks: Args,
        rest: Option<String>,
    }

    fn parsed(args: &[&str]) -> Command {
        let args = [&["x"], args].concat();
        Command::try_parse_from(args).expect("it makes sense")
    }

    #[test]
    fn the_flag_as_it_is_written() {
        let flag = |args: &[&str]| parsed(args).leaks.fail_on_leak;
        assert_eq!(flag(&[]), None);
        assert_eq!(flag(&["--fail-on-leak"]), Some(FailOn::Open));
        assert_eq!(flag(&["--fail-on-leak=open"]), Some(FailOn::Open));
        assert_eq!(flag(&["--fail-on-leak=any"]), Some(FailOn::Any));
        let next = parsed(&["--fail-on-leak", "any"]);
        assert_eq!(
            (next.leaks.fail_on_leak, next.rest.as_deref()),
            (Some(FailOn::Open), Some("any"))
        );
        assert!(Command::try_parse_from(["x", "--fail-on-leak=all"]).is_err());
    }

    #[test]
    fn which_leaks_count() {
        let code = |args: &[&str], open, all, said: io::Result<()>| {
            let exit = parsed(args).leaks.exit(Leaks { open, all }, said);
            exit.unwrap_or_else(|failure| failure.exit).code()
        };
        let (open, any) = (&["--fail-on-leak"][..], &["--fail-on-leak=any"][..]);
        for (args, [none, resolved, still_open]) in
            [(&[][..], [0, 0, 0]), (open, [0, 0, 3]), (any, [0, 3, 3])]
        {
            let whole = || Ok(());
            let closed = || Err(io::Error::from(ErrorKind::BrokenPipe));
            for said in [&whole as &dyn Fn() -> _, &closed] {
                assert_eq!(code(args, 0, 0, said()), none, "{args:?}");
                assert_eq!(code(args, 0, 2, said()), resolved, "{args:?}");
                assert_eq!(code(args, 1, 2, said()), still_open, "{args:?}");
            }
            let full = Err(io::Error::from(ErrorKind::StorageFull));
            assert_eq!(code(args, 1, 2, full), 1, "what was not written is worse");
        }
    }
}

//! Parses, runs, and turns the outcome into an exit code.

use std::{io::Write, process::ExitCode};

use tcptrace::{cli, exit};

fn main() -> ExitCode {
    exit::on_panic();
    match cli::run() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // One line whatever the cause holds: it may quote names that others chose.
            let message = tcptrace::view::text::safe(&failure.message);
            // Where nobody hears it, the exit code still says it.
            let _ = writeln!(anstream::stderr(), "tcptrace: {message}");
            failure.exit.into()
        }
    }
}

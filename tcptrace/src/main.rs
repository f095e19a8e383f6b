//! Parses, runs, and turns the outcome into an exit code.

use std::process::ExitCode;

use tcptrace::cli;

fn main() -> ExitCode {
    match cli::run() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // One line whatever the cause holds: it may quote names that others chose.
            anstream::eprintln!("tcptrace: {}", tcptrace::sink::text::safe(&failure.message));
            failure.exit.into()
        }
    }
}

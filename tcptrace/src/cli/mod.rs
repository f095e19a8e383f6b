//! The command line: one file per command, and what they share.

mod output;
mod select;
mod watch;

use clap::{Parser, Subcommand};

use crate::exit::{Exit, Failure};

/// Names the process that never calls close(): a kernel tracer for TCP state transitions
#[derive(Debug, Parser)]
#[command(name = "tcptrace", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Watch(watch::Args),
}

/// Parses the command line and runs what it says.
///
/// # Errors
/// A [`Failure`] with its one line.
pub fn run() -> Result<Exit, Failure> {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version go to stdout and are no errors.
            let exit = if e.use_stderr() { Exit::Usage } else { Exit::Done };
            return match e.print() {
                Ok(()) => Ok(exit),
                Err(_) => Ok(Exit::Done),
            };
        }
    };
    match cli.command {
        Command::Watch(args) => watch::run(args),
    }
}

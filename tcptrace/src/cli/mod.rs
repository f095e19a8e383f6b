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
        // Help and version go to stdout and are no errors, nor is a reader that has seen enough.
        Err(e) if !e.use_stderr() => return e.print().map_or(Ok(Exit::Done), |()| Ok(Exit::Done)),
        Err(e) => return Err(usage(&e)),
    };
    match cli.command {
        Command::Watch(args) => watch::run(args),
    }
}

/// The parser's message in one line, without its usage section.
fn usage(e: &clap::Error) -> Failure {
    if e.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::usage("what shall be done? tcptrace watch, for instance; tcptrace --help lists the commands");
    }
    let text = e.render().to_string();
    let told = text.lines().map(str::trim).filter(|l| !l.is_empty());
    let told = told.take_while(|l| !l.starts_with("Usage:") && !l.starts_with("For more information"));
    let line = told.collect::<Vec<_>>().join(" ");
    Failure::usage(line.strip_prefix("error: ").unwrap_or(&line))
}

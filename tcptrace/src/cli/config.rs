//! `tcptrace config`: the file that `--config` names.

use std::path::{Path, PathBuf};

use clap::Parser;

use super::{
    Cli, Command, config_example, ended_by, serve,
    settings::{FileSettings, merge},
    warn, watch,
};
use crate::{
    exit::{Exit, Failure},
    view::text::safe,
};

/// Check a file of settings, or write an example of one
#[derive(Debug, clap::Args)]
#[command(
    disable_help_subcommand = true,
    long_about = concat!(
        "Check a file of settings, or write an example of one.\n\n",
        "serve and watch read the file that --config names: TOML, a table for each, its keys the ",
        "flags' long names. Their command line wins over it. SIGHUP has them read it again.",
    ),
    after_help = concat!(
        "Examples:\n",
        "  tcptrace config example > tcptrace.toml          every flag with its help, commented out\n",
        "  tcptrace config check tcptrace.toml              before it is used, or read again\n",
        "  tcptrace serve --config tcptrace.toml            uses it; SIGHUP has it read again",
    )
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Say all that is wrong with a file, a line each; or what the commands would do by it
    ///
    /// Values are looked at as the commands do when they start, files that are named and processes
    /// too. Nothing is attached, and no root is needed but for what only root may read. Exit code 2
    /// if anything is wrong.
    Check {
        /// The file
        file: PathBuf,
    },
    /// Write a file with every flag and its help, commented out
    Example,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    match &args.action {
        Action::Check { file } => check(file),
        Action::Example => print(&config_example()),
    }
}

fn check(path: &Path) -> Result<Exit, Failure> {
    let (mut told, mut problems) = (vec![format!("{}: ok", path.display())], Vec::new());
    match merge::check(path) {
        Ok(tables) => {
            for settings in tables {
                match would_do(&settings) {
                    Ok(does) => told.push(format!("{}: {does}", settings.table)),
                    Err(failure) => problems.push(failure.message),
                }
            }
        }
        Err(all) => problems = all,
    }
    match problems.pop() {
        None => print(&told.iter().map(|line| format!("{}\n", safe(line))).collect::<String>()),
        Some(last) => {
            problems.iter().for_each(|problem| warn(problem));
            Err(Failure::usage(last))
        }
    }
}

/// What the command would do with its table alone.
fn would_do(settings: &FileSettings) -> Result<String, Failure> {
    let cli = Cli::try_parse_from(settings.arguments()).map_err(|e| settings.blame(&e))?;
    let placed = |failure| settings.placed(failure);
    match cli.command {
        Command::Serve(args) => serve::check(*args).map_err(placed),
        Command::Watch(args) => watch::check(args).map_err(placed),
        _ => Ok(String::new()),
    }
}

fn print(text: &str) -> Result<Exit, Failure> {
    let written = std::io::Write::write_all(&mut anstream::stdout(), text.as_bytes());
    written.map_or_else(ended_by, |()| Ok(Exit::Done))
}

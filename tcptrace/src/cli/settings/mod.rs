//! `--config FILE`: what a file says in the place of flags. Its keys are the flags' long names, its
//! values go through the flags' own parsers: the file becomes arguments, and clap reads those
//! together with the command line, which wins. So the two never differ.
//!
//! | file | is about |
//! |---|---|
//! | `source` | the file's text: bounded, regular, UTF-8 |
//! | `words` | from a key and its value to arguments |
//! | `merge` | the file's arguments and the command line's, and whose fault it is |
//! | `example` | a file with every key, as the command line is |
//! | `reload` | SIGHUP: what has changed, what can, and what is said of it |

pub mod example;
pub mod merge;
pub mod reload;
mod source;
mod words;

use std::path::PathBuf;

pub use self::{merge::FileSettings, reload::Reloads, words::Given};

/// `--config`.
#[derive(Debug, clap::Args)]
#[group(id = "settings")]
pub struct ConfigFlag {
    /// Read flags from a file in TOML, too (tcptrace config example); SIGHUP has it read again
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The flag that names the file; commands that have it may have a table.
const FLAG: &str = "config";

/// The commands that may have a table in a file.
fn commands(root: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    root.get_subcommands().filter(|command| command.get_arguments().any(|arg| arg.get_id() == FLAG))
}

/// The flags of a command that may stand in a file, by their long names.
fn keys(command: &clap::Command) -> impl Iterator<Item = (&str, &clap::Arg)> {
    let flags = command.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg)));
    flags.filter(|(long, _)| ![FLAG, "help", "version"].contains(long))
}

//! The command line: one file per command, and what they share.

mod agents;
mod apart;
mod attach;
mod btf;
mod check;
mod close;
mod config;
mod doctor;
mod explain;
mod fleet;
mod group;
mod leaks;
mod live;
mod otlp;
mod output;
mod pods;
mod record;
mod recording;
mod replay;
mod report;
mod run;
mod select;
mod serve;
mod session;
mod settings;
mod snapshot;
mod stacks;
mod tls;
mod top;
mod watch;
mod when;

use std::{
    env,
    io::{self, ErrorKind, Write},
    path::Path,
    time::Duration,
};

use clap::{Parser, Subcommand};

use self::settings::FileSettings;
use crate::{
    exit::{Exit, Failure},
    source::live::{
        process,
        snapshot::{Query, Snapshot},
    },
    view::text::safe,
};

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
    Top(top::Args),
    Snapshot(snapshot::Args),
    Record(record::Args),
    Replay(replay::Args),
    Report(report::Args),
    Run(run::Args),
    Serve(Box<serve::Args>),
    Fleet(fleet::Args),
    Explain(explain::Args),
    Close(close::Args),
    Check(check::Args),
    Doctor(doctor::Args),
    Config(config::Args),
}

/// Parses the command line and runs what it says.
///
/// # Errors
/// A [`Failure`] with its one line.
pub fn run() -> Result<Exit, Failure> {
    // No command of anybody's: neither help nor completions name it.
    if env::args_os().nth(1).is_some_and(|word| word == close::helper::COMMAND) {
        return close::helper::run(env::args_os().nth(2));
    }
    let line: Vec<_> = env::args_os().collect();
    let settings = FileSettings::of(&line)?;
    let cli = match Cli::try_parse_from(settings.as_ref().map_or(line, FileSettings::arguments)) {
        Ok(cli) => cli,
        // Help and version go to stdout and are no errors, nor is a reader that has seen enough.
        Err(e) if !e.use_stderr() => return e.print().map_or_else(ended_by, |()| Ok(Exit::Done)),
        Err(e) => return Err(settings.map_or_else(|| usage(&e), |settings| settings.blame(&e))),
    };
    // A recording is read anywhere.
    if !matches!(
        cli.command,
        Command::Check(_)
            | Command::Replay(_)
            | Command::Report(_)
            | Command::Fleet(_)
            | Command::Config(_)
    ) {
        needs_proc()?;
    }
    match cli.command {
        Command::Watch(args) => with_settings(settings, |settings| watch::run(args, settings)),
        Command::Top(args) => top::run(args),
        Command::Snapshot(args) => snapshot::run(&args),
        Command::Record(args) => record::run(args),
        Command::Replay(args) => replay::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Serve(args) => with_settings(settings, |settings| serve::run(*args, settings)),
        Command::Fleet(args) => fleet::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Close(args) => close::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Config(args) => config::run(&args),
    }
}

/// What is wrong with a flag that stands in a file is said by where it stands.
fn with_settings(
    settings: Option<FileSettings>,
    run: impl FnOnce(Option<FileSettings>) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let read = settings.clone();
    run(settings).map_err(|failure| match read {
        Some(read) => read.placed(failure),
        None => failure,
    })
}

/// A file of settings with every flag that it may have, as `tcptrace config example` writes it.
#[must_use]
pub fn config_example() -> String {
    settings::example::example(&<Cli as clap::CommandFactory>::command())
}

/// What the text of such a file comes to on the command line, by table; and all that is wrong with
/// it, but for the values.
#[must_use]
pub fn config_arguments(text: &str) -> (Vec<(String, Vec<String>)>, Vec<String>) {
    let root = <Cli as clap::CommandFactory>::command();
    let (tables, problems) = settings::merge::read_text(&root, text);
    let words = |given: Vec<settings::Given>| given.into_iter().flat_map(|g| g.words).collect();
    (
        tables.into_iter().map(|(table, given)| (table, words(given))).collect(),
        problems.into_iter().map(|problem| problem.text).collect(),
    )
}

/// What an agent's answer to `explain AGENT:PID` comes to on the terminal.
///
/// # Errors
/// It is no such answer.
pub fn explained_there(body: &[u8], is_page: bool) -> Result<String, String> {
    explain::there::told(body, is_page)
}

/// The parser's message in one line, without its usage section.
#[must_use]
pub fn usage(e: &clap::Error) -> Failure {
    if e.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        if e.render().to_string().contains("Usage: tcptrace config") {
            return Failure::usage("write tcptrace config check FILE, or tcptrace config example");
        }
        return Failure::usage(
            "what shall be done? tcptrace watch, for instance; tcptrace --help lists the commands",
        );
    }
    let text = e.render().to_string();
    let told = text.lines().map(str::trim).filter(|l| !l.is_empty());
    let told =
        told.take_while(|l| !l.starts_with("Usage:") && !l.starts_with("For more information"));
    let line = told.map(clause).collect::<String>();
    Failure::usage(line.strip_prefix(" error: ").unwrap_or(&line))
}

/// A line of the parser's message as a part of one sentence.
fn clause(line: &str) -> String {
    if let Some(values) = line.strip_prefix("[possible values: ") {
        return format!("; there are {}", values.trim_end_matches(']'));
    }
    let Some(tip) = line.strip_prefix("tip: ") else { return format!(" {line}") };
    match tip.split_once(": ") {
        Some((similar, names)) if similar.contains("similar") => {
            format!("; did you mean {}?", names.replace(", ", " or "))
        }
        _ => format!("; {tip}"),
    }
}

/// A reader that has seen enough is no failure.
fn ended_by(e: io::Error) -> Result<Exit, Failure> {
    match e.kind() {
        ErrorKind::BrokenPipe => Ok(Exit::Done),
        _ => Err(anyhow::Error::from(e).context("writing or looking").into()),
    }
}

/// Without `/proc` there are no processes, and no namespaces but ours: what is said would be wrong.
fn needs_proc() -> Result<(), Failure> {
    if Path::new("/proc/self/ns").exists() {
        return Ok(());
    }
    let message = "/proc is not mounted here, so nothing is known of processes and network \
                   namespaces; mount -t proc proc /proc";
    Err(Failure { exit: Exit::NotAllowed, message: message.to_owned() })
}

/// One scan, what could not be seen being said.
fn take(query: Query) -> Result<Snapshot, Failure> {
    if process::some_hidden() {
        warn(process::HIDDEN);
    }
    let snapshot = Snapshot::take(query).map_err(sightless)?;
    snapshot.missing.iter().for_each(|missing| warn(missing));
    Ok(snapshot)
}

/// Why no sockets can be seen at all: that is no empty answer.
fn sightless(e: io::Error) -> Failure {
    match e.kind() {
        ErrorKind::PermissionDenied => Failure {
            exit: Exit::NotAllowed,
            message: format!("{e}; run as root, or with CAP_SYS_ADMIN"),
        },
        _ => anyhow::Error::from(e).context("looking at the sockets").into(),
    }
}

fn warn(text: &str) {
    // It may quote names that others chose.
    // Nor is it a reason to end that nobody hears it.
    let _ = writeln!(anstream::stderr(), "tcptrace: {}", safe(text));
}

fn nanoseconds(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

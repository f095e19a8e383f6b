//! `tcptrace run`: a command, watched from its first moment, for tests and CI.

mod command;

use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::ValueEnum;
use jiff::Timestamp;
use tcptrace_common::state::TcpState;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use self::command::{StandBy, not_started, reap, told};
use super::{attach, btf, nanoseconds, report::ReportFile, warn};
use crate::{
    confine::seccomp::Profile,
    engine::{
        counted::counted,
        fact::{Fact, Timed},
        left::Left,
        parse,
        record::{BootNs, ProcessId},
        select::Selection,
        watch::{Plan, Wants, Watch},
    },
    exit::{Exit, Failure},
    source::{
        Source,
        live::{boot_now, descendants, process},
    },
    view::{Clock, json, left, left::Ran},
};

/// Run a command and fail if it leaves sockets behind: CLOSE_WAIT, ghosts, listeners
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tcptrace run [OPTIONS] -- <COMMAND>...",
    long_about = concat!(
        "Run a command and fail if it leaves sockets behind: for tests and CI.\n\n",
        "Watches the command and all that it starts, from its first moment. Ends with its exit ",
        "code (128 and the signal where one ended it), or with 3 where that is 0 and it left ",
        "something behind: a leak that stayed longer than --min-age and is still open, or that ",
        "nobody closed before its process ended; or a listener of a process that outlived the ",
        "command. The command's input and output are its own; what is found goes to stderr, or ",
        "to --report-file. Needs root, or CAP_BPF and CAP_PERFMON: without them it ends with 4, ",
        "and the command is not run.",
    ),
    after_help = concat!(
        "Examples:\n",
        "  tcptrace run -- pytest tests/                    3 if the tests pass and leave sockets\n",
        "  tcptrace run --min-age 100ms -- ./client         for commands that are short\n",
        "  tcptrace run --format github -- cargo test       annotations of GitHub Actions\n",
        "  tcptrace run --format junit --report-file sockets.xml -- make check",
    )
)]
pub struct Args {
    /// Shorter stays are no leaks; 0: each stay is one
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = parse::duration)]
    min_age: Duration,

    /// When the command has ended, give what it started so long to end, too
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = parse::duration)]
    grace: Duration,

    /// How to show what was left behind
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,

    /// Write it to this file instead of stderr
    #[arg(long, value_name = "FILE")]
    report_file: Option<PathBuf>,

    #[command(flatten)]
    btf: btf::Args,

    /// What to run, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Lines, for people
    Table,
    /// One object a line
    Json,
    /// JUnit's XML: a test case for each finding
    Junit,
    /// An annotation of GitHub Actions for each finding
    Github,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let btf = args.btf.resolve()?;
    let path = args.report_file.as_deref();
    let file = path.map(|path| ReportFile::open("--report-file", path)).transpose()?;
    let waiting = StandBy::new(&args.command).context("preparing the command")?;
    // Where this ends early, what waits is told so by the end of its pipe.
    attach::runtime()?.block_on(watch(args, &btf, file, waiting))
}

async fn watch(
    args: &Args,
    btf: &Path,
    file: Option<ReportFile>,
    waiting: StandBy,
) -> Result<Exit, Failure> {
    let pid = waiting.pid();
    let mut ends = signal(SignalKind::child()).context("SIGCHLD")?;
    let mut missing = Vec::new();
    let mut say = |text: &str| {
        warn(text);
        missing.push(text.to_owned());
    };
    let own = std::process::id();
    let us = process::find(own).unwrap_or(ProcessId { pid: own, start_ns: 0 });
    let plan = Plan {
        // What the command starts and leaves becomes ours.
        selection: Selection { processes: vec![us], children: true, ..Selection::default() },
        states: TcpState::CloseWait.bit(),
        min_age_ns: nanoseconds(args.min_age),
        ..Plan::default()
    };
    let how = attach::How {
        btf,
        ring_kib: None,
        interval: None,
        origins: false,
        exits: true,
        lowest_min_age: None,
    };
    let mut source = attach::attach(how, &plan, &mut say).map_err(|failure| Failure {
        message: format!("{}; the command was not run", failure.message),
        ..failure
    })?;
    let clock = Clock::new(Timestamp::now(), boot_now(), true);
    let mut left = Left::since(boot_now());
    let mut watch = Watch::new(plan);
    let command = told(&args.command);
    if let Err(e) = waiting.begin() {
        warn(&format!("{command}: {e}"));
        return Ok(Exit::Command(not_started(&e)));
    }
    attach::confine(Profile::Run { command: pid }, &mut warn);

    let (mut facts, mut said) = (Vec::new(), Vec::new());
    let mut status = None;
    let mut deadline: Option<Instant> = None;
    // A scan that begins no sooner sees all that the command left.
    let mut last_look: Option<BootNs> = None;
    loop {
        let outcome = tokio::select! {
            _ = ends.recv() => Ok(()),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                deadline = None;
                last_look = Some(source.now());
                source.hurry();
                Ok(())
            }
            ready = source.ready() => ready,
        };
        // Nobody is told here when something will be full.
        let mut wants = |now| Wants { usage: None, ..watch.wants(now) };
        let pulled = outcome.and_then(|()| source.pull(&mut wants, &mut facts));
        let looked = last_look.is_some_and(|since| {
            let looks = |fact: &Timed| matches!(&fact.fact, Fact::Scan(s) if s.now_ns >= since);
            facts.iter().any(looks)
        });
        facts.drain(..).for_each(|fact| watch.take(&fact, &mut said));
        said.drain(..).for_each(|said| left.take(&said.update));
        let followed = source.follow_ends(watch.follows_ends());
        pulled.and(followed).context("watching; the command goes on unwatched")?;
        // After what they did was taken in: until then it can be asked who they were.
        let reaped = reap(pid);
        if let Some(code) = reaped.status {
            status = Some(code);
            deadline = Some(Instant::now() + args.grace);
        }
        if looked || status.is_some() && reaped.none_left {
            break;
        }
    }
    let stopped = source.stop(&mut facts);
    facts.drain(..).for_each(|fact| watch.take(&fact, &mut said));
    said.drain(..).for_each(|said| left.take(&said.update));
    stopped.context("watching")?;
    let now = source.now();
    left.finish(&watch, descendants::listeners(own), now);
    let lost = watch.losses().total();
    if lost > 0 {
        let lost = counted(lost, "event was", "events were");
        let text = format!("{lost} lost: there may be leaks that are not told");
        warn(&text);
        missing.push(text);
    }
    let status = status.unwrap_or(1);
    let outcome = Ran { command: &command, status, left: &left, missing: &missing };
    let page = match args.format {
        Format::Table => left::table(&outcome),
        Format::Junit => left::junit(&outcome),
        Format::Github => left::github(&outcome),
        Format::Json => {
            let lines = json::left::lines(&outcome, &clock, now).context("writing")?;
            String::from_utf8_lossy(&lines).into_owned()
        }
    };
    match file {
        Some(file) => file.replace(&page)?,
        // Nor is it a reason to fail that nobody hears it: the exit code says it, too.
        None => drop(anstream::stderr().write_all(page.as_bytes())),
    }
    Ok(match status {
        0 if left.is_empty() => Exit::Done,
        0 => Exit::LeaksFound,
        code => Exit::Command(code),
    })
}

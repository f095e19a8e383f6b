//! `tcptrace watch`: reports sockets that stay in a state, live.

use std::{io, path::Path, time::Duration};

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::{
    attach, btf, ended_by, group::By, leaks, leaks::Leaks, nanoseconds, output, select, warn,
};
use crate::{
    confine::seccomp::Profile,
    engine::{
        fact::Timed,
        parse,
        record::BootNs,
        reports::Reports,
        select::Selection,
        update::Update,
        watch::{Plan, Said, Watch},
    },
    exit::{Exit, Failure},
    prose::time::human,
    source::{
        Source,
        live::{boot_now, memory},
    },
    view::{View, csv::Columns},
};

/// Watch sockets live: who lets them sit in a state, since when, and why
#[derive(Debug, clap::Args)]
#[command(
    long_about = concat!(
        "Watch sockets live: who lets them sit in a state, since when, and why.\n\n",
        "Reports sockets that stay in the state longer than --min-age, again each time their age ",
        "doubles, and then that they were resolved and by whom. The table tells sockets together ",
        "that have the same holders, verdict and end: one line says how many there are, how many ",
        "of those are new, and how old the oldest is; the next comes when one of them has ",
        "doubled. Ctrl-C ends with who leaks most, how fast, and what to do. Needs root, or ",
        "CAP_BPF and CAP_PERFMON.",
    ),
    after_help = concat!(
        "Examples:\n",
        "  tcptrace watch                                   every CLOSE_WAIT older than 1s, whole machine\n",
        "  tcptrace watch --pid 4711 --min-age 10s          of one process\n",
        "  tcptrace watch --cgroup system.slice/app.service of one service\n",
        "  tcptrace watch --transitions --state all --lport 8080   every change of state on a port\n",
        "  tcptrace watch --duration 1m --fail-on-leak      for scripts: exit code 3 if leaks stay open",
    )
)]
pub struct Args {
    /// Report stays longer than this; 0 reports every stay
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = parse::duration)]
    min_age: Duration,

    /// Also stream every matching change of state, as it happens
    #[arg(long)]
    transitions: bool,

    /// Stop after this time
    #[arg(long, value_name = "DUR", value_parser = attach::interval)]
    duration: Option<Duration>,

    /// Stop after so many reports (with --transitions: so many transitions)
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Scan what is live this often [default: a quarter of --min-age, between 50ms and 500ms]
    #[arg(long, value_name = "DUR", value_parser = attach::interval)]
    interval: Option<Duration>,

    #[command(flatten)]
    leaks: leaks::Args,

    /// Table: tell sockets together that have this in common [default: holders, verdict and end]
    #[arg(long, value_name = "WHAT")]
    group_by: Option<By>,

    /// Table: a line a socket, as --group-by none; JSON and CSV always have that
    #[arg(long, conflicts_with = "group_by")]
    each: bool,

    /// Size of the event buffer in KiB, a power of two
    #[arg(long, value_name = "KIB", value_parser = ring_kib)]
    ring_size: Option<u32>,

    #[command(flatten)]
    btf: btf::Args,

    #[command(flatten)]
    output: output::Args,

    // Last: its heading would stand above what follows.
    #[command(flatten)]
    select: select::Args,
}

fn ring_kib(text: &str) -> Result<u32, String> {
    let kib: u32 = text.parse().map_err(|_| "write a number of KiB".to_owned())?;
    let fits = kib.is_power_of_two() && (4..=1 << 20).contains(&kib);
    if fits { Ok(kib) } else { Err("write a power of two from 4 to 1048576".to_owned()) }
}

impl Args {
    /// Who tells sockets together; `None`: a line a socket.
    fn reports(&self) -> Option<Reports> {
        let by = self.group_by.map(By::what);
        // A stream of changes has a line for each anyway.
        let each = self.each || self.transitions || by == Some(None);
        let grouped = self.output.is_page() && !each;
        grouped.then(|| Reports::new(by.flatten(), nanoseconds(self.min_age)))
    }
}

/// Runs the command.
pub fn run(mut args: Args) -> Result<Exit, Failure> {
    memory::keep_little();
    args.select.state =
        args.select.state.traceable().map_err(|why| Failure::usage(format!("--state: {why}")))?;
    let selection = args.select.resolve()?;
    let btf = args.btf.resolve()?;
    attach::runtime()?.block_on(watch(&args, selection, &btf))
}

async fn watch(args: &Args, selection: Selection, btf: &Path) -> Result<Exit, Failure> {
    let mut stop = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let plan = Plan {
        selection,
        states: args.select.state.0,
        transitions: args.transitions,
        min_age_ns: nanoseconds(args.min_age),
        count: args.count,
    };
    let mut view = match args.output.view(boot_now(), Columns::Watch) {
        Ok(view) => view,
        Err(e) => return ended_by(e),
    };
    let mut reports = args.reports();
    let how = attach::How { btf, ring_kib: args.ring_size, interval: args.interval };
    let mut source = attach::attach(how, &plan, &mut warn)?;
    attach::confine(Profile::Watch, &mut warn);
    let mut watch = Watch::new(plan);
    announce(args);

    let end = args.duration.map(|d| Instant::now() + d);
    let (mut facts, mut said) = (Vec::new(), Vec::new());
    while !watch.is_done() {
        let outcome = tokio::select! {
            _ = stop.recv() => break,
            _ = terminate.recv() => break,
            () = sleep_until(end.unwrap_or_else(far)), if end.is_some() => break,
            ready = source.ready() => ready,
        };
        let pulled = outcome.and_then(|()| source.pull(&mut |now| watch.wants(now), &mut facts));
        take(&mut watch, &mut facts, &mut said);
        // Before a ghost is said: who reads that may end it at once.
        let followed = source.follow_ends(watch.follows_ends());
        group(&mut reports, source.now(), &mut said);
        let shown = show(&mut *view, &mut said);
        if let Err(e) = pulled.and(shown).and(followed) {
            return args.leaks.exit(found(&watch), Err(e));
        }
    }
    let stopped = source.stop(&mut facts);
    take(&mut watch, &mut facts, &mut said);
    watch.finish(source.now(), &mut said);
    group(&mut reports, source.now(), &mut said);
    args.leaks.exit(found(&watch), stopped.and(show(&mut *view, &mut said)))
}

fn found(watch: &Watch) -> Leaks {
    let totals = watch.totals();
    Leaks { open: totals.leaks_open, all: totals.leaks }
}

fn take(watch: &mut Watch, facts: &mut Vec<Timed>, said: &mut Vec<Said>) {
    facts.drain(..).for_each(|fact| watch.take(&fact, said));
}

/// Puts reports of groups in the place of those of their sockets, before all else that was said.
fn group(reports: &mut Option<Reports>, now: BootNs, said: &mut Vec<Said>) {
    let Some(reports) = reports else { return };
    said.retain(|said| !reports.take(&said.update));
    let news = reports.flush(now).into_iter();
    let news = news.map(|report| Said { time: now, update: Update::Report(Box::new(report)) });
    said.splice(..0, news);
}

/// Shows what was said, and hands it to the reader.
fn show(view: &mut dyn View, said: &mut Vec<Said>) -> io::Result<()> {
    for Said { time, update } in said.drain(..) {
        if let Update::Clock(offset_ns) = update {
            if let Some(step) = view.clock().set(offset_ns) {
                let way = if step < 0 { "back" } else { "forward" };
                let by = human(step.unsigned_abs());
                warn(&format!("the clock was set {way} by {by}: times follow it, ages do not"));
            }
        } else {
            view.update(time, &update)?;
        }
    }
    // A scan may have said a hundred thousand things.
    said.shrink_to(KEPT);
    view.flush()
}

/// Room for what is said at once, usually.
const KEPT: usize = 1_024;

fn announce(args: &Args) {
    let until = if args.duration.is_some() { "" } else { "; Ctrl-C ends it" };
    let stay = match nanoseconds(args.min_age) {
        0 => ", however short".to_owned(),
        // As it is written on the command line: 1s.
        ns => format!(" longer than {}", human(ns).replace(".0s", "s")),
    };
    let states = attach::state_names(args.select.state.0);
    let which = args.select.told();
    warn(&format!("watching for sockets in {states}{stay}{which}{until}"));
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}

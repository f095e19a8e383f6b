//! `tcptrace watch`: reports sockets that stay in a state, live.

use std::{io, path::Path, time::Duration};

use anyhow::Context;
use jiff::Timestamp;
use tcptrace_common::config::Config;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use crate::{
    cli::{boot_now, btf, ended_by, nanoseconds, output, select, warn},
    confine::{capabilities as privileges, memory, seccomp},
    engine::{parse, select::Selection},
    exit::{Exit, Failure},
    pipeline::{Pipeline, Plan},
    source::live::{bpf::loader::Kernel, netns, process, ring::Ring},
    view::human,
};

/// Watch sockets live: who lets them sit in a state, since when, and why
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Watch sockets live: who lets them sit in a state, since when, and \
                  why.\n\nReports each socket that stays in the state longer than --min-age, \
                  again each time its age doubles, and then that it was resolved and by whom. \
                  Needs root, or CAP_BPF and CAP_PERFMON.",
    after_help = "Examples:\n  tcptrace watch                                   every CLOSE_WAIT \
                  older than 1s, whole machine\n  tcptrace watch --pid 4711 --min-age 10s          \
                  of one process\n  tcptrace watch --cgroup system.slice/app.service of one \
                  service\n  tcptrace watch --transitions --state all --lport 8080   every change \
                  of state on a port\n  tcptrace watch --duration 1m --fail-on-leak      for \
                  scripts: exit code 3 if anything leaks"
)]
pub struct Args {
    /// Report stays longer than this; 0 reports every stay
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = parse::duration)]
    min_age: Duration,

    /// Also stream every matching change of state, as it happens
    #[arg(long)]
    transitions: bool,

    /// Stop after this time
    #[arg(long, value_name = "DUR", value_parser = parse::duration)]
    duration: Option<Duration>,

    /// Stop after so many reports (with --transitions: so many transitions)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Look this often at what is live [default: a quarter of --min-age, between 50ms and 500ms]
    #[arg(long, value_name = "DUR", value_parser = interval)]
    interval: Option<Duration>,

    /// End with exit code 3 if leaks were found
    #[arg(long)]
    fail_on_leak: bool,

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

/// Looking more often would be all that it does.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
/// How often the streams are emptied: often enough that a quarter of them fills at most, seldom
/// enough that waking up costs nothing.
const POLL: Duration = Duration::from_millis(20);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse::duration(text)?;
    if interval < SHORTEST_INTERVAL { Err("write at least 1ms".to_owned()) } else { Ok(interval) }
}

fn ring_kib(text: &str) -> Result<u32, String> {
    let kib: u32 = text.parse().map_err(|_| "write a number of KiB".to_owned())?;
    let fits = kib.is_power_of_two() && (4..=1 << 20).contains(&kib);
    if fits { Ok(kib) } else { Err("write a power of two from 4 to 1048576".to_owned()) }
}

/// Runs the command.
pub fn run(mut args: Args) -> Result<Exit, Failure> {
    memory::keep_little();
    args.select.state =
        args.select.state.traceable().map_err(|why| Failure::usage(format!("--state: {why}")))?;
    let selection = args.select.resolve()?;
    let btf = args.btf.resolve()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(watch(&args, selection, &btf))
}

async fn watch(args: &Args, selection: Selection, btf: &Path) -> Result<Exit, Failure> {
    let min_age_ns = nanoseconds(args.min_age);
    let mut stop = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let (mut kernel, ring) =
        Kernel::load(config(args, &selection), args.ring_size.map(|kib| kib * 1024), btf)?;
    seed(&mut kernel, &selection).context("sockets that exist already")?;
    privileges::drop_unneeded().context("dropping privileges")?;

    let plan = Plan { selection, transitions: args.transitions, min_age_ns, count: args.count };
    let sink = match args.output.sink(boot_now()) {
        Ok(sink) => sink,
        Err(e) => return ended_by(e),
    };
    let mut pipeline = Pipeline::new(kernel, plan, sink);
    let mut ring = Ring::new(ring).context("watching the ring buffer")?;
    pipeline.start(boot_now()).context("who holds what already")?;
    // What loading took: the library has gone through all of the kernel's types.
    memory::give_back();
    if let Err(e) = seccomp::confine() {
        warn(&format!(
            "no system call filter ({e}): every call stays possible, as before attaching"
        ));
    }
    announce(args);

    let interval = args
        .interval
        .unwrap_or((args.min_age / 4).clamp(Duration::from_millis(50), Duration::from_millis(500)));
    let end = args.duration.map(|d| Instant::now() + d);
    let mut next_look = Instant::now();
    let mut next_poll = Instant::now();
    while !pipeline.is_done() {
        let outcome = tokio::select! {
            _ = stop.recv() => break,
            _ = terminate.recv() => break,
            () = sleep_until(end.unwrap_or_else(far)), if end.is_some() => break,
            () = sleep_until(next_look) => {
                follow_clock(&mut pipeline);
                let looked = pipeline.drain(&mut ring, boot_now()).and_then(|()| pipeline.look(boot_now()));
                looked.map(|pause| next_look = Instant::now() + interval.max(pause))
            }
            () = sleep_until(next_poll), if args.transitions => {
                let drained = pipeline.drain(&mut ring, boot_now());
                next_poll = Instant::now() + POLL;
                drained
            }
            ready = ring.ready(), if !args.transitions => ready.and_then(|()| pipeline.drain(&mut ring, boot_now())),
        };
        if let Err(e) = outcome {
            return ended_by(e);
        }
    }
    let drained = pipeline.stop().and_then(|()| pipeline.drain(&mut ring, boot_now()));
    let finished = drained.and_then(|()| pipeline.finish(boot_now()));
    match finished {
        Ok(leaks) if leaks > 0 && args.fail_on_leak => Ok(Exit::LeaksFound),
        Ok(_) => Ok(Exit::Done),
        Err(e) => ended_by(e),
    }
}

/// Reading two clocks takes no longer, unless something comes in between.
const MOMENT_NS: u64 = 10_000_000;

/// The time of day may be set while we run, as it is soon after many machines start.
fn follow_clock(pipeline: &mut Pipeline) {
    let (boot, now) = (boot_now(), Timestamp::now());
    if boot_now() - boot > MOMENT_NS {
        return;
    }
    if let Some(step) = pipeline.follow_clock(now, boot) {
        let way = if step < 0 { "back" } else { "forward" };
        warn(&format!(
            "the clock was set {way} by {}: times follow it, ages do not",
            human(step.unsigned_abs())
        ));
    }
}

/// What the kernel can filter by itself without dropping a true match.
fn config(args: &Args, selection: &Selection) -> Config {
    Config {
        min_age_ns: nanoseconds(args.min_age),
        states: args.select.state.0,
        transitions: u32::from(args.transitions),
        netns: selection.only_netns().unwrap_or(0),
        family: u32::from(selection.family.unwrap_or(0)),
        lport: u32::from(selection.only_lport().unwrap_or(0)),
        rport: u32::from(selection.only_rport().unwrap_or(0)),
        // The pass that moves stays out of the nursery must see every process.
        nursery: u32::from(process::in_initial_pid_namespace()),
        ..Config::NONE
    }
}

/// Sockets that were there before the programs were: those with a descriptor in one pass, the
/// others namespace by namespace.
fn seed(kernel: &mut Kernel, selection: &Selection) -> io::Result<()> {
    kernel.seed_by_descriptor(boot_now())?;
    let (mut all, hidden) = netns::all();
    if !selection.netns.is_empty() {
        all.retain(|n| selection.netns.contains(&n.inode));
    }
    let pass = kernel.seed_by_namespace();
    let (_, failed) = netns::each(&all, |_| pass.run().map(drop));
    const LOST: &str =
        "connections that have waited there to be accepted since before the start are not seen";
    if hidden > 0 {
        warn(&format!(
            "the network namespaces of {hidden} processes can't be told without CAP_SYS_PTRACE: \
             {LOST}"
        ));
    }
    if let Some((netns, e)) = failed.first() {
        let path = netns.path.display();
        warn(&format!(
            "{} network namespaces could not be entered without CAP_SYS_ADMIN ({path}: {e}): \
             {LOST}",
            failed.len()
        ));
    }
    if !process::in_initial_pid_namespace() {
        warn(process::OTHER_PIDS);
    }
    Ok(())
}

fn announce(args: &Args) {
    let states: Vec<&str> = tcptrace_common::state::TcpState::ALL
        .into_iter()
        .filter(|s| args.select.state.0 & s.bit() != 0)
        .map(tcptrace_common::state::TcpState::name)
        .collect();
    let until = if args.duration.is_some() { "" } else { "; Ctrl-C ends it" };
    let min_age = human(nanoseconds(args.min_age));
    warn(&format!("watching {} for stays over {min_age}{until}", states.join(", ")));
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}

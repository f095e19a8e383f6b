//! `tcptrace doctor`: what ails this host.

use std::{
    io::{self, ErrorKind},
    time::Duration,
};

use clap::ValueEnum;

use crate::{
    cli::{btf, ended_by, nanoseconds, output, select, sightless},
    engine::{
        doctor::{findings::Harm, judge},
        parse::{self, States},
        record::ProcessId,
        select::Selection,
        update::Update,
    },
    exit::{Exit, Failure},
    source::live::{boot_now, doctor, doctor::Order, process, snapshot::Query},
    view::csv::Columns,
};
use tcptrace_common::state::TcpState;

/// What ails this host's TCP: queues, ports, descriptors, limits, and settings judged
#[derive(Debug, clap::Args)]
#[command(
    long_about = concat!(
        "What ails this host's TCP: queues, ports, descriptors, limits, and settings judged.\n\n",
        "A page of findings, the worst first, each with its evidence, what it means, what helps ",
        "and what doesn't, how sure it is, and where the kernel says so. A finding needs harm, or ",
        "a limit that is near: thousands of TIME_WAIT are none. Looks twice, some seconds apart: ",
        "counters since boot are history, what they do meanwhile is now. Judges the settings that ",
        "people change for such things, for the running kernel and for what there is here. ",
        "Nothing is changed. Works without BPF.\n\n",
        "All network namespaces; with a PID, that process and its namespace.",
    ),
    after_help = concat!(
        "Examples:\n",
        "  tcptrace doctor\n",
        "  tcptrace doctor 4711                              one process and its network namespace\n",
        "  tcptrace doctor --for 1m --fail-on high           looks longer; exit code 3 if it is bad\n",
        "  tcptrace doctor --format json | jq 'select(.event == \"finding\")'",
    )
)]
pub struct Args {
    /// One process and its network namespace instead of the whole host
    #[arg(value_name = "PID", value_parser = parse::pid)]
    pid: Option<u32>,

    /// Only in this network namespace: a name as for ip netns, a path, or pid:N
    #[arg(long, value_name = "NAME|PATH|pid:N", conflicts_with = "pid")]
    netns: Option<String>,

    /// The time between the two looks
    #[arg(long = "for", value_name = "DUR", default_value = "2s", value_parser = parse::duration)]
    apart: Duration,

    /// Leaks count from this age on
    #[arg(long, value_name = "DUR", default_value = "1m", value_parser = parse::duration)]
    min_age: Duration,

    /// Show all settings, also those that are as the kernel makes them; JSON always has all
    #[arg(long)]
    settings: bool,

    /// End with exit code 3 if there is a finding of this harm or worse
    #[arg(long, value_name = "HARM")]
    fail_on: Option<Level>,

    /// Use sock_diag and /proc only
    #[arg(long, conflicts_with = "btf")]
    no_bpf: bool,

    #[command(flatten)]
    btf: btf::Args,

    #[command(flatten)]
    output: output::Args,
}

/// The harm of findings.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    /// It costs something, or grows; nothing fails for it
    Low,
    /// A limit is near, or some connections suffer
    Medium,
    /// Connections or calls fail now, or are about to
    High,
}

impl Level {
    const fn harm(self) -> Harm {
        match self {
            Self::Low => Harm::Low,
            Self::Medium => Harm::Medium,
            Self::High => Harm::High,
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    if args.output.is_csv() {
        return Err(Failure::usage("doctor --format csv: a page has no rows; write --format json"));
    }
    let process = args.pid.map(find).transpose()?;
    let named = args.netns.as_deref().map(str::to_owned);
    let netns = named.or(args.pid.map(|pid| format!("pid:{pid}")));
    let netns = netns.as_deref().map(select::find_netns).transpose()?;
    let selection =
        Selection { unleaked: true, netns: netns.into_iter().collect(), ..Selection::default() };
    let query = Query {
        selection,
        states: States::ALL.0 | TcpState::NewSynRecv.bit(),
        without_bpf: args.no_bpf,
        btf: args.btf.resolve()?,
        clock: boot_now,
    };
    let min_age_ns = nanoseconds(args.min_age);
    let order = Order { query, process, apart: args.apart, min_age_ns };
    let (seen, now) = doctor::examine(order).map_err(sightless)?;
    let mut checkup = judge::checkup(seen);
    checkup.all_settings = args.settings;
    let worst = checkup.findings.first().map(|d| d.harm);
    let fails = args.fail_on.is_some_and(|level| worst >= Some(level.harm()));
    let shown = args.output.view(now, Columns::Snapshot).and_then(|mut view| {
        view.update(now, &Update::Checkup(Box::new(checkup)))?;
        view.flush()
    });
    exit(fails, shown)
}

/// A reader that has seen enough does not make the findings go.
fn exit(fails: bool, shown: io::Result<()>) -> Result<Exit, Failure> {
    match shown {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => ended_by(e),
        _ if fails => Ok(Exit::LeaksFound),
        _ => Ok(Exit::Done),
    }
}

fn find(pid: u32) -> Result<ProcessId, Failure> {
    let gone = || Failure::usage(format!("doctor {pid}: no such process; ps -e lists them"));
    process::find(pid).ok_or_else(gone)
}

//! `tcptrace explain`: a page on one process or one socket.

pub mod there;

use std::{io, rc::Rc};

use tcptrace_common::state::TcpState;

use self::there::Asks;
use crate::{
    cli::{agents, btf, ended_by, output, select, stacks, warn},
    engine::{
        parse::{States, Target},
        record::{ProcessId, Record},
        report::{About, Explanation, ProcessReport, role_of},
        select::Selection,
        stack::threads::{LeftAlone, Stacks},
        update::Update,
    },
    exit::{Exit, Failure},
    source::live::{
        boot_now,
        netns::Netns,
        process, report,
        snapshot::{Query, Snapshot},
    },
    view::{View, csv::Columns},
};

/// A page on one process or one socket: evidence, reasons, what to do
#[derive(Debug, clap::Args)]
#[command(
    long_about = concat!(
        "A page on one process or one socket: evidence, reasons, what to do.\n\n",
        "Of a process: its sockets by state and verdict, its listeners and their queues, its ",
        "descriptors and their limit, what its threads wait in, and what keeps it from its ",
        "work, followed to its end: a peer, a lock, another process. Of a socket: who holds it, ",
        "each piece of evidence in words, and the cure as code spells it. Works without ",
        "BPF; with it, it sees connections that are over and still have a descriptor.",
    ),
    after_help = concat!(
        "Examples:\n",
        "  tcptrace explain 4711                             a process\n",
        "  tcptrace explain cookie:12345                     a socket, by the cookie that watch and snapshot print\n",
        "  tcptrace explain 10.0.0.1:8080,10.0.0.9:51514     a socket, by its local and remote end\n",
        "  tcptrace explain web2:4711                        a process of another host, as its agent knows it",
    )
)]
pub struct Args {
    /// PID, cookie:N, or LOCAL,REMOTE; a plain number is a pid, or if no process has it, a cookie.
    /// AGENT:PID or AGENT:cookie:N asks the agent of another host
    #[arg(value_name = "TARGET")]
    target: Asks,

    /// Only sockets in this network namespace: a name as for ip netns, a path, or pid:N
    #[arg(long, value_name = "NAME|PATH|pid:N")]
    netns: Option<String>,

    /// Use sock_diag and /proc only
    #[arg(long, conflicts_with = "btf")]
    no_bpf: bool,

    /// Also where each thread of the process is now: stops each for some microseconds
    #[arg(
        long,
        long_help = "Also where each thread of the process is now, with the functions that led \
                     there. It stops each thread, 256 at most, for some microseconds, as a debugger \
                     does: a few calls that wait, epoll_wait among them, then return EINTR \
                     (signal(7)). Python 3.13 is not stopped: its own memory tells. A process that \
                     a debugger has already is left alone"
    )]
    stacks: bool,

    /// With --stacks, of a Java process: also has the JVM write its own thread dump, and reads that
    #[arg(
        long,
        requires = "stacks",
        long_help = "With --stacks, of a Java process (HotSpot): also has the JVM write its own \
                     thread dump, as jcmd PID Thread.print does, and reads that: whole names of \
                     threads, and their functions with lines, interpreted or compiled, whatever \
                     the JVM was started with. All its threads wait for each other meanwhile (a \
                     safepoint). If nobody attached to it before, that takes a file in its /tmp and \
                     SIGQUIT, by which it starts to listen there; one that doesn't catch that \
                     signal, or was started with -XX:+DisableAttachMechanism, is left alone"
    )]
    jvm_threads: bool,

    #[command(flatten)]
    access: agents::AgentAccess,

    #[command(flatten)]
    btf: btf::Args,

    #[command(flatten)]
    output: output::Args,
}

/// Rows of a page; JSON and CSV have all.
const ROWS: usize = 10;

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    if args.output.is_csv() {
        return Err(Failure::usage(
            "explain --format csv: a page has no rows; write --format json, or tcptrace snapshot \
             --format csv for the sockets",
        ));
    }
    let target = match &args.target {
        Asks::Here(target) => *target,
        Asks::There(there) => return there::run(args, there),
    };
    if let Some(flag) = args.access.given() {
        return Err(Failure::usage(format!(
            "{flag}: {target} is on this host, which needs none; AGENT:PID asks another"
        )));
    }
    let found = match target {
        Target::Number(n) => u32::try_from(n).ok().and_then(process::find).ok_or(n),
        Target::Pid(pid) => {
            let gone =
                || Failure::usage(format!("explain pid:{pid}: no such process; ps -e lists them"));
            Ok(process::find(pid).ok_or_else(gone)?)
        }
        Target::Cookie(cookie) => Err(cookie),
        Target::Ends(..) => Err(0),
    };
    if args.stacks && found.is_err() {
        return Err(Failure::usage(format!(
            "explain {} --stacks: stacks are a process's: give its pid",
            target
        )));
    }
    let netns = args.netns.as_deref().map(select::find_netns).transpose()?;
    let netns = netns.into_iter().collect();
    let mut selection = Selection { unleaked: true, netns, ..Selection::default() };
    match (found, target) {
        (Ok(process), _) => selection.processes = vec![process],
        (Err(_), Target::Ends(local, remote)) => {
            (selection.local, selection.remote) = (vec![local], vec![remote])
        }
        _ => {}
    }
    let query = Query {
        selection,
        states: States::ALL.0 | TcpState::NewSynRecv.bit(),
        without_bpf: args.no_bpf,
        btf: args.btf.resolve()?,
        clock: boot_now,
    };
    let mut snapshot = super::take(query)?;
    let records: Vec<Record> = match found {
        Err(cookie) if cookie != 0 => {
            snapshot.records().filter(|r| r.connection.cookie == cookie).collect()
        }
        _ => snapshot.records().collect(),
    };
    if found.is_err() && records.is_empty() {
        return Err(Failure::usage(format!(
            "explain {}: no such socket now{}; tcptrace snapshot --state all lists the sockets",
            target,
            if matches!(target, Target::Number(_)) { ", and no such process" } else { "" }
        )));
    }
    if let Target::Ends(..) = target {
        warn_of_twins(&snapshot, &records);
    }
    let shown =
        args.output.view(snapshot.now, Columns::Snapshot).and_then(|mut view| match found {
            Ok(process) => {
                let stacks = stacks(args, process);
                show_process(&snapshot, process, records, stacks, args.output.is_page(), &mut *view)
            }
            Err(_) => show_sockets(&snapshot, records, args.output.is_page(), &mut *view),
        });
    shown.map_or_else(ended_by, |()| Ok(Exit::Done))
}

/// Network namespaces do not know one another's addresses: the same ends may be in several.
fn warn_of_twins(snapshot: &Snapshot, records: &[Record]) {
    let of = |n: &&Netns| records.iter().any(|r| r.connection.netns == n.inode);
    let places: Vec<String> =
        snapshot.namespaces.iter().filter(of).map(|n| n.path.display().to_string()).collect();
    if places.len() > 1 {
        warn(&format!(
            "{} network namespaces have sockets with these ends ({}): a page on each; --netns PATH \
             shows one",
            places.len(),
            places.join(", ")
        ));
    }
}

/// Where its threads are, where that is asked for.
fn stacks(args: &Args, id: ProcessId) -> Result<Stacks, LeftAlone> {
    if args.stacks { stacks::of(id, args.jvm_threads) } else { Err(LeftAlone::NotAskedFor) }
}

fn show_process(
    snapshot: &Snapshot,
    id: ProcessId,
    records: Vec<Record>,
    stacks: Result<Stacks, LeftAlone>,
    page: bool,
    view: &mut dyn View,
) -> io::Result<()> {
    let now = snapshot.now;
    let report = ProcessReport { stacks, ..report::process(snapshot, id, &records) };
    let verdicts = report.sockets.iter().filter_map(|c| Some((c.verdict?, c.count)));
    let language = report::language_of(std::slice::from_ref(&report.process));
    let explanations: Vec<Explanation> = verdicts
        .map(|(verdict, count)| {
            let role = role_of(records.iter().filter(|r| r.verdict == Some(verdict)));
            Explanation { verdict, about: About::Sockets(count), language, role }
        })
        .collect();
    view.update(now, &Update::Process(Box::new(report)))?;
    let rows = records.into_iter().filter(|r| !page || r.is_leak()).take(if page {
        ROWS
    } else {
        usize::MAX
    });
    for record in rows {
        view.update(now, &Update::Socket(Rc::new(record)))?;
    }
    for explanation in explanations {
        view.update(now, &Update::Explanation(Box::new(explanation)))?;
    }
    view.flush()
}

fn show_sockets(
    snapshot: &Snapshot,
    records: Vec<Record>,
    page: bool,
    view: &mut dyn View,
) -> io::Result<()> {
    let now = snapshot.now;
    for record in records.into_iter().map(Rc::new) {
        let language = report::language_of(&record.holders);
        match record.verdict {
            Some(verdict) => {
                if !page {
                    view.update(now, &Update::Socket(Rc::clone(&record)))?;
                }
                let (role, about) = (record.role, About::Socket(record));
                let explanation = Explanation { verdict, about, language, role };
                view.update(now, &Update::Explanation(Box::new(explanation)))?;
            }
            None => view.update(now, &Update::Socket(record))?,
        }
    }
    view.flush()
}

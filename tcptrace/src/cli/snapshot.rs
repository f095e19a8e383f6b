//! `tcptrace snapshot`: one scan of what exists now.

mod past;

use std::{io, mem::ManuallyDrop, path::PathBuf, rc::Rc, time::Duration};

use tcptrace_common::state::TcpState;

use crate::{
    cli::{
        btf, ended_by, group::By, leaks, leaks::Leaks, nanoseconds, output, report, select, stacks,
        when::When,
    },
    engine::{
        group::{Groups, Overview},
        incident::{Incident, about::Provenance, process::LookedUp},
        leakers::{Leaker, Leakers},
        parse,
        record::{BootNs, Record},
        report::ProcessStacks,
        select::Selection,
        update::Update,
        watch::Said,
    },
    exit::{Exit, Failure},
    source::live::{boot_now, report as live_report, snapshot::Query},
    view::{View, csv::Columns, report::IncidentReport},
};

/// One scan of what exists now: what sits in a state, since when, who holds it, and why
#[derive(Debug, clap::Args)]
#[command(
    long_about = concat!(
        "One scan of what exists now: what sits in a state, since when, who holds it, and ",
        "why.\n\n",
        "All network namespaces, the oldest first, with the number of sockets in each state ",
        "as netstat | awk would count them. Ages are intervals: a socket that was there ",
        "before says only when its last data and its last acknowledgement came. Works ",
        "without BPF and, for one's own processes, without rights; with BPF it is faster, ",
        "and sees connections that are over and still have a descriptor (ghost-fd), which ",
        "--state close_wait lists too.",
    ),
    after_help = concat!(
        "Examples:\n",
        "  tcptrace snapshot                                every CLOSE_WAIT of the machine, and the totals\n",
        "  tcptrace snapshot --group-by holder              who has how many\n",
        "  tcptrace snapshot --group-by remote --lport 8080 whose connections they were\n",
        "  tcptrace snapshot --state all --pid 4711         all sockets of one process\n",
        "  tcptrace snapshot --format json | jq -r 'select(.event == \"socket\").verdict' | sort | uniq -c",
    )
)]
pub struct Args {
    /// A recording, one file or all that it was cut into: what there was then instead of now
    #[arg(value_name = "FILE", conflicts_with_all = ["no_bpf", "btf"])]
    files: Vec<PathBuf>,

    /// Of a recording: at this moment [default: its end]: 03:04:05, 2026-01-02T03:04:05Z, or +90s
    #[arg(long, value_name = "TIME", requires = "files")]
    at: Option<When>,

    /// List sockets that are certainly older than this, and all ghosts: their age is not known
    #[arg(long, value_name = "DUR", default_value = "0", value_parser = parse::duration)]
    min_age: Duration,

    /// Count sockets by what they have in common instead of listing them; none lists TIME_WAIT, too
    #[arg(long, value_name = "WHAT")]
    group_by: Option<By>,

    /// Also where the threads of the processes with most leaks are now: stops each for a moment
    #[arg(
        long,
        conflicts_with = "files",
        long_help = "Also where the threads of the processes with most leaks are now, of 8 processes \
                     at most, as explain PID --stacks says it of one. It stops each thread, 256 of a \
                     process at most, for some microseconds, as a debugger does"
    )]
    stacks: bool,

    /// Use sock_diag and /proc only
    #[arg(long, conflicts_with = "btf")]
    no_bpf: bool,

    #[command(flatten)]
    btf: btf::Args,

    #[command(flatten)]
    report: report::Flag,

    #[command(flatten)]
    leaks: leaks::Args,

    #[command(flatten)]
    output: output::Args,

    // Last: its heading would stand above what follows.
    #[command(flatten)]
    select: select::Args,
}

impl Args {
    /// TIME_WAIT is counted and not listed: a page is for people, and of all states nobody chose
    /// it.
    fn counts_time_wait(&self) -> bool {
        let counted = self.output.is_page() || self.select.states().is_all();
        self.group_by.is_none() && counted
    }
}

/// Processes whose threads are looked for, at most.
const PROCESSES: usize = 8;

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    if args.stacks && args.output.is_csv() {
        return Err(Failure::usage(
            "snapshot --stacks --format csv: stacks are no rows; write --format json",
        ));
    }
    if !args.files.is_empty() {
        return past::run(args);
    }
    let report = args.report.open()?;
    let query = Query {
        // What is not shown is counted.
        selection: Selection { unleaked: true, ..args.select.resolve()? },
        states: with_ghosts(args.select.states().0),
        without_bpf: args.no_bpf,
        btf: args.btf.resolve()?,
        clock: boot_now,
    };
    // The process ends behind it: the kernel is quicker in taking all its memory back.
    let mut snapshot = ManuallyDrop::new(super::take(query)?);
    let mut leaks = 0;
    let missing = snapshot.missing.clone();
    let mut incident = report
        .as_ref()
        .map(|_| Incident::of_snapshot(Provenance { missing, ..report::made_here() }));
    let mut view = match args.output.view(snapshot.now, Columns::Snapshot) {
        Ok(view) => view,
        Err(e) => return ended_by(e),
    };
    let now = snapshot.now;
    let overview = Overview {
        namespaces: snapshot.namespaces.len() as u64,
        states: Some(snapshot.states()),
        time_waits: snapshot.time_waits.take(),
        ..Overview::default()
    };
    let listing = Listing { args, now, overview };
    let said = listing.show(&mut snapshot.records(), &mut *view, &mut leaks, incident.as_mut());
    if let Some((file, mut incident)) = report.zip(incident) {
        let looked_up = LookedUp {
            process: &|id| snapshot.process(id),
            waits: &|id| Some(live_report::waits_of(id)),
            full: &|_| None,
        };
        incident.finish_snapshot(snapshot.now, &looked_up);
        file.write(&IncidentReport { incident: &incident, clock: view.clock() })?;
    }
    args.leaks.exit(Leaks { open: leaks, all: leaks }, said)
}

/// Who asks for CLOSE_WAIT wants to know of what became of it by a reset, too.
fn with_ghosts(states: u32) -> u32 {
    if states & TcpState::CloseWait.bit() != 0 { states | TcpState::Close.bit() } else { states }
}

/// What is shown, and as of when.
struct Listing<'a> {
    args: &'a Args,
    now: BootNs,
    overview: Overview,
}

impl Listing<'_> {
    /// Counts the leaks: all of them, also where the reader goes meanwhile.
    fn show(
        self,
        records: &mut dyn Iterator<Item = Record>,
        view: &mut dyn View,
        leaks: &mut u64,
        mut incident: Option<&mut Incident>,
    ) -> io::Result<()> {
        let Self { args, now, mut overview } = self;
        let mut groups = args.group_by.and_then(By::what).map(|by| Groups::new(by, now));
        let min_age_ns = nanoseconds(args.min_age);
        let mut leakers = Leakers::default();
        let mut said = Ok(());
        for record in records {
            let over = record.age(now).is_over(min_age_ns);
            if over == Some(false) {
                continue;
            }
            if !record.is_shown() && !args.select.names_verdicts() {
                overview.in_use += 1;
                continue;
            }
            // Nothing tells since when a ghost has been one.
            let ghost = record.state == TcpState::Close && record.is_leak();
            if over.is_none() && !ghost {
                overview.age_unknown += 1;
                continue;
            }
            if record.state == TcpState::TimeWait && args.counts_time_wait() {
                overview.time_wait(!args.select.states().is_all());
                continue;
            }
            overview.add(&record);
            if args.stacks {
                leakers.add(&record);
            }
            let record = Rc::new(record);
            if let Some(incident) = &mut incident {
                incident.take(&Said { time: now, update: Update::Socket(Rc::clone(&record)) });
            }
            match &mut groups {
                Some(groups) => groups.add(&record),
                None if said.is_ok() => said = view.update(now, &Update::Socket(record)),
                None => {}
            }
        }
        *leaks = overview.leaks;
        said?;
        for group in groups.into_iter().flat_map(Groups::sorted) {
            view.update(now, &Update::Group(Box::new(group)))?;
        }
        if args.stacks {
            // They take a while.
            view.flush()?;
        }
        for Leaker { holder, leaks } in leakers.worst(PROCESSES) {
            let stacks = stacks::of(holder.process, false);
            let stacks = ProcessStacks { process: holder, leaks, stacks };
            view.update(now, &Update::Stacks(Box::new(stacks)))?;
        }
        view.update(now, &Update::Overview(Box::new(overview)))?;
        view.flush()
    }
}

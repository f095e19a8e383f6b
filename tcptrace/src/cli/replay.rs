//! `tcptrace replay`: shows a recording as a watch would have shown it.

use std::{
    io::{self, ErrorKind},
    path::PathBuf,
    time::Duration,
};

use tcptrace_common::state::TcpState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::yield_now,
    time::{Instant, sleep_until},
};

use super::{
    attach, ended_by, group::By, leaks, output, select, session::Session, warn, when::When,
};
use crate::{
    engine::{
        parse,
        parse::{MinAge, States},
        record::BootNs,
        reports::Reports,
        select::Selection,
        watch::Plan,
    },
    exit::{Exit, Failure},
    prose::time::human,
    source::recording::{
        Batch, Header,
        file::{Recording, Refused},
        reader::Unreadable,
    },
    view::csv::Columns,
};

/// Show a recording as a watch would have shown it, with any selection
#[derive(Debug, clap::Args)]
#[command(
    long_about = concat!(
        "Show a recording as a watch would have shown it, with any selection.\n\n",
        "With the same flags it writes what watch --record wrote, byte for byte in JSON. What it left ",
        "out can't be asked for: other states, shorter stays, and, unless it was made with ",
        "--transitions, changes of state. Needs no rights, and works on any machine. Exit code 1 ",
        "says that something could not be read; what could is shown.",
    ),
    after_help = concat!(
        "Examples:\n",
        "  tcptrace replay leak.tct                         what happened\n",
        "  tcptrace replay leak.tct* --pid 4711 --json      of one process, from all files of it\n",
        "  tcptrace replay leak.tct --from 03:10 --to 03:20 --group-by remote\n",
        "  ssh host sudo tcptrace record -o - | tcptrace replay -",
    )
)]
pub struct Args {
    /// The recording: one file, or all that it was cut into, in any order; - is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Leave out what was said before: 03:04:05, 2026-01-02T03:04:05Z, or +90s
    #[arg(long, value_name = "TIME")]
    from: Option<When>,

    /// End there
    #[arg(long, value_name = "TIME")]
    to: Option<When>,

    /// Take so many times less long than it took: 1 is as long, 60 a minute in a second
    /// [default: as fast as possible]
    #[arg(long, value_name = "N", value_parser = speed)]
    speed: Option<f64>,

    /// Report stays longer than this [default: as recorded]
    #[arg(long, value_name = "DUR|auto", value_parser = parse::min_age)]
    min_age: Option<MinAge>,

    /// Also show every matching change of state
    #[arg(long)]
    transitions: bool,

    /// Stop after so many reports (with --transitions: so many transitions)
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    #[command(flatten)]
    leaks: leaks::Args,

    /// Table: tell sockets together that have this in common [default: holders, verdict and end]
    #[arg(long, value_name = "WHAT")]
    group_by: Option<By>,

    /// Table: a line a socket, as --group-by none; JSON and CSV always have that
    #[arg(long, conflicts_with = "group_by")]
    each: bool,

    #[command(flatten)]
    output: output::Args,

    // Last: its heading would stand above what follows.
    #[command(flatten)]
    select: select::Args,
}

/// `--speed`.
pub fn speed(text: &str) -> Result<f64, String> {
    let speed = text.strip_suffix('x').unwrap_or(text).parse().ok();
    let speed = speed.filter(|n: &f64| (0.001..=1e9).contains(n));
    speed.ok_or_else(|| "write a number such as 1, 0.5 or 60".to_owned())
}

/// Opens a recording; what is missing between its files is said.
pub fn open(files: &[PathBuf]) -> Result<Recording, Failure> {
    Recording::open(files).map_err(|e| match e {
        Refused::Unreadable(_, Unreadable::Io(ref io)) if io.kind() == ErrorKind::NotFound => {
            Failure::usage(e)
        }
        Refused::Unreadable(..) => Failure { exit: Exit::Failed, message: e.to_string() },
        _ => Failure::usage(e),
    })
}

/// What of a recording is asked for. An error says what it left out.
pub fn plan(
    header: &Header,
    select: &select::Args,
    min_age: Option<MinAge>,
) -> Result<Plan, Failure> {
    let select = select.of_recording(header.states);
    let asked = select.watchable()?;
    // Whoever asks for all has what there is: of TIME_WAIT, older recordings kept nothing.
    let all = if asked.is_all() { header.states | !TcpState::TimeWait.bit() } else { u32::MAX };
    let states = asked.0 & all;
    let left_out = states & !header.states;
    if left_out != 0 {
        return Err(Failure::usage(format!(
            "--state: the recording left out {}; it has {}",
            attach::state_names(left_out),
            attach::state_names(header.states)
        )));
    }
    let usual = match header.by_normal {
        true => MinAge::Auto,
        false => MinAge::Longer(Duration::from_nanos(header.min_age_ns)),
    };
    if min_age == Some(MinAge::Auto) && !header.by_normal {
        return Err(Failure::usage(
            "--min-age auto: the recording does not have what is normal; record --min-age auto \
             keeps it",
        ));
    }
    let plan = Plan::default().reporting(min_age.unwrap_or(usual));
    if plan.listed_from_ns() < header.min_age_ns {
        let least = human(header.min_age_ns);
        return Err(Failure::usage(format!(
            "--min-age: the recording left out stays that are not longer than {least}"
        )));
    }
    let selection = select.recorded(&header.namespaces)?;
    let listed_from_ns = Some(header.min_age_ns);
    Ok(Plan { selection, states, listed_from_ns, ..plan })
}

impl Args {
    fn plan(&self, header: &Header) -> Result<Plan, Failure> {
        if self.transitions && !header.transitions {
            return Err(Failure::usage(
                "--transitions: the recording has none; record --transitions keeps them",
            ));
        }
        let plan = plan(header, &self.select, self.min_age)?;
        Ok(Plan { transitions: self.transitions, count: self.count, ..plan })
    }

    fn reports(&self, plan: &Plan) -> Option<Reports> {
        let by = self.group_by.map(By::what);
        let each = self.each || self.transitions || by == Some(None);
        let grouped = self.output.is_page() && !each;
        grouped.then(|| Reports::new(by.flatten(), plan.min_age_ns))
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let recording = open(&args.files)?;
    let header = recording.header().clone();
    let plan = args.plan(&header)?;
    let reports = args.reports(&plan);
    let (states, selection) = (plan.states, plan.selection.clone());
    let began = header.began();
    let view = match args.output.view_at(began, header.began_ns, Columns::Watch) {
        Ok(view) => view,
        Err(e) => return ended_by(e),
    };
    let utc = args.output.is_utc();
    let moment = |moment: When| moment.on_boot_clock(&header, utc);
    let mut replay = Replay {
        from: args.from.map(moment),
        to: args.to.map(moment),
        speed: args.speed,
        // It ended by itself there.
        count_is_recorded: args.count == header.count,
        session: Session::new(plan, view, reports),
        recording,
        damaged: false,
    };
    let shown = attach::runtime()?.block_on(replay.run());
    let unknown = unknown(states, &selection, &replay.session);
    match args.leaks.exit(replay.session.found(), shown)? {
        _ if unknown.is_some() => Err(Failure::usage(unknown.unwrap_or_default())),
        Exit::Done if replay.damaged => Ok(Exit::Failed),
        exit => Ok(exit),
    }
}

/// What was asked for and is not in the recording.
fn unknown(states: u32, selection: &Selection, session: &Session) -> Option<String> {
    if States(states).is_time_wait_only() && session.watch.in_time_wait().is_none() {
        return Some(
            "--state time_wait: the recording has counts, of the ends that it was made with: write \
             the same --local, --remote, --lport, --rport, --family and --netns"
                .to_owned(),
        );
    }
    let known = |pid| session.watch.has_known(pid);
    let pid = selection.processes.iter().map(|process| process.pid).find(|pid| !known(*pid))?;
    Some(format!("--pid {pid}: the recording knows no such process"))
}

struct Replay {
    recording: Recording,
    session: Session,
    from: Option<BootNs>,
    to: Option<BootNs>,
    speed: Option<f64>,
    count_is_recorded: bool,
    damaged: bool,
}

impl Replay {
    async fn run(&mut self) -> io::Result<()> {
        let mut stop = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
        let (began, mut now) = (Instant::now(), None);
        let mut first = None;
        while let Some(batch) = self.next()? {
            let Some(batch) = self.until(batch) else {
                now = self.to;
                break;
            };
            let since = *first.get_or_insert(self.from.unwrap_or(0).max(batch.now));
            if let Some(speed) = self.speed {
                let passed = Duration::from_nanos(batch.now.saturating_sub(since));
                // Further ahead than anybody waits.
                let due = passed.div_f64(speed).min(Duration::from_secs(1 << 32));
                if wait_until(began + due, &mut stop).await {
                    break;
                }
            } else if told(&mut stop).await {
                break;
            }
            now = Some(batch.now);
            self.session.take(batch.facts);
            if self.from.is_some_and(|from| batch.now < from) {
                self.session.pass_over(batch.now);
            } else {
                self.session.show(batch.now)?;
            }
            if !self.count_is_recorded && self.session.watch.is_done() {
                break;
            }
        }
        self.session.finish(now.unwrap_or(self.recording.header().began_ns))
    }

    fn next(&mut self) -> io::Result<Option<Batch>> {
        let next = self.recording.next_batch();
        for missing in self.recording.take_missing() {
            self.damaged = true;
            warn(&missing);
        }
        next
    }

    /// What of it was before the end that is asked for.
    fn until(&self, mut batch: Batch) -> Option<Batch> {
        if let Some(to) = self.to
            && batch.now > to
        {
            batch.facts.retain(|fact| fact.at <= to);
            batch.now = to;
            return Some(batch).filter(|batch| !batch.facts.is_empty());
        }
        Some(batch)
    }
}

/// Waits; whether somebody ends it meanwhile.
async fn wait_until(due: Instant, [stop, terminate]: &mut [Signal; 2]) -> bool {
    tokio::select! {
        _ = stop.recv() => true,
        _ = terminate.recv() => true,
        () = sleep_until(due) => false,
    }
}

/// Whether somebody ends it.
async fn told([stop, terminate]: &mut [Signal; 2]) -> bool {
    tokio::select! {
        biased;
        _ = stop.recv() => true,
        _ = terminate.recv() => true,
        () = yield_now() => false,
    }
}

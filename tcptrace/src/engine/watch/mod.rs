//! The core: facts go in with their time, updates come out, and what is known can be read at any
//! moment. It decides all that a user is told, and nothing else does.
//!
//! One file a stage, in the order of work: `events` takes in changes of state, `scans` what is
//! live and who holds it, `losses` what could not be seen and what is to be looked up next, `asked`
//! what was asked of processes, `usage` what fills up, `passing` what no event tells of, `origins`
//! who opened what and read from it.

mod asked;
mod closing;
mod events;
mod losses;
mod origins;
mod passing;
mod scans;
#[cfg(test)]
mod tests;
mod usage;

use std::{collections::HashMap, iter, rc::Rc};

use tcptrace_common::{
    counters::{Counters, Histogram},
    state::TcpState,
};

use self::{
    asked::Asked, losses::Losses, origins::Traced, passing::Passing, scans::Beside, usage::Uses,
};
pub use self::{asked::WaitsOf, losses::Wants};
use super::{
    blocked::blockage::{Kept, Unserved},
    decode,
    fact::{Fact, Host, Process, Timed},
    forecast::told::Forecast,
    leakers::Leakers,
    normal,
    normal::Normal,
    normals::Normals,
    ownership::Ownership,
    parse::MinAge,
    processes::Processes,
    record::{BootNs, ProcessId, Record},
    select::Selection,
    stories::stories,
    tracker::Tracker,
    update::{Lost, Stays, Summary, Update},
    worst::worst,
};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which sockets.
    pub selection: Selection,
    /// In which states: bit `1 << number`.
    pub states: u32,
    /// Tell every change of state too.
    pub transitions: bool,
    /// Shorter stays are not reported, ns.
    pub min_age_ns: u64,
    /// From this age on scans list stays, ns; where that is less than [`Self::min_age_ns`], what is
    /// too young is kept until it is not: a recording may know of shorter stays than are asked for.
    pub listed_from_ns: Option<u64>,
    /// What is longer than normal is reported, where it is known what is normal; elsewhere what is
    /// longer than [`Self::min_age_ns`].
    pub by_normal: bool,
    /// Ask what the threads of a process wait in when its first leak is reported.
    pub threads: bool,
    /// Stop after so many reports; with transitions, after so many of those.
    pub count: Option<u64>,
}

impl Default for Plan {
    /// All that there is.
    fn default() -> Self {
        Self {
            selection: Selection::default(),
            states: u32::MAX,
            transitions: false,
            min_age_ns: 0,
            listed_from_ns: None,
            by_normal: false,
            threads: false,
            count: None,
        }
    }
}

impl Plan {
    /// The same, with stays of this age reported.
    #[must_use]
    pub fn reporting(self, min_age: MinAge) -> Self {
        let min_age_ns = u64::try_from(min_age.duration().as_nanos()).unwrap_or(u64::MAX);
        let by_normal = min_age == MinAge::Auto;
        let youngest = by_normal.then_some(normal::YOUNGEST_NS);
        Self { min_age_ns, by_normal, listed_from_ns: youngest.or(self.listed_from_ns), ..self }
    }

    /// From which age on scans list stays, ns.
    #[must_use]
    pub fn listed_from_ns(&self) -> u64 {
        self.listed_from_ns.unwrap_or(self.min_age_ns)
    }

    /// From which age on a stay is reported, ns; `normal`: how long such stays last as a rule, as
    /// far as that is asked for and known.
    fn reported_from_ns(&self, normal: Option<Normal>) -> u64 {
        normal.map_or(self.min_age_ns, |normal| normal.reported_from_ns())
    }

    /// Whether stays in this state are asked for. Who asks for CLOSE_WAIT wants to know of what
    /// becomes of it by a reset, too.
    #[must_use]
    pub fn watches(&self, state: TcpState) -> bool {
        let with_ghosts = if self.states & TcpState::CloseWait.bit() != 0 {
            self.states | TcpState::Close.bit()
        } else {
            self.states
        };
        with_ghosts & state.bit() != 0
    }
}

/// What became known, and when.
#[derive(Clone, Debug)]
pub struct Said {
    /// ns of the boot clock.
    pub time: BootNs,
    /// What.
    pub update: Update,
}

/// The state machine.
#[derive(Debug)]
pub struct Watch {
    plan: Plan,
    host: Host,
    tracker: Tracker,
    processes: Processes,
    /// Paths of cgroups v2 by id.
    cgroups: HashMap<u64, Rc<str>>,
    /// Whose sockets transitions are of, where that was asked.
    ownership: Option<Ownership>,
    losses: Losses,
    /// What ended beside the scan that is under way.
    beside: Option<Beside>,
    counters: Counters,
    histogram: Option<Box<Histogram>>,
    /// Listed, and too young to be reported, with the first byte that was not acknowledged.
    early: HashMap<u64, (Record, u32)>,
    /// What threads waited in.
    threads: Asked,
    /// Who opened what, where that was asked for.
    origins: Option<Box<Traced>>,
    /// How long stays last as a rule.
    normals: Normals,
    /// Those that are being closed from outside, as they were when that began.
    closing: HashMap<u64, Rc<Record>>,
    /// What may run out.
    uses: Uses,
    /// What no event tells of.
    passing: Passing,
    /// Reports so far, see [`Plan::count`].
    reports: u64,
    /// When the first fact became known.
    began_ns: Option<BootNs>,
}

/// More cgroups than these are forgotten, and learnt again.
const CGROUPS: usize = 65_536;
/// Findings of the last word.
const KEPT: usize = 5;

impl Watch {
    /// One that knows nothing yet.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let by_holder = plan.transitions && plan.selection.asks_for_holders();
        Self {
            tracker: Tracker::new(plan.min_age_ns),
            plan,
            host: Host::default(),
            processes: Processes::default(),
            cgroups: HashMap::new(),
            ownership: by_holder.then(Ownership::default),
            losses: Losses::default(),
            beside: None,
            counters: Counters::default(),
            histogram: None,
            early: HashMap::new(),
            threads: Asked::default(),
            origins: None,
            normals: Normals::default(),
            closing: HashMap::new(),
            uses: Uses::default(),
            passing: Passing::default(),
            reports: 0,
            began_ns: None,
        }
    }

    /// What is asked for.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// From `now` on stays of this age are reported, ns. Nothing that is known is forgotten: what
    /// was reported and is younger stays so until it ends.
    pub fn set_min_age(&mut self, min_age_ns: u64, now: BootNs) {
        self.plan.min_age_ns = min_age_ns;
        self.tracker.set_min_age(min_age_ns, now);
        self.losses.look_at_all();
    }

    /// Takes in a fact; what it means goes to `said`. Facts come in the order in which they became
    /// known.
    pub fn take(&mut self, fact: &Timed, said: &mut Vec<Said>) {
        let at = fact.at;
        self.began_ns.get_or_insert(at);
        match &fact.fact {
            Fact::Host(host) => self.host = host.clone(),
            Fact::Clock { offset_ns } => {
                said.push(Said { time: at, update: Update::Clock(*offset_ns) })
            }
            Fact::Process(process) => self.processes.learn(at, process),
            Fact::Cgroup { id, path } => {
                if self.cgroups.len() >= CGROUPS {
                    self.cgroups.clear();
                }
                self.cgroups.insert(*id, path.as_str().into());
            }
            Fact::Change(record) => match decode::transition(&record.0) {
                Some(event) => self.event(&event, said),
                None => self.losses.skip(1),
            },
            Fact::Streamed(record) => match decode::streamed(&record.0) {
                Some(event) => self.event(&event, said),
                None => self.losses.skip(1),
            },
            Fact::ScanBegan => self.beside = Some(Beside::default()),
            Fact::Scan(scan) => self.scan(scan, said),
            Fact::Counts(counts) => self.counts(counts),
            Fact::Skipped { count } => self.losses.skip(*count),
            Fact::Threads(waiting) => self.threads.learn(waiting),
            Fact::Origins(told) => self.origins.get_or_insert_default().learn(told),
            Fact::Stack(named) => self.origins.get_or_insert_default().learn_stack(named),
            Fact::Closing { cookie } => self.closing(*cookie),
            Fact::Attempt(attempt) => self.tried(attempt, at, said),
            Fact::Blocked(reading) => self.threads.learn_more(reading),
            Fact::Normals(rows) => self.normals.learn(rows),
            Fact::Usage(usage) => self.usage(at, usage, said),
            Fact::NetworkUsage(usage) => self.network_usage(at, usage, said),
            Fact::Handshakes(all) => self.passing.handshakes(all),
            Fact::TimeWaits { of, all } => self.time_waits(at, of, all, said),
        }
    }

    /// Whether as much was reported as was asked for.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.plan.count.is_some_and(|count| self.reports >= count)
    }

    /// What the source is to do next. What is asked for here once is not asked for again.
    pub fn wants(&mut self, now: BootNs) -> Wants {
        let doubt = self.tracker.in_doubt();
        Wants {
            threads: self.threads.take_wanted(),
            usage: self.due_samples(now),
            ..self.losses.wants(now, doubt)
        }
    }

    /// Whether a scan has ended: before that, no row means that nothing is known yet.
    #[must_use]
    pub fn has_scanned(&self) -> bool {
        self.losses.has_scanned()
    }

    /// Whether the ends of sockets are to be followed (`tcp_destroy_sock`): there are ghosts.
    #[must_use]
    pub fn follows_ends(&self) -> bool {
        self.losses.follows_ends()
    }

    /// Whether the events of calls are to be preceded by what is known of the callers.
    #[must_use]
    pub fn needs_callers(&self) -> bool {
        self.plan.selection.asks_for_holders()
    }

    /// Sockets that were reported and have not ended, as last seen, in no order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &Rc<Record>> {
        self.tracker.rows()
    }

    /// One of them.
    #[must_use]
    pub fn row(&self, cookie: u64) -> Option<&Rc<Record>> {
        self.tracker.row(cookie)
    }

    /// What is known of a process, as of the last scan that told of it.
    #[must_use]
    pub fn process(&self, id: ProcessId) -> Option<&Process> {
        self.processes.get(id)
    }

    /// What a process waited for when a leak of it was reported first, where that was asked.
    #[must_use]
    pub fn waits_of(&self, id: ProcessId) -> Option<&WaitsOf> {
        self.threads.waits_of(id)
    }

    /// The holders of leaks that are kept by something, those with most leaks first, each with what
    /// became of its connections.
    fn kept(&self) -> Vec<Kept> {
        let leaks = || self.rows().filter(|record| record.is_leak()).map(|record| &**record);
        let mut leakers = Leakers::default();
        leaks().for_each(|record| leakers.add(record));
        let mut kept: Vec<Kept> = Vec::new();
        for leaker in leakers.worst(usize::MAX) {
            let waits = self.waits_of(leaker.holder.process);
            let Some(cause) = waits.and_then(|of| of.causes.first()).cloned() else { continue };
            let effect = Unserved::count(&cause.workers, leaks());
            let finding = Kept { cause, effect };
            if finding.is_told() && !kept.iter().any(|k| k.cause.workers == finding.cause.workers) {
                kept.push(finding);
            }
            if kept.len() == KEPT {
                break;
            }
        }
        kept
    }

    /// Whether a process with this pid was told of.
    #[must_use]
    pub fn has_known(&self, pid: u32) -> bool {
        self.processes.get(ProcessId { pid, start_ns: 0 }).is_some()
    }

    /// What is known by now that scans do not say: with it, and a scan that lists everything, a
    /// watch can begin at `now`.
    pub fn known(&self, now: BootNs) -> impl Iterator<Item = Timed> {
        let process = |process: &Process| Fact::Process(Box::new(process.clone()));
        let cgroup =
            |(id, path): (&u64, &Rc<str>)| Fact::Cgroup { id: *id, path: path.to_string() };
        iter::once(Fact::Host(self.host.clone()))
            .chain(self.cgroups.iter().map(cgroup))
            .chain(self.processes.all().map(process))
            .chain(self.threads.all().map(|waiting| Fact::Threads(Box::new(waiting.clone()))))
            .chain(self.threads.readings().map(|reading| Fact::Blocked(Box::new(reading.clone()))))
            .chain(self.origins.iter().flat_map(|origins| origins.known()))
            .map(move |fact| Timed { at: now, fact })
    }

    /// All counts so far.
    #[must_use]
    pub fn totals(&self) -> Summary {
        let Counters { seen, filtered, emitted, .. } = self.counters;
        Summary {
            seen,
            filtered,
            emitted,
            stays: self.histogram.as_deref().map(Stays::all).unwrap_or_default(),
            lost: self.losses.lost(),
            ..self.tracker.summary()
        }
    }

    /// How long the stays were that have ended; `None` before the first scan.
    #[must_use]
    pub fn histogram(&self) -> Option<&Histogram> {
        self.histogram.as_deref()
    }

    /// What the kernel programs counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What could not be seen or shown.
    #[must_use]
    pub fn losses(&self) -> Lost {
        self.losses.lost()
    }

    /// How many things are remembered one by one: bounded by what exists.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.tracker.remembered() + self.ownership.as_ref().map_or(0, Ownership::len)
    }

    /// Says the last word.
    pub fn finish(&mut self, now: BootNs, said: &mut Vec<Said>) {
        said.extend(self.losses.last_word().map(|update| Said { time: now, update }));
        let mut totals = self.totals();
        let since = self.began_ns.unwrap_or(now);
        totals.worst = worst(self.rows(), now, since, self.plan.min_age_ns, &self.processes);
        totals.forecasts = self.forecasts(now);
        if let Some(worst) = &mut totals.worst {
            let of = |f: &&Forecast| f.of_process(worst.holder.process);
            worst.full_in_ns = totals.forecasts.iter().find(of).map(|f| f.left(now));
        }
        totals.kept = self.kept();
        totals.time_waits = self.passing.time_waits.clone();
        totals.stories = stories(self.rows());
        said.push(Said { time: now, update: Update::Summary(Box::new(totals)) });
    }

    fn say(&mut self, time: BootNs, update: Update, said: &mut Vec<Said>) {
        let counts = match update {
            Update::Transition(_) => true,
            Update::Stuck(_) => !self.plan.transitions,
            _ => false,
        };
        self.reports += u64::from(counts);
        if let Update::Stuck(record) = &update
            && self.plan.threads
            && record.is_leak()
        {
            self.threads.want(record);
        }
        said.push(Said { time, update });
    }

    fn asks_for(&self, record: &Record) -> bool {
        let descends = |pid: u32, roots: &[_]| self.processes.descends(pid, roots);
        self.plan.selection.matches_record(record, &descends)
    }
}

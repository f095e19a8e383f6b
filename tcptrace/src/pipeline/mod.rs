//! From the kernel to the sink: drains events, looks at what is live, finds out who holds it, and
//! says what was asked for.

mod ownership;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io, mem,
    time::Duration,
};

use jiff::Timestamp;
use ownership::Ownership;
use rustix::time::{ClockId, clock_gettime};
use tcptrace_common::{
    counters::{Counters, Histogram},
    event::{Socket, Streamed},
    state::TcpState,
};

use crate::{
    confine::memory,
    engine::{
        assemble,
        assemble::Holdings,
        decode,
        record::{BootNs, Connection, Record},
        select::Selection,
        tracker::{Outcome, Tracker},
        update::{Change, Lost, Stays, Summary, Update},
    },
    source::live::{
        bpf::{loader::Kernel, nursery::Young},
        cgroupfs::CgroupIds,
        holders, process,
        process::Processes,
        ring::Ring,
    },
    view::Sink,
};

/// What to do with what comes.
#[derive(Debug)]
pub struct Plan {
    /// Whom and what the user asked for.
    pub selection: Selection,
    /// Stream transitions.
    pub transitions: bool,
    /// Shorter stays are not reported, ns.
    pub min_age_ns: u64,
    /// Stop after so many reports.
    pub count: Option<u64>,
}

/// A running watch.
pub struct Pipeline {
    kernel: Kernel,
    plan: Plan,
    sink: Box<dyn Sink>,
    tracker: Tracker,
    processes: Processes,
    cgroup_ids: CgroupIds,
    ownership: Option<Ownership>,
    kernel_names_processes: bool,
    /// Stays in the nursery that no descriptor leads to, and when to try again.
    unplaced: HashMap<Young, BootNs>,
    /// Records of the streams; empty between two calls.
    batch: Vec<Streamed>,
    /// Events of the ring buffer that are not taken in yet.
    rung: VecDeque<decode::Event>,
    skipped: u64,
    reported: u64,
    told: Lost,
    /// Passes over all stays that are owed after a loss.
    resyncs: u8,
}

/// Events taken in before other things get their turn.
const BATCH: usize = 1 << 17;
/// A stay that no descriptor leads to is looked for again when its age has doubled, but not sooner
/// than after this.
const FIRST_RETRY_NS: u64 = 1_000_000_000;
/// A look at so many sockets leaves megabytes behind.
const LARGE: usize = 1_000;
/// Passes over all stays after a loss: a tracker believes an absence when it sees it twice.
const RESYNCS: u8 = 2;
/// Looks take at most this share of a CPU, however many stays there are.
const SHARE: u32 = 50;

/// What this thread has used. A look that others keep from the CPU takes long and costs no more.
fn cpu_time() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap_or(0))
}

impl Pipeline {
    /// Puts the parts together.
    pub fn new(kernel: Kernel, plan: Plan, sink: Box<dyn Sink>) -> Self {
        let ownership =
            (plan.transitions && plan.selection.asks_for_holders()).then(Ownership::default);
        Self {
            kernel,
            tracker: Tracker::new(plan.min_age_ns),
            plan,
            sink,
            processes: Processes::default(),
            cgroup_ids: CgroupIds::default(),
            ownership,
            kernel_names_processes: holders::kernel_names_processes(),
            unplaced: HashMap::new(),
            batch: Vec::new(),
            rung: VecDeque::new(),
            skipped: 0,
            reported: 0,
            told: Lost::default(),
            resyncs: 0,
        }
    }

    /// Gets ready: where transitions are asked for by holder, whose the sockets are that exist
    /// already.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn start(&mut self, now: BootNs) -> io::Result<()> {
        if let Some(ownership) = &mut self.ownership {
            let listing = self.kernel.descriptors(now)?;
            ownership.learn(&listing, &self.plan.selection, &self.processes);
        }
        Ok(())
    }

    /// Whether `--count` is reached.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.plan.count.is_some_and(|count| self.reported >= count)
    }

    /// Takes in what happened before `now`, in order; of the ring buffer no more than makes a good
    /// batch: who writes into it without pause must not keep us from all else.
    ///
    /// # Errors
    /// What writing answers.
    pub fn drain(&mut self, ring: &mut Ring, now: BootNs) -> io::Result<()> {
        // Before the ring buffer: what comes there later than something here is then there too.
        self.kernel.streamed(now, &mut self.batch);
        for _ in 0..BATCH {
            let Some(event) = ring.take().map(|bytes| decode::event(&bytes)) else { break };
            self.skipped += u64::from(event.is_none());
            self.rung.extend(event);
        }
        let batch = mem::take(&mut self.batch);
        for record in &batch {
            self.until(record.time_ns)?;
            match decode::streamed(record) {
                Some(event) => self.event(&event)?,
                None => self.skipped += 1,
            }
        }
        self.until(if self.plan.transitions { now } else { BootNs::MAX })?;
        self.batch = batch;
        self.batch.clear();
        self.sink.flush()
    }

    /// Takes in what came by the ring buffer and happened before `time`.
    fn until(&mut self, time: BootNs) -> io::Result<()> {
        while let Some(event) = self.rung.pop_front_if(|event| event.time < time) {
            self.event(&event)?;
        }
        Ok(())
    }

    fn event(&mut self, event: &decode::Event) -> io::Result<()> {
        if self.is_done() {
            return Ok(());
        }
        let connection = &event.change.connection;
        if self.plan.transitions && !event.destroyed && self.streams(event) {
            self.say(event.time, &Update::Transition(event.change.clone()))?;
        }
        if !self.plan.selection.matches_connection(connection) {
            return Ok(());
        }
        if event.ghost {
            self.follow_ends()?;
        }
        match self.tracker.event(event) {
            Outcome::Say(update) => self.say(event.time, &update),
            Outcome::Unreported => self.late(event),
            Outcome::Silence => Ok(()),
        }
    }

    /// Whether a transition is asked for.
    fn streams(&mut self, event: &decode::Event) -> bool {
        let Change { connection, .. } = &event.change;
        self.plan.selection.matches_connection(connection)
            && match &mut self.ownership {
                Some(ownership) => ownership.owns(event, &self.plan.selection, &self.processes),
                None => true,
            }
    }

    /// A stay that passed min-age and ended between two looks: said as it can still be known.
    fn late(&mut self, event: &decode::Event) -> io::Result<()> {
        let closer = event
            .closed_by
            .as_ref()
            .map(|c| self.processes.caller(c.pid, Some(&c.comm), event.time));
        let record = assemble::ended(event, Vec::new());
        let judged = Record { holders: closer.into_iter().collect(), ..record.clone() };
        if !self.plan.selection.matches_record(&judged, &process::descends) {
            return Ok(());
        }
        let stuck = self.tracker.stuck(record);
        self.say(event.time, &stuck)?;
        match self.tracker.event(event) {
            Outcome::Say(update) => self.say(event.time, &update),
            _ => Ok(()),
        }
    }

    /// Looks at what is live, reports what is due, and says what was lost.
    ///
    /// # Errors
    /// What the kernel or writing answers.
    pub fn look(&mut self, now: BootNs) -> io::Result<Duration> {
        let began = cpu_time();
        let all = self.check_losses(now)?;
        let young = self.young(now);
        let listing = self.kernel.look(now, all)?;
        self.skipped += listing.skipped;
        if listing.sockets.iter().any(|s| s.state == TcpState::Close as u8) {
            self.follow_ends()?;
        }
        let mut suspects: Vec<Socket> =
            listing.sockets.iter().filter(|s| self.asks_for(s)).copied().collect();
        if self.ownership.is_some() || !suspects.is_empty() || !young.is_empty() {
            let holdings = self.holdings(&mut suspects, &young, now)?;
            for socket in &suspects {
                if self.is_done() {
                    break;
                }
                self.judge(socket, &holdings, now, all)?;
            }
        }
        if all {
            let live = listing
                .sockets
                .iter()
                .map(|s| s.cookie)
                .chain(self.kernel.nursery().cookies())
                .collect();
            for update in self.tracker.reconcile(&live, now) {
                self.say(now, &update)?;
            }
            self.resyncs = self.resyncs.saturating_sub(1);
        }
        self.sink.flush()?;
        if suspects.len() >= LARGE {
            drop((listing, suspects));
            memory::give_back();
        }
        Ok(cpu_time().saturating_sub(began) * SHARE)
    }

    /// There is a ghost: how it ends is to be seen. One that ended meanwhile shows by its absence.
    fn follow_ends(&mut self) -> io::Result<()> {
        if self.kernel.follow_ends().map_err(io::Error::other)? {
            self.resyncs = RESYNCS;
        }
        Ok(())
    }

    fn asks_for(&self, s: &Socket) -> bool {
        self.plan.selection.matches_connection(&Connection::new(s.cookie, &s.tuple, s.protocol))
    }

    /// The stays in the nursery that have aged and are not known to lead nowhere, or not lately.
    fn young(&mut self, now: BootNs) -> Vec<Young> {
        let aged: HashSet<Young> = self.kernel.nursery().aged(now, self.plan.min_age_ns).collect();
        self.unplaced.retain(|young, _| aged.contains(young));
        aged.into_iter()
            .filter(|young| self.unplaced.get(young).is_none_or(|next| now >= *next))
            .collect()
    }

    /// Finds out who holds what. Stays that leave the nursery join the suspects: with all that is
    /// known where a descriptor leads to them, else with what their slot says.
    fn holdings(
        &mut self,
        suspects: &mut Vec<Socket>,
        young: &[Young],
        now: BootNs,
    ) -> io::Result<Holdings> {
        let listing = self.kernel.holders(now, !young.is_empty())?;
        self.skipped += listing.skipped;
        let promoted = listing
            .sockets
            .iter()
            .filter(|s| s.state != TcpState::Listen as u8 && self.asks_for(s));
        suspects.extend(promoted);
        let ends_missed = !young.is_empty() && self.kernel.missed() > 0;
        for young in young {
            let Some(socket) = self.kernel.nursery().still(young) else { continue };
            if ends_missed {
                // Its end may be among those that nobody saw: better silent than wrong.
                self.kernel.nursery().evict(young);
                continue;
            }
            let age = now.saturating_sub(socket.latest_ns);
            self.unplaced.insert(*young, now + age.max(FIRST_RETRY_NS));
            if self.asks_for(&socket) {
                suspects.push(socket);
            }
        }
        if let Some(ownership) = &mut self.ownership {
            ownership.learn_listeners(&listing, &self.plan.selection, &self.processes);
        }
        Ok(if self.kernel_names_processes {
            holders::from_kernel(
                &listing.sockets,
                &listing.queued,
                &listing.holders,
                &self.processes,
            )
        } else {
            holders::from_proc(suspects, &listing.sockets, &listing.queued, &self.processes)
        })
    }

    /// Says that a socket is stuck, if it is asked for. A pass over all stays repeats nothing that
    /// was said before.
    fn judge(
        &mut self,
        socket: &Socket,
        holdings: &Holdings,
        now: BootNs,
        all: bool,
    ) -> io::Result<()> {
        if all
            && (self.tracker.knows(socket.cookie)
                || now.saturating_sub(socket.latest_ns) < self.plan.min_age_ns)
        {
            return Ok(());
        }
        let cgroup = self.cgroup_ids.path(socket.cgroup);
        let mut record = assemble::record(socket, holdings, cgroup, now);
        self.tracker.remember(&mut record);
        if !self.plan.selection.matches_record(&record, &process::descends) {
            let taken_back = self.tracker.refuse(record);
            return taken_back.map_or(Ok(()), |update| self.say(now, &update));
        }
        let update = self.tracker.stuck(record);
        self.say(now, &update)
    }

    /// Says what was lost since the last time. True: all live stays are to be looked at.
    fn check_losses(&mut self, now: BootNs) -> io::Result<bool> {
        let (_, lost) = self.counts();
        if lost.total() > self.told.total() {
            if lost.storage_failed > self.told.storage_failed {
                self.kernel.seed_by_descriptor(now)?;
            }
            self.told = lost;
            self.resyncs = RESYNCS;
            self.say(now, &Update::Lost(lost))?;
        }
        Ok(self.resyncs > 0 || self.tracker.in_doubt())
    }

    fn counts(&self) -> (Counters, Lost) {
        let counters = self.kernel.counters();
        let lost = Lost {
            ring_full: counters.ring_full + counters.destroy_ring_full,
            storage_failed: counters.storage_failed + counters.seed_failed,
            recursion: self.kernel.missed(),
            skipped: self.skipped,
        };
        (counters, lost)
    }

    fn say(&mut self, time: BootNs, update: &Update) -> io::Result<()> {
        let counts = match update {
            Update::Transition(_) => true,
            Update::Stuck(_) => !self.plan.transitions,
            _ => false,
        };
        self.reported += u64::from(counts);
        self.sink.update(time, update)
    }

    /// From now on nothing comes in; what has come is to be drained.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn stop(&mut self) -> io::Result<()> {
        self.kernel.stop().map_err(io::Error::other)
    }

    /// Lets the times of day follow the clock, if it was set: by how much, ns.
    pub fn follow_clock(&mut self, now: Timestamp, boot: BootNs) -> Option<i64> {
        self.sink.clock().follow(now, boot)
    }

    /// Says the last word. Returns how many leaks were reported.
    ///
    /// # Errors
    /// What the kernel or writing answers.
    pub fn finish(&mut self, now: BootNs) -> io::Result<u64> {
        self.until(BootNs::MAX)?;
        let (counters, lost) = self.counts();
        let summary = Summary {
            seen: counters.seen,
            filtered: counters.filtered,
            emitted: counters.emitted,
            stays: stays(&self.kernel.histogram()),
            lost,
            ..self.tracker.summary()
        };
        let leaks = summary.leaks;
        self.say(now, &Update::Summary(Box::new(summary)))?;
        self.sink.flush()?;
        Ok(leaks)
    }
}

/// The states that were left, in the kernel's order.
fn stays(histogram: &Histogram) -> Vec<Stays> {
    let states = TcpState::ALL
        .into_iter()
        .filter_map(|state| Stays::new(state, histogram.stays.get(state as usize)?));
    states.collect()
}

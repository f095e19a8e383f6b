//! A running host as a source of facts: the kernel programs' events in order, and scans.

use std::{collections::VecDeque, io, mem, time::Duration};

use jiff::Timestamp;
use tcptrace_common::event::{Streamed, Transition};
use tokio::time::{Instant, sleep_until};
use zerocopy::FromBytes;

use super::{
    boot_now,
    bpf::loader::Kernel,
    cpu_time,
    lookup::Lookup,
    ring::Ring,
    scanner::{Scanned, Scanner},
    waiter::Waiter,
};
use crate::{
    engine::{
        fact::{Counts, Fact, Timed, Wire},
        record::BootNs,
        watch::Wants,
    },
    source::Source,
};

/// How facts are gathered.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two scans, at least.
    pub interval: Duration,
    /// Changes of state are streamed.
    pub streams: bool,
    /// Calls that change a state are preceded by what is known of the caller.
    pub callers: bool,
}

/// The source.
pub struct Live {
    kernel: Kernel,
    ring: Ring,
    scanner: Scanner,
    waiter: Option<Waiter>,
    pace: Pace,
    lookup: Lookup,
    /// Records of the streams; empty between two calls.
    batch: Vec<Streamed>,
    /// Records of the ring buffer that are not handed over yet.
    pending: VecDeque<Transition>,
    next_scan: Instant,
    /// The next scan waits for nothing.
    hurried: bool,
    next_poll: Instant,
    scanning: bool,
    scanned: Option<Scanned>,
    /// CPU time of this thread when the last scan was handed over, and what that scan had cost.
    taken: Option<(Duration, Duration)>,
    follows_ends: bool,
    /// Time of day minus boot clock, ns, as it was said.
    offset_ns: i64,
    /// Facts that are there from the start.
    first: Vec<Timed>,
}

/// How often the streams are emptied: often enough that a quarter of them fills at most, seldom
/// enough that waking up costs nothing.
const POLL: Duration = Duration::from_millis(20);
/// Events handed over before other things get their turn.
const BATCH: usize = 1 << 17;
/// Scans, and what is made of them, take at most this share of a CPU, however many stays there are.
const SHARE: u32 = 50;
/// By less than this nobody sets a clock: the two are never read at quite the same moment.
const STEP_NS: i64 = 500_000_000;
/// Reading two clocks takes no longer, unless something comes in between.
const MOMENT_NS: u64 = 10_000_000;

impl Live {
    /// Puts the parts together; `waiter` where what threads wait in may be asked. `first` are the
    /// facts that are known already.
    #[must_use]
    pub fn new(
        kernel: Kernel,
        ring: Ring,
        scanner: Scanner,
        waiter: Option<Waiter>,
        pace: Pace,
        first: Vec<Fact>,
    ) -> Self {
        let at = boot_now();
        let offset_ns = time_of_day().unwrap_or(0);
        let clock = Timed { at, fact: Fact::Clock { offset_ns } };
        let mut first: Vec<Timed> = first.into_iter().map(|fact| Timed { at, fact }).collect();
        first.insert(0, clock);
        Self {
            kernel,
            ring,
            scanner,
            waiter,
            pace,
            lookup: Lookup::default(),
            batch: Vec::new(),
            pending: VecDeque::new(),
            next_scan: Instant::now(),
            hurried: false,
            next_poll: Instant::now(),
            scanning: false,
            scanned: None,
            taken: None,
            follows_ends: false,
            offset_ns,
            first,
        }
    }

    /// Has the next scan begin as soon as none is under way, whatever the last one cost.
    pub fn hurry(&mut self) {
        self.hurried = true;
        self.scan_after(Duration::ZERO);
    }

    /// From the next scan on stays younger than `min_age_ns` are left alone, and scans are
    /// `interval` apart. Not less than what the programs were loaded with.
    pub fn set_pace(&mut self, min_age_ns: u64, interval: Duration) {
        self.scanner.set_min_age(min_age_ns);
        self.pace.interval = interval;
        self.hurry();
    }

    fn scan_after(&mut self, pause: Duration) {
        let pause = if self.hurried { Duration::ZERO } else { pause };
        self.next_scan = Instant::now() + pause;
    }

    /// Hands over what happened before `now`, in order; of the ring buffer no more than makes a
    /// good batch: who writes into it without pause must not keep us from all else.
    fn drain(&mut self, now: BootNs, facts: &mut Vec<Timed>) {
        // Before the ring buffer: what comes there later than something here is then there too.
        self.kernel.streamed(now, &mut self.batch);
        let mut skipped = 0;
        for _ in 0..BATCH {
            let Some(bytes) = self.ring.take() else { break };
            match Transition::read_from_bytes(&bytes) {
                Ok(record) => self.pending.push_back(record),
                Err(_) => skipped += 1,
            }
        }
        if skipped > 0 {
            facts.push(Timed { at: now, fact: Fact::Skipped { count: skipped } });
        }
        let batch = mem::take(&mut self.batch);
        for record in &batch {
            self.pending_until(record.time_ns, facts);
            if self.pace.callers {
                self.caller(record.step().pid, record.time_ns, facts);
            }
            facts.push(Timed { at: record.time_ns, fact: Fact::Streamed(Wire(*record)) });
        }
        self.pending_until(if self.pace.streams { now } else { BootNs::MAX }, facts);
        self.batch = batch;
        self.batch.clear();
    }

    /// Hands over what came by the ring buffer and happened before `time`.
    fn pending_until(&mut self, time: BootNs, facts: &mut Vec<Timed>) {
        while let Some(record) = self.pending.pop_front_if(|record| record.time_ns < time) {
            if self.pace.callers {
                self.caller(record.pid, record.time_ns, facts);
            }
            facts.push(Timed { at: record.time_ns, fact: Fact::Change(Wire(record)) });
        }
    }

    fn caller(&mut self, pid: u32, at: BootNs, facts: &mut Vec<Timed>) {
        let mut known = Vec::new();
        self.lookup.caller(pid, &mut known);
        facts.extend(known.into_iter().map(|fact| Timed { at, fact }));
    }

    /// The time of day may be set while we run, as it is soon after many machines start.
    fn follow_clock(&mut self, facts: &mut Vec<Timed>) {
        let Some(offset_ns) = time_of_day() else { return };
        if offset_ns.saturating_sub(self.offset_ns).saturating_abs() >= STEP_NS {
            self.offset_ns = offset_ns;
            facts.push(Timed { at: boot_now(), fact: Fact::Clock { offset_ns } });
        }
    }

    /// When the next scan may begin: after a pause that keeps the cost of scans within their share.
    fn pause(&mut self) {
        if let Some((before, cost)) = self.taken.take() {
            let cost = cost + cpu_time().saturating_sub(before);
            self.scan_after(self.pace.interval.max(cost * SHARE));
        }
    }
}

impl Source for Live {
    async fn ready(&mut self) -> io::Result<()> {
        self.pause();
        tokio::select! {
            () = sleep_until(self.next_scan), if !self.scanning => Ok(()),
            () = sleep_until(self.next_poll), if self.pace.streams => Ok(()),
            ready = self.ring.ready(), if !self.pace.streams => ready,
            scanned = self.scanner.done(), if self.scanning => {
                self.scanned = Some(scanned?);
                self.scanning = false;
                Ok(())
            }
        }
    }

    fn pull(
        &mut self,
        ask: &mut dyn FnMut(BootNs) -> Wants,
        facts: &mut Vec<Timed>,
    ) -> io::Result<()> {
        self.pause();
        facts.append(&mut self.first);
        let now = boot_now();
        self.drain(now, facts);
        self.next_poll = Instant::now() + POLL;
        facts.extend(self.waiter.iter().flat_map(Waiter::answers));
        if let Some(Scanned { facts: found, cost }) = self.scanned.take() {
            facts.extend(found);
            // When all that was handed over has been taken in, the next call knows what that cost.
            self.taken = Some((cpu_time(), cost));
            self.scan_after(self.pace.interval);
        } else if !self.scanning && Instant::now() >= self.next_scan {
            self.hurried = false;
            self.follow_clock(facts);
            facts.push(Timed { at: now, fact: Fact::ScanBegan });
            let mut wants = ask(now);
            if let Some(waiter) = &self.waiter {
                waiter.ask(mem::take(&mut wants.threads));
            }
            self.scanner.begin(now, wants);
            self.scanning = true;
        }
        Ok(())
    }

    fn follow_ends(&mut self, follow: bool) -> io::Result<()> {
        if mem::replace(&mut self.follows_ends, follow) == follow {
            return Ok(());
        }
        let done =
            if follow { self.kernel.follow_ends().map(drop) } else { self.kernel.unfollow_ends() };
        done.map_err(io::Error::other)
    }

    fn stop(&mut self, facts: &mut Vec<Timed>) -> io::Result<()> {
        self.kernel.stop().map_err(io::Error::other)?;
        self.pace.streams = false;
        self.drain(BootNs::MAX, facts);
        facts.extend(self.waiter.iter().flat_map(Waiter::answers));
        let counts = self.kernel.counts();
        let counts = Counts {
            counters: Wire(counts.counters()),
            missed: counts.missed(),
            histogram: Some(Box::new(Wire(counts.histogram()))),
            at_ns: boot_now(),
        };
        facts.push(Timed { at: boot_now(), fact: Fact::Counts(Box::new(counts)) });
        Ok(())
    }

    fn now(&self) -> BootNs {
        boot_now()
    }
}

/// Time of day minus boot clock, ns; `None`: something came between reading the two.
fn time_of_day() -> Option<i64> {
    let (boot, now) = (boot_now(), Timestamp::now());
    let quick = boot_now() - boot <= MOMENT_NS;
    i64::try_from(now.as_nanosecond() - i128::from(boot)).ok().filter(|_| quick)
}

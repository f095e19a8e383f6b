//! What could not be seen, what is concluded from that, and what is to be looked up next.

use crate::engine::{
    fact::{Counts, Scan},
    record::{BootNs, ProcessId},
    update::{Lost, Update},
};

/// What the source is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// The next scan lists all live stays, not only those that are due.
    pub complete: bool,
    /// It says how long stays were, as a complete one does.
    pub histogram: bool,
    /// Before it, sockets without a stay are adopted: the beginning of some may have been missed.
    pub adopt: bool,
    /// Stays to be taken out of the nursery: the slot's number, and when the stay began.
    pub give_up: Vec<GivenUp>,
    /// Processes whose threads are to be read.
    pub threads: Vec<ProcessId>,
    /// Processes whose descriptors are to be counted, and the host's files with them; `None`:
    /// nothing is.
    pub usage: Option<Vec<ProcessId>>,
}

/// A stay in a slot of the nursery that is to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// The slot's number.
    pub slot: u32,
    /// When the stay in it began, ns of the boot clock.
    pub since_ns: BootNs,
}

/// Complete scans after a loss: the tracker believes an absence when it sees it twice.
const RESYNCS: u8 = 2;
/// All stays are looked through now and then without a loss, too: ends may be missed uncounted.
const EVERY_NS: u64 = 60_000_000_000;
/// Losses are said at once, and from then on this often at most.
const PERIOD_NS: u64 = 10_000_000_000;

/// A change of state is traced just before it is made: what a scan sees of a younger stay may be
/// ahead of its socket, so a stay whose end was missed is told from that only then.
const SETTLED_NS: u64 = 200_000_000;

/// Counts of losses and what they ask for.
#[derive(Debug, Default)]
pub(super) struct Losses {
    lost: Lost,
    /// Records that made no sense.
    skipped: u64,
    /// Up to this moment ends may have been missed: the last scan before which the kernel's count
    /// of program runs that it could not make had risen.
    missed_until: Option<BootNs>,
    /// What was said last, and when.
    said: Lost,
    said_ns: Option<BootNs>,
    /// Complete scans that are owed.
    resyncs: u8,
    complete_ns: Option<BootNs>,
    /// Up to this moment a beginning may have been missed that nobody looked for.
    adopt_until: Option<BootNs>,
    follow_ends: bool,
    give_up: Vec<GivenUp>,
}

impl Losses {
    /// So many records made no sense.
    pub fn skip(&mut self, count: u64) {
        self.skipped = self.skipped.saturating_add(count);
    }

    /// A socket stays in CLOSE: its end is to be seen. What ended before that shows by its absence.
    pub fn ghost(&mut self) {
        if !self.follow_ends {
            self.follow_ends = true;
            self.resyncs = RESYNCS;
        }
    }

    /// The next scan is to be complete: what is asked for has changed.
    pub fn look_at_all(&mut self) {
        self.resyncs = self.resyncs.max(1);
    }

    /// Whether a scan has ended.
    pub fn has_scanned(&self) -> bool {
        self.complete_ns.is_some()
    }

    /// Whether the ends of sockets are to be followed.
    pub fn follows_ends(&self) -> bool {
        self.follow_ends
    }

    /// No socket stays in CLOSE any more.
    pub fn no_ghost(&mut self) {
        if self.resyncs == 0 {
            self.follow_ends = false;
        }
    }

    /// Takes in what was counted.
    pub fn count(&mut self, counts: &Counts) {
        let counters = &counts.counters.0;
        self.lost = Lost {
            ring_full: counters.ring_full.saturating_add(counters.destroy_ring_full),
            storage_failed: counters.storage_failed.saturating_add(counters.scan_failed),
            recursion: counts.missed,
            skipped: self.skipped,
            unverified: self.lost.unverified,
        };
    }

    /// Takes in what a scan counted; what is to be said of it. `doubtful`: what ended beside it is
    /// not all known.
    pub fn take_in(&mut self, scan: &Scan, doubtful: bool) -> Option<Update> {
        let now = scan.now_ns;
        let before = self.lost;
        self.count(&scan.counts);
        if scan.complete {
            self.complete_ns = Some(now);
            self.resyncs = self.resyncs.saturating_sub(1);
        }
        if self.complete_ns.is_none() {
            self.complete_ns = Some(now);
        }
        if self.lost.recursion > before.recursion {
            // A run may have been missed up to the moment when they were counted.
            self.missed_until = Some(now.max(scan.counts.at_ns));
        }
        if self.lost.recursion > before.recursion
            || self.lost.storage_failed > before.storage_failed
        {
            self.adopt_until = Some(now.max(scan.counts.at_ns));
        }
        if self.lost.total() > before.total() || doubtful {
            self.resyncs = RESYNCS;
        }
        let due = self.said_ns.is_none_or(|said| now.saturating_sub(said) >= PERIOD_NS);
        if self.lost.total() == self.said.total() || !due {
            return None;
        }
        self.said_ns = Some(now);
        self.last_word()
    }

    /// What was lost and not said yet.
    pub fn last_word(&mut self) -> Option<Update> {
        let lost = self.lost();
        let news = lost.total() > self.said.total();
        self.said = lost;
        news.then_some(Update::Lost(lost))
    }

    /// All that was lost since the start.
    pub fn lost(&self) -> Lost {
        Lost { skipped: self.skipped, ..self.lost }
    }

    /// Whether the end of a stay that began at `since` may be among those that nobody saw.
    pub fn may_have_missed(&self, since: BootNs) -> bool {
        self.missed_until.is_some_and(|until| since <= until)
    }

    /// A stay is given up. If its socket is still in that state, and in this network namespace, it
    /// is found again by being adopted.
    pub fn give_up(&mut self, slot: u32, since_ns: BootNs) {
        self.lost.unverified += 1;
        self.adopt_until = self.adopt_until.or(Some(since_ns));
        self.give_up.push(GivenUp { slot, since_ns });
    }

    /// See [`super::Watch::wants`].
    pub fn wants(&mut self, now: BootNs, in_doubt: bool) -> Wants {
        let old = self.complete_ns.is_some_and(|at| now.saturating_sub(at) >= EVERY_NS);
        let adopt = self.adopt_until.is_some();
        self.adopt_until = self.adopt_until.filter(|until| now < until + SETTLED_NS);
        Wants {
            complete: self.resyncs > 0 || in_doubt || old,
            adopt,
            give_up: std::mem::take(&mut self.give_up),
            ..Wants::default()
        }
    }
}

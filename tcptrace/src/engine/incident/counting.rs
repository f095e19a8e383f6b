//! Counts of sockets at one moment.

use std::collections::HashMap;

use tcptrace_common::state::TcpState;

use crate::engine::{
    record::{BootNs, HolderSource, ProcessId, Record, Since},
    unknown::Reason,
    verdict::Verdict,
};

/// States by their numbers.
pub const STATES: usize = 16;
/// Verdicts in their order, and none.
pub const VERDICTS: usize = Verdict::ALL.len() + 1;

/// The place of a verdict among the counts.
#[must_use]
pub fn slot(verdict: Option<Verdict>) -> usize {
    Verdict::ALL.iter().position(|v| Some(*v) == verdict).unwrap_or(Verdict::ALL.len())
}

/// The verdict at a place; the last one is none.
#[must_use]
pub fn verdict(slot: usize) -> Option<Verdict> {
    Verdict::ALL.get(slot).copied()
}

/// Sockets at one moment, counted.
#[derive(Clone, Debug, Default)]
pub struct Counting {
    /// By state.
    pub by_state: [u64; STATES],
    /// By verdict.
    pub by_verdict: [u64; VERDICTS],
    /// Leaks.
    pub leaks: u64,
    /// Leaks by verdict.
    pub leaks_by_verdict: [u64; VERDICTS],
    /// Leaks whose beginning was seen, by verdict.
    pub new_by_verdict: [u64; VERDICTS],
    /// Sockets in CLOSE_WAIT whose beginning there was seen.
    pub new_close_wait: u64,
    /// By age.
    pub ages: Ages,
    /// By process.
    pub processes: HashMap<ProcessId, OfProcess>,
    /// Leaks that no process is known to hold.
    pub unheld: u64,
    /// How many have something that is not known, by its name and the reason.
    pub unknown: HashMap<(&'static str, Reason), u64>,
}

/// A process's sockets at one moment.
#[derive(Clone, Debug, Default)]
pub struct OfProcess {
    /// All.
    pub sockets: u64,
    /// In CLOSE_WAIT.
    pub close_wait: u64,
    /// Leaks.
    pub leaks: u64,
    /// Of those: leaks whose beginning was seen.
    pub new: u64,
    /// Leaks by verdict.
    pub by_verdict: [u64; VERDICTS],
    /// What is certain of the ages of those leaks that have a descriptor, ns.
    pub ages_ns: Vec<u64>,
    /// The leak that is certainly the oldest began not after this, and not before that.
    pub oldest: Option<Since>,
}

impl Counting {
    /// Counts one, as it is at `now`.
    pub fn add(&mut self, record: &Record, now: BootNs) {
        let (age, leak) = (record.age(now).min_ns, record.is_leak());
        self.by_state[record.state as usize % STATES] += 1;
        self.by_verdict[slot(record.verdict)] += 1;
        self.leaks += u64::from(leak);
        self.leaks_by_verdict[slot(record.verdict)] += u64::from(leak);
        let new = is_new(record);
        self.new_by_verdict[slot(record.verdict)] += u64::from(leak && new);
        self.new_close_wait += u64::from(record.state == TcpState::CloseWait && new);
        self.ages.add(age);
        self.unheld += u64::from(leak && record.holders.is_empty());
        for (field, why) in record.unknown.iter() {
            *self.unknown.entry((field, why)).or_default() += 1;
        }
        let has_descriptor = record.holder_source == HolderSource::FdTable;
        for holder in record.processes() {
            let of = self.processes.entry(holder.process).or_default();
            of.sockets += 1;
            of.close_wait += u64::from(record.state == TcpState::CloseWait);
            if !leak {
                continue;
            }
            of.leaks += 1;
            of.new += u64::from(new);
            of.by_verdict[slot(record.verdict)] += 1;
            if has_descriptor {
                of.ages_ns.push(age);
            }
            if of.oldest.is_none_or(|oldest| record.latest_ns < oldest.latest_ns) {
                of.oldest =
                    Some(Since { earliest_ns: record.earliest_ns, latest_ns: record.latest_ns });
            }
        }
    }
}

/// Whether its beginning was seen: it was not there before.
#[must_use]
pub fn is_new(record: &Record) -> bool {
    record.earliest_ns == record.latest_ns
}

/// Ages by their powers of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    counts: [u64; Self::BUCKETS],
}

impl Ages {
    /// Below a second, then each twice as long as the one before, and all that is older than three
    /// days.
    pub const BUCKETS: usize = 20;
    const FIRST_NS: u64 = 1_000_000_000;

    /// Counts one of that age, ns.
    pub fn add(&mut self, age_ns: u64) {
        let bucket = (u64::BITS - (age_ns / Self::FIRST_NS).leading_zeros()) as usize;
        self.counts[bucket.min(Self::BUCKETS - 1)] += 1;
    }

    /// How many there are in each.
    #[must_use]
    pub fn counts(&self) -> &[u64; Self::BUCKETS] {
        &self.counts
    }

    /// Those of a bucket are younger than this, ns; `None`: nothing bounds the last one.
    #[must_use]
    pub fn below_ns(bucket: usize) -> Option<u64> {
        (bucket + 1 < Self::BUCKETS).then(|| Self::FIRST_NS << bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_by_powers_of_two() {
        let mut ages = Ages::default();
        for second in [0, 1, 2, 3, 4, 1 << 30] {
            ages.add(second * Ages::FIRST_NS);
        }
        ages.add(Ages::FIRST_NS - 1);
        assert_eq!(ages.counts()[..4], [2, 1, 2, 1]);
        assert_eq!(ages.counts()[Ages::BUCKETS - 1], 1);
        assert_eq!(Ages::below_ns(0), Some(Ages::FIRST_NS));
        assert_eq!(Ages::below_ns(2), Some(4 * Ages::FIRST_NS));
        assert_eq!(Ages::below_ns(Ages::BUCKETS - 1), None);
    }

    #[test]
    fn verdicts_have_places() {
        for at in 0..VERDICTS {
            assert_eq!(slot(verdict(at)), at);
        }
    }
}

//! Who holds leaks, and how many, in one scan.

use std::collections::HashMap;

use super::record::{Holder, ProcessId, Record};

/// Processes that hold leaks.
#[derive(Debug, Default)]
pub struct Leakers(HashMap<ProcessId, Leaker>);

/// A process that does.
#[derive(Clone, Debug)]
pub struct Leaker {
    /// The process; its descriptor number means nothing here.
    pub holder: Holder,
    /// Its leaks.
    pub leaks: u64,
}

impl Leakers {
    /// Counts a socket for each process that holds it, if it is a leak.
    pub fn add(&mut self, record: &Record) {
        for holder in record.processes().filter(|_| record.is_leak()) {
            let new = || Leaker { holder: holder.clone(), leaks: 0 };
            self.0.entry(holder.process).or_insert_with(new).leaks += 1;
        }
    }

    /// The processes with most leaks, `most` of them at most.
    #[must_use]
    pub fn worst(self, most: usize) -> Vec<Leaker> {
        let mut list: Vec<Leaker> = self.0.into_values().collect();
        list.sort_by_key(|l| (std::cmp::Reverse(l.leaks), l.holder.process.pid));
        list.truncate(most);
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        record::tests::{holder, leak},
        verdict::Verdict,
    };

    fn held_by(pids: &[u32]) -> Record {
        Record { holders: (0..).zip(pids).map(|(fd, pid)| holder(*pid, fd)).collect(), ..leak() }
    }

    #[test]
    fn the_worst_come_first() {
        let mut leakers = Leakers::default();
        for pids in [&[7, 7][..], &[9], &[9, 5], &[4], &[]] {
            leakers.add(&held_by(pids));
        }
        let in_use = Some(Verdict::HalfCloseInUse);
        leakers.add(&Record { verdict: in_use, ..held_by(&[4]) });
        let worst: Vec<(u32, u64)> =
            leakers.worst(3).iter().map(|l| (l.holder.process.pid, l.leaks)).collect();
        assert_eq!(worst, [(9, 2), (4, 1), (5, 1)], "7 has one, twice");
    }
}

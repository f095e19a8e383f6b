//! Which leaks of a watch have lasted for so long that they are closed (`--close-after`).

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    rc::Rc,
};

use super::{CloseResult, CloseWay, Rules};
use crate::engine::{
    record::{BootNs, Record},
    update::Update,
};

/// The leaks that are to be closed, by when. Its size goes by the leaks that are open.
#[derive(Debug)]
pub struct Due {
    rules: Rules,
    after_ns: u64,
    waiting: BinaryHeap<Reverse<(BootNs, u64)>>,
    /// Those that wait, or were closed: each is there once.
    known: HashSet<u64>,
}

impl Due {
    /// None yet; each of them when it is so old, ns.
    #[must_use]
    pub fn new(rules: Rules, after_ns: u64) -> Self {
        Self { rules, after_ns, waiting: BinaryHeap::new(), known: HashSet::new() }
    }

    /// Takes in what was said: a leak begins to wait, one that was resolved is forgotten.
    pub fn take(&mut self, update: &Update) {
        match update {
            Update::Stuck(record) if record.is_leak() => {
                let cookie = record.connection.cookie;
                if self.known.insert(cookie) {
                    let due = record.latest_ns.saturating_add(self.after_ns);
                    self.waiting.push(Reverse((due, cookie)));
                }
            }
            Update::Resolved { record, .. } => {
                self.known.remove(&record.connection.cookie);
            }
            _ => {}
        }
    }

    /// The next one whose time has come, with the way to close it; `row`: what is known of a socket
    /// that was reported and has not ended. What may not be closed is left alone, until it is
    /// reported again.
    pub fn next<'a>(
        &mut self,
        now: BootNs,
        row: impl Fn(u64) -> Option<&'a Rc<Record>>,
    ) -> Option<(&'a Record, CloseWay)> {
        while let Some(Reverse((due, cookie))) = self.waiting.peek().copied() {
            if due > now {
                return None;
            }
            self.waiting.pop();
            let Some(record) = row(cookie) else {
                self.known.remove(&cookie);
                continue;
            };
            // It may have entered its state anew since.
            if record.latest_ns.saturating_add(self.after_ns) > now {
                self.waiting.push(Reverse((record.latest_ns + self.after_ns, cookie)));
                continue;
            }
            match self.rules.choose(record) {
                Ok((how, _)) if record.is_leak() => return Some((record, how)),
                _ => {
                    self.known.remove(&cookie);
                }
            }
        }
        None
    }

    /// Takes in what came of it: one that could not be closed waits until it is reported again.
    pub fn tried(&mut self, cookie: u64, outcome: CloseResult) {
        if !matches!(outcome, CloseResult::Closed | CloseResult::Closing) {
            self.known.remove(&cookie);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        record::{
            Age,
            tests::{holder, leak},
        },
        unknown::Reason,
        verdict::Verdict,
    };

    const SECOND: u64 = 1_000_000_000;

    fn record(cookie: u64, since: BootNs) -> Rc<Record> {
        let mut record = Record { latest_ns: since, holders: vec![holder(7, 4)], ..leak() };
        record.connection.cookie = cookie;
        Rc::new(record)
    }

    fn due() -> Due {
        Due::new(Rules::default(), 60 * SECOND)
    }

    #[test]
    fn each_once_and_when_its_time_has_come() {
        let mut due = due();
        let rows = [record(2, 5 * SECOND), record(1, 4 * SECOND)];
        let row = |cookie| rows.iter().find(|r| r.connection.cookie == cookie);
        for _ in 0..2 {
            rows.iter().for_each(|r| due.take(&Update::Stuck(Rc::clone(r))));
        }
        let mut next = |now| due.next(now, row).map(|(r, how)| (r.connection.cookie, how));
        assert_eq!(next(64 * SECOND - 1), None);
        assert_eq!(next(64 * SECOND), Some((1, CloseWay::Shutdown)));
        assert_eq!(next(64 * SECOND), None);
        assert_eq!(next(90 * SECOND), Some((2, CloseWay::Shutdown)));
        assert_eq!(next(90 * SECOND), None);
        due.take(&Update::Stuck(Rc::clone(&rows[0])));
        due.tried(1, CloseResult::Failed);
        due.take(&Update::Stuck(Rc::clone(&rows[1])));
        let again = due.next(90 * SECOND, row).map(|(r, _)| r.connection.cookie);
        assert_eq!(again, Some(1), "when it is reported again, and the other was closed");
        assert!(due.next(90 * SECOND, row).is_none());
    }

    #[test]
    fn what_ended_or_is_no_leak_is_not_closed() {
        let mut due = due();
        let rows = [record(1, 0), record(2, 0)];
        rows.iter().for_each(|r| due.take(&Update::Stuck(Rc::clone(r))));
        due.take(&Update::Resolved {
            record: Rc::clone(&rows[0]),
            stayed: Age::at(1, 1, 1),
            closed_by: None,
            unknown: Reason::ByNoCall,
        });
        let mut used = Record::clone(&rows[1]);
        used.verdict = Some(Verdict::HalfCloseInUse);
        let used = Rc::new(used);
        let row = |cookie| (cookie == 2).then_some(&used);
        assert!(due.next(u64::MAX, row).is_none());
        assert!(due.known.is_empty() && due.waiting.is_empty());
    }

    #[test]
    fn a_stay_that_began_anew_waits_for_its_own_time() {
        let mut due = due();
        due.take(&Update::Stuck(record(1, SECOND)));
        let now = record(1, 50 * SECOND);
        let row = |_| Some(&now);
        assert!(due.next(61 * SECOND, row).is_none());
        assert!(due.next(110 * SECOND, row).is_some());
    }
}

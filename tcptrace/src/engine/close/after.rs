//! Which leaks of a watch have lasted for so long that they are closed (`--close-after`).

use std::{
    collections::{BTreeSet, HashMap},
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
    waiting: BTreeSet<(BootNs, u64)>,
    /// When each is to be closed; `None`: it was.
    known: HashMap<u64, Option<BootNs>>,
}

impl Due {
    /// None yet; each of them when it is so old, ns.
    #[must_use]
    pub fn new(rules: Rules, after_ns: u64) -> Self {
        Self { rules, after_ns, waiting: BTreeSet::new(), known: HashMap::new() }
    }

    /// Takes in what was said: a leak begins to wait, one that was resolved is forgotten.
    pub fn take(&mut self, update: &Update) {
        match update {
            Update::Stuck(record)
                if record.is_leak() && !self.known.contains_key(&record.connection.cookie) =>
            {
                self.wait(record);
            }
            Update::Resolved { record, .. } => self.forget(record.connection.cookie),
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
        while let Some((_, cookie)) = self.waiting.first().copied().filter(|(due, _)| *due <= now) {
            self.forget(cookie);
            let Some(record) = row(cookie).filter(|record| record.is_leak()) else { continue };
            // It may have entered its state anew since.
            if self.due(record) > now {
                self.wait(record);
            } else if let Ok((how, _)) = self.rules.choose(record) {
                self.known.insert(cookie, None);
                return Some((record, how));
            }
        }
        None
    }

    /// Takes in what came of it: one that could not be closed waits until it is reported again.
    pub fn tried(&mut self, cookie: u64, outcome: CloseResult) {
        if !matches!(outcome, CloseResult::Closed | CloseResult::Closing) {
            self.forget(cookie);
        }
    }

    fn due(&self, record: &Record) -> BootNs {
        record.latest_ns.saturating_add(self.after_ns)
    }

    fn wait(&mut self, record: &Record) {
        let (cookie, due) = (record.connection.cookie, self.due(record));
        self.known.insert(cookie, Some(due));
        self.waiting.insert((due, cookie));
    }

    fn forget(&mut self, cookie: u64) {
        if let Some(Some(due)) = self.known.remove(&cookie) {
            self.waiting.remove(&(due, cookie));
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
        assert_eq!((due.known.len(), due.waiting.len()), (1, 1), "no more than is open");
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

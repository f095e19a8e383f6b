//! All sockets that were reported, from the report to their end.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    rc::Rc,
};

use crate::engine::{
    assemble,
    decode::Event,
    group::holder_names,
    opener,
    record::{Age, BootNs, ClosedBy, HolderSource, Record},
    update::{Summary, Update},
    verdict::Verdict,
};

/// Remembers what was said about which socket. Its size goes by the sockets that are stuck, not by
/// the traffic.
#[derive(Debug, Default)]
pub struct Tracker {
    /// Shorter stays are not worth a word, ns.
    min_age_ns: u64,
    open: HashMap<u64, Open>,
    /// Looked at and not asked for, so that their ends are not reported either.
    refused: HashSet<u64>,
    summary: Summary,
}

#[derive(Debug)]
struct Open {
    record: Rc<Record>,
    /// When it got stuck first: a ghost's story began before its present stay.
    since: (BootNs, BootNs),
    /// Passes over all stays that did not list it.
    absent: u8,
    /// A reset ended its connection while its descriptor was open.
    reset: bool,
}

/// What an event means for the sockets that were reported.
#[derive(Debug)]
pub enum Outcome {
    /// Say this.
    Say(Update),
    /// A stay passed min-age and ended before any look could find it.
    Unreported,
    /// Nothing.
    Silence,
}

/// One pass may overlook a stay while others come and go: two in a row are believed.
const ABSENT_IN: u8 = 2;

impl Tracker {
    /// A tracker of stays of at least `min_age_ns`.
    #[must_use]
    pub fn new(min_age_ns: u64) -> Self {
        Self { min_age_ns, ..Self::default() }
    }

    /// Takes in an event of the kernel's.
    pub fn event(&mut self, event: &Event) -> Outcome {
        let cookie = event.change.connection.cookie;
        // A reset ends the connection; with its descriptor open the socket stays, as a ghost, and
        // the next look reports it as such.
        if event.ghost
            && let Some(open) = self.open.get_mut(&cookie)
        {
            open.reset = true;
            return Outcome::Silence;
        }
        if self.refused.remove(&cookie) {
            return Outcome::Silence;
        }
        if self.open.contains_key(&cookie) {
            let why = match event.by_call {
                true => "shutdown() ended the state; the descriptor is still open",
                false => {
                    "no call on this socket ended it: a packet did, or the end of its listener"
                }
            };
            return self
                .close(cookie, event.time, event.closed_by.clone(), why)
                .map_or(Outcome::Silence, Outcome::Say);
        }
        match event.change.stayed {
            Some(stayed) if stayed.min_ns >= self.min_age_ns => Outcome::Unreported,
            _ => Outcome::Silence,
        }
    }

    /// Adds what earlier looks at the same socket saw: who held it then, and holds it no more. A
    /// socket that one holder let go of and another did not is an inherited one.
    pub fn remember(&self, record: &mut Record) {
        let Some(open) = self.open.get(&record.connection.cookie) else { return };
        if record.holder_source != HolderSource::FdTable
            || open.record.holder_source != HolderSource::FdTable
        {
            return;
        }
        let earlier = [&open.record.holders[..], &open.record.former_holders].concat();
        opener::mark_by_earlier(&mut record.holders, &open.record.holders);
        record.former_holders = opener::former(&record.holders, &earlier);
        if record.former_holders.is_empty() {
            return;
        }
        for holder in &mut record.holders {
            let before = open.record.holders.iter().find(|b| b.process == holder.process);
            holder.opener = holder.opener.or(before.and_then(|b| b.opener));
        }
        if let Some(verdict) = record.verdict.filter(|v| v.is_unclosed()) {
            record.also.insert(0, verdict);
            record.verdict = Some(Verdict::InheritedFd);
        }
        assemble::note_opener(record);
    }

    /// A look found it stuck, and it is asked for.
    pub fn stuck(&mut self, record: Record) -> Update {
        let record = Rc::new(record);
        let cookie = record.connection.cookie;
        self.refused.remove(&cookie);
        let since = (record.earliest_ns, record.latest_ns);
        match self.open.get_mut(&cookie) {
            Some(open) => {
                let before = std::mem::replace(&mut open.record, Rc::clone(&record));
                open.absent = 0;
                self.count(&before, false);
            }
            None => {
                self.open.insert(
                    cookie,
                    Open { record: Rc::clone(&record), since, absent: 0, reset: false },
                );
                self.summary.stuck += 1;
            }
        }
        self.count(&record, true);
        Update::Stuck(record)
    }

    /// A look found it stuck, and it is not asked for, or not any more: then what was said of it
    /// before is taken back.
    pub fn refuse(&mut self, record: Record) -> Option<Update> {
        let (cookie, now) = (record.connection.cookie, record.seen_ns);
        let why = match record.verdict {
            Some(Verdict::HalfCloseInUse) => {
                "not closed: data is sent after the FIN, so it is in use and no leak"
            }
            _ => "not closed: what is known of it now is not asked for",
        };
        let known = self.open.contains_key(&cookie);
        if known {
            self.stuck(record);
        }
        self.refused.insert(cookie);
        if known { self.close(cookie, now, None, why) } else { None }
    }

    /// Whether it was reported and has not ended.
    #[must_use]
    pub fn knows(&self, cookie: u64) -> bool {
        self.open.contains_key(&cookie)
    }

    /// Takes in a pass over all live stays at `now`, after events were lost: what is not there any
    /// more has ended, nobody saw how.
    pub fn reconcile(&mut self, live: &HashSet<u64>, now: BootNs) -> Vec<Update> {
        self.refused.retain(|cookie| live.contains(cookie));
        let mut gone = Vec::new();
        for (cookie, open) in &mut self.open {
            open.absent = if live.contains(cookie) { 0 } else { open.absent + 1 };
            if open.absent >= ABSENT_IN {
                gone.push(*cookie);
            }
        }
        gone.sort_unstable();
        let end = |tracker: &mut Self, cookie| {
            let reset = tracker.open.get(&cookie).is_some_and(|open| open.reset);
            let why = if reset {
                "a reset ended the connection, and its descriptor was closed before anybody \
                 followed such ends"
            } else {
                "the event that ended it was lost"
            };
            tracker.close(cookie, now, None, why)
        };
        gone.into_iter().filter_map(|cookie| end(self, cookie)).collect()
    }

    /// Whether a pass over all stays is still owed an answer about some socket.
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        self.open.values().any(|open| open.absent > 0)
    }

    /// How many were reported and have not ended.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// The counts so far, without those that the kernel keeps.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary { still_open: self.open.len() as u64, ..self.summary.clone() }
    }

    fn close(
        &mut self,
        cookie: u64,
        at: BootNs,
        closed_by: Option<ClosedBy>,
        unknown: &'static str,
    ) -> Option<Update> {
        let open = self.open.remove(&cookie)?;
        self.summary.resolved += 1;
        let stayed = Age::at(at, open.since.0, open.since.1);
        Some(Update::Resolved { record: open.record, stayed, closed_by, unknown })
    }

    /// Adds a record to the counts, or takes it out of them.
    fn count(&mut self, record: &Record, add: bool) {
        for holder in holder_names(record) {
            tally(&mut self.summary.by_holder, holder, add);
        }
        tally(&mut self.summary.by_verdict, record.verdict.map_or("unknown", Verdict::name), add);
        tally(&mut self.summary.by_remote, record.connection.remote.ip(), add);
        let leak = u64::from(record.is_leak());
        self.summary.leaks =
            if add { self.summary.leaks + leak } else { self.summary.leaks - leak };
    }
}

fn tally<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, add: bool) {
    let mut n = counts.remove(&key).unwrap_or(0);
    n = if add { n + 1 } else { n.saturating_sub(1) };
    if n > 0 {
        counts.insert(key, n);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tcptrace_common::state::TcpState;

    use super::*;
    use crate::engine::{
        record::{Connection, Evidence, Holder, ProcessId},
        unknown::Unknown,
        update::Change,
    };

    fn connection(cookie: u64) -> Connection {
        Connection {
            cookie,
            netns: 1,
            local: "10.0.0.1:80".parse().expect("an end"),
            remote: "10.0.0.2:4000".parse().expect("an end"),
            mptcp: false,
        }
    }

    fn record(cookie: u64, since: BootNs) -> Record {
        Record {
            connection: connection(cookie),
            role: None,
            state: TcpState::CloseWait,
            earliest_ns: since,
            latest_ns: since,
            seen_ns: 0,
            verdict: Some(Verdict::EofNotClosed),
            also: Vec::new(),
            evidence: Evidence::default(),
            holders: Vec::new(),
            holder_source: HolderSource::None,
            former_holders: Vec::new(),
            listener: None,
            came_in_by: None,
            cgroup: None,
            unknown: Unknown::default(),
        }
    }

    fn event(cookie: u64, time: BootNs, old: TcpState, new: TcpState) -> Event {
        Event {
            time,
            change: Change {
                connection: connection(cookie),
                old,
                new,
                stayed: Some(Age { min_ns: 1, max_ns: Some(1) }),
                on_cpu_pid: 3,
            },
            destroyed: false,
            has_socket: true,
            ghost: new == TcpState::Close,
            since: (1, 1),
            by_call: new == TcpState::LastAck,
            closed_by: (new == TcpState::LastAck)
                .then(|| ClosedBy { pid: 42, comm: "java".into() }),
        }
    }

    #[test]
    fn stuck_then_resolved_with_its_closer() {
        let mut tracker = Tracker::default();
        tracker.stuck(record(5, 100));
        let Outcome::Say(Update::Resolved { stayed, closed_by, .. }) =
            tracker.event(&event(5, 900, TcpState::CloseWait, TcpState::LastAck))
        else {
            panic!("resolved")
        };
        assert_eq!((stayed.min_ns, closed_by.map(|c| c.pid)), (800, Some(42)));
        let summary = tracker.summary();
        assert_eq!(
            (summary.stuck, summary.resolved, summary.still_open, summary.leaks),
            (1, 1, 0, 1)
        );
    }

    #[test]
    fn a_reset_makes_a_ghost_whose_story_goes_on() {
        let mut tracker = Tracker::default();
        tracker.stuck(record(5, 100));
        assert!(matches!(
            tracker.event(&event(5, 200, TcpState::CloseWait, TcpState::Close)),
            Outcome::Silence
        ));
        let mut ghost = record(5, 200);
        ghost.state = TcpState::Close;
        tracker.stuck(ghost);
        let mut end = event(5, 900, TcpState::Close, TcpState::Close);
        (end.destroyed, end.ghost) = (true, false);
        let Outcome::Say(Update::Resolved { stayed, .. }) = tracker.event(&end) else {
            panic!("resolved")
        };
        assert_eq!(stayed.min_ns, 800, "from the first stay on");
        assert_eq!(tracker.summary().stuck, 1);
    }

    #[test]
    fn a_holder_that_let_go_makes_the_other_an_inheritor() {
        let holder = |pid, ppid| Holder {
            process: ProcessId { pid, start_ns: 1 },
            tid: None,
            ppid,
            fd: 4,
            comm: "x".into(),
            cgroups: None,
            inner_pid: None,
            opener: None,
        };
        let held_by = |holders: &[Holder]| {
            let mut r = record(5, 100);
            (r.holders, r.holder_source) = (holders.to_vec(), HolderSource::FdTable);
            opener::mark(&mut r.holders, 100);
            r
        };
        let mut tracker = Tracker::default();
        tracker.stuck(held_by(&[holder(7, 1), holder(8, 7)]));
        let mut parent = held_by(&[holder(7, 1)]);
        tracker.remember(&mut parent);
        assert_eq!(
            (parent.verdict, &parent.also[..]),
            (Some(Verdict::InheritedFd), &[Verdict::EofNotClosed][..])
        );
        assert_eq!(parent.former_holders.iter().map(|h| h.process.pid).collect::<Vec<_>>(), [8]);
        assert_eq!(parent.holders[0].opener, Some(true), "known from the earlier look");
        tracker.stuck(parent);
        let mut later = held_by(&[holder(7, 1)]);
        tracker.remember(&mut later);
        assert_eq!(later.former_holders.len(), 1, "not forgotten");
    }

    #[test]
    fn the_end_of_one_that_nobody_asked_for_is_not_told() {
        let mut tracker = Tracker::default();
        tracker.refuse(record(5, 1));
        assert!(matches!(
            tracker.event(&event(5, 9, TcpState::CloseWait, TcpState::LastAck)),
            Outcome::Silence
        ));
        assert!(matches!(
            tracker.event(&event(6, 9, TcpState::CloseWait, TcpState::LastAck)),
            Outcome::Unreported
        ));
    }

    #[test]
    fn what_turns_out_to_be_in_use_is_taken_back() {
        let mut tracker = Tracker::default();
        tracker.stuck(record(5, 100));
        let mut in_use = record(5, 100);
        (in_use.verdict, in_use.seen_ns) = (Some(Verdict::HalfCloseInUse), 700);
        let Some(Update::Resolved { record, stayed, closed_by: None, unknown }) =
            tracker.refuse(in_use)
        else {
            panic!("taken back")
        };
        assert_eq!((record.verdict, stayed.min_ns), (Some(Verdict::HalfCloseInUse), 600));
        assert!(unknown.contains("in use"), "{unknown}");
        let summary = tracker.summary();
        assert_eq!((summary.stuck, summary.resolved, summary.leaks), (1, 1, 0));
        assert!(matches!(
            tracker.event(&event(5, 9, TcpState::CloseWait, TcpState::LastAck)),
            Outcome::Silence
        ));
    }

    #[test]
    fn a_lost_end_is_believed_after_two_passes() {
        let mut tracker = Tracker::default();
        tracker.stuck(record(5, 100));
        tracker.stuck(record(6, 100));
        let live = HashSet::from([6]);
        assert!(tracker.reconcile(&live, 500).is_empty());
        assert!(tracker.in_doubt());
        let said = tracker.reconcile(&live, 600);
        assert!(
            matches!(&said[..], [Update::Resolved { record, closed_by: None, .. }] if record.connection.cookie == 5)
        );
        assert!(!tracker.in_doubt());
        assert_eq!(tracker.open(), 1);
    }

    proptest! {
        /// Whatever comes in whatever order: every resolved one was stuck before, once.
        #[test]
        fn the_books_balance(steps in proptest::collection::vec((0u8..5, 1u64..6), 0..200)) {
            let mut tracker = Tracker::default();
            let (mut stuck, mut resolved) = (0u64, 0u64);
            for (n, (what, cookie)) in steps.into_iter().enumerate() {
                let now = n as u64 + 1;
                let known = tracker.knows(cookie);
                match what {
                    0 => {
                        tracker.stuck(record(cookie, now));
                        stuck += u64::from(!known);
                    }
                    1 => {
                        prop_assert_eq!(tracker.refuse(record(cookie, now)).is_some(), known);
                        resolved += u64::from(known);
                    }
                    2 | 3 => {
                        let new = if what == 2 { TcpState::LastAck } else { TcpState::Close };
                        if matches!(tracker.event(&event(cookie, now, TcpState::CloseWait, new)), Outcome::Say(_)) {
                            prop_assert!(known);
                            resolved += 1;
                        }
                    }
                    _ => resolved += tracker.reconcile(&HashSet::from([1, 2]), now).len() as u64,
                }
                let summary = tracker.summary();
                prop_assert_eq!((summary.stuck, summary.resolved), (stuck, resolved));
                prop_assert_eq!(summary.still_open, stuck - resolved);
                prop_assert!(summary.leaks <= stuck);
            }
        }
    }
}

//! All sockets that were reported, from the report to their end.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    rc::Rc,
};

use tcptrace_common::state::TcpState;

use super::{
    assemble,
    decode::Event,
    group::holder_names,
    opener,
    record::{Age, BootNs, ClosedBy, HolderSource, Record},
    tally::Tally,
    update::{Summary, Update},
    verdict::Verdict,
};

/// Remembers what was reported of which socket. Its size goes by the sockets that are stuck, not by
/// the traffic.
#[derive(Debug, Default)]
pub struct Tracker {
    /// Shorter stays are not worth a word, ns.
    min_age_ns: u64,
    open: HashMap<u64, Open>,
    /// Judged and not asked for, so that their ends are not reported either.
    unwanted: HashMap<u64, Progress>,
    /// Stuck, and no descriptor was found that leads there: the next scan decides.
    unheld: HashSet<u64>,
    counts: Counts,
}

/// What the summary counts, all since the start.
#[derive(Clone, Debug, Default)]
struct Counts {
    stuck: u64,
    resolved: u64,
    leaks: u64,
    leaks_open: u64,
    by_holder: Tally<String>,
    by_verdict: Tally<&'static str>,
    by_remote: Tally<IpAddr>,
}

#[derive(Debug)]
struct Open {
    record: Rc<Record>,
    /// When it got stuck first: a ghost's story began before its present stay.
    since: (BootNs, BootNs),
    /// When it is reported again.
    due_ns: BootNs,
    progress: Progress,
    /// Complete scans in a row that did not list it.
    absent: u8,
    /// A reset ended its connection while its descriptor was open.
    reset: bool,
}

/// How far the peer has taken what was sent, and since when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    una: u32,
    since_ns: BootNs,
}

impl Progress {
    /// As of `now`, when the first byte that is not acknowledged is `una`.
    fn at(self, una: u32, now: BootNs) -> Self {
        if self.since_ns != 0 && self.una == una { self } else { Self { una, since_ns: now } }
    }
}

/// What an event means for the sockets that were reported.
#[derive(Debug)]
pub enum Outcome {
    /// Say this.
    Say(Update),
    /// A stay passed min-age and ended before any scan could find it.
    Unreported,
    /// Nothing.
    Silence,
}

/// One scan may overlook a stay while others come and go: two in a row are believed.
const ABSENT_IN: u8 = 2;
/// With a min-age of 0 a stay is reported at once; from then on when its age doubles from here.
const FIRST_REPEAT_NS: u64 = 1_000_000_000;

/// The age at which a stay of `age_ns` is reported next: the smallest doubling of min-age above it.
#[must_use]
pub fn next_doubling(age_ns: u64, min_age_ns: u64) -> u64 {
    let first = if min_age_ns == 0 { FIRST_REPEAT_NS } else { min_age_ns };
    let doublings = 64 - (age_ns / first).leading_zeros();
    first.checked_shl(doublings).filter(|next| next >> doublings == first).unwrap_or(u64::MAX)
}

impl Tracker {
    /// A tracker of stays of at least `min_age_ns`.
    #[must_use]
    pub fn new(min_age_ns: u64) -> Self {
        Self { min_age_ns, ..Self::default() }
    }

    /// Takes in an event of the kernel's.
    pub fn event(&mut self, event: &Event) -> Outcome {
        let cookie = event.change.connection.cookie;
        self.unheld.remove(&cookie);
        // A reset ends the connection; with its descriptor open the socket stays, as a ghost, and
        // the next scan reports it as such.
        if event.ghost
            && let Some(open) = self.open.get_mut(&cookie)
        {
            open.reset = true;
            return Outcome::Silence;
        }
        if self.unwanted.remove(&cookie).is_some() {
            return Outcome::Silence;
        }
        if self.open.contains_key(&cookie) {
            let why = match (event.change.old, event.change.new) {
                (TcpState::Close, TcpState::SynSent) => "the descriptor connected anew",
                _ if event.by_call => "shutdown() ended the state; the descriptor is still open",
                _ => "no call on this socket ended it: a packet did, or the end of its listener",
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

    /// For how long the peer has taken nothing of what was sent, as far as earlier scans of the
    /// same socket tell, ns. `una`: the first byte that is not acknowledged at `now`.
    #[must_use]
    pub fn stalled(&self, cookie: u64, una: u32, now: BootNs) -> Option<u64> {
        let progress = match self.open.get(&cookie) {
            Some(open) => Some(open.progress),
            None => self.unwanted.get(&cookie).copied(),
        };
        progress
            .filter(|before| before.since_ns != 0)
            .map(|before| now.saturating_sub(before.at(una, now).since_ns))
    }

    /// Whether it is to be judged again before it is believed that nobody holds it: it may have
    /// been closed between being listed and the scan of the descriptor tables, or handed to a
    /// process that the scan had passed already.
    pub fn doubts(&mut self, record: &Record) -> bool {
        let cookie = record.connection.cookie;
        if record.holder_source != HolderSource::OutsideFdTables {
            self.unheld.remove(&cookie);
            return false;
        }
        let known = |open: &Open| open.record.holder_source == HolderSource::OutsideFdTables;
        !self.open.get(&cookie).is_some_and(known) && self.unheld.insert(cookie)
    }

    /// Adds what earlier scans of the same socket saw: who held it then, and holds it no more. A
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

    /// A scan at `record.seen_ns` found it stuck, and it is asked for. `una`: the first byte that
    /// the peer has not acknowledged. What is said, if it is new, another stay, or its age has
    /// doubled.
    pub fn stuck(&mut self, record: Record, una: u32) -> Option<Update> {
        let record = Rc::new(record);
        let (cookie, now) = (record.connection.cookie, record.seen_ns);
        let before = self.unwanted.remove(&cookie).unwrap_or_default();
        let age = now.saturating_sub(record.latest_ns);
        let next = record.latest_ns.saturating_add(next_doubling(age, self.min_age_ns));
        let due = match self.open.get_mut(&cookie) {
            Some(open) => {
                let another =
                    (open.record.state, open.record.latest_ns) != (record.state, record.latest_ns);
                let due = another || now >= open.due_ns;
                if due {
                    open.due_ns = next;
                }
                open.progress = open.progress.at(una, now);
                open.absent = 0;
                // What says nothing new takes no other's place: with a hundred thousand of them, the
                // memory of both would be torn into pieces.
                if !due && is_the_same(&open.record, &record) {
                    return None;
                }
                let before = std::mem::replace(&mut open.record, Rc::clone(&record));
                self.counts.forget(&before);
                due
            }
            None => {
                let open = Open {
                    record: Rc::clone(&record),
                    since: (record.earliest_ns, record.latest_ns),
                    due_ns: next,
                    progress: before.at(una, now),
                    absent: 0,
                    reset: false,
                };
                self.open.insert(cookie, open);
                self.counts.stuck += 1;
                true
            }
        };
        self.counts.count(&record);
        due.then_some(Update::Stuck(record))
    }

    /// A scan found it stuck, and it is not asked for, or not any more: then what was said of it
    /// before is taken back.
    pub fn unwanted(&mut self, record: Record, una: u32) -> Option<Update> {
        let (cookie, now) = (record.connection.cookie, record.seen_ns);
        let why = match record.verdict {
            Some(Verdict::HalfCloseInUse) => {
                "not closed: data is sent after the FIN, so it is in use and no leak"
            }
            _ => "not closed: what is known of it now is not asked for",
        };
        let before = match self.open.get(&cookie) {
            Some(open) => open.progress,
            None => self.unwanted.get(&cookie).copied().unwrap_or_default(),
        };
        let taken_back = if self.open.contains_key(&cookie) {
            self.stuck(record, una);
            self.close(cookie, now, None, why)
        } else {
            None
        };
        self.unwanted.insert(cookie, before.at(una, now));
        taken_back
    }

    /// Whether it was reported and has not ended.
    #[must_use]
    pub fn knows(&self, cookie: u64) -> bool {
        self.open.contains_key(&cookie)
    }

    /// Whether it was judged and found not to be asked for.
    #[must_use]
    pub fn leaves_out(&self, cookie: u64) -> bool {
        self.unwanted.contains_key(&cookie)
    }

    /// Takes in a complete scan at `now`: what two of them in a row did not list has ended, nobody
    /// saw how.
    pub fn reconcile(&mut self, live: &HashSet<u64>, now: BootNs) -> Vec<Update> {
        self.unwanted.retain(|cookie, _| live.contains(cookie));
        self.unheld.retain(|cookie| live.contains(cookie));
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

    /// Whether a complete scan is still owed an answer about some socket.
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        !self.unheld.is_empty() || self.open.values().any(|open| open.absent > 0)
    }

    /// Whether the end of a descriptor decides about any socket.
    #[must_use]
    pub fn has_ghosts(&self) -> bool {
        self.open.values().any(|open| open.reset || open.record.state == TcpState::Close)
    }

    /// Those that were reported and have not ended, as last seen, in no order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &Rc<Record>> {
        self.open.values().map(|open| &open.record)
    }

    /// How many sockets are remembered, for whatever reason.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.open.len() + self.unwanted.len() + self.unheld.len()
    }

    /// The counts so far, without those that the kernel keeps.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let Counts { stuck, resolved, leaks, leaks_open, by_holder, by_verdict, by_remote } =
            self.counts.clone();
        Summary {
            stuck,
            resolved,
            still_open: self.open.len() as u64,
            leaks,
            leaks_open,
            by_holder: by_holder.sorted().into_iter().collect(),
            by_verdict: by_verdict.sorted().into_iter().collect(),
            by_remote: by_remote.sorted().into_iter().collect(),
            other_holders: by_holder.others(),
            other_remotes: by_remote.others(),
            ..Summary::default()
        }
    }

    fn close(
        &mut self,
        cookie: u64,
        at: BootNs,
        closed_by: Option<ClosedBy>,
        unknown: &'static str,
    ) -> Option<Update> {
        let open = self.open.remove(&cookie)?;
        self.counts.resolved += 1;
        self.counts.leaks_open -= u64::from(open.record.is_leak());
        let stayed = Age::at(at, open.since.0, open.since.1);
        Some(Update::Resolved { record: open.record, stayed, closed_by, unknown })
    }
}

/// Whether two records of one stay differ in nothing but the time at which they were seen.
fn is_the_same(before: &Record, now: &Record) -> bool {
    let said = |r: &Record| (r.verdict, r.holder_source, r.evidence.recv_q, r.evidence.send_q);
    said(before) == said(now)
        && before.holders == now.holders
        && before.former_holders == now.former_holders
        && before.listener == now.listener
}

impl Counts {
    /// Adds an open record.
    fn count(&mut self, record: &Record) {
        holder_names(record).into_iter().for_each(|holder| self.by_holder.add(holder));
        self.by_verdict.add(record.verdict.map_or("unknown", Verdict::name));
        self.by_remote.add(record.connection.remote.ip());
        self.leaks += u64::from(record.is_leak());
        self.leaks_open += u64::from(record.is_leak());
    }

    /// Takes an open record out again, in whose place another comes.
    fn forget(&mut self, record: &Record) {
        holder_names(record).iter().for_each(|holder| self.by_holder.remove(holder));
        self.by_verdict.remove(&record.verdict.map_or("unknown", Verdict::name));
        self.by_remote.remove(&record.connection.remote.ip());
        self.leaks -= u64::from(record.is_leak());
        self.leaks_open -= u64::from(record.is_leak());
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

    impl Tracker {
        fn found(&mut self, record: Record) -> Option<Update> {
            self.stuck(record, 0)
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
            queues: None,
            adopted: false,
            closed_by: (new == TcpState::LastAck)
                .then(|| ClosedBy { pid: 42, comm: "java".into() }),
        }
    }

    #[test]
    fn stuck_then_resolved_with_its_closer() {
        let mut tracker = Tracker::default();
        tracker.found(record(5, 100));
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
        tracker.found(record(5, 100));
        assert!(matches!(
            tracker.event(&event(5, 200, TcpState::CloseWait, TcpState::Close)),
            Outcome::Silence
        ));
        let mut ghost = record(5, 200);
        ghost.state = TcpState::Close;
        tracker.found(ghost);
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
        tracker.found(held_by(&[holder(7, 1), holder(8, 7)]));
        let mut parent = held_by(&[holder(7, 1)]);
        tracker.remember(&mut parent);
        assert_eq!(
            (parent.verdict, &parent.also[..]),
            (Some(Verdict::InheritedFd), &[Verdict::EofNotClosed][..])
        );
        assert_eq!(parent.former_holders.iter().map(|h| h.process.pid).collect::<Vec<_>>(), [8]);
        assert_eq!(parent.holders[0].opener, Some(true), "known from the earlier look");
        tracker.found(parent);
        let mut later = held_by(&[holder(7, 1)]);
        tracker.remember(&mut later);
        assert_eq!(later.former_holders.len(), 1, "not forgotten");
    }

    #[test]
    fn the_end_of_one_that_nobody_asked_for_is_not_told() {
        let mut tracker = Tracker::default();
        tracker.unwanted(record(5, 1), 0);
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
        tracker.found(record(5, 100));
        let mut in_use = record(5, 100);
        (in_use.verdict, in_use.seen_ns) = (Some(Verdict::HalfCloseInUse), 700);
        let Some(Update::Resolved { record, stayed, closed_by: None, unknown }) =
            tracker.unwanted(in_use, 0)
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
        tracker.found(record(5, 100));
        tracker.found(record(6, 100));
        let live = HashSet::from([6]);
        assert!(tracker.reconcile(&live, 500).is_empty());
        assert!(tracker.in_doubt());
        let said = tracker.reconcile(&live, 600);
        assert!(
            matches!(&said[..], [Update::Resolved { record, closed_by: None, .. }] if record.connection.cookie == 5)
        );
        assert!(!tracker.in_doubt());
        assert_eq!(tracker.rows().len(), 1);
    }

    proptest! {
        /// Whatever comes in whatever order: every resolved one was stuck before, once.
        #[test]
        fn the_books_balance(steps in proptest::collection::vec((0u8..6, 1u64..6), 0..200)) {
            let mut tracker = Tracker::default();
            let (mut stuck, mut resolved) = (0u64, 0u64);
            for (n, (what, cookie)) in steps.into_iter().enumerate() {
                let now = n as u64 + 1;
                let known = tracker.knows(cookie);
                match what {
                    0 | 5 => {
                        let mut seen = record(cookie, now);
                        // To listen is no leak.
                        seen.state = if what == 0 { TcpState::CloseWait } else { TcpState::Listen };
                        tracker.found(seen);
                        stuck += u64::from(!known);
                    }
                    1 => {
                        prop_assert_eq!(tracker.unwanted(record(cookie, now), 0).is_some(), known);
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
                let leaks = tracker.rows().filter(|row| row.is_leak()).count() as u64;
                prop_assert_eq!(summary.leaks_open, leaks);
                prop_assert!(summary.leaks_open <= summary.leaks);
            }
        }
    }
}

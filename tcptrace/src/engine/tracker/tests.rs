use proptest::prelude::*;
use tcptrace_common::state::TcpState;

use super::*;
use crate::engine::{
    record::{
        Connection, Holder,
        tests::{holder, leak},
    },
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
        earliest_ns: since,
        latest_ns: since,
        seen_ns: 0,
        holder_source: HolderSource::None,
        ..leak()
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
        since: Since { earliest_ns: 1, latest_ns: 1 },
        by_call: new == TcpState::LastAck,
        queues: None,
        adopted: false,
        closed_by: (new == TcpState::LastAck).then(|| ClosedBy {
            pid: 42,
            comm: "java".into(),
            exiting: false,
        }),
    }
}

#[test]
fn stuck_then_resolved_with_its_closer() {
    let mut tracker = Tracker::default();
    tracker.found(record(5, 100));
    let Outcome::Say(Update::Resolved { stayed, closed_by, .. }) =
        tracker.event(&event(5, 900, TcpState::CloseWait, TcpState::LastAck), 0)
    else {
        panic!("resolved")
    };
    assert_eq!((stayed.min_ns, closed_by.map(|c| c.pid)), (800, Some(42)));
    let summary = tracker.summary();
    assert_eq!((summary.stuck, summary.resolved, summary.still_open, summary.leaks), (1, 1, 0, 1));
}

#[test]
fn a_reset_makes_a_ghost_whose_story_goes_on() {
    let mut tracker = Tracker::default();
    tracker.found(record(5, 100));
    assert!(matches!(
        tracker.event(&event(5, 200, TcpState::CloseWait, TcpState::Close), 0),
        Outcome::Silence
    ));
    let mut ghost = record(5, 200);
    ghost.state = TcpState::Close;
    tracker.found(ghost);
    let mut end = event(5, 900, TcpState::Close, TcpState::Close);
    (end.destroyed, end.ghost) = (true, false);
    let Outcome::Say(Update::Resolved { stayed, .. }) = tracker.event(&end, 0) else {
        panic!("resolved")
    };
    assert_eq!(stayed.min_ns, 800, "from the first stay on");
    assert_eq!(tracker.summary().stuck, 1);
}

#[test]
fn a_holder_that_let_go_makes_the_other_an_inheritor() {
    let holder = |pid, ppid| Holder { ppid, ..holder(pid, 4) };
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
        tracker.event(&event(5, 9, TcpState::CloseWait, TcpState::LastAck), 0),
        Outcome::Silence
    ));
    assert!(matches!(
        tracker.event(&event(6, 9, TcpState::CloseWait, TcpState::LastAck), 0),
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
    assert_eq!(unknown, Reason::InUse);
    let summary = tracker.summary();
    assert_eq!((summary.stuck, summary.resolved, summary.leaks), (1, 1, 0));
    assert!(matches!(
        tracker.event(&event(5, 9, TcpState::CloseWait, TcpState::LastAck), 0),
        Outcome::Silence
    ));
}

#[test]
fn a_lost_end_is_believed_after_two_scans() {
    let mut tracker = Tracker::default();
    tracker.found(record(5, 100));
    tracker.found(record(6, 100));
    let live = HashSet::from([6]);
    assert!(tracker.reconcile(&live, 500).is_empty());
    assert!(tracker.in_doubt());
    let said = tracker.reconcile(&live, 600);
    let [Update::Resolved { record, closed_by: None, .. }] = &said[..] else { panic!("{said:?}") };
    assert_eq!(record.connection.cookie, 5);
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
                    let outcome = tracker.event(&event(cookie, now, TcpState::CloseWait, new), 0);
                    if matches!(outcome, Outcome::Say(_)) {
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

//! One schedule a defect; the simulation tries all others.

use tcptrace_common::{
    event::{
        HAS_SOCKET, HAS_TCP, KIND_DESTROY, KIND_HOLDING, KIND_SOCKET, KIND_TRANSITION, NO_SOCKET,
        OPEN, Socket, Transition, UNPLACED,
    },
    state::TcpState,
};
use zerocopy::FromZeros;

use super::*;
use crate::engine::{
    fact::{Counts, Records, Scan, Unplaced, Wire},
    record::HolderSource,
    unknown::Reason,
    verdict::Verdict,
};

const SECOND: u64 = 1_000_000_000;
const COOKIE: u64 = 77;

fn watch() -> Watch {
    let plan = Plan { states: TcpState::CloseWait.bit(), min_age_ns: SECOND, ..Plan::default() };
    let mut watch = Watch::new(plan);
    let host = Host { kernel: String::new(), all_processes: true };
    take(&mut watch, 1, Fact::Host(host));
    watch
}

fn take(watch: &mut Watch, at: BootNs, fact: Fact) -> Vec<Update> {
    let mut said = Vec::new();
    watch.take(&Timed { at, fact }, &mut said);
    said.into_iter().map(|s| s.update).collect()
}

fn socket(since: BootNs) -> Socket {
    let mut s = Socket::new_zeroed();
    (s.kind, s.cookie, s.state, s.protocol) = (KIND_SOCKET, COOKIE, TcpState::CloseWait as u8, 6);
    (s.flags, s.earliest_ns, s.latest_ns) = (HAS_SOCKET | HAS_TCP, since, since);
    (s.sent_ago_ns, s.acked_ago_ns) = (u64::MAX, u64::MAX);
    s
}

fn holder(pid: u32) -> tcptrace_common::event::Holding {
    let mut h = tcptrace_common::event::Holding::new_zeroed();
    (h.kind, h.cookie, h.pid, h.tid, h.fd) = (KIND_HOLDING, COOKIE, pid, pid, 4);
    h
}

fn scan(now_ns: BootNs, sockets: &[Socket], pids: &[u32]) -> Scan {
    Scan {
        now_ns,
        sockets: Records(sockets.to_vec()),
        holders: Records(pids.iter().map(|pid| holder(*pid)).collect()),
        ..Scan::default()
    }
}

fn scanned(watch: &mut Watch, scan: Scan) -> Vec<Update> {
    take(watch, scan.now_ns, Fact::Scan(Box::new(scan)))
}

fn end(time_ns: BootNs, since: BootNs, new: TcpState) -> Transition {
    let mut t = Transition::new_zeroed();
    (t.kind, t.time_ns, t.cookie, t.protocol) = (KIND_TRANSITION, time_ns, COOKIE, 6);
    (t.earliest_ns, t.latest_ns, t.socket) = (since, since, OPEN);
    (t.old, t.new, t.sent_ago_ns) = (TcpState::CloseWait as u8, new as u8, u64::MAX);
    t
}

fn names(said: &[Update]) -> Vec<&'static str> {
    let name = |u: &Update| match u {
        Update::Stuck(_) => "stuck",
        Update::Resolved { .. } => "resolved",
        Update::Lost(_) => "lost",
        _ => "other",
    };
    said.iter().map(name).collect()
}

/// Defect 3: after the first run that was missed, stays that no descriptor leads to were dropped
/// for ever.
#[test]
fn a_miss_makes_doubtful_what_began_before_it_only() {
    let mut watch = watch();
    let unplaced = |since| {
        let mut s = socket(since);
        s.flags = UNPLACED | HAS_SOCKET;
        vec![Unplaced { slot: 3, socket: Wire(s) }]
    };
    let missed = |now_ns, since| {
        let counts = Counts { missed: 1, at_ns: now_ns, ..Counts::default() };
        Scan { unplaced: unplaced(since), counts, ..scan(now_ns, &[], &[]) }
    };
    let said = scanned(&mut watch, missed(10 * SECOND, 5 * SECOND));
    assert_eq!(names(&said), ["lost"], "its end may be the one that was missed");
    let wants = watch.wants(10 * SECOND);
    assert_eq!((wants.give_up.len(), wants.adopt), (1, true));
    let said = scanned(&mut watch, missed(20 * SECOND, 15 * SECOND));
    assert_eq!(names(&said), ["lost"], "nobody holds it: the next scan decides");
    let said = scanned(&mut watch, missed(21 * SECOND, 15 * SECOND));
    assert_eq!(names(&said), ["stuck"], "it began after the miss; the other is counted");
}

/// A socket that nobody could connect stays in CLOSE, too, where all states are timed: its end does
/// not say which it was.
#[test]
fn who_ended_in_close_unseen_may_never_have_been_connected() {
    let ended = |states| {
        let plan = Plan { states, min_age_ns: SECOND, ..Plan::default() };
        let mut watch = Watch::new(plan);
        let mut t = end(9 * SECOND, 5 * SECOND, TcpState::Close);
        (t.kind, t.old, t.socket) = (KIND_DESTROY, TcpState::Close as u8, NO_SOCKET);
        t.tuple.rport = 80;
        let said = take(&mut watch, 9 * SECOND, Fact::Change(Wire(t)));
        let Some(Update::Stuck(record)) = said.first() else { return None };
        Some((record.verdict, record.unknown.get("verdict")))
    };
    let ghost = Some((Some(Verdict::GhostFd), None));
    assert_eq!(ended(TcpState::CloseWait.bit()), ghost);
    let unknown = Some((None, Some(Reason::Gone)));
    assert_eq!(ended(TcpState::CloseWait.bit() | TcpState::Close.bit()), unknown);
}

/// Defect 5: a half-close in use that ends between min-age and the next scan is no leak.
#[test]
fn a_half_close_that_ended_unseen_is_judged_by_its_end() {
    let ended = |bytes_sent, sent_ago_ns| {
        let mut t = end(9 * SECOND, 5 * SECOND, TcpState::LastAck);
        (t.flags, t.bytes_sent, t.sent_ago_ns) = (HAS_TCP, bytes_sent, sent_ago_ns);
        let mut watch = watch();
        let said = take(&mut watch, 9 * SECOND, Fact::Change(Wire(t)));
        (names(&said), watch.totals().leaks, said)
    };
    let (said, leaks, _) = ended(100, SECOND);
    assert_eq!((said.len(), leaks), (0, 0), "in use to its end");
    let (said, leaks, updates) = ended(0, u64::MAX);
    assert_eq!((&said[..], leaks), (&["stuck", "resolved"][..], 1));
    let Update::Stuck(record) = &updates[0] else { panic!("stuck") };
    assert_eq!(record.verdict, Some(Verdict::EofNotClosed), "with a verdict");
}

/// Defect 6: what a scan finds to be over without an event is found out without a loss, too.
#[test]
fn complete_scans_come_now_and_then() {
    let mut watch = watch();
    assert_eq!(names(&scanned(&mut watch, scan(9 * SECOND, &[socket(SECOND)], &[5]))), ["stuck"]);
    assert!(!watch.wants(10 * SECOND).complete);
    let mut now = 80 * SECOND;
    assert!(watch.wants(now).complete, "after a minute");
    let mut said = Vec::new();
    for _ in 0..2 {
        said = scanned(&mut watch, Scan { complete: true, ..scan(now, &[], &[]) });
        now += SECOND;
        assert!(said.len() == 1 || watch.wants(now).complete, "it is in doubt");
    }
    assert_eq!(names(&said), ["resolved"]);
}

/// Defect 8: a socket that is closed between being listed and the scan of the descriptors keeps its
/// good record.
#[test]
fn nobody_holds_it_is_believed_the_second_time() {
    let mut watch = watch();
    scanned(&mut watch, scan(9 * SECOND, &[socket(SECOND)], &[5]));
    let said = scanned(&mut watch, scan(20 * SECOND, &[socket(SECOND)], &[]));
    assert_eq!(said.len(), 0, "it may just have been closed");
    assert_eq!(watch.rows().next().map(|r| r.holder_source), Some(HolderSource::FdTable));
    assert!(watch.wants(20 * SECOND).complete, "the next scan decides");
    let again = Scan { complete: true, ..scan(21 * SECOND, &[socket(SECOND)], &[]) };
    let said = scanned(&mut watch, again);
    assert_eq!(names(&said), ["stuck"]);
    assert_eq!(watch.rows().next().map(|r| r.holder_source), Some(HolderSource::OutsideFdTables));
}

/// Defect 9: a complete scan says what is due, repeats nothing else, and takes back what is in use.
#[test]
fn a_complete_scan_drops_nothing_that_is_due() {
    let complete = |scan| Scan { complete: true, ..scan };
    let mut watch = watch();
    scanned(&mut watch, scan(9 * SECOND, &[socket(7 * SECOND)], &[5]));
    let said = scanned(&mut watch, complete(scan(10 * SECOND, &[socket(7 * SECOND)], &[5])));
    assert_eq!(said.len(), 0, "said a second ago");
    let said = scanned(&mut watch, complete(scan(12 * SECOND, &[socket(7 * SECOND)], &[5])));
    assert_eq!(names(&said), ["stuck"], "its age has doubled");
    let mut in_use = socket(7 * SECOND);
    (in_use.bytes_sent, in_use.sent_ago_ns) = (9, SECOND);
    let said = scanned(&mut watch, complete(scan(13 * SECOND, &[in_use], &[5])));
    assert_eq!(names(&said), ["resolved"], "taken back");
    assert_eq!(watch.totals().leaks, 0);
}

/// Defect 15: what waits for a peer that takes nothing is in use for a while only.
#[test]
fn a_peer_that_takes_nothing_ends_a_half_close() {
    let mut watch = watch();
    let waiting = |una| {
        let mut s = socket(SECOND);
        (s.send_q, s.bytes_sent, s.snd_una) = (500, 900, una);
        // Its window probes are answered all the time.
        (s.sent_ago_ns, s.acked_ago_ns) = (40 * SECOND, SECOND);
        [s]
    };
    for (now, una) in [(9, 1), (20, 2), (45, 3)] {
        let said = scanned(&mut watch, scan(now * SECOND, &waiting(una), &[5]));
        assert_eq!(said.len(), 0, "the peer takes some: in use");
    }
    let said = scanned(&mut watch, scan(90 * SECOND, &waiting(3), &[5]));
    assert_eq!(names(&said), ["stuck"]);
}

/// An end beside a scan that had listed the socket before.
#[test]
fn what_ended_beside_a_scan_is_not_reported_by_it() {
    let mut watch = watch();
    take(&mut watch, 8 * SECOND, Fact::ScanBegan);
    let t = end(9 * SECOND, SECOND, TcpState::LastAck);
    assert_eq!(names(&take(&mut watch, 9 * SECOND, Fact::Change(Wire(t)))), ["stuck", "resolved"]);
    assert_eq!(scanned(&mut watch, scan(8 * SECOND, &[socket(SECOND)], &[5])).len(), 0);
    // The descriptor is still there: what it is in since then is another stay.
    let mut ghost = socket(9 * SECOND);
    ghost.state = TcpState::Close as u8;
    ghost.tuple.rport = 9;
    assert_eq!(names(&scanned(&mut watch, scan(12 * SECOND, &[ghost], &[5]))), ["stuck"]);
}

/// Ends of sockets are followed while there are ghosts.
#[test]
fn ghosts_come_and_go() {
    let mut watch = watch();
    scanned(&mut watch, scan(9 * SECOND, &[socket(SECOND)], &[5]));
    assert!(!watch.follows_ends());
    let reset = end(10 * SECOND, SECOND, TcpState::Close);
    assert_eq!(take(&mut watch, 10 * SECOND, Fact::Change(Wire(reset))).len(), 0);
    assert!(watch.follows_ends());
    let mut freed = end(11 * SECOND, 10 * SECOND, TcpState::Close);
    (freed.kind, freed.old, freed.socket) = (KIND_DESTROY, TcpState::Close as u8, NO_SOCKET);
    assert_eq!(names(&take(&mut watch, 11 * SECOND, Fact::Change(Wire(freed)))), ["resolved"]);
    for now in [12, 13, 14] {
        scanned(&mut watch, Scan { complete: true, ..scan(now * SECOND, &[], &[]) });
    }
    assert!(!watch.follows_ends());
}

/// One line a period, not one a miss.
#[test]
fn losses_are_said_now_and_then() {
    let mut watch = watch();
    let lost = |now_ns, missed| {
        let counts = Counts { missed, at_ns: now_ns, ..Counts::default() };
        Scan { counts, ..scan(now_ns, &[], &[]) }
    };
    let mut lines = 0;
    for n in 1..=400 {
        let said = scanned(&mut watch, lost(n * SECOND / 4, n));
        lines += names(&said).iter().filter(|name| **name == "lost").count();
    }
    assert!((10..=11).contains(&lines), "{lines} lines in 100 seconds");
    assert_eq!(watch.losses().recursion, 400);
}

/// A recording knows of stays from a second on, and is asked for those of five.
#[test]
fn what_was_listed_too_young_is_reported_when_it_is_not() {
    let longer = || {
        let plan = Plan { listed_from_ns: Some(SECOND), min_age_ns: 5 * SECOND, ..Plan::default() };
        let mut watch = Watch::new(plan);
        let said = scanned(&mut watch, scan(12 * SECOND, &[socket(10 * SECOND)], &[9]));
        assert_eq!(names(&said), [] as [&str; 0], "it is two seconds old");
        watch
    };
    let pids = |update: &Update| match update {
        Update::Stuck(record) => record.holders.iter().map(|h| h.process.pid).collect(),
        _ => Vec::new(),
    };
    // No scan lists it when it is five: its age has not doubled.
    let mut watch = longer();
    assert_eq!(scanned(&mut watch, scan(14 * SECOND, &[], &[])).len(), 0);
    let said = scanned(&mut watch, scan(15 * SECOND, &[], &[]));
    assert_eq!((names(&said), pids(&said[0])), (vec!["stuck"], vec![9]));
    let said = scanned(&mut watch, scan(18 * SECOND, &[socket(10 * SECOND)], &[9]));
    assert_eq!(names(&said), [] as [&str; 0], "it is said again at ten");
    // Its end comes before the next scan: who held it is known all the same.
    let mut watch = longer();
    let change = end(16 * SECOND, 10 * SECOND, TcpState::LastAck);
    let said = take(&mut watch, 16 * SECOND, Fact::Change(Wire(change)));
    assert_eq!((names(&said), pids(&said[0])), (vec!["stuck", "resolved"], vec![9]));
    // Or too early to be of interest.
    let mut watch = longer();
    let change = end(13 * SECOND, 10 * SECOND, TcpState::LastAck);
    assert_eq!(take(&mut watch, 13 * SECOND, Fact::Change(Wire(change))).len(), 0);
    assert_eq!(scanned(&mut watch, scan(20 * SECOND, &[], &[])).len(), 0);
}

#[test]
fn another_min_age_forgets_nothing() {
    let mut watch = watch();
    let at = |seconds: u64| seconds * SECOND;
    let stuck = scanned(&mut watch, scan(at(3), &[socket(at(1))], &[7]));
    assert_eq!(names(&stuck), ["stuck"]);
    watch.set_min_age(at(60), at(3));
    assert!(watch.wants(at(3)).complete, "what was listed by the old one is looked at once more");
    // It is younger now, and stays as it is; another one is too young.
    let mut other = socket(at(4));
    other.cookie = COOKIE + 1;
    let complete = |now| {
        let mut all = Scan { complete: true, ..scan(now, &[socket(at(1)), other], &[7, 8]) };
        all.holders.0.push(tcptrace_common::event::Holding { cookie: COOKIE + 1, ..holder(9) });
        all
    };
    for now in [5, 9, 17, 33] {
        assert_eq!(names(&scanned(&mut watch, complete(at(now)))), [""; 0], "{now}");
        assert_eq!(watch.rows().len(), 1);
    }
    assert_eq!(watch.rows().next().map(|record| record.holders.len()), Some(2), "it is followed");
    // When it passes the new one it is told again, the other for the first time.
    assert_eq!(names(&scanned(&mut watch, complete(at(70)))), ["stuck", "stuck"]);
    assert_eq!(watch.totals().stuck, 2);
    watch.set_min_age(SECOND, at(71));
    assert_eq!(names(&scanned(&mut watch, complete(at(72)))), [""; 0]);
    let ended = take(&mut watch, at(80), Fact::Change(Wire(end(at(80), at(1), TcpState::LastAck))));
    assert_eq!(names(&ended), ["resolved"]);
    assert_eq!((watch.totals().resolved, watch.totals().still_open), (1, 1));
}

use tcptrace_common::event::{KIND_QUEUED, KIND_SOCKET, Queued};
use zerocopy::FromZeros;

use super::*;
use crate::engine::record::{Holder, ProcessId, tests};

const SECOND: u64 = 1_000_000_000;
const V4: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1];
const ANY_V4: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0];

fn socket(cookie: u64, state: TcpState, laddr: [u8; 16]) -> Socket {
    let mut s = Socket::new_zeroed();
    (s.kind, s.cookie, s.state, s.protocol) = (KIND_SOCKET, cookie, state as u8, 6);
    (s.earliest_ns, s.latest_ns, s.flags, s.sent_ago_ns) = (1, 1, HAS_TCP, u64::MAX);
    (s.tuple.laddr, s.tuple.lport, s.tuple.netns) = (laddr, 80, 1);
    (s.tuple.raddr, s.tuple.rport) = (V4, 5000);
    s
}

fn listener(cookie: u64, laddr: [u8; 16], queue: u32) -> Socket {
    let mut s = socket(cookie, TcpState::Listen, laddr);
    (s.backlog, s.max_backlog) = (queue, 8);
    s
}

fn holder(pid: u32) -> Holder {
    let process = ProcessId { pid, start_ns: 0 };
    Holder { process, ..tests::holder(pid, 3) }
}

fn blamed(listeners: &[Socket]) -> Vec<u32> {
    blamed_with(listeners, &[])
}

fn blamed_with(listeners: &[Socket], queued: &[Queued]) -> Vec<u32> {
    let held = listeners.iter().map(|l| (l.cookie, vec![holder(l.cookie as u32)])).collect();
    let mut holdings = Holdings::new(listeners, queued, held, true);
    let record = record(&socket(99, TcpState::CloseWait, V4), &mut holdings, None, None, 9);
    record.holders.iter().map(|h| h.process.pid).collect()
}

#[test]
fn the_closest_listener_is_blamed() {
    assert_eq!(
        blamed(&[listener(1, ANY_V4, 1), listener(2, V4, 1)]),
        [2],
        "bound to the address itself"
    );
    assert_eq!(blamed(&[listener(1, ANY_V4, 1)]), [1]);
    assert_eq!(blamed(&[listener(1, [0; 16], 1)]), [1], ":: takes IPv4");
    assert_eq!(
        blamed(&[listener(1, V4, 0), listener(2, V4, 3)]),
        [2],
        "SO_REUSEPORT: the one with a queue"
    );
    assert_eq!(blamed(&[listener(1, V4, 1), listener(2, V4, 1)]), [1, 2], "or all of them");
    let two = [listener(1, V4, 1), listener(2, V4, 1)];
    let queued = Queued { kind: KIND_QUEUED, pad: 0, cookie: 99, listener: 1 };
    assert_eq!(blamed_with(&two, &[queued]), [1], "the one in whose queue it is");
    let mut elsewhere = listener(1, V4, 1);
    elsewhere.tuple.netns = 2;
    assert_eq!(blamed(&[elsewhere]), [0; 0]);
}

#[test]
fn verdicts_follow_the_evidence() {
    let judge = |change: &dyn Fn(&mut Socket), held: &[u32]| {
        let mut s = socket(7, TcpState::CloseWait, V4);
        s.flags |= HAS_SOCKET;
        change(&mut s);
        let held = (!held.is_empty()).then(|| (7, held.iter().map(|pid| holder(*pid)).collect()));
        let record = record(
            &s,
            &mut Holdings::new(&[], &[], held.into_iter().collect(), true),
            None,
            None,
            100 * SECOND,
        );
        record.verdict.map(|v| (v, record.also.clone()))
    };
    assert_eq!(judge(&|_| {}, &[1]), Some((Verdict::EofNotClosed, vec![])));
    assert_eq!(judge(&|s| s.recv_q = 1, &[1]), Some((Verdict::UnreadFin, vec![])));
    assert_eq!(judge(&|s| s.recv_q = 2, &[1]), Some((Verdict::UnreadData, vec![])));
    assert_eq!(
        judge(&|s| s.recv_q = 2, &[1, 2]),
        Some((Verdict::InheritedFd, vec![Verdict::UnreadData]))
    );
    assert_eq!(
        judge(&|_| {}, &[1, 1]),
        Some((Verdict::EofNotClosed, vec![])),
        "two descriptors, one process"
    );
    let sent = |s: &mut Socket, ago| (s.bytes_sent, s.sent_ago_ns) = (9, ago);
    let in_use = Some((Verdict::HalfCloseInUse, vec![Verdict::EofNotClosed]));
    let not_closed = Some((Verdict::EofNotClosed, vec![]));
    assert_eq!(judge(&|s| sent(s, 3 * SECOND), &[1]), in_use);
    assert_eq!(judge(&|s| sent(s, 40 * SECOND), &[1]), not_closed, "it has stopped sending");
    // Seeded: the FIN came 10 to 60 seconds ago.
    let seeded = |s: &mut Socket, ago| {
        (s.earliest_ns, s.latest_ns, s.received_ago_ns, s.sent_ago_ns) =
            (40 * SECOND, 90 * SECOND, 60 * SECOND, ago);
        s.flags |= ADOPTED;
    };
    assert_eq!(judge(&|s| seeded(s, 3 * SECOND), &[1]), in_use, "sent after the FIN");
    assert_eq!(
        judge(&|s| seeded(s, 20 * SECOND), &[1]),
        in_use,
        "or perhaps before: the benefit of the doubt"
    );
    assert_eq!(judge(&|s| seeded(s, 40 * SECOND), &[1]), not_closed);
    assert_eq!(judge(&|s| seeded(s, 60 * SECOND), &[1]), not_closed, "sent before the FIN");
    // Read 10 seconds before now: its last data and its answer were 5 seconds old then.
    let read_earlier = |s: &mut Socket| {
        seeded(s, 5 * SECOND);
        (s.earliest_ns, s.received_ago_ns) = (85 * SECOND, 5 * SECOND);
    };
    assert_eq!(
        judge(&read_earlier, &[1]),
        not_closed,
        "answered before the FIN, however late the record"
    );
    assert_eq!(
        judge(&|s| s.send_q = 9, &[1]).map(|v| v.0),
        Some(Verdict::HalfCloseInUse),
        "the peer reads slowly"
    );
    assert_eq!(judge(&|s| s.flags &= !HAS_SOCKET, &[]), Some((Verdict::Orphan, vec![])));
    assert_eq!(judge(&|s| s.flags &= !HAS_TCP, &[1]), None, "unknown queues are no empty queues");
    assert_eq!(judge(&|s| s.state = TcpState::Close as u8, &[1]), Some((Verdict::GhostFd, vec![])));
    assert_eq!(judge(&|s| s.state = TcpState::Established as u8, &[1]), None);
}

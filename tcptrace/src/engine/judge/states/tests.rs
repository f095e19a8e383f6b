use super::*;
use crate::engine::record::{
    HolderSource, Role,
    tests::{holder, leak},
};

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;

/// What must be so for a verdict on these states to be given, first or besides.
pub(in crate::engine::judge) fn is_shown(verdict: Verdict, r: &Record) -> bool {
    use TcpState::{
        Closing, Established, FinWait1, FinWait2, LastAck, Listen, NewSynRecv, SynRecv, SynSent,
        TimeWait,
    };
    let e = &r.evidence;
    let again = |n| e.retransmits.is_some_and(|tries| tries >= n);
    let request = [SynRecv, NewSynRecv].contains(&r.state);
    let closing = [FinWait1, Closing, LastAck].contains(&r.state);
    let over = |ago: Option<u64>, ns| ago.is_some_and(|ago| ago >= ns);
    let full = r.listener.as_ref().is_some_and(|l| l.queue > l.limit);
    let gone = over(e.acked_ago_ns, 30 * SECOND) && (again(3) || e.probes >= Some(2));
    let shut = e.snd_wnd == Some(0)
        && e.send_q > Some(0)
        && (over(e.sent_ago_ns, 60 * SECOND) || over(e.stalled_ns, 60 * SECOND));
    match verdict {
        Verdict::ClosedFirst => r.state == TimeWait,
        Verdict::PeerNotClosed => {
            r.state == FinWait2
                && e.accepted != Some(false)
                && over(e.received_ago_ns, 30 * SECOND)
                && r.age(r.seen_ns).min_ns >= 30 * SECOND
        }
        Verdict::FinUnacknowledged => closing && (again(3) || gone || shut),
        Verdict::NoAnswer => r.state == SynSent && again(1),
        Verdict::HandshakeUnfinished => request && again(1) && !full,
        Verdict::QueueFull => {
            let flooded = r
                .listener
                .as_ref()
                .is_some_and(|l| l.handshakes.is_some_and(|n| n > 0 && n >= l.limit));
            request && again(1) && full || r.state == Listen && (full || flooded)
        }
        Verdict::PeerGone => (closing || r.state == Established) && gone,
        Verdict::PeerNotReading => (closing || r.state == Established) && shut,
        Verdict::IdleNoKeepalive => {
            r.state == Established
                && e.keepalive == Some(false)
                && e.send_q == Some(0)
                && over(e.sent_ago_ns.min(e.received_ago_ns).min(e.acked_ago_ns), 2 * HOUR)
                && !r.connection.remote.ip().is_loopback()
        }
        _ => false,
    }
}

/// A connection of ours to another host, at work.
fn established() -> Record {
    let mut r = Record { state: TcpState::Established, role: Some(Role::Client), ..leak() };
    r.connection.local = "10.0.0.1:40000".parse().expect("an end");
    r.connection.remote = "10.0.0.9:5432".parse().expect("an end");
    (r.holders, r.holder_source) = (vec![holder(7, 4)], HolderSource::FdTable);
    (r.latest_ns, r.seen_ns) = (SECOND, 5 * HOUR);
    r.evidence = Evidence {
        send_q: Some(0),
        accepted: Some(true),
        keepalive: Some(false),
        sent_ago_ns: Some(SECOND),
        received_ago_ns: Some(SECOND),
        acked_ago_ns: Some(SECOND),
        timer: Some(Timer::None),
        retransmits: Some(0),
        probes: Some(0),
        snd_wnd: Some(65_535),
        ..leak().evidence
    };
    r
}

fn verdict(state: TcpState, change: impl FnOnce(&mut Record)) -> Result<Verdict, Reason> {
    let mut r = Record { state, ..established() };
    change(&mut r);
    judge(&r).map(|(verdict, _)| verdict)
}

fn silent(e: &mut Evidence, ns: u64) {
    (e.sent_ago_ns, e.received_ago_ns, e.acked_ago_ns) = (Some(ns), Some(ns), Some(ns));
}

#[test]
fn an_idle_connection_with_nobody_to_notice() {
    let idle = |change: &dyn Fn(&mut Record)| {
        verdict(TcpState::Established, |r| {
            silent(&mut r.evidence, 2 * HOUR);
            change(r);
        })
    };
    assert_eq!(idle(&|_| {}), Ok(Verdict::IdleNoKeepalive));
    let at_work = Err(Reason::AtWork);
    assert_eq!(idle(&|r| r.evidence.acked_ago_ns = Some(2 * HOUR - 1)), at_work);
    assert_eq!(idle(&|r| r.evidence.keepalive = Some(true)), at_work, "keepalive finds out");
    assert_eq!(idle(&|r| r.evidence.keepalive = None), at_work, "hidden by another timer");
    assert_eq!(idle(&|r| r.evidence.send_q = Some(1)), at_work, "so does an unanswered byte");
    let local = |to: &'static str| {
        move |r: &mut Record| r.connection.remote.set_ip(to.parse().expect("an address"))
    };
    assert_eq!(idle(&local("127.0.0.1")), at_work, "the peer's kernel is ours");
    assert_eq!(idle(&local("10.0.0.1")), at_work, "on an address of its own, too");
    assert_eq!(idle(&|r| r.evidence.timer = None), Err(Reason::TimersUnread));
}

#[test]
fn a_peer_that_answers_nothing() {
    let gone = |retransmits, probes, timer, acked| {
        verdict(TcpState::Established, |r| {
            let e = &mut r.evidence;
            (e.retransmits, e.probes) = (Some(retransmits), Some(probes));
            (e.timer, e.acked_ago_ns, e.send_q) = (Some(timer), Some(acked), Some(9));
        })
    };
    let (peer_gone, at_work) = (Ok(Verdict::PeerGone), Err(Reason::AtWork));
    assert_eq!(gone(3, 0, Timer::Retransmit, 30 * SECOND), peer_gone);
    assert_eq!(gone(2, 0, Timer::Retransmit, 30 * SECOND), at_work, "an everyday loss");
    assert_eq!(gone(9, 0, Timer::Retransmit, 29 * SECOND), at_work, "it answered just now");
    assert_eq!(gone(0, 2, Timer::Keepalive, 30 * SECOND), peer_gone);
    assert_eq!(gone(0, 1, Timer::Keepalive, 9 * HOUR), at_work, "the first was only just sent");
    assert_eq!(gone(0, 2, Timer::Persist, 30 * SECOND), peer_gone, "it is not there to read");
}

#[test]
fn a_peer_that_takes_nothing() {
    let shut = |change: &dyn Fn(&mut Evidence)| {
        verdict(TcpState::Established, |r| {
            let e = &mut r.evidence;
            (e.send_q, e.snd_wnd, e.timer) = (Some(9), Some(0), Some(Timer::Persist));
            (e.sent_ago_ns, e.probes) = (Some(60 * SECOND), Some(1));
            change(e);
        })
    };
    assert_eq!(shut(&|_| {}), Ok(Verdict::PeerNotReading));
    assert_eq!(shut(&|e| e.sent_ago_ns = Some(59 * SECOND)), Err(Reason::AtWork), "a pause");
    assert_eq!(shut(&|e| e.snd_wnd = Some(1)), Err(Reason::AtWork));
    assert_eq!(shut(&|e| e.snd_wnd = None), Err(Reason::AtWork), "nobody knows");
    let again = |e: &mut Evidence| (e.sent_ago_ns, e.stalled_ns) = (Some(1), Some(60 * SECOND));
    assert_eq!(shut(&again), Ok(Verdict::PeerNotReading), "earlier scans tell");
}

#[test]
fn who_has_closed_and_waits() {
    let fin_wait2 = |change: &dyn Fn(&mut Record)| {
        verdict(TcpState::FinWait2, |r| {
            silent(&mut r.evidence, 30 * SECOND);
            change(r);
        })
    };
    assert_eq!(fin_wait2(&|_| {}), Ok(Verdict::PeerNotClosed));
    let at_work = Err(Reason::AtWork);
    assert_eq!(fin_wait2(&|r| r.evidence.received_ago_ns = Some(1)), at_work, "it still sends");
    assert_eq!(fin_wait2(&|r| r.latest_ns = r.seen_ns - 29 * SECOND), at_work, "it has time yet");
    assert_eq!(fin_wait2(&|r| r.evidence.accepted = Some(false)), Ok(Verdict::Orphan));
    assert_eq!(verdict(TcpState::TimeWait, |_| {}), Ok(Verdict::ClosedFirst));
}

#[test]
fn a_fin_on_its_way() {
    for state in [TcpState::FinWait1, TcpState::Closing, TcpState::LastAck] {
        let closing = |retransmits, accepted, silent_ns| {
            let mut r = Record { state, ..established() };
            let e = &mut r.evidence;
            (e.retransmits, e.accepted) = (retransmits, Some(accepted));
            (e.timer, e.send_q) = (Some(Timer::Retransmit), Some(1));
            silent(e, silent_ns);
            judge(&r)
        };
        let shown = |also: &[Verdict]| Ok((Verdict::FinUnacknowledged, also.to_vec()));
        assert_eq!(closing(Some(0), false, 1), Err(Reason::AtWork));
        assert_eq!(closing(None, false, 1), Err(Reason::TimersUnread));
        assert_eq!(closing(Some(3), true, 1), shown(&[]));
        assert_eq!(closing(Some(3), false, 1), shown(&[Verdict::Orphan]));
        let gone = shown(&[Verdict::PeerGone, Verdict::Orphan]);
        assert_eq!(closing(Some(3), false, 30 * SECOND), gone);
    }
}

#[test]
fn handshakes() {
    let tried = |state, n| verdict(state, |r| r.evidence.retransmits = n);
    assert_eq!(tried(TcpState::SynSent, Some(0)), Err(Reason::AtWork), "only just sent");
    assert_eq!(tried(TcpState::SynSent, Some(1)), Ok(Verdict::NoAnswer));
    assert_eq!(tried(TcpState::SynSent, None), Err(Reason::TimersUnread));
    assert_eq!(tried(TcpState::SynRecv, Some(0)), Err(Reason::AtWork));
    assert_eq!(tried(TcpState::SynRecv, Some(1)), Ok(Verdict::HandshakeUnfinished));
    let listener = |queue, limit, handshakes| Listener {
        local: "0.0.0.0:80".parse().expect("an end"),
        queue,
        limit,
        drops: 0,
        handshakes,
        cookies: None,
        holders: Vec::new(),
    };
    let full = verdict(TcpState::SynRecv, |r| {
        (r.evidence.retransmits, r.listener) = (Some(1), Some(listener(9, 8, None)));
    });
    assert_eq!(full, Ok(Verdict::QueueFull), "the peer's answer may have come");
    for (queue, limit, handshakes, is_full) in [
        (8, 8, None, false),
        (9, 8, None, true),
        (1, 0, None, true),
        (0, 8, Some(7), false),
        (0, 8, Some(8), true),
        (0, 0, Some(0), false),
    ] {
        let listens = verdict(TcpState::Listen, |r| {
            r.listener = Some(listener(queue, limit, handshakes));
        });
        let expected = if is_full { Ok(Verdict::QueueFull) } else { Err(Reason::AtWork) };
        assert_eq!(listens, expected, "{queue} of {limit}, {handshakes:?}");
    }
}

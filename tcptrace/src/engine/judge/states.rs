//! Verdicts on states other than CLOSE_WAIT. Most sockets in them are at work: a verdict needs time
//! that has passed, or tries that were in vain.

use tcptrace_common::state::TcpState;

use super::IN_USE_NS;
use crate::engine::{
    record::{Evidence, Listener, Record},
    timer::Timer,
    unknown::Reason,
    verdict::Verdict,
};

/// So many retransmissions in a row are "excessive" enough to look for another way (RFC 9293,
/// 3.8.3: R1, at least three; Linux: `tcp_retries1`, 3). Fewer are everyday losses.
pub(super) const RETRIES: u8 = 3;
/// The second probe is sent when the first has had a whole interval for its answer.
pub(super) const PROBES: u8 = 2;
/// A window that has been shut for so long is no pause of a program that reads.
pub(super) const SHUT_NS: u64 = 60_000_000_000;
/// Who is silent for so long would have been asked by keepalive, were it on (RFC 1122, 4.2.3.6: no
/// sooner than two hours by default; Linux: `tcp_keepalive_time`, 7200 s).
pub(super) const IDLE_NS: u64 = 7_200_000_000_000;

/// The verdict on a socket that is neither in CLOSE_WAIT nor a ghost.
pub(super) fn judge(r: &Record) -> Result<(Verdict, Vec<Verdict>), Reason> {
    let only = |verdict| Ok((verdict, Vec::new()));
    let e = &r.evidence;
    match r.state {
        TcpState::TimeWait => only(Verdict::ClosedFirst),
        TcpState::FinWait2 if e.accepted == Some(false) => only(Verdict::Orphan),
        TcpState::FinWait2 => peer_not_closed(r),
        TcpState::FinWait1 | TcpState::Closing | TcpState::LastAck => closing(r),
        TcpState::SynSent => match e.retransmits {
            Some(1..) => only(Verdict::NoAnswer),
            Some(0) => Err(Reason::AtWork),
            None => Err(Reason::TimersUnread),
        },
        TcpState::SynRecv | TcpState::NewSynRecv => match e.retransmits {
            // The answer to the SYN-ACK may have come: it is dropped while there is no room.
            Some(1..) if r.listener.as_ref().is_some_and(is_crowded) => only(Verdict::QueueFull),
            Some(1..) => only(Verdict::HandshakeUnfinished),
            Some(0) => Err(Reason::AtWork),
            None => Err(Reason::TimersUnread),
        },
        TcpState::Listen => match &r.listener {
            Some(listener) if is_crowded(listener) || is_flooded(listener) => {
                only(Verdict::QueueFull)
            }
            Some(_) => Err(Reason::AtWork),
            None => Err(Reason::NoVerdictOnState),
        },
        TcpState::Established => established(r),
        TcpState::Close | TcpState::CloseWait | TcpState::BoundInactive => {
            Err(Reason::NoVerdictOnState)
        }
    }
}

/// The kernel takes one more than the limit says (include/net/sock.h: `sk_acceptq_is_full`).
pub(super) fn is_crowded(listener: &Listener) -> bool {
    listener.queue > listener.limit
}

/// As many handshakes are under way as may be (`inet_csk_reqsk_queue_is_full`; the limit is the
/// accept queue's).
pub(super) fn is_flooded(listener: &Listener) -> bool {
    listener.handshakes.is_some_and(|n| n > 0 && n >= listener.limit)
}

/// This side has shut down its half, and a process has the socket still. The peer may be at work on
/// its answer, so it has some time for that; and data that come are an answer.
fn peer_not_closed(r: &Record) -> Result<(Verdict, Vec<Verdict>), Reason> {
    let answered = r.evidence.received_ago_ns.is_none_or(|ago| ago < IN_USE_NS);
    if answered || r.age(r.seen_ns).min_ns < IN_USE_NS {
        return Err(Reason::AtWork);
    }
    Ok((Verdict::PeerNotClosed, Vec::new()))
}

fn closing(r: &Record) -> Result<(Verdict, Vec<Verdict>), Reason> {
    let e = &r.evidence;
    let retransmits = e.retransmits.ok_or(Reason::TimersUnread)?;
    let mut also = Vec::new();
    if is_gone(e) {
        also.push(Verdict::PeerGone);
    } else if is_shut(e) {
        also.push(Verdict::PeerNotReading);
    } else if retransmits < RETRIES {
        return Err(Reason::AtWork);
    }
    if e.accepted == Some(false) {
        also.push(Verdict::Orphan);
    }
    Ok((Verdict::FinUnacknowledged, also))
}

fn established(r: &Record) -> Result<(Verdict, Vec<Verdict>), Reason> {
    let e = &r.evidence;
    e.timer.ok_or(Reason::TimersUnread)?;
    let verdict = if is_gone(e) {
        Verdict::PeerGone
    } else if is_shut(e) {
        Verdict::PeerNotReading
    } else if is_forgotten(r) {
        Verdict::IdleNoKeepalive
    } else {
        return Err(Reason::AtWork);
    };
    Ok((verdict, Vec::new()))
}

/// It was asked again and again, and has been silent for as long. The kernel counts from 0 with
/// each acknowledgement (net/ipv4/tcp_input.c: `tcp_ack`).
pub(super) fn is_gone(e: &Evidence) -> bool {
    let asked = e.retransmits >= Some(RETRIES) && e.timer == Some(Timer::Retransmit)
        || e.probes >= Some(PROBES) && matches!(e.timer, Some(Timer::Keepalive | Timer::Persist));
    asked && e.acked_ago_ns.is_some_and(|ago| ago >= IN_USE_NS)
}

/// Data wait, the window is shut, and nothing was taken for long. It shut when the last data were
/// acknowledged: a window that has room does not shut without new data (RFC 9293, 3.8.6: it should
/// not shrink).
pub(super) fn is_shut(e: &Evidence) -> bool {
    let waiting_ns = e.stalled_ns.max(e.sent_ago_ns);
    e.send_q > Some(0)
        && e.snd_wnd == Some(0)
        && matches!(e.timer, Some(Timer::Persist | Timer::Retransmit))
        && waiting_ns.is_some_and(|ns| ns >= SHUT_NS)
}

/// Nothing has passed either way for long, nothing is under way, and no timer runs by which the
/// kernel would find out. A peer on the same host can't go unnoticed: its kernel is ours.
pub(super) fn is_forgotten(r: &Record) -> bool {
    let e = &r.evidence;
    let silent = [e.sent_ago_ns, e.received_ago_ns, e.acked_ago_ns];
    let (here, there) = (r.connection.local.ip(), r.connection.remote.ip());
    e.accepted == Some(true)
        && e.send_q == Some(0)
        && e.timer == Some(Timer::None)
        && e.keepalive == Some(false)
        && silent.iter().all(|ago| ago.is_some_and(|ns| ns >= IDLE_NS))
        && here != there
        && !there.is_loopback()
}

#[cfg(test)]
pub(super) mod tests;

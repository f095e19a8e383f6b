//! What the kernel's timers and a listener's queues show, in words.

use tcptrace_common::state::TcpState;

use crate::engine::{
    counted::counted,
    record::{Listener, Record, Role},
    timer::Timer,
};

/// A connection whose handshake is under way: no process knows of it yet.
#[must_use]
pub fn is_request(r: &Record) -> bool {
    matches!(r.state, TcpState::SynRecv | TcpState::NewSynRecv)
}

/// What the state itself says.
pub fn beginning(r: &Record) -> Vec<String> {
    let e = &r.evidence;
    let mut words = Vec::new();
    match r.state {
        TcpState::TimeWait => words.push(
            "the state is TIME_WAIT: both sides have closed, this one first or at the same time; \
             the kernel forgets it after 60 s"
                .to_owned(),
        ),
        TcpState::FinWait2 if e.accepted == Some(false) => words.push(
            "the state is FIN_WAIT2 and its program has closed: the kernel waits \
             tcp_fin_timeout (60 s by default) for the peer's FIN"
                .to_owned(),
        ),
        TcpState::FinWait2 => words.push(format!(
            "the state is FIN_WAIT2: this side has shut down its half, {} has acknowledged that \
             and hasn't closed its own",
            r.connection.remote
        )),
        TcpState::FinWait1 | TcpState::Closing | TcpState::LastAck => {
            let held = match e.accepted {
                Some(false) => ", and no process has a descriptor any more",
                _ => "",
            };
            words.push(format!(
                "the state is {}: this side has closed{held}; its FIN, which Send-Q counts as one, \
                 isn't acknowledged",
                r.state.name()
            ));
        }
        TcpState::SynSent => words.push(format!(
            "the state is SYN_SENT: {} port {} hasn't answered",
            r.connection.remote.ip(),
            r.connection.remote.port()
        )),
        TcpState::Listen => words.extend(r.listener.as_ref().map(|l| queues(l, true))),
        _ if is_request(r) => {
            words.push(
                "the state is SYN_RECV: the SYN-ACK was sent, and what finishes the handshake \
                 hasn't been taken in"
                    .to_owned(),
            );
            words.extend(r.listener.as_ref().map(|l| queues(l, false)));
        }
        TcpState::Established if e.accepted != Some(false) => {
            if let Some(role) = r.role {
                let way = match role {
                    Role::Server => "the peer connected to this side",
                    Role::Client => "this side connected to the peer",
                };
                words.push(format!("{way}, and neither has closed"));
            }
        }
        _ => {}
    }
    words
}

/// A listener's queues, and what it dropped.
fn queues(l: &Listener, itself: bool) -> String {
    let whose = if itself { "" } else { "its listener: " };
    let waiting = counted(l.queue.into(), "connection waits", "connections wait");
    let mut text = format!("{whose}{waiting} for accept(), {} may", l.limit.saturating_add(1));
    if let Some(n) = l.handshakes {
        let under_way = counted(n.into(), "handshake is", "handshakes are");
        text += &format!("; {under_way} under way, {} may be", l.limit);
    }
    if l.drops > 0 {
        text += &format!("; it has dropped {}", counted(l.drops.into(), "packet", "packets"));
    }
    if let Some(n) = l.cookies.filter(|n| *n > 0) {
        let cookies = counted(n, "SYN cookie", "SYN cookies");
        text += &format!("; {cookies} sent so far in its network namespace");
    }
    text
}

/// What was tried in vain.
pub fn tries(r: &Record) -> Vec<String> {
    let e = &r.evidence;
    let mut words = Vec::new();
    if let Some(n) = e.retransmits.filter(|n| *n > 0) {
        let what = match r.state {
            TcpState::SynSent => "the SYN",
            TcpState::SynRecv | TcpState::NewSynRecv => "the SYN-ACK",
            _ => "the same",
        };
        let times = counted(n.into(), "time", "times");
        words.push(format!("{what} was sent again {times} in a row, unanswered"));
    }
    if let Some(n) = e.probes.filter(|n| *n > 0) {
        let probes = counted(n.into(), "probe is", "probes in a row are");
        words.push(format!("{probes} unanswered"));
    }
    match (e.timer, e.snd_wnd) {
        (Some(Timer::Persist | Timer::Retransmit), Some(0)) if r.state != TcpState::SynSent => {
            words.push(
                "the peer's window is 0: its kernel takes nothing until its program reads"
                    .to_owned(),
            );
        }
        (Some(Timer::Persist), _) => words.push(
            "the kernel has data and can't send any: it asks the peer again and again".to_owned(),
        ),
        _ => {}
    }
    words
}

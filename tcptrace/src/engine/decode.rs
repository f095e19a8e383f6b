//! From the records of the ring buffer and the streams to what they mean.

use std::rc::Rc;

use crate::engine::{
    record::{Age, BootNs, ClosedBy, Connection, IPPROTO_MPTCP, IPPROTO_TCP, Since},
    update::Change,
};
use tcptrace_common::{
    event::{
        ADOPTED, CLOSING, EXITING, HAS_TCP, KIND_DESTROY, KIND_TRANSITION, NO_SOCKET, OPEN,
        Streamed, Transition,
    },
    state::TcpState,
};

/// One record of the ring buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub time: BootNs,
    /// The change; for the end of a socket, both states are the one it ended in.
    pub change: Change,
    /// The kernel freed the socket.
    pub destroyed: bool,
    /// A descriptor led to the socket, or was just being closed.
    pub has_socket: bool,
    /// The connection ended, and its descriptor did not.
    pub ghost: bool,
    /// When the stay in the state before began: not before, not after; 0 where unknown.
    pub since: Since,
    /// A program's call made the change: the task on the CPU is the one that called.
    pub by_call: bool,
    /// That task, where the stay was long enough to ask.
    pub closed_by: Option<ClosedBy>,
    /// What the socket's queues showed at the end of a long stay; `None`: nobody asked, or MPTCP.
    pub queues: Option<Queues>,
    /// The stay began before tracing did.
    pub adopted: bool,
}

/// What a socket's queues showed when its stay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// Bytes received that the program had not read, the FIN counted as one.
    pub recv_q: u32,
    /// Bytes written that the peer had not acknowledged.
    pub send_q: u32,
    /// Data bytes sent during the stay.
    pub bytes_sent: u64,
    /// How long before the end data was sent last, ns.
    pub sent_ago_ns: Option<u64>,
}

/// Decodes a record of the ring buffer; `None` where it makes no sense.
#[must_use]
pub fn transition(t: &Transition) -> Option<Event> {
    let destroyed = match t.kind {
        KIND_TRANSITION => false,
        KIND_DESTROY => true,
        _ => return None,
    };
    let event = change(t, destroyed)?;
    let closes = event.by_call && (t.socket == CLOSING || destroyed);
    let closed_by = (closes && t.comm[0] != 0).then(|| ClosedBy {
        pid: t.pid,
        comm: comm(&t.comm),
        exiting: t.flags & EXITING != 0,
    });
    Some(Event { closed_by, ..event })
}

/// Decodes a record of a stream; `None` where it makes no sense.
#[must_use]
pub fn streamed(s: &Streamed) -> Option<Event> {
    let step = s.step();
    let t = Transition {
        time_ns: s.time_ns,
        cookie: s.cookie,
        earliest_ns: s.since_ns(),
        latest_ns: s.since_ns(),
        tuple: s.tuple,
        pid: step.pid,
        protocol: if step.mptcp { IPPROTO_MPTCP } else { IPPROTO_TCP },
        kind: KIND_TRANSITION,
        socket: step.socket,
        comm: [0; 16],
        old: step.old,
        new: step.new,
        flags: 0,
        pad: [0; 5],
        recv_q: 0,
        send_q: 0,
        bytes_sent: 0,
        sent_ago_ns: u64::MAX,
    };
    change(&t, false)
}

fn change(t: &Transition, destroyed: bool) -> Option<Event> {
    let (old, new) = (TcpState::from_number(t.old)?, TcpState::from_number(t.new)?);
    let stayed = (t.latest_ns != 0).then(|| Age::at(t.time_ns, t.earliest_ns, t.latest_ns));
    let closing = t.socket == CLOSING && !by_packet(old, new);
    let by_call = closing || destroyed && old == TcpState::Close || is_call(old, new);
    Some(Event {
        time: t.time_ns,
        change: Change {
            connection: Connection::new(t.cookie, &t.tuple, t.protocol),
            old,
            new,
            stayed,
            on_cpu_pid: t.pid,
        },
        destroyed,
        has_socket: t.socket != NO_SOCKET,
        ghost: !destroyed && new == TcpState::Close && old != new && t.socket == OPEN,
        since: Since { earliest_ns: t.earliest_ns, latest_ns: t.latest_ns },
        by_call,
        closed_by: None,
        queues: (t.flags & HAS_TCP != 0).then(|| Queues {
            recv_q: t.recv_q,
            send_q: t.send_q,
            bytes_sent: t.bytes_sent,
            sent_ago_ns: (t.sent_ago_ns != u64::MAX).then_some(t.sent_ago_ns),
        }),
        adopted: t.flags & ADOPTED != 0,
    })
}

/// Whether only a program's own call makes such a change: a SYN goes out from connect(), a FIN from
/// close() and shutdown() (tcp_close_state). The task on the CPU is then the one that called.
fn is_call(old: TcpState, new: TcpState) -> bool {
    use TcpState::{Close, CloseWait, Established, FinWait1, LastAck, SynRecv, SynSent};
    matches!(
        (old, new),
        (CloseWait, LastAck) | (Established | SynRecv, FinWait1) | (Close, SynSent)
    )
}

/// Whether the peer's packet makes such a change, or a timer, even while a close() waits for it
/// (SO_LINGER, tcp_close): the task on the CPU is then anybody.
fn by_packet(old: TcpState, new: TcpState) -> bool {
    use TcpState::{Close, Closing, FinWait1, FinWait2, LastAck};
    matches!((old, new), (LastAck | Closing | FinWait1 | FinWait2, Close))
}

/// A kernel command name: up to a NUL, not necessarily UTF-8.
#[must_use]
pub fn comm(bytes: &[u8]) -> Rc<str> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tcptrace_common::event::Step;
    use zerocopy::{FromBytes, FromZeros};

    use super::*;

    fn sample() -> Transition {
        let mut t = Transition::new_zeroed();
        (t.time_ns, t.earliest_ns, t.latest_ns) = (5_000, 1_000, 1_000);
        (t.cookie, t.pid, t.protocol, t.kind) = (7, 42, 6, KIND_TRANSITION);
        (t.old, t.new) = (TcpState::CloseWait as u8, TcpState::LastAck as u8);
        t.comm[..4].copy_from_slice(b"java");
        t.socket = CLOSING;
        t.tuple.laddr = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1];
        t.tuple.raddr = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        (t.tuple.lport, t.tuple.rport) = (8080, 51514);
        t
    }

    #[test]
    fn the_closer_is_named_and_mapped_addresses_are_folded() {
        let event = transition(&sample()).expect("a record");
        assert_eq!(
            event.closed_by,
            Some(ClosedBy { pid: 42, comm: "java".into(), exiting: false })
        );
        assert_eq!(event.change.connection.local.to_string(), "10.0.0.1:8080");
        assert_eq!(event.change.connection.remote.to_string(), "[2001:db8::9]:51514");
        assert_eq!(event.change.stayed, Some(Age { min_ns: 4_000, max_ns: Some(4_000) }));
    }

    #[test]
    fn only_who_closes_is_named_as_closer() {
        let of = |old: TcpState, new: TcpState, socket: u8| {
            let mut t = sample();
            (t.old, t.new, t.socket) = (old as u8, new as u8, socket);
            let event = transition(&t).expect("a record");
            (event.closed_by.is_some(), event.by_call, event.ghost)
        };
        use TcpState::{Close, CloseWait, LastAck, Listen};
        assert_eq!(of(CloseWait, LastAck, CLOSING), (true, true, false));
        assert_eq!(
            of(CloseWait, LastAck, OPEN),
            (false, true, false),
            "shutdown() leaves the descriptor open"
        );
        assert_eq!(of(CloseWait, Close, CLOSING), (true, true, false), "closed with data unread");
        assert_eq!(of(CloseWait, Close, OPEN), (false, false, true), "reset by a packet");
        assert_eq!(of(CloseWait, Close, NO_SOCKET), (false, false, false), "its listener went");
        assert_eq!(
            of(LastAck, Close, NO_SOCKET),
            (false, false, false),
            "the last ACK came by packet"
        );
        assert_eq!(of(LastAck, Close, OPEN), (false, false, true), "shut down, never closed");
        assert_eq!(
            of(LastAck, Close, CLOSING),
            (false, false, false),
            "a close() that lingers: a packet ends it, whoever is on the CPU"
        );
        assert_eq!(of(Listen, Close, CLOSING), (true, true, false));
    }

    #[test]
    fn a_streamed_change_names_nobody() {
        let step = Step {
            stayed_ns: Some(4_000),
            pid: 42,
            mptcp: true,
            socket: OPEN,
            old: TcpState::Established as u8,
            new: TcpState::Close as u8,
        };
        let record = |step| Streamed::new(5_000, 7, sample().tuple, step);
        let s = record(step);
        let event = streamed(&s).expect("a record");
        assert_eq!(event.change.stayed, Some(Age { min_ns: 4_000, max_ns: Some(4_000) }));
        assert!(
            event.change.connection.mptcp
                && event.ghost
                && event.closed_by.is_none()
                && !event.destroyed
        );
        let untimed = record(Step { stayed_ns: None, ..step });
        assert_eq!(streamed(&untimed).expect("a record").change.stayed, None);
        assert_eq!(streamed(&record(Step { old: 15, ..step })), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let spoilers: [fn(&mut Transition); 3] = [|t| t.kind = 9, |t| t.old = 99, |t| t.new = 0];
        for spoil in spoilers {
            let mut t = sample();
            spoil(&mut t);
            assert_eq!(transition(&t), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok((t, _)) = Transition::read_from_prefix(&bytes) {
                let _ = transition(&t);
            }
        }
    }
}

//! From the ring buffer's bytes to what they mean.

use std::rc::Rc;

use tcptrace_common::{
    event::{KIND_DESTROY, KIND_TRANSITION, Transition},
    state::TcpState,
};
use zerocopy::FromBytes;

use super::event::{Age, BootNs, Change, ClosedBy, Connection};

/// One record of the ring buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub time: BootNs,
    /// The change; for the end of a socket, both states are the one it ended in.
    pub change: Change,
    /// The kernel freed the socket.
    pub destroyed: bool,
    /// A `struct socket` was there.
    pub has_socket: bool,
    /// When the stay in the state before began: not before, not after; 0 where unknown.
    pub since: (BootNs, BootNs),
    /// A program's call made the change: the task on the CPU is the one that called.
    pub by_call: bool,
    /// That task, where the stay was long enough to ask.
    pub closed_by: Option<ClosedBy>,
}

/// Both `RCV_SHUTDOWN` and `SEND_SHUTDOWN` (include/net/sock.h).
const SHUTDOWN_MASK: u8 = 3;

/// Decodes a record; `None` where it makes no sense.
#[must_use]
pub fn event(bytes: &[u8]) -> Option<Event> {
    let t = Transition::ref_from_bytes(bytes).ok()?;
    let (old, new) = (TcpState::from_number(t.old)?, TcpState::from_number(t.new)?);
    let destroyed = match t.kind {
        KIND_TRANSITION => false,
        KIND_DESTROY => true,
        _ => return None,
    };
    let stayed = (t.latest_ns != 0).then(|| Age::at(t.time_ns, t.earliest_ns, t.latest_ns));
    let by_call = if destroyed { t.old == TcpState::Close as u8 } else { by_call(old, new, t.shutdown) };
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
        has_socket: t.has_socket != 0,
        since: (t.earliest_ns, t.latest_ns),
        by_call,
        closed_by: (by_call && t.comm[0] != 0).then(|| ClosedBy { pid: t.pid, comm: comm(&t.comm) }),
    })
}

/// Whether a program's own call made the change, so that the task on the CPU is the one that made
/// it. A FIN goes out only from close() and shutdown() (tcp_close_state); a connection goes
/// straight to CLOSE either on a packet's doing or in close(), which has set both shutdown flags
/// by then (tcp_close).
fn by_call(old: TcpState, new: TcpState, shutdown: u8) -> bool {
    use TcpState::{Close, CloseWait, Established, FinWait1, LastAck, SynRecv, SynSent};
    match (old, new) {
        (CloseWait, LastAck) | (Established | SynRecv, FinWait1) | (Close, SynSent) => true,
        (Established | CloseWait | SynSent | SynRecv, Close) => shutdown & SHUTDOWN_MASK == SHUTDOWN_MASK,
        _ => false,
    }
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
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    fn sample() -> Transition {
        let mut t = Transition::new_zeroed();
        (t.time_ns, t.earliest_ns, t.latest_ns) = (5_000, 1_000, 1_000);
        (t.cookie, t.pid, t.protocol, t.kind) = (7, 42, 6, KIND_TRANSITION);
        (t.old, t.new) = (TcpState::CloseWait as u8, TcpState::LastAck as u8);
        t.comm[..4].copy_from_slice(b"java");
        t.tuple.laddr = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1];
        t.tuple.raddr = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        (t.tuple.lport, t.tuple.rport) = (8080, 51514);
        t
    }

    #[test]
    fn the_closer_is_named_and_mapped_addresses_are_folded() {
        let event = event(sample().as_bytes()).expect("a record");
        assert_eq!(event.closed_by, Some(ClosedBy { pid: 42, comm: "java".into() }));
        assert_eq!(event.change.connection.local.to_string(), "10.0.0.1:8080");
        assert_eq!(event.change.connection.remote.to_string(), "[2001:db8::9]:51514");
        assert_eq!(event.change.stayed, Some(Age { min_ns: 4_000, max_ns: Some(4_000) }));
    }

    #[test]
    fn a_reset_has_no_closer_but_a_close_with_unread_data_has() {
        let mut t = sample();
        t.new = TcpState::Close as u8;
        assert_eq!(event(t.as_bytes()).expect("a record").closed_by, None);
        t.shutdown = 3;
        assert!(event(t.as_bytes()).expect("a record").closed_by.is_some());
        (t.old, t.new) = (TcpState::LastAck as u8, TcpState::Close as u8);
        assert_eq!(event(t.as_bytes()).expect("a record").closed_by, None, "the last ACK came by packet");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let spoilers: [fn(&mut Transition); 3] = [|t| t.kind = 9, |t| t.old = 99, |t| t.new = 0];
        for spoil in spoilers {
            let mut t = sample();
            spoil(&mut t);
            assert_eq!(event(t.as_bytes()), None);
        }
        assert_eq!(event(&sample().as_bytes()[1..]), None);
        assert_eq!(event(&[]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = event(&bytes);
        }
    }
}

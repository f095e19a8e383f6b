//! What the programs say of a socket.

use tcptrace_common::{
    event::{HAS_SOCKET, HAS_TCP, KIND_SOCKET, Socket, Tuple},
    state::TcpState,
};
use zerocopy::FromZeros;

use crate::source::simulation::parts::SocketView;

/// Up to 6.12 the socket of LISTEN to SYN_RECV still has its listener's cookie.
pub(super) fn cookie_unless_listener(v: &SocketView, old: TcpState, new: TcpState) -> u64 {
    if old == TcpState::Listen && new == TcpState::SynRecv { 0 } else { v.cookie }
}

pub(super) fn protocol(v: &SocketView) -> u16 {
    if v.mptcp { 262 } else { 6 }
}

pub(super) fn tuple(v: &SocketView) -> Tuple {
    let address = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1];
    Tuple { laddr: address, raddr: address, netns: 1, lport: v.lport, rport: v.rport }
}

/// Everything an iterator reports of a socket; the times of its stay are the caller's.
pub fn describe(v: &SocketView) -> Socket {
    let mut s = Socket::new_zeroed();
    (s.kind, s.state, s.protocol, s.cookie) = (KIND_SOCKET, v.state as u8, protocol(v), v.cookie);
    s.tuple = tuple(v);
    (s.backlog, s.max_backlog) = (v.queue, v.limit);
    if v.has_socket {
        s.flags |= HAS_SOCKET;
        s.inode = 10_000 + v.cookie as u32;
    }
    (s.sent_ago_ns, s.acked_ago_ns, s.received_ago_ns) = (u64::MAX, u64::MAX, u64::MAX);
    if !v.mptcp {
        s.flags |= HAS_TCP;
        (s.recv_q, s.send_q, s.bytes_sent) = (v.recv_q, v.send_q, v.bytes_sent);
        s.snd_una = v.snd_una;
        s.sent_ago_ns = v.sent_ago_ns;
        (s.acked_ago_ns, s.received_ago_ns) = (v.acked_ago_ns, v.received_ago_ns);
    }
    s
}

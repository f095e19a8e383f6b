//! Early rejects. Only what a socket itself shows and what can't change while it lives may be
//! filtered here; holders and cgroups are user space's business.

use tcptrace_common::state::TcpState;

use crate::{
    offsets,
    sock::{AF_INET, Sock},
};

pub const ESTABLISHED: u32 = TcpState::Established as u32;
pub const SYN_SENT: u32 = TcpState::SynSent as u32;
pub const SYN_RECV: u32 = TcpState::SynRecv as u32;
pub const CLOSE: u32 = TcpState::Close as u32;
pub const CLOSE_WAIT: u32 = TcpState::CloseWait as u32;
pub const LISTEN: u32 = TcpState::Listen as u32;

/// Whether state `n` is watched.
#[inline(always)]
pub fn watched(n: u32) -> bool {
    offsets::states() >> (n & 31) & 1 != 0
}

/// Whether the socket is in the namespace that is watched.
#[inline(always)]
pub fn in_netns(sk: Sock) -> bool {
    let netns = offsets::netns();
    netns == 0 || sk.netns() == netns
}

/// Whether the socket passes all filters.
#[inline(always)]
pub fn matches(sk: Sock) -> bool {
    in_netns(sk) && matches_ends(sk, false)
}

/// Whether its ports and family are asked for. `handshake`: they may not be set yet, so only what
/// is known can refuse it.
#[inline(always)]
pub fn matches_ends(sk: Sock, handshake: bool) -> bool {
    let lport = offsets::lport();
    if lport != 0 && refused(sk.lport(), lport, handshake) {
        return false;
    }
    let rport = offsets::rport();
    if rport != 0 && refused(sk.rport(), rport, handshake) {
        return false;
    }
    let family = offsets::family();
    if family != 0 && !handshake {
        let v4 = sk.family() == AF_INET || sk.is_mapped();
        if v4 != (family == 4) {
            return false;
        }
    }
    true
}

#[inline(always)]
fn refused(port: u16, wanted: u32, handshake: bool) -> bool {
    u32::from(port) != wanted && !(handshake && port == 0)
}

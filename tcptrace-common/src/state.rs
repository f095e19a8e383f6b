//! TCP states as the kernel numbers them (`include/net/tcp_states.h`).

/// A TCP state. The numbers are the kernel's and part of its user ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum TcpState {
    /// Data may flow both ways.
    Established = 1,
    /// SYN sent, no answer yet.
    SynSent = 2,
    /// SYN received, handshake not complete.
    SynRecv = 3,
    /// We closed first; our FIN is not acknowledged yet.
    FinWait1 = 4,
    /// We closed first; the peer has not closed.
    FinWait2 = 5,
    /// Both closed, waiting for stray segments. Never seen in `inet_sock_set_state`.
    TimeWait = 6,
    /// No connection. A socket with an open descriptor may still be in it.
    Close = 7,
    /// The peer closed; our side has not.
    CloseWait = 8,
    /// The peer closed first, then we did; our FIN is not acknowledged yet.
    LastAck = 9,
    /// A listening socket.
    Listen = 10,
    /// Both sides closed at once.
    Closing = 11,
    /// A half-open connection without a full socket.
    NewSynRecv = 12,
    /// Bound, not connected: a pseudo-state of sock_diag.
    BoundInactive = 13,
}

impl TcpState {
    /// Every state, in the kernel's order.
    pub const ALL: [Self; 13] = [
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait1,
        Self::FinWait2,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
        Self::NewSynRecv,
        Self::BoundInactive,
    ];

    /// The state with the kernel's number `n`, if there is one.
    #[must_use]
    pub fn from_number(n: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|s| *s as u8 == n)
    }

    /// The state's bit in a mask of states, as sock_diag's `idiag_states` has it: `1 << number`.
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The kernel's spelling, without the `TCP_` prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
            Self::NewSynRecv => "NEW_SYN_RECV",
            Self::BoundInactive => "BOUND_INACTIVE",
        }
    }
}

//! The kernel's timers of a socket.

/// What the kernel's timer of a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// None runs.
    None,
    /// What was sent is sent again, unless it is acknowledged.
    Retransmit,
    /// The peer is asked whether it is there.
    Keepalive,
    /// Nothing can be sent, mostly because the peer's window is shut: it is asked whether it has
    /// opened.
    Persist,
    /// The socket is over, and its ends are not used again yet.
    TimeWait,
}

impl Timer {
    /// As the interface spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Retransmit => "retransmit",
            Self::Keepalive => "keepalive",
            Self::Persist => "persist",
            Self::TimeWait => "time-wait",
        }
    }
}

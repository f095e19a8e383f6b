//! Why a socket sits where it sits, in one word.

use tcptrace_common::state::TcpState;

/// The words are the interface: the same in table, JSON, metrics and documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// The peer gave up while the connection sat in the accept queue.
    NeverAccepted,
    /// Accepted, and bytes wait that nobody came to read.
    UnreadData,
    /// All data read, the end of the stream not.
    UnreadFin,
    /// Read to the end and still open.
    EofNotClosed,
    /// Several processes hold it.
    InheritedFd,
    /// The peer closed one direction and still takes what is sent.
    HalfCloseInUse,
    /// The connection is gone, the descriptor is not.
    GhostFd,
    /// Nobody holds it.
    Orphan,
    /// This side has closed its half, and the peer has not closed its own.
    PeerNotClosed,
    /// This side has closed, and the peer acknowledges neither that nor the data before it.
    FinUnacknowledged,
    /// Nobody answers the SYN.
    NoAnswer,
    /// Whoever sent a SYN does not answer the SYN-ACK.
    HandshakeUnfinished,
    /// A listener has no room for more.
    QueueFull,
    /// The peer acknowledges nothing, though it is asked again and again.
    PeerGone,
    /// The peer answers, and takes no data: its window is shut.
    PeerNotReading,
    /// Silent for long, and nothing would show that the peer is gone.
    IdleNoKeepalive,
    /// TIME_WAIT: this side sent its FIN before it had the peer's.
    ClosedFirst,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 17] = [
        Self::NeverAccepted,
        Self::UnreadData,
        Self::UnreadFin,
        Self::EofNotClosed,
        Self::InheritedFd,
        Self::HalfCloseInUse,
        Self::GhostFd,
        Self::Orphan,
        Self::PeerNotClosed,
        Self::FinUnacknowledged,
        Self::NoAnswer,
        Self::HandshakeUnfinished,
        Self::QueueFull,
        Self::PeerGone,
        Self::PeerNotReading,
        Self::IdleNoKeepalive,
        Self::ClosedFirst,
    ];

    /// As the interface spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NeverAccepted => "never-accepted",
            Self::UnreadData => "unread-data",
            Self::UnreadFin => "unread-fin",
            Self::EofNotClosed => "eof-not-closed",
            Self::InheritedFd => "inherited-fd",
            Self::HalfCloseInUse => "half-close-in-use",
            Self::GhostFd => "ghost-fd",
            Self::Orphan => "orphan",
            Self::PeerNotClosed => "peer-not-closed",
            Self::FinUnacknowledged => "fin-unacknowledged",
            Self::NoAnswer => "no-answer",
            Self::HandshakeUnfinished => "handshake-unfinished",
            Self::QueueFull => "queue-full",
            Self::PeerGone => "peer-gone",
            Self::PeerNotReading => "peer-not-reading",
            Self::IdleNoKeepalive => "idle-no-keepalive",
            Self::ClosedFirst => "closed-first",
        }
    }

    /// Whether it is a program's not having closed.
    #[must_use]
    pub const fn is_leak(self) -> bool {
        matches!(
            self,
            Self::NeverAccepted
                | Self::UnreadData
                | Self::UnreadFin
                | Self::EofNotClosed
                | Self::InheritedFd
                | Self::GhostFd
        )
    }

    /// Whether nothing is wrong: it is what sockets are for, or the kernel's to end.
    #[must_use]
    pub const fn is_normal(self) -> bool {
        matches!(self, Self::HalfCloseInUse | Self::Orphan | Self::ClosedFirst)
    }

    /// The states that it is about: bit `1 << number`.
    #[must_use]
    pub const fn states(self) -> u32 {
        use TcpState::{
            Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv,
            SynSent, TimeWait,
        };
        match self {
            Self::GhostFd => Close.bit(),
            Self::Orphan => CloseWait.bit() | FinWait2.bit(),
            Self::PeerNotClosed => FinWait2.bit(),
            Self::FinUnacknowledged => FinWait1.bit() | Closing.bit() | LastAck.bit(),
            Self::NoAnswer => SynSent.bit(),
            Self::HandshakeUnfinished => SynRecv.bit(),
            Self::QueueFull => Listen.bit() | SynRecv.bit(),
            Self::PeerGone | Self::PeerNotReading | Self::IdleNoKeepalive => Established.bit(),
            Self::ClosedFirst => TimeWait.bit(),
            _ => CloseWait.bit(),
        }
    }

    /// Whether it is one holder's not having closed: what a second holder explains better.
    #[must_use]
    pub const fn is_unclosed(self) -> bool {
        matches!(self, Self::UnreadData | Self::UnreadFin | Self::EofNotClosed)
    }
}

//! Why a socket sits where it sits, in one word.

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
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 8] = [
        Self::NeverAccepted,
        Self::UnreadData,
        Self::UnreadFin,
        Self::EofNotClosed,
        Self::InheritedFd,
        Self::HalfCloseInUse,
        Self::GhostFd,
        Self::Orphan,
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
        }
    }

    /// Whether it is a program's not having closed.
    #[must_use]
    pub const fn is_leak(self) -> bool {
        !matches!(self, Self::HalfCloseInUse | Self::Orphan)
    }

    /// Whether it is one holder's not having closed: what a second holder explains better.
    #[must_use]
    pub const fn is_unclosed(self) -> bool {
        matches!(self, Self::UnreadData | Self::UnreadFin | Self::EofNotClosed)
    }
}

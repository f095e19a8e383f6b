//! What a descriptor is, from what its link in `/proc/PID/fd` says (proc(5)).

use std::{rc::Rc, str::FromStr};

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A socket that accepts connections.
    Listener,
    /// Another socket.
    Socket,
    /// A pipe or FIFO.
    Pipe,
    /// A file or directory.
    File,
    /// A device, terminals included.
    Device,
    /// An epoll instance.
    Epoll,
    /// An eventfd.
    Event,
    /// A timerfd.
    Timer,
    /// An `io_uring` instance.
    Ring,
    /// Something else without a name in the file system.
    Other,
}

impl FromStr for Kind {
    type Err = ();

    /// From [`Kind::name`].
    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or(())
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Listener,
        Self::Socket,
        Self::Pipe,
        Self::File,
        Self::Device,
        Self::Epoll,
        Self::Event,
        Self::Timer,
        Self::Ring,
        Self::Other,
    ];

    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Socket => "socket",
            Self::Pipe => "pipe",
            Self::File => "file",
            Self::Device => "device",
            Self::Epoll => "epoll",
            Self::Event => "eventfd",
            Self::Timer => "timerfd",
            Self::Ring => "io_uring",
            Self::Other => "descriptor",
        }
    }

    /// From what the link in `/proc/PID/fd` points at; whether a socket listens is not told there.
    #[must_use]
    pub fn of_link(target: &str) -> Self {
        match target.split_once(':') {
            Some(("socket", _)) => Self::Socket,
            Some(("pipe", _)) => Self::Pipe,
            Some(("anon_inode", "[eventpoll]")) => Self::Epoll,
            Some(("anon_inode", "[eventfd]")) => Self::Event,
            Some(("anon_inode", "[timerfd]")) => Self::Timer,
            Some(("anon_inode", "[io_uring]")) => Self::Ring,
            _ if target.starts_with("/dev/") => Self::Device,
            _ if target.starts_with('/') => Self::File,
            _ => Self::Other,
        }
    }
}

/// The inode number in `socket:[70091]`.
#[must_use]
pub fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// A descriptor that a thread waits on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// What it is.
    pub kind: Kind,
    /// What its link says: `socket:[INODE]`, a path; may hold anything.
    pub target: Rc<str>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn kinds_of_descriptors() {
        for (target, kind) in [
            ("socket:[70091]", Kind::Socket),
            ("pipe:[1]", Kind::Pipe),
            ("anon_inode:[eventpoll]", Kind::Epoll),
            ("anon_inode:[eventfd]", Kind::Event),
            ("anon_inode:[io_uring]", Kind::Ring),
            ("anon_inode:inotify", Kind::Other),
            ("anon_inode", Kind::Other),
            ("/dev/pts/0", Kind::Device),
            ("/var/a:b (deleted)", Kind::File),
            ("mnt:[4026531841]", Kind::Other),
        ] {
            assert_eq!(Kind::of_link(target), kind, "{target}");
        }
        assert_eq!(socket_inode("socket:[70091]"), Some(70_091));
        assert_eq!(socket_inode("socket:[]").or(socket_inode("pipe:[1]")), None);
    }

    proptest! {
        #[test]
        fn no_target_makes_it_panic(text in "(anon_inode:|/|socket:)?\\PC*") {
            let _ = (Kind::of_link(&text), socket_inode(&text));
        }
    }
}

//! What one thread waits for, and whether it could take connections meanwhile.

use std::net::SocketAddr;

use super::reading::{
    HeldBy, OtherEnd, ReadEntry, ReadList, ReadProcess, ReadWhat, Reading, TcpEnd,
};
use crate::{
    engine::waiting::{On, WaitingThread, WaitsIn},
    formats::{
        descriptor::Kind,
        threads::{ThreadGroup, Waits, Whereabouts},
    },
};

/// What is to happen at a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The other end is to send.
    Reads,
    /// The other end is to take what was sent.
    Writes,
    /// The other end is to accept the connection, or to refuse it.
    Connects,
}

/// What a thread waits for. Text may hold anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The peer of a TCP connection.
    Tcp(Direction, Box<TcpEnd>),
    /// A packet of UDP, from anybody where the remote port is 0.
    Udp {
        /// The local end.
        local: SocketAddr,
        /// The remote end.
        remote: SocketAddr,
    },
    /// The peer of a unix socket.
    Unix {
        /// What is to happen.
        direction: Direction,
        /// Where it, or else its peer, is bound.
        name: Option<String>,
        /// Its other end.
        other: OtherEnd,
    },
    /// The other end of a pipe.
    Pipe {
        /// What is to happen.
        direction: Direction,
        /// Who has that end.
        held: Vec<HeldBy>,
    },
    /// A socket, or a pipe, of which nothing is known, and why.
    Unread(String),
    /// A lock that names the thread which has it.
    Mutex {
        /// That thread.
        owner: u32,
    },
    /// A lock, a condition or a time.
    Futex {
        /// The address of its word.
        address: u64,
    },
    /// A file lock.
    FileLock {
        /// The file.
        path: String,
        /// Who has it, where that is told.
        holder: Option<HeldBy>,
    },
    /// A child process.
    Child(Vec<HeldBy>),
    /// A time that it chose.
    Sleep,
    /// To be continued.
    Continue,
    /// A page of its memory.
    Page,
    /// The file system behind this file; empty: more than one file.
    File(String),
    /// A terminal or another device.
    Device(String),
    /// Another process, by a semaphore or a message queue.
    Process,
    /// Connections to accept.
    Connections,
    /// Something to happen at any of several descriptors.
    Events {
        /// How many those are.
        of: Option<u64>,
        /// Whether a listener is among them.
        listener: Option<bool>,
    },
    /// Input or output that it queued.
    Queued,
    /// Another thread's call, a timer or a signal.
    Woken,
    /// Nothing: it runs.
    Nothing,
    /// Nothing: it is over.
    Over,
    /// Not known: it is in a call that says nothing general, or that could not be read.
    Unknown(String),
}

/// Whether a thread could take a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Takes {
    /// Not before what it waits for has happened.
    Not,
    /// It waits for something that may let it go on to that.
    Maybe,
    /// It waits for connections, or runs, or nothing is known of it.
    Yes,
}

impl Awaited {
    /// What a thread waits for.
    #[must_use]
    pub fn of(
        reading: &Reading,
        process: &ReadProcess,
        thread: &WaitingThread,
        group: &ThreadGroup,
    ) -> Self {
        match group.place {
            Whereabouts::Running => return Self::Nothing,
            Whereabouts::Ended => return Self::Over,
            Whereabouts::Unknown(why) => return Self::Unknown(why.to_owned()),
            Whereabouts::Numbered(n) => return Self::Unknown(format!("in system call {n}")),
            Whereabouts::Stopped => return Self::Continue,
            Whereabouts::Outside => return Self::Page,
            Whereabouts::Call(_) => {}
        }
        let Some(waits) = group.waits else {
            let name = if let Whereabouts::Call(name) = group.place { name } else { "a call" };
            return Self::Unknown(format!("in {name}"));
        };
        let on = |direction| Self::on(reading, process, thread.on.as_ref(), direction);
        let list = process.lists.iter().find(|list| list.tid == thread.tid);
        match waits {
            Waits::Continue => Self::Continue,
            Waits::Page => Self::Page,
            Waits::PeerSends | Waits::PipeFills => on(Direction::Reads),
            Waits::PeerTakes | Waits::PipeDrains | Waits::Linger => on(Direction::Writes),
            Waits::PeerAnswers => on(Direction::Connects),
            Waits::File | Waits::Disk => Self::File(target(thread)),
            Waits::Device => Self::Device(target(thread)),
            Waits::Connections => Self::Connections,
            Waits::Events => Self::events(list),
            Waits::Descriptors => match list {
                Some(ReadList { of: 0, .. }) => Self::Sleep,
                Some(ReadList { of: 1, entries, .. }) if let [entry] = &entries[..] => {
                    Self::at(reading, process, entry)
                }
                list => Self::events(list),
            },
            Waits::Queued => Self::Queued,
            Waits::Woken | Waits::Timer | Waits::Signal | Waits::Interrupted => Self::Woken,
            Waits::Futex => {
                let lock = process.locks.iter().find(|lock| lock.tid == thread.tid);
                let WaitsIn::In { first: address, .. } = thread.call else { return Self::Woken };
                lock.map_or(Self::Futex { address }, |lock| Self::Mutex { owner: lock.owner })
            }
            Waits::Sleep => Self::Sleep,
            Waits::Child => Self::Child(process.children.clone()),
            Waits::Lock => {
                Self::FileLock { path: target(thread), holder: process.file_lock_holder }
            }
            Waits::Process => Self::Process,
        }
    }

    fn events(list: Option<&ReadList>) -> Self {
        Self::Events { of: list.map(|list| list.of), listener: list.map(|list| list.listener) }
    }

    /// At the only descriptor of a list.
    fn at(reading: &Reading, process: &ReadProcess, entry: &ReadEntry) -> Self {
        let direction = if entry.reads { Direction::Reads } else { Direction::Writes };
        let kind = entry.on.as_ref().and_then(|on| on.kind.parse().ok());
        match kind {
            Some(Kind::Listener) => Self::Connections,
            Some(Kind::Socket | Kind::Pipe) => {
                match Self::on(reading, process, entry.on.as_ref(), direction) {
                    // SYN_SENT: it waits until it can write, as poll() tells of a connection.
                    Self::Tcp(Direction::Writes, end) if end.state == 2 => {
                        Self::Tcp(Direction::Connects, end)
                    }
                    other => other,
                }
            }
            Some(Kind::Device) => {
                Self::Device(entry.on.as_ref().map(|on| on.target.clone()).unwrap_or_default())
            }
            Some(Kind::Event | Kind::Timer) => Self::Woken,
            _ => Self::Events { of: Some(1), listener: None },
        }
    }

    /// At a descriptor.
    fn on(reading: &Reading, process: &ReadProcess, on: Option<&On>, direction: Direction) -> Self {
        let Some(on) = on else { return Self::Unread("it was closed meanwhile".to_owned()) };
        match reading.object(&on.target) {
            Some(ReadWhat::Tcp(end)) => Self::Tcp(direction, end.clone()),
            Some(ReadWhat::Udp { local, remote }) => Self::Udp { local: *local, remote: *remote },
            Some(ReadWhat::Unix { name, other, .. }) => {
                Self::Unix { direction, name: name.clone(), other: other.clone() }
            }
            Some(ReadWhat::Pipe { writers, readers }) => {
                let held = if direction == Direction::Reads { writers } else { readers };
                let id = process.id();
                let (own, others): (Vec<_>, Vec<_>) =
                    held.iter().partition(|held| held.pid == id.pid);
                Self::Pipe { direction, held: if others.is_empty() { own } else { others } }
            }
            Some(ReadWhat::Unknown(why)) => Self::Unread(why.clone()),
            None => Self::Unread("it was not read".to_owned()),
        }
    }

    /// How certain it is that this keeps a thread from its work: 0 where it does not, 1 where it
    /// may be what it has to do, 2 where it waits for somebody else.
    #[must_use]
    pub fn weight(&self) -> u8 {
        match self {
            Self::Tcp(..)
            | Self::Udp { .. }
            | Self::Unix { .. }
            | Self::Pipe { .. }
            | Self::Mutex { .. }
            | Self::FileLock { .. }
            | Self::Continue
            | Self::Page
            | Self::File(_)
            | Self::Process => 2,
            Self::Unread(_)
            | Self::Futex { .. }
            | Self::Child(_)
            | Self::Sleep
            | Self::Device(_) => 1,
            Self::Connections
            | Self::Events { .. }
            | Self::Queued
            | Self::Woken
            | Self::Nothing
            | Self::Over
            | Self::Unknown(_) => 0,
        }
    }

    /// Whether a thread that waits for this could take a connection.
    #[must_use]
    pub fn takes(&self) -> Takes {
        match self {
            Self::Connections
            | Self::Queued
            | Self::Nothing
            | Self::Unknown(_)
            | Self::Events { listener: Some(true) | None, .. } => Takes::Yes,
            // Work may be handed to it.
            Self::Futex { .. } | Self::Woken | Self::Events { .. } => Takes::Maybe,
            _ => Takes::Not,
        }
    }

    /// Whether two threads wait for the same, or for the same peer.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            // Those that one listener took have one local end.
            (Self::Tcp(a, x), Self::Tcp(b, y)) => {
                (a, x.netns) == (b, y.netns) && (x.remote == y.remote || x.local == y.local)
            }
            (Self::Udp { remote: x, local: a }, Self::Udp { remote: y, local: b }) => {
                x == y && (x.port() != 0 || a == b)
            }
            (
                Self::Unix { direction: a, name: x, other: p },
                Self::Unix { direction: b, name: y, other: q },
            ) => a == b && if x.is_some() { x == y } else { p.pids() == q.pids() },
            (Self::Pipe { direction: a, held: x }, Self::Pipe { direction: b, held: y }) => {
                a == b && pids(x) == pids(y)
            }
            (Self::Child(_), Self::Child(_)) => true,
            (Self::FileLock { path: x, .. }, Self::FileLock { path: y, .. }) => x == y,
            (a, b) => a == b,
        }
    }

    /// Who has a descriptor for the other end, or else what is waited for, as far as known.
    #[must_use]
    pub fn held(&self) -> &[HeldBy] {
        match self {
            Self::Tcp(_, end) => end.other.held(),
            Self::Unix { other, .. } => other.held(),
            Self::Pipe { held, .. } | Self::Child(held) => held,
            Self::FileLock { holder: Some(holder), .. } => std::slice::from_ref(holder),
            _ => &[],
        }
    }

    /// The remote end of the connection, where it is one of TCP.
    #[must_use]
    pub fn remote(&self) -> Option<SocketAddr> {
        if let Self::Tcp(_, end) = self { Some(end.remote) } else { None }
    }
}

impl OtherEnd {
    /// Who has a descriptor for it, where it is here.
    #[must_use]
    pub fn held(&self) -> &[HeldBy] {
        if let Self::Here { held, .. } = self { held } else { &[] }
    }

    fn pids(&self) -> Vec<u32> {
        pids(self.held())
    }
}

fn pids(held: &[HeldBy]) -> Vec<u32> {
    held.iter().map(|held| held.pid).collect()
}

fn target(thread: &WaitingThread) -> String {
    thread.on.as_ref().map(|on| on.target.clone()).unwrap_or_default()
}

//! What was read of the processes that somebody waits for, at one moment: plain data, as a fact.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::engine::{
    record::{BootNs, ProcessId},
    waiting::{On, Waiting},
};

/// What was read. Text may hold anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// When, ns of the boot clock.
    pub at_ns: BootNs,
    /// How many of the processes were asked about: the first ones. The others were led to.
    pub asked: u64,
    /// The processes.
    pub processes: Vec<ReadProcess>,
    /// What the descriptors are that their threads wait on.
    pub objects: Vec<ReadObject>,
    /// Why not all was followed.
    pub cut: Option<String>,
}

/// A process and what its threads were in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadProcess {
    /// Its threads.
    pub waiting: Waiting,
    /// Its command name.
    pub comm: String,
    /// What people call it, where that is more.
    pub name: Option<String>,
    /// The inode numbers of its listeners; of those that were asked about.
    pub listeners: Vec<u64>,
    /// Its threads that wait for several descriptors, and which those are.
    pub lists: Vec<ReadList>,
    /// Its threads that wait for a lock whose words name an owner.
    pub locks: Vec<ReadLock>,
    /// The process that has the file lock which it waits for.
    pub file_lock_holder: Option<HeldBy>,
    /// Its children, where a thread waits for one.
    pub children: Vec<HeldBy>,
}

impl ReadProcess {
    /// Its name among all processes of this boot.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        ProcessId { pid: self.waiting.pid, start_ns: self.waiting.start_ns }
    }

    /// What people call it; may hold anything.
    #[must_use]
    pub fn called(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.comm)
    }
}

/// What a thread gave to poll(), select() or epoll_wait().
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadList {
    /// The thread.
    pub tid: u32,
    /// The first of the descriptors.
    pub entries: Vec<ReadEntry>,
    /// How many there were.
    pub of: u64,
    /// Whether a listener is among them.
    pub listener: bool,
}

/// A descriptor in such a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadEntry {
    /// Its number.
    pub fd: u32,
    /// What it is; `None`: it was closed meanwhile, or may not be seen.
    pub on: Option<On>,
    /// The thread waits until it can be read.
    pub reads: bool,
    /// The thread waits until it can be written.
    pub writes: bool,
}

/// A lock that names its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadLock {
    /// The thread that waits for it.
    pub tid: u32,
    /// The thread that has it, one of the same process.
    pub owner: u32,
}

/// A process that has a descriptor for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBy {
    /// Its pid.
    pub pid: u32,
    /// When it started, ns of the boot clock.
    pub start_ns: BootNs,
    /// The descriptor.
    pub fd: u32,
}

impl HeldBy {
    /// The process.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        ProcessId { pid: self.pid, start_ns: self.start_ns }
    }
}

/// What a descriptor leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadObject {
    /// Its name: what the link in `/proc/PID/fd` says.
    pub target: String,
    /// What it is.
    pub what: ReadWhat,
}

/// What a descriptor leads to, by kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadWhat {
    /// A TCP connection.
    Tcp(Box<TcpEnd>),
    /// A socket of UDP.
    Udp {
        /// Its local end.
        local: SocketAddr,
        /// Its remote end; a port of 0: it is connected to none.
        remote: SocketAddr,
    },
    /// A unix socket.
    Unix {
        /// Where it, or else its peer, is bound.
        name: Option<String>,
        /// Bytes that wait to be read.
        recv_q: u32,
        /// Its other end.
        other: OtherEnd,
    },
    /// A pipe.
    Pipe {
        /// Who can write into it.
        writers: Vec<HeldBy>,
        /// Who can read from it.
        readers: Vec<HeldBy>,
    },
    /// Not known, and why.
    Unknown(String),
}

/// An end of a TCP connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpEnd {
    /// Its network namespace.
    pub netns: u32,
    /// Its local end.
    pub local: SocketAddr,
    /// Its remote end.
    pub remote: SocketAddr,
    /// The number of its state.
    pub state: u8,
    /// Bytes that the process has not read.
    pub recv_q: u32,
    /// Bytes that the peer has not acknowledged.
    pub send_q: u32,
    /// How long ago data came last, or the connection was opened, ns.
    pub received_ago_ns: Option<u64>,
    /// How long ago data was sent last, or the connection was opened, ns.
    pub sent_ago_ns: Option<u64>,
    /// Why those are not known.
    pub times_unknown: Option<String>,
    /// Its other end.
    pub other: OtherEnd,
}

impl TcpEnd {
    /// For how long it has been open at least, ns: both times begin with the connection.
    #[must_use]
    pub fn open_for_ns(&self) -> Option<u64> {
        self.received_ago_ns.zip(self.sent_ago_ns).map(|(received, sent)| received.max(sent))
    }
}

/// The other end of something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OtherEnd {
    /// No socket of this host is it, by its addresses.
    Elsewhere,
    /// It is on this host.
    Here {
        /// Its state, as TCP numbers them.
        state: u8,
        /// Bytes that wait there to be read.
        recv_q: u32,
        /// A process has accepted it, or opened it; else it waits in a listener's queue, and `held`
        /// are those that have the listener.
        accepted: bool,
        /// Who has a descriptor for it; none: it is in no table that could be read.
        held: Vec<HeldBy>,
    },
    /// Not known, and why.
    Unknown(String),
}

impl Reading {
    /// What is known of a process.
    #[must_use]
    pub fn process(&self, id: ProcessId) -> Option<&ReadProcess> {
        self.processes.iter().find(|p| p.id().is_same(id))
    }

    /// What a descriptor with this target leads to.
    #[must_use]
    pub fn object(&self, target: &str) -> Option<&ReadWhat> {
        self.objects.iter().find(|object| object.target == target).map(|object| &object.what)
    }

    /// Those that were asked about.
    pub fn asked(&self) -> impl Iterator<Item = &ReadProcess> {
        self.processes.iter().take(usize::try_from(self.asked).unwrap_or(usize::MAX))
    }
}

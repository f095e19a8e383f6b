//! A forecast, as it is told.

use std::net::{IpAddr, SocketAddr};

use super::{Between, estimate::Estimate};
use crate::engine::{
    record::{BootNs, Holder, ProcessId},
    report::Count,
    usage::NetnsName,
};

/// Later than this it is not worth a word, ns.
pub const SOON_NS: u64 = 86_400_000_000_000;

/// That something will be full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// What.
    pub what: What,
    /// When, and how fast.
    pub estimate: Estimate,
}

/// What will be full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A process's descriptors: accept() and open() fail with EMFILE then.
    Descriptors {
        /// The process; its descriptor number means nothing here.
        process: Holder,
        /// The sockets among them that were reported.
        sockets: Vec<Count>,
    },
    /// The host's open files (`fs.file-max`): open() fails with ENFILE then.
    FileTable,
    /// The local ports from one address to one end: connect() fails with EADDRNOTAVAIL then.
    Ports {
        /// Where.
        place: NetnsName,
        /// The address here.
        source: IpAddr,
        /// The end there.
        to: SocketAddr,
        /// The connections between them.
        sockets: Vec<Count>,
    },
    /// A listener's accept queue: connections are dropped then.
    AcceptQueue {
        /// Where.
        place: NetnsName,
        /// The listener's end.
        local: SocketAddr,
    },
    /// The table of connection tracking: packets of new connections are dropped then.
    Conntrack {
        /// Where.
        place: NetnsName,
    },
    /// The memory of TCP's buffers, in pages: buffers shrink before then, and connections are
    /// reset.
    Memory,
}

impl What {
    /// What output calls them all.
    pub const NAMES: [&str; 6] =
        ["descriptors", "file-table", "ports", "accept-queue", "conntrack", "memory"];

    /// As output calls it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        Self::NAMES[match self {
            Self::Descriptors { .. } => 0,
            Self::FileTable => 1,
            Self::Ports { .. } => 2,
            Self::AcceptQueue { .. } => 3,
            Self::Conntrack { .. } => 4,
            Self::Memory => 5,
        }]
    }

    /// The network namespace it is of.
    #[must_use]
    pub const fn place(&self) -> Option<NetnsName> {
        match self {
            Self::Ports { place, .. }
            | Self::AcceptQueue { place, .. }
            | Self::Conntrack { place } => Some(*place),
            Self::Descriptors { .. } | Self::FileTable | Self::Memory => None,
        }
    }

    /// The sockets in it, where they are known.
    #[must_use]
    pub fn sockets(&self) -> Option<&[Count]> {
        match self {
            Self::Descriptors { sockets, .. } | Self::Ports { sockets, .. } => Some(sockets),
            _ => None,
        }
    }
}

impl Forecast {
    /// Whether it is of this process.
    #[must_use]
    pub fn of_process(&self, id: ProcessId) -> bool {
        matches!(&self.what, What::Descriptors { process, .. } if process.process.is_same(id))
    }

    /// How long from `now` until it is full, ns.
    #[must_use]
    pub fn left(&self, now: BootNs) -> Between<u64> {
        self.estimate.left(now)
    }
}

//! How much is in use of what may run out, as facts. What could not be read is not in them.

pub mod ports;

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::record::{BootNs, ProcessId};

/// How much is used of how much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InUse {
    /// In use.
    pub used: u64,
    /// There may be so many.
    pub limit: u64,
}

impl InUse {
    /// Where both are known.
    #[must_use]
    pub fn of(used: Option<u64>, limit: Option<u64>) -> Option<Self> {
        Some(Self { used: used?, limit: limit? })
    }
}

/// Descriptors and open files at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Descriptors, of each process that was asked about and is there.
    pub processes: Vec<ProcessUsage>,
    /// Open files of the host, and `fs.file-max` (`/proc/sys/fs/file-nr`).
    pub files: Option<InUse>,
}

/// What a process has in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// Its pid.
    pub pid: u32,
    /// When it started, ns of the boot clock, as it was asked for.
    pub start_ns: BootNs,
    /// Descriptors, and its soft RLIMIT_NOFILE.
    pub descriptors: InUse,
}

impl ProcessUsage {
    /// Its name among all processes of this boot.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        ProcessId { pid: self.pid, start_ns: self.start_ns }
    }
}

/// What TCP has in use at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkUsage {
    /// Pages of buffers, of all network namespaces (`mem` of `/proc/net/sockstat`), and the third
    /// number of `net.ipv4.tcp_mem`.
    pub memory: Option<InUse>,
    /// Network namespaces that are looked at.
    pub places: Vec<PlaceUsage>,
}

/// What a network namespace has in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceUsage {
    /// Which.
    pub place: NetnsName,
    /// Entries of connection tracking (`net.netfilter.nf_conntrack_count` and `_max`).
    pub conntrack: Option<InUse>,
    /// Accept queues in which something waits.
    pub queues: Vec<QueueUsage>,
    /// Ports, by destination: of those that use many. `None`: not counted this time.
    pub ports: Option<Vec<PortsUsage>>,
}

/// A network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetnsName {
    /// Its inode number.
    pub netns: u32,
    /// It is the one that tcptrace runs in.
    pub own: bool,
}

/// An accept queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueUsage {
    /// Where its listener listens.
    pub local: SocketAddr,
    /// Connections in it, and how many fit: one more than the backlog (`sk_acceptq_is_full`,
    /// include/net/sock.h).
    pub queue: InUse,
}

/// Local ports between one address here and one end there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortsUsage {
    /// The address here.
    pub source: IpAddr,
    /// The end there.
    pub to: SocketAddr,
    /// Ports that connect() can't take, and how many there are that nobody listens on.
    pub ports: InUse,
    /// Connections by state number, the most first. Those in TIME_WAIT may not be in the way.
    pub states: Vec<(u8, u64)>,
}

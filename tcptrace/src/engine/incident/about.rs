//! What an incident is made of: where and how it was made, over which time, and its counts.

use std::net::SocketAddr;

use crate::engine::record::{BootNs, Record, Role};

/// Where and how it was made. Text may hold anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The host's name; `None`: unknown, or not to be told.
    pub host: Option<String>,
    /// Kernel release, as `uname -r` has it.
    pub kernel: Option<String>,
    /// Who made it: `tcptrace 0.1.0`.
    pub tool: String,
    /// The command line, word by word.
    pub command: Vec<String>,
    /// What could not be seen, and why, a line each.
    pub missing: Vec<String>,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One scan of what was there.
    Snapshot,
    /// A watch over a time.
    Watch {
        /// Shorter stays were not reported, ns.
        min_age_ns: u64,
        /// The states, bit `1 << number`.
        states: u32,
        /// The kernel counted the stays of these sockets, and of no others.
        counted: bool,
    },
}

/// Why it is not known how many connections there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncounted {
    /// A snapshot sees only what is left.
    Snapshot,
    /// CLOSE_WAIT was not watched.
    OtherStates,
    /// The kernel counts those of all processes, and a part was asked for.
    Part,
    /// No scan brought the counts.
    NoScan,
}

/// The end of a connection that is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LocalEnd {
    /// It came in by a listener that is bound here.
    Listener(SocketAddr),
    /// It came in at this address and port.
    At(SocketAddr),
    /// This host connected.
    Outgoing,
    /// Which side opened it is not known.
    Unknown,
}

impl LocalEnd {
    /// Of a socket's.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        match (record.came_in_by, record.role) {
            (Some(at), _) => Self::Listener(at),
            (None, Some(Role::Server)) => Self::At(record.connection.local),
            (None, Some(Role::Client)) => Self::Outgoing,
            (None, None) => Self::Unknown,
        }
    }
}

/// From when to when, ns of the boot clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From.
    pub from_ns: BootNs,
    /// To.
    pub to_ns: BootNs,
}

impl Span {
    /// How long, ns.
    #[must_use]
    pub fn length_ns(&self) -> u64 {
        self.to_ns - self.from_ns
    }
}

/// Counts of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Passed min-age and matched.
    pub stuck: u64,
    /// Of those: left the state.
    pub resolved: u64,
    /// Of those that are resolved: not ended, but not told of any more.
    pub taken_back: u64,
    /// Still in it.
    pub still_open: u64,
    /// Leaks, by their last verdict.
    pub leaks: u64,
    /// Of those: open.
    pub leaks_open: u64,
}

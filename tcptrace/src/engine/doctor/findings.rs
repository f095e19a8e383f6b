//! Findings: how bad, how certain, what they rest on, and the numbers.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use tcptrace_common::state::TcpState;

use super::NamedProcess;
use crate::engine::{forecast::Between, verdict::Verdict};

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// It costs something, or grows; nothing fails for it.
    Low,
    /// A limit is near, or some connections suffer.
    Medium,
    /// Connections or calls fail now, or are about to.
    High,
}

impl Harm {
    /// All, the least first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// As the interface spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// There are other explanations.
    Possible,
    /// What was seen has hardly another explanation.
    Likely,
    /// It was counted.
    Certain,
}

impl Confidence {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Possible, Self::Likely, Self::Certain];

    /// As the interface spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Possible => "possible",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}

/// What a finding rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// What there is at this moment.
    Now,
    /// What a counter did between the two looks.
    Rate,
}

impl Grounds {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Now, Self::Rate];

    /// As the interface spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::Rate => "rate",
        }
    }
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// What, with its numbers.
    pub ailment: Ailment,
    /// How bad.
    pub harm: Harm,
    /// How sure.
    pub confidence: Confidence,
    /// What it rests on.
    pub basis: Grounds,
    /// The network namespace it is in, where it is in one.
    pub netns: Option<u32>,
    /// The number that decided, and the limit that it was held against.
    pub value: u64,
    /// See there.
    pub limit: Option<u64>,
}

/// What may ail a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// A process does not close what its peers have closed.
    Leaks(ProcessLeaks),
    /// A process has hardly any descriptors left.
    Descriptors(NearLimit),
    /// The host has hardly any open files left.
    FileTable,
    /// The ephemeral ports to one destination are used up.
    Ports(PortsUsed),
    /// TIME_WAIT finds no room.
    TimeWait {
        /// Connections that went without it between the looks.
        without: u64,
    },
    /// A program does not take its connections, or not fast enough.
    AcceptQueue(FullQueue),
    /// Handshakes do not end.
    SynQueue(SynQueue),
    /// Connections that no process has any more.
    Orphans,
    /// TCP's memory.
    Memory {
        /// Above this TCP saves memory, pages.
        pressure: u64,
    },
    /// Connections were reset for want of memory or of room for orphans.
    AbortedForMemory,
    /// Connection tracking has no room.
    Conntrack {
        /// Packets dropped for it between the looks.
        dropped: Option<u64>,
    },
    /// Segments get lost.
    Loss {
        /// Sent between the looks.
        sent: u64,
        /// Timers that ran out between the looks.
        timeouts: u64,
    },
    /// tcp_tw_recycle is on.
    Recycle,
}

impl Ailment {
    /// All names, as the interface spells them.
    pub const NAMES: [&str; 13] = [
        "leaks",
        "descriptors",
        "file-table",
        "ephemeral-ports",
        "time-wait-overflow",
        "accept-queue",
        "syn-queue",
        "orphans",
        "tcp-memory",
        "aborted-for-memory",
        "conntrack",
        "packet-loss",
        "tw-recycle",
    ];

    /// As the interface spells it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        let [leaks, descriptors, files, ports, time_wait, accept, syn, ..] = Self::NAMES;
        let [.., orphans, memory, aborted, conntrack, loss, recycle] = Self::NAMES;
        match self {
            Self::Leaks(_) => leaks,
            Self::Descriptors(_) => descriptors,
            Self::FileTable => files,
            Self::Ports(_) => ports,
            Self::TimeWait { .. } => time_wait,
            Self::AcceptQueue(_) => accept,
            Self::SynQueue(_) => syn,
            Self::Orphans => orphans,
            Self::Memory { .. } => memory,
            Self::AbortedForMemory => aborted,
            Self::Conntrack { .. } => conntrack,
            Self::Loss { .. } => loss,
            Self::Recycle => recycle,
        }
    }

    /// The processes that it is about.
    #[must_use]
    pub fn processes(&self) -> &[NamedProcess] {
        match self {
            Self::Leaks(leaks) => std::slice::from_ref(&leaks.process),
            Self::Descriptors(near) => std::slice::from_ref(&near.process),
            Self::Ports(ports) => &ports.processes,
            Self::AcceptQueue(queue) => &queue.processes,
            Self::SynQueue(queue) => &queue.processes,
            _ => &[],
        }
    }
}

/// A process's leaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessLeaks {
    /// The process.
    pub process: NamedProcess,
    /// What they are.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// The oldest is at least so old, ns.
    pub oldest_ns: u64,
    /// When it has no descriptor left if it goes on like this, ns from now; `None`: no pace shows.
    pub full_in_ns: Option<Between<u64>>,
}

/// A process near its limit of descriptors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearLimit {
    /// The process.
    pub process: NamedProcess,
    /// What it may raise its limit to.
    pub hard: u64,
    /// Its TCP sockets by state.
    pub sockets: BTreeMap<TcpState, u64>,
}

/// The ephemeral ports to one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortsUsed {
    /// From this address.
    pub source: IpAddr,
    /// To this address and port.
    pub destination: SocketAddr,
    /// In use by connections.
    pub open: u64,
    /// In TIME_WAIT.
    pub time_wait: u64,
    /// The range, both ends included.
    pub range: (u16, u16),
    /// Who has connections there.
    pub processes: Vec<NamedProcess>,
}

/// A full accept queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullQueue {
    /// Where it listens.
    pub local: SocketAddr,
    /// Waiting, at the first look and at the second.
    pub queue: (Option<u32>, u32),
    /// Dropped between the looks.
    pub dropped: u64,
    /// Of those that wait: given up by their peers.
    pub given_up: u64,
    /// The limit is as high as net.core.somaxconn lets it be.
    pub at_somaxconn: bool,
    /// Who holds it.
    pub processes: Vec<NamedProcess>,
}

/// A full SYN queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SynQueue {
    /// The listener with most half-open connections, where there are any.
    pub local: Option<SocketAddr>,
    /// Half-open connections of that one.
    pub half_open: u64,
    /// Its limit: the listener's backlog (`inet_csk_reqsk_queue_is_full`).
    pub backlog: u32,
    /// Cookies sent between the looks.
    pub cookies: u64,
    /// Of those: answered.
    pub answered: u64,
    /// SYNs dropped between the looks, because cookies are off.
    pub dropped: u64,
    /// Its accept queue is full, too: accept() is what is slow.
    pub slow_accept: bool,
    /// Who holds the listener.
    pub processes: Vec<NamedProcess>,
}

/// What is no finding, and may be taken for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// Sockets in TIME_WAIT, as it should be.
    TimeWait {
        /// Where.
        netns: u32,
        /// How many.
        count: u64,
        /// How many may be.
        limit: Option<u64>,
    },
    /// Ephemeral ports to the destination that uses most.
    Ports {
        /// Where.
        netns: u32,
        /// The destination.
        used: PortsUsed,
        /// Ports that there are.
        available: u64,
        /// TIME_WAIT is in nobody's way there (tcp_tw_reuse).
        reused: bool,
    },
    /// Counters that rose once, and did not between the looks.
    History {
        /// Where.
        netns: u32,
        /// Names and totals.
        counters: Vec<(&'static str, u64)>,
    },
    /// Leaks that are few, or of which nothing shows that they are old.
    FewLeaks {
        /// How many.
        leaks: u64,
        /// Of how many processes.
        processes: u64,
    },
}

impl Remark {
    /// All names, as the interface spells them.
    pub const NAMES: [&str; 4] = ["time-wait", "ephemeral-ports", "history", "few-leaks"];

    /// As the interface spells it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        let [time_wait, ports, history, leaks] = Self::NAMES;
        match self {
            Self::TimeWait { .. } => time_wait,
            Self::Ports { .. } => ports,
            Self::History { .. } => history,
            Self::FewLeaks { .. } => leaks,
        }
    }

    /// The network namespace that it is about.
    #[must_use]
    pub const fn netns(&self) -> Option<u32> {
        match self {
            Self::TimeWait { netns, .. }
            | Self::Ports { netns, .. }
            | Self::History { netns, .. } => Some(*netns),
            Self::FewLeaks { .. } => None,
        }
    }
}

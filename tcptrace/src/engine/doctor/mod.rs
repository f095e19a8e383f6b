//! What ails a host: what two looks at it found goes in, findings ranked by harm come out. A
//! finding needs evidence of harm, or a limit that is near; what merely looks alarming is a remark.

pub mod findings;
pub mod gather;
pub mod judge;
pub mod ports;
pub mod settings;

use std::{collections::BTreeMap, net::SocketAddr};

use tcptrace_common::state::TcpState;

use self::{
    findings::{Diagnosis, Remark},
    ports::Destination,
    settings::{SettingSeen, SysctlValues},
};
use crate::{
    engine::{
        forecast::{Between, estimate::Estimate},
        record::{BootNs, Holder, ProcessId},
        report::Answer,
        usage::InUse,
        verdict::Verdict,
    },
    formats::cgroup::Cgroups,
};

/// Counters of a network namespace that are looked at, and the group they stand in: TcpExt and
/// IpExt in `/proc/net/netstat`, Tcp in `/proc/net/snmp` (net/ipv4/proc.c).
pub const COUNTERS: &[(&str, &str)] = &[
    ("TcpExt", LISTEN_OVERFLOWS),
    ("TcpExt", LISTEN_DROPS),
    ("TcpExt", COOKIES_SENT),
    ("TcpExt", COOKIES_ANSWERED),
    ("TcpExt", COOKIES_FAILED),
    ("TcpExt", SYN_QUEUE_COOKIES),
    ("TcpExt", SYN_QUEUE_DROPS),
    ("TcpExt", TIME_WAIT_OVERFLOW),
    ("TcpExt", ABORTED_FOR_MEMORY),
    ("TcpExt", MEMORY_PRESSURES),
    ("TcpExt", PRUNED),
    ("TcpExt", TIMEOUTS),
    ("Tcp", SENT),
    ("Tcp", RETRANSMITTED),
];

/// Connections dropped on a full accept queue.
pub const LISTEN_OVERFLOWS: &str = "ListenOverflows";
/// Connection requests that listeners dropped, for whatever reason.
pub const LISTEN_DROPS: &str = "ListenDrops";
/// SYN cookies sent.
pub const COOKIES_SENT: &str = "SyncookiesSent";
/// SYN cookies that came back right.
pub const COOKIES_ANSWERED: &str = "SyncookiesRecv";
/// Acknowledgements that were taken for an answer to a cookie, and were none.
pub const COOKIES_FAILED: &str = "SyncookiesFailed";
/// Times that a SYN queue was full, and a cookie was sent.
pub const SYN_QUEUE_COOKIES: &str = "TCPReqQFullDoCookies";
/// Times that a SYN queue was full, and the SYN dropped.
pub const SYN_QUEUE_DROPS: &str = "TCPReqQFullDrop";
/// Connections that found no room for their TIME_WAIT.
pub const TIME_WAIT_OVERFLOW: &str = "TCPTimeWaitOverflow";
/// Connections reset for want of memory, or of room for orphans.
pub const ABORTED_FOR_MEMORY: &str = "TCPAbortOnMemory";
/// Times that TCP came under memory pressure.
pub const MEMORY_PRESSURES: &str = "TCPMemoryPressures";
/// Times that a socket's receive buffer was full, and its queue was made smaller.
pub const PRUNED: &str = "PruneCalled";
/// Retransmission timers that ran out.
pub const TIMEOUTS: &str = "TCPTimeouts";
/// Segments sent.
pub const SENT: &str = "OutSegs";
/// Of those: once more.
pub const RETRANSMITTED: &str = "RetransSegs";

/// So many hundredths of the whole.
#[must_use]
pub fn percent(part: u64, whole: u64) -> u64 {
    let hundredths = u128::from(part) * 100 / u128::from(whole.max(1));
    u64::try_from(hundredths).unwrap_or(u64::MAX)
}

/// All that was looked at.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    /// The time between the two looks, ns.
    pub apart_ns: u64,
    /// The one process that was asked for.
    pub process: Option<ProcessId>,
    /// What is the whole host's.
    pub host: HostNumbers,
    /// Network namespaces.
    pub namespaces: Vec<NamespaceSeen>,
    /// Processes and their descriptors.
    pub descriptors: Vec<Descriptors>,
    /// Processes with leaks.
    pub leaks: Vec<Leaking>,
    /// What was not looked at.
    pub unseen: Vec<Unseen>,
}

/// What there is once on a host.
#[derive(Clone, Debug)]
pub struct HostNumbers {
    /// The kernel's version, where it is known.
    pub kernel: Option<(u32, u32)>,
    /// Orphans, in all network namespaces (`tcp_orphan_count`).
    pub orphans: Answer,
    /// Pages that TCP uses for its buffers, in all network namespaces.
    pub memory_pages: Answer,
    /// Open files.
    pub files: Answer,
    /// Settings without a network namespace.
    pub settings: SysctlValues,
}

/// Why something is absent that nobody has asked for yet.
const NOT_READ: &str = "not read";

impl Default for HostNumbers {
    fn default() -> Self {
        Self {
            kernel: None,
            orphans: Err(NOT_READ),
            memory_pages: Err(NOT_READ),
            files: Err(NOT_READ),
            settings: SysctlValues::default(),
        }
    }
}

/// One network namespace.
#[derive(Clone, Debug)]
pub struct NamespaceSeen {
    /// Its inode number.
    pub inode: u32,
    /// A file that leads there; may hold anything.
    pub at: String,
    /// Its sockets by state.
    pub states: BTreeMap<TcpState, u64>,
    /// Its connections that are established and have keepalive on; `None`: does not show.
    pub keepalive: u64,
    /// Mini-sockets: TIME_WAIT, and FIN_WAIT2 that nobody holds (sockstat's `tw`).
    pub time_wait: Answer,
    /// Counters at the first look.
    pub before: NetCounters,
    /// Counters at the second.
    pub after: NetCounters,
    /// Listening sockets.
    pub listeners: Vec<ListenerSeen>,
    /// Where it connects to by ephemeral ports, the fullest first.
    pub destinations: Vec<Destination>,
    /// Connection tracking, where there is some.
    pub conntrack: Option<Conntrack>,
    /// Its settings.
    pub settings: SysctlValues,
}

impl Default for NamespaceSeen {
    fn default() -> Self {
        Self {
            inode: 0,
            at: String::new(),
            states: BTreeMap::new(),
            keepalive: 0,
            time_wait: Err(NOT_READ),
            before: NetCounters::default(),
            after: NetCounters::default(),
            listeners: Vec::new(),
            destinations: Vec::new(),
            conntrack: None,
            settings: SysctlValues::default(),
        }
    }
}

impl NamespaceSeen {
    /// How many sockets are in a state.
    #[must_use]
    pub fn count(&self, state: TcpState) -> u64 {
        self.states.get(&state).copied().unwrap_or(0)
    }

    /// By how much a counter rose between the looks.
    #[must_use]
    pub fn rise(&self, name: &str) -> u64 {
        self.after.get(name).saturating_sub(self.before.get(name))
    }
}

/// Counters by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetCounters(pub BTreeMap<&'static str, u64>);

impl NetCounters {
    /// One of them; a kernel that does not count it has counted none.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// A listening socket at two moments.
#[derive(Clone, Debug)]
pub struct ListenerSeen {
    /// Where it listens.
    pub local: SocketAddr,
    /// Connections waiting, at the first look (`None`: it was not there) and at the second.
    pub queue: (Option<u32>, u32),
    /// How many may, but for one more.
    pub limit: u32,
    /// What it dropped between the looks.
    pub dropped: u64,
    /// Connections to it whose handshake is not over: its SYN queue, as far as its port tells.
    pub half_open: u64,
    /// Connections in its queue whose peers gave up long ago.
    pub given_up: u64,
    /// Who holds it.
    pub processes: Vec<NamedProcess>,
}

impl ListenerSeen {
    /// The kernel lets one more in than the limit says (`sk_acceptq_is_full`, include/net/sock.h).
    #[must_use]
    pub fn was_full(&self) -> (bool, bool) {
        let full = |queue: u32| queue > self.limit;
        (self.queue.0.is_some_and(full), full(self.queue.1))
    }
}

/// Connection tracking in a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conntrack {
    /// Connections that are tracked.
    pub count: u64,
    /// How many may be.
    pub max: u64,
    /// Packets dropped for want of room since the first look, where that is counted.
    pub dropped: Option<u64>,
}

/// The descriptors of a process.
#[derive(Clone, Debug)]
pub struct Descriptors {
    /// The process; may be called anything.
    pub process: NamedProcess,
    /// In use.
    pub used: u64,
    /// Its own limit as it runs (soft RLIMIT_NOFILE).
    pub soft: u64,
    /// What it may raise that to itself.
    pub hard: u64,
    /// TCP sockets among them, by state.
    pub sockets: BTreeMap<TcpState, u64>,
}

/// A process and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedProcess {
    /// Pid.
    pub pid: u32,
    /// Command name; may hold anything.
    pub comm: String,
    /// What people call it; may hold anything.
    pub name: String,
    /// Id or name of its container.
    pub container: Option<String>,
}

impl NamedProcess {
    /// Of a holder.
    #[must_use]
    pub fn of(holder: &Holder) -> Self {
        Self {
            pid: holder.process.pid,
            comm: holder.comm.to_string(),
            name: holder.called().to_owned(),
            container: container(holder.cgroups.as_deref()),
        }
    }

    /// Of several, sorted by pid: each once.
    #[must_use]
    pub fn all(holders: &[Holder]) -> Vec<Self> {
        let mut all: Vec<Self> = holders.iter().map(Self::of).collect();
        all.dedup();
        all
    }
}

/// Id or name of the container that a process of these cgroups is in.
#[must_use]
pub fn container(cgroups: Option<&Cgroups>) -> Option<String> {
    cgroups?.container().map(|container| container.id.to_string())
}

/// A process with leaks.
#[derive(Clone, Debug)]
pub struct Leaking {
    /// The process.
    pub process: NamedProcess,
    /// How many leaks it holds that are certainly old enough to count, and ghosts.
    pub leaks: u64,
    /// The oldest is at least so old, ns.
    pub oldest_ns: u64,
    /// What they are.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// How many descriptors it may have.
    pub limit: Option<u64>,
    /// What is certain of the ages of those whose beginning is known, ns.
    pub ages_ns: Vec<u64>,
    /// When it has no descriptor left if it goes on like this, ns from now; `None`: no pace shows.
    pub full_in_ns: Option<Between<u64>>,
}

impl Leaking {
    /// None yet.
    #[must_use]
    pub fn new(process: NamedProcess) -> Self {
        Self {
            process,
            leaks: 0,
            oldest_ns: 0,
            verdicts: BTreeMap::new(),
            limit: None,
            ages_ns: Vec::new(),
            full_in_ns: None,
        }
    }

    /// When it has none left of its descriptors, `in_use` now. What is younger than `min_age_ns` is
    /// not known: the pace is as of then.
    pub fn foretell(&mut self, in_use: Option<InUse>, now: BootNs, min_age_ns: u64) {
        let then = now.saturating_sub(min_age_ns);
        let aged = self.ages_ns.iter().filter_map(|age| age.checked_sub(min_age_ns));
        let full = Estimate::of_leaks(&aged.collect::<Vec<_>>(), then, in_use);
        self.full_in_ns = full.ok().map(|estimate| estimate.left(now));
    }
}

/// Something that was not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// What.
    pub what: String,
    /// Why not.
    pub why: String,
    /// Something may be there that was not found for it: with more rights it would be.
    pub hides: bool,
}

/// What the doctor says.
#[derive(Clone, Debug, Default)]
pub struct Checkup {
    /// The time between the looks, ns.
    pub apart_ns: u64,
    /// Network namespaces that were looked into: their inode numbers, and files that lead there,
    /// which may be called anything.
    pub places: BTreeMap<u32, String>,
    /// Sockets by state, of all of them.
    pub states: BTreeMap<TcpState, u64>,
    /// What was found, the worst first.
    pub findings: Vec<Diagnosis>,
    /// What is no finding, and may be taken for one.
    pub remarks: Vec<Remark>,
    /// Settings, judged.
    pub settings: Vec<SettingSeen>,
    /// A page shows all of them, too.
    pub all_settings: bool,
    /// What was not looked at.
    pub unseen: Vec<Unseen>,
}

#[cfg(test)]
pub(crate) mod tests;

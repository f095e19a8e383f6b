//! The engine's words: sockets, who holds them, and what is said about them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    rc::Rc,
};

use tcptrace_common::{counters::below, event::Tuple, state::TcpState};

use super::{
    census::{Group, Overview},
    cgroup::Cgroups,
    check::{Finding, Offers},
    report::{Explanation, ProcessReport},
    unknown::Unknown,
    verdict::Verdict,
};

/// ns of the boot clock (`CLOCK_BOOTTIME`).
pub type BootNs = u64;

/// One TCP connection's end, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The kernel's name for the socket, unique until reboot; 0: not known.
    pub cookie: u64,
    /// Network namespace (inode number).
    pub netns: u32,
    /// Local end; a mapped IPv4 address is shown as IPv4.
    pub local: SocketAddr,
    /// Remote end.
    pub remote: SocketAddr,
    /// The socket is MPTCP's own.
    pub mptcp: bool,
}

/// uapi/linux/in.h.
pub const IPPROTO_TCP: u16 = 6;
/// The same.
pub const IPPROTO_MPTCP: u16 = 262;

impl Connection {
    /// From what the kernel programs report.
    #[must_use]
    pub fn new(cookie: u64, tuple: &Tuple, protocol: u16) -> Self {
        let end = |addr: [u8; 16], port| SocketAddr::new(canonical(addr), port);
        Self {
            cookie,
            netns: tuple.netns,
            local: end(tuple.laddr, tuple.lport),
            remote: end(tuple.raddr, tuple.rport),
            mptcp: protocol == IPPROTO_MPTCP,
        }
    }

    /// 4 or 6.
    #[must_use]
    pub fn family(&self) -> u8 {
        // A socket that is bound to nothing yet shows its family on one side only.
        if self.local.is_ipv4() && self.remote.is_ipv4() { 4 } else { 6 }
    }
}

fn canonical(addr: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(addr).to_canonical()
}

/// How long a stay has lasted, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// At least this.
    pub min_ns: u64,
    /// At most this; `None`: nothing bounds it.
    pub max_ns: Option<u64>,
}

impl Age {
    /// Of a stay that began in an interval, at `now`. `earliest` 0: unknown.
    #[must_use]
    pub fn at(now: BootNs, earliest: BootNs, latest: BootNs) -> Self {
        Self {
            min_ns: now.saturating_sub(latest),
            max_ns: (earliest != 0).then(|| now.saturating_sub(earliest)),
        }
    }

    /// The beginning was traced.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.max_ns == Some(self.min_ns)
    }
}

/// Which side opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Accepted, or waiting to be.
    Server,
    /// Connected out.
    Client,
}

impl Role {
    /// As the interface spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// A process, told from a later one with its pid by its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessId {
    /// Pid.
    pub pid: u32,
    /// Start, ns of the boot clock; 0: unknown.
    pub start_ns: BootNs,
}

/// A descriptor for a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process.
    pub process: ProcessId,
    /// Its thread, where that has a descriptor table of its own.
    pub tid: Option<u32>,
    /// Parent process.
    pub ppid: u32,
    /// Descriptor number.
    pub fd: u32,
    /// Command name; may hold anything.
    pub comm: Rc<str>,
    /// What is known of its cgroups; `None`: it was gone before anybody could ask.
    pub cgroups: Option<Rc<Cgroups>>,
    /// Its pid in the pid namespace it runs in, where that is not ours: what its own logs and
    /// tools say.
    pub inner_pid: Option<u32>,
    /// Whether this process opened the socket, where known.
    pub opener: Option<bool>,
}

/// Where the holders come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolderSource {
    /// Descriptor tables.
    FdTable,
    /// The connection waits in a queue: its listener's holders.
    Listener,
    /// Nobody holds it, or it was gone before anybody could look.
    None,
    /// A socket is there but in no descriptor table.
    OutsideFdTables,
}

impl HolderSource {
    /// As the interface spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FdTable => "fd-table",
            Self::Listener => "listener",
            Self::None => "none",
            Self::OutsideFdTables => "outside-fd-tables",
        }
    }
}

/// The listener in whose queue a connection waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub local: SocketAddr,
    /// Connections waiting.
    pub queue: u32,
    /// How many may.
    pub limit: u32,
    /// Connections that it dropped so far, most of them because its queue was full.
    pub drops: u32,
    /// Who holds it.
    pub holders: Vec<Holder>,
}

/// What a verdict rests on. `None`: unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Bytes not read, the FIN counted as one.
    pub recv_q: Option<u32>,
    /// Bytes not acknowledged.
    pub send_q: Option<u32>,
    /// A `struct socket` is there: connected or accepted, not orphaned.
    pub accepted: Option<bool>,
    /// Data bytes sent since the stay began.
    pub bytes_sent_since_fin: Option<u64>,
    /// The socket file's inode number.
    pub inode: Option<u64>,
    /// Whether the keepalive timer runs.
    pub keepalive: Option<bool>,
    /// How long before the look data was sent last, ns.
    pub sent_ago_ns: Option<u64>,
    /// How long before the look data came last, ns.
    pub received_ago_ns: Option<u64>,
    /// How long before the look an acknowledgement came last, ns: keepalive's answers too.
    pub acked_ago_ns: Option<u64>,
}

/// All that is said of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The connection.
    pub connection: Connection,
    /// Which side opened it.
    pub role: Option<Role>,
    /// The state it sits in.
    pub state: TcpState,
    /// The stay began not before this; 0: unknown.
    pub earliest_ns: BootNs,
    /// The stay began not after this.
    pub latest_ns: BootNs,
    /// When it was looked at: verdict, evidence and holders are as of then.
    pub seen_ns: BootNs,
    /// Why it sits there.
    pub verdict: Option<Verdict>,
    /// What holds besides.
    pub also: Vec<Verdict>,
    /// What the verdict rests on.
    pub evidence: Evidence,
    /// Who holds it.
    pub holders: Vec<Holder>,
    /// How that is known.
    pub holder_source: HolderSource,
    /// Who held it at an earlier look, and does not any more.
    pub former_holders: Vec<Holder>,
    /// In whose queue it waits.
    pub listener: Option<Listener>,
    /// Where the listener is bound that it came in by, as far as its port tells.
    pub came_in_by: Option<SocketAddr>,
    /// The socket's own cgroup v2, where it could be found.
    pub cgroup: Option<Rc<str>>,
    /// What is null, and why.
    pub unknown: Unknown,
}

impl Record {
    /// Its age at `now`.
    #[must_use]
    pub fn age(&self, now: BootNs) -> Age {
        Age::at(now, self.earliest_ns, self.latest_ns)
    }

    /// Whether it is shown to who did not ask for its verdict: a half-close in use is not.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.verdict != Some(Verdict::HalfCloseInUse)
    }

    /// Whether it counts as a leak: a program that has not closed what is over, or half over. All
    /// other states are the peer's turn, or what sockets are for.
    #[must_use]
    pub fn is_leak(&self) -> bool {
        match self.state {
            TcpState::CloseWait => self.verdict.is_none_or(Verdict::is_leak),
            TcpState::Close => self.verdict == Some(Verdict::GhostFd),
            _ => false,
        }
    }
}

/// The task that ended a stay, where a task did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedBy {
    /// Process.
    pub pid: u32,
    /// Thread name; may hold anything.
    pub comm: Rc<str>,
}

/// A change of state, as streamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The connection; its cookie may be unknown.
    pub connection: Connection,
    /// State before.
    pub old: TcpState,
    /// State after.
    pub new: TcpState,
    /// How long the state before lasted, where it was watched and timed.
    pub stayed: Option<Age>,
    /// Process on the CPU: not an owner.
    pub on_cpu_pid: u32,
}

/// Counts of what could not be seen or shown, all since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Events that found the ring buffer full.
    pub ring_full: u64,
    /// Stays that could not be timed for want of kernel memory.
    pub storage_failed: u64,
    /// Transitions during which the kernel could not run the program.
    pub recursion: u64,
    /// Records that user space could not make sense of.
    pub skipped: u64,
}

impl Lost {
    /// The counts by the names that output uses.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 4] {
        [
            ("ring_full", self.ring_full),
            ("storage_failed", self.storage_failed),
            ("recursion", self.recursion),
            ("skipped", self.skipped),
        ]
    }

    /// All kinds together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.named().iter().map(|(_, n)| n).sum()
    }
}

/// The stays in one state that have ended, and how long half and nearly all of them were, to the
/// power of two above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stays {
    /// The state.
    pub state: TcpState,
    /// How many.
    pub count: u64,
    /// Half were below this, ns; `None`: they were longer than anything that is told apart.
    pub half_below_ns: Option<u64>,
    /// 99 of 100 were below this, ns.
    pub most_below_ns: Option<u64>,
}

impl Stays {
    /// From a histogram's row; `None` where it is empty.
    #[must_use]
    pub fn new(state: TcpState, row: &[u64]) -> Option<Self> {
        let count: u64 = row.iter().sum();
        let quantile = |hundredths: u64| {
            let wanted = (count * hundredths).div_ceil(100);
            let mut sum = 0;
            let slot = row.iter().position(|n| {
                sum += n;
                sum >= wanted
            });
            slot.and_then(below)
        };
        (count > 0).then(|| Self {
            state,
            count,
            half_below_ns: quantile(50),
            most_below_ns: quantile(99),
        })
    }
}

/// The last word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Sockets that passed min-age and matched.
    pub stuck: u64,
    /// Of those: left the state.
    pub resolved: u64,
    /// Of those: still in it.
    pub still_open: u64,
    /// Of those: leaks, by their last verdict.
    pub leaks: u64,
    /// Stuck ones by holder (`comm[pid]`).
    pub by_holder: BTreeMap<String, u64>,
    /// Stuck ones by verdict.
    pub by_verdict: BTreeMap<&'static str, u64>,
    /// Stuck ones by remote address, without the port.
    pub by_remote: BTreeMap<IpAddr, u64>,
    /// How long those stays were that have ended, by state.
    pub stays: Vec<Stays>,
    /// Transitions that reached the program.
    pub seen: u64,
    /// Of those: not wanted.
    pub filtered: u64,
    /// Of those: handed over.
    pub emitted: u64,
    /// What was not seen or shown.
    pub lost: Lost,
}

/// What goes to the sinks.
#[derive(Clone, Debug)]
pub enum Update {
    /// A change of state.
    Transition(Change),
    /// A stay passed min-age, or its age doubled since.
    Stuck(Rc<Record>),
    /// A socket that was reported left the state.
    Resolved {
        /// As last reported.
        record: Rc<Record>,
        /// How long it stayed in all.
        stayed: Age,
        /// By whom it was ended, where a program did it.
        closed_by: Option<ClosedBy>,
        /// Why `closed_by` is unknown.
        unknown: &'static str,
    },
    /// A socket as one look saw it.
    Socket(Rc<Record>),
    /// Sockets that have something in common.
    Group(Box<Group>),
    /// What one look saw in all.
    Overview(Box<Overview>),
    /// What is known of a process.
    Process(Box<ProcessReport>),
    /// Why a socket, or several of a process's, are where they are, and what to do.
    Explanation(Box<Explanation>),
    /// What this host offers in one respect.
    Finding(Box<Finding>),
    /// What works on this host in all.
    Offers(Box<Offers>),
    /// Something could not be seen or shown.
    Lost(Lost),
    /// The end.
    Summary(Box<Summary>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_stays() {
        let stays = |row: &[u64]| {
            Stays::new(TcpState::CloseWait, row)
                .map(|s| (s.count, s.half_below_ns, s.most_below_ns))
        };
        assert_eq!(stays(&[0; 32]), None);
        assert_eq!(stays(&[3]), Some((3, Some(1024), Some(1024))));
        assert_eq!(stays(&[50, 49, 1]), Some((100, Some(1024), Some(2048))));
        assert_eq!(stays(&[1, 0, 0, 1]), Some((2, Some(1024), Some(8192))));
        let mut longest = [0; 32];
        longest[31] = 1;
        assert_eq!(stays(&longest), Some((1, None, None)));
    }
}

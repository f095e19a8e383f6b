//! The engine's words: sockets, who holds them, since when, and what that rests on.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    rc::Rc,
};

use tcptrace_common::{event::Tuple, state::TcpState};

use super::{
    normal::Normal,
    stack::Stack,
    timer::Timer,
    unknown::{Reason, Unknown},
    verdict::Verdict,
};
use crate::formats::cgroup::Cgroups;

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

    /// Its ends as the kernel programs report them.
    #[must_use]
    pub fn tuple(&self) -> Tuple {
        Tuple {
            laddr: mapped(self.local.ip()),
            raddr: mapped(self.remote.ip()),
            netns: self.netns,
            lport: self.local.port(),
            rport: self.remote.port(),
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

/// The other way round: as the kernel programs write addresses.
fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
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

    /// Whether it is more than this, ns; `None`: it may be.
    #[must_use]
    pub fn is_over(&self, ns: u64) -> Option<bool> {
        if self.min_ns >= ns {
            return Some(true);
        }
        self.max_ns.is_some_and(|max| max < ns).then_some(false)
    }

    /// The beginning was traced.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.max_ns == Some(self.min_ns)
    }
}

/// When a stay began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// Not before this; 0: unknown.
    pub earliest_ns: BootNs,
    /// Not after this; 0: unknown.
    pub latest_ns: BootNs,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// Pid.
    pub pid: u32,
    /// Start, ns of the boot clock; 0: unknown.
    pub start_ns: BootNs,
}

impl ProcessId {
    /// Whether two are one process; an unknown start is any.
    #[must_use]
    pub fn is_same(self, other: Self) -> bool {
        let (a, b) = (self.start_ns, other.start_ns);
        self.pid == other.pid && (a == 0 || b == 0 || same_start(a, b))
    }
}

/// Whether two starts are one, as far as `/proc` can tell: there they are clock ticks (1/100 s), in
/// the kernel's structs ns.
#[must_use]
pub fn same_start(a: BootNs, b: BootNs) -> bool {
    const SLACK_NS: u64 = 20_000_000;
    a.abs_diff(b) < SLACK_NS
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
    /// Descriptor number; `None`: no scan saw it.
    pub fd: Option<u32>,
    /// Command name; may hold anything.
    pub comm: Rc<str>,
    /// What people call it, where that is more than its command name; may hold anything.
    pub name: Option<Rc<str>>,
    /// What is known of its cgroups; `None`: it was gone before anybody could ask.
    pub cgroups: Option<Rc<Cgroups>>,
    /// Its pid in the pid namespace it runs in, where that is not ours: what its own logs and
    /// tools say.
    pub inner_pid: Option<u32>,
    /// Whether this process opened the socket, where known.
    pub opener: Option<bool>,
}

impl Holder {
    /// What people call its process; may hold anything.
    #[must_use]
    pub fn called(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.comm)
    }
}

/// Where the holders come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolderSource {
    /// Descriptor tables.
    FdTable,
    /// The connection waits in a queue: its listener's holders.
    Listener,
    /// Nobody holds it, or it was gone before anybody could ask.
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

/// A listener: the one in whose queue a connection waits, or what the record is about.
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
    /// Handshakes under way with it; `None`: nobody counted them.
    pub handshakes: Option<u32>,
    /// SYN cookies that were sent in its network namespace so far, by all listeners; `None`: nobody
    /// asked.
    pub cookies: Option<u64>,
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
    /// How long before the scan data was sent last, ns.
    pub sent_ago_ns: Option<u64>,
    /// How long before the scan data came last, ns.
    pub received_ago_ns: Option<u64>,
    /// How long before the scan an acknowledgement came last, ns: keepalive's answers too.
    pub acked_ago_ns: Option<u64>,
    /// For how long the peer has taken nothing of what was sent, ns; `None`: one scan can't tell.
    pub stalled_ns: Option<u64>,
    /// What the kernel's timer is for.
    pub timer: Option<Timer>,
    /// How often in a row the same was sent again, since nothing acknowledged it: data, a FIN, a
    /// SYN or a SYN-ACK.
    pub retransmits: Option<u8>,
    /// Probes in a row, of keepalive or of a shut window, that the peer did not answer.
    pub probes: Option<u8>,
    /// How much the peer takes beyond what it has acknowledged, bytes.
    pub snd_wnd: Option<u32>,
}

/// How a connection was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opening {
    /// accept() or accept4() returned it.
    Accepted,
    /// connect() was called on it.
    Connected,
}

impl Opening {
    /// As the interface spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accept",
            Self::Connected => "connect",
        }
    }
}

/// A moment in a connection's life, and the thread whose call it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedCall {
    /// When.
    pub at: BootNs,
    /// The thread's process.
    pub process: ProcessId,
    /// What people call the process, as far as known; may hold anything.
    pub called: Option<Rc<str>>,
    /// The thread.
    pub tid: u32,
    /// Its name; may hold anything.
    pub thread: Rc<str>,
    /// Where in its code it was.
    pub stack: Result<Rc<Stack>, Reason>,
}

/// What is known of a connection's life. What is `None` has its reason in the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownOrigin {
    /// How it was opened, and the thread that did.
    pub opened: Option<(Opening, TracedCall)>,
    /// The last read that returned data.
    pub last_read: Option<TracedCall>,
    /// The read that was told that the stream has ended.
    pub end_read: Option<TracedCall>,
}

impl KnownOrigin {
    /// Names of the fields in the interface, as [`Record::unknown`] has them.
    pub const FIELDS: [&str; 3] = ["origin", "last_read", "end_read"];

    /// The calls, in the order of [`Self::FIELDS`].
    #[must_use]
    pub fn calls(&self) -> [Option<&TracedCall>; 3] {
        let opened = self.opened.as_ref().map(|(_, call)| call);
        [opened, self.last_read.as_ref(), self.end_read.as_ref()]
    }
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
    /// When it was scanned: verdict, evidence and holders are as of then.
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
    /// Who held it by an earlier scan, and does not any more.
    pub former_holders: Vec<Holder>,
    /// In whose queue it waits; of a listener, itself.
    pub listener: Option<Listener>,
    /// Where the listener is bound that it came in by, as far as its port tells.
    pub came_in_by: Option<SocketAddr>,
    /// The socket's own cgroup v2, where it could be found.
    pub cgroup: Option<Rc<str>>,
    /// Who opened it and who read from it; `None`: that was not asked for.
    pub origins: Option<Rc<KnownOrigin>>,
    /// How long stays like this last as a rule; `None`: that was not asked for, or is not known.
    pub normal: Option<Normal>,
    /// What is null, and why.
    pub unknown: Unknown,
}

impl Record {
    /// The first holder of each process: one may have several descriptors for it.
    pub fn processes(&self) -> impl Iterator<Item = &Holder> {
        let mut seen = HashSet::new();
        let alone = self.holders.len() == 1;
        self.holders.iter().filter(move |holder| alone || seen.insert(holder.process))
    }

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

    /// Whether there is anything to say of it to who did not ask for its state: a verdict, or that
    /// none can be given of a CLOSE_WAIT. Listeners with room and connections at work are nothing.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.verdict.is_some() || self.state == TcpState::CloseWait
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
    /// It was ending: nobody called close(), the kernel closed what was still open.
    pub exiting: bool,
}

#[cfg(test)]
pub(crate) mod tests;

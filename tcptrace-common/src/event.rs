//! What the kernel programs hand to user space.
//!
//! Times are ns of the boot clock (`bpf_ktime_get_boot_ns`, `CLOCK_BOOTTIME`). A stay began
//! between `earliest_ns` and `latest_ns`; they are equal where the beginning was traced, and
//! `earliest_ns` is 0 where nothing bounds it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Between whom: one socket's ends and its network namespace.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(8))]
pub struct Tuple {
    /// Local address; IPv4 as `::ffff:a.b.c.d`.
    pub laddr: [u8; 16],
    /// Remote address; IPv4 as `::ffff:a.b.c.d`.
    pub raddr: [u8; 16],
    /// Network namespace (inode number).
    pub netns: u32,
    /// Local port, host order.
    pub lport: u16,
    /// Remote port, host order.
    pub rport: u16,
}

/// [`Transition::kind`]: a change of state.
pub const KIND_TRANSITION: u8 = 1;
/// [`Transition::kind`]: the kernel freed the connection (`tcp_destroy_sock`).
pub const KIND_DESTROY: u8 = 2;

/// [`Transition::socket`]: no `struct socket`: in an accept queue, or orphaned.
pub const NO_SOCKET: u8 = 0;
/// [`Transition::socket`]: there, and a descriptor leads to it.
pub const OPEN: u8 = 1;
/// [`Transition::socket`]: the task on the CPU is closing it.
pub const CLOSING: u8 = 2;

/// [`Transition::flags`]: the task on the CPU is ending (PF_EXITING): what it closes, the kernel
/// closes for it. Told by the programs of `tcptrace run`.
pub const EXITING: u8 = 16;

/// A record of the ring buffer.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Transition {
    /// When.
    pub time_ns: u64,
    /// The socket; 0 where asking would have named its listener.
    pub cookie: u64,
    /// The state that was left began not before this; 0: unknown.
    pub earliest_ns: u64,
    /// The state that was left began not after this; 0: not timed.
    pub latest_ns: u64,
    /// Its ends.
    pub tuple: Tuple,
    /// Process on the CPU. It made the change only where the change is a program's doing.
    pub pid: u32,
    /// `IPPROTO_TCP` (6) or `IPPROTO_MPTCP` (262).
    pub protocol: u16,
    /// [`KIND_TRANSITION`] or [`KIND_DESTROY`].
    pub kind: u8,
    /// [`NO_SOCKET`], [`OPEN`] or [`CLOSING`].
    pub socket: u8,
    /// Thread name on the CPU; empty where nobody asked.
    pub comm: [u8; 16],
    /// State before.
    pub old: u8,
    /// State after.
    pub new: u8,
    /// Of the stay that ended: [`HAS_TCP`] where the four numbers below are known, [`ADOPTED`];
    /// of the task on the CPU: [`EXITING`].
    pub flags: u8,
    /// To the alignment of the u64 members.
    pub pad: [u8; 5],
    /// Bytes received that the program had not read, the FIN counted as one.
    pub recv_q: u32,
    /// Bytes written that the peer had not acknowledged.
    pub send_q: u32,
    /// Data bytes sent during the stay (of an adopted one: since it was adopted).
    pub bytes_sent: u64,
    /// How long before the end data was sent last, ns; `u64::MAX`: unknown.
    pub sent_ago_ns: u64,
}

/// A change of state as it streams: a record of one CPU's buffer, a cache line. Whatever it can't
/// say goes through the ring buffer, as a [`Transition`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Streamed {
    /// When.
    pub time_ns: u64,
    /// The socket; 0 where asking would have named its listener.
    pub cookie: u64,
    /// Its ends.
    pub tuple: Tuple,
    /// The rest, see [`Step`].
    pub packed: u64,
}

/// What a [`Streamed`] record says besides time and socket, as fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How long the state that was left lasted, ns, below [`Step::TOO_LONG_NS`]; `None`: not
    /// timed.
    pub stayed_ns: Option<u32>,
    /// Process on the CPU, see [`Transition::pid`].
    pub pid: u32,
    /// Whether the socket is MPTCP's own.
    pub mptcp: bool,
    /// Asked for changes to CLOSE only, else [`NO_SOCKET`]; see [`Transition::socket`].
    pub socket: u8,
    /// State before.
    pub old: u8,
    /// State after.
    pub new: u8,
}

impl Step {
    /// A stay of this length, two seconds, or longer does not fit.
    pub const TOO_LONG_NS: u64 = (1 << STAYED_BITS) - 1;

    /// From the lowest bit: states, socket, MPTCP, pid, length of the stay.
    #[inline(always)]
    const fn pack(self) -> u64 {
        let stayed = match self.stayed_ns {
            Some(ns) => ns as u64,
            None => Self::TOO_LONG_NS,
        };
        (self.old & 15) as u64
            | ((self.new & 15) as u64) << 4
            | ((self.socket & 3) as u64) << 8
            | (self.mptcp as u64) << 10
            | (self.pid as u64 & PID_MASK) << 11
            | stayed << (64 - STAYED_BITS)
    }

    const fn unpack(packed: u64) -> Self {
        let stayed = packed >> (64 - STAYED_BITS);
        Self {
            stayed_ns: if stayed == Self::TOO_LONG_NS { None } else { Some(stayed as u32) },
            pid: (packed >> 11 & PID_MASK) as u32,
            mptcp: packed >> 10 & 1 != 0,
            socket: (packed >> 8 & 3) as u8,
            old: (packed & 15) as u8,
            new: (packed >> 4 & 15) as u8,
        }
    }
}

const STAYED_BITS: u32 = 31;
/// Process ids are below 2^22 (PID_MAX_LIMIT).
const PID_MASK: u64 = (1 << 22) - 1;

impl Streamed {
    /// A record.
    #[must_use]
    #[inline(always)]
    pub const fn new(time_ns: u64, cookie: u64, tuple: Tuple, step: Step) -> Self {
        Self { time_ns, cookie, tuple, packed: step.pack() }
    }

    /// What changed.
    #[must_use]
    pub const fn step(&self) -> Step {
        Step::unpack(self.packed)
    }

    /// When the state that was left began; 0: not timed.
    #[must_use]
    pub fn since_ns(&self) -> u64 {
        self.step().stayed_ns.map_or(0, |stayed| self.time_ns.saturating_sub(stayed.into()))
    }
}

/// [`Socket::kind`] and [`Holding::kind`]: how an iterator's records are told apart.
pub const KIND_SOCKET: u8 = 1;
/// See [`KIND_SOCKET`].
pub const KIND_HOLDING: u32 = 2;

/// See [`KIND_SOCKET`].
pub const KIND_QUEUED: u32 = 3;

/// [`Socket::flags`]: a `struct socket` is there.
pub const HAS_SOCKET: u8 = 1;
/// [`Socket::flags`]: `recv_q`, `send_q` and `bytes_sent` are known.
pub const HAS_TCP: u8 = 2;
/// [`Socket::flags`]: the stay began before tracing did.
pub const ADOPTED: u8 = 4;
/// [`Socket::flags`]: no descriptor led to it; of a slot of the nursery, which knows little.
pub const UNPLACED: u8 = 8;

/// [`Socket::flags`]: the keepalive timer runs.
pub const KEEPALIVE: u8 = 16;
/// [`Socket::flags`]: whether it does is not known.
pub const NO_TIMER: u8 = 32;
/// [`Socket::flags`]: `max_backlog` is not known.
pub const NO_LIMIT: u8 = 64;
/// [`Socket::flags`]: the stay has aged in the nursery and stays there, because the kernel has no
/// memory for socket storage; it comes with each scan that moves stays.
pub const NO_MEMORY: u8 = 128;

/// [`Socket::pending`], less one: the kernel's numbers (include/net/inet_connection_sock.h,
/// `ICSK_TIME_RETRANS` and so on; uapi/linux/inet_diag.h has fewer). No timer runs, or keepalive's.
pub const TIMER_NONE: u8 = 0;
/// See [`TIMER_NONE`]: what was sent is sent again, unless it is acknowledged.
pub const TIMER_RETRANSMIT: u8 = 1;
/// See [`TIMER_NONE`]: nothing can be sent, mostly because the peer's window is shut; it is asked
/// again whether it has opened (the persist timer).
pub const TIMER_PROBE: u8 = 3;
/// See [`TIMER_NONE`], a number of our own: the kernel has replaced the socket by one that only
/// waits (`struct inet_timewait_sock`).
pub const TIMER_TIME_WAIT: u8 = 7;

/// A socket as an iterator or sock_diag saw it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Socket {
    /// [`KIND_SOCKET`].
    pub kind: u8,
    /// What the kernel's timer is for, [`TIMER_NONE`] and so on, plus one. 0: nobody asked, nor for
    /// `retransmits`, `probes` and `snd_wnd`.
    pub pending: u8,
    /// How often in a row the timer ran out and the same was sent again; of a half-open connection
    /// that is the SYN-ACK.
    pub retransmits: u8,
    /// Probes in a row that the peer has not answered.
    pub probes: u8,
    /// Bytes received that the program has not read, the FIN counted as one.
    pub recv_q: u32,
    /// Bytes written that the peer has not acknowledged.
    pub send_q: u32,
    /// Accept queue: connections waiting.
    pub backlog: u32,
    /// Accept queue: limit. Of a connection: its listener's, or 0 for one that we opened.
    pub max_backlog: u32,
    /// State.
    pub state: u8,
    /// [`HAS_SOCKET`], [`HAS_TCP`], [`ADOPTED`], [`UNPLACED`], [`KEEPALIVE`], [`NO_TIMER`],
    /// [`NO_LIMIT`], [`NO_MEMORY`].
    pub flags: u8,
    /// `IPPROTO_TCP` (6) or `IPPROTO_MPTCP` (262).
    pub protocol: u16,
    /// The socket.
    pub cookie: u64,
    /// The stay began not before this; 0: unknown.
    pub earliest_ns: u64,
    /// The stay began not after this.
    pub latest_ns: u64,
    /// Inode number of the socket's file; 0: it has none. (sockfs has no larger ones:
    /// `get_next_ino`.)
    pub inode: u32,
    /// How many bytes beyond what it has acknowledged the peer takes: its window; `u32::MAX`:
    /// unknown.
    pub snd_wnd: u32,
    /// Id of the cgroup v2 the socket was made in; 0: unknown.
    pub cgroup: u64,
    /// Data bytes sent since the stay began (of an adopted one: since it was adopted).
    pub bytes_sent: u64,
    /// How long ago data was sent last, ns.
    pub sent_ago_ns: u64,
    /// How long ago the last acknowledgement came, ns.
    pub acked_ago_ns: u64,
    /// How long ago the last data came, ns.
    pub received_ago_ns: u64,
    /// Of a listener: connections that it dropped, most of them because its queue was full
    /// (`tcp_listendrop`).
    pub drops: u32,
    /// Sequence number of the first byte that the peer has not acknowledged: it moves when the peer
    /// takes something. 0 where nobody asked for it.
    pub snd_una: u32,
    /// Its ends.
    pub tuple: Tuple,
}

/// A descriptor for a socket, as the `task_file` iterator saw it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Holding {
    /// [`KIND_HOLDING`].
    pub kind: u32,
    /// Descriptor number.
    pub fd: u32,
    /// The socket.
    pub cookie: u64,
    /// When the process started: tells it from a later one with its pid.
    pub start_ns: u64,
    /// Id of the process's cgroup v2; 0: unknown.
    pub cgroup: u64,
    /// Process.
    pub pid: u32,
    /// Thread, where it has a descriptor table of its own; else the process.
    pub tid: u32,
    /// Parent process.
    pub ppid: u32,
    /// The socket's [`Socket::max_backlog`].
    pub max_backlog: u32,
    /// The process's command name.
    pub comm: [u8; 16],
}

/// Slots of the nursery: where stays begin, see [`NurserySlot`].
pub const NURSERY_SLOTS: usize = 8192;

/// A stay that has just begun. Most end within microseconds; those that don't move to socket
/// storage, which costs ten times as much to make. Its ends are kept for those that no descriptor
/// leads to.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NurserySlot {
    /// A number that stands for the socket while it exists: taken; 0: free.
    pub sk: u64,
    /// When the stay began; see [`crate::slot`] for what else it may say.
    pub since_ns: u64,
    /// The socket; 0 where asking would have named its listener.
    pub cookie: u64,
    /// `bytes_sent` when the stay began.
    pub sent_before: u64,
    /// Its ends.
    pub tuple: Tuple,
    /// `IPPROTO_TCP` (6) or `IPPROTO_MPTCP` (262).
    pub protocol: u16,
    /// State.
    pub state: u8,
    /// 1 where a `struct socket` was there.
    pub has_socket: u8,
    /// To the alignment of the u64 members.
    pub pad: u32,
}

/// A connection in a listener's accept queue.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Queued {
    /// [`KIND_QUEUED`].
    pub kind: u32,
    /// To the alignment of the u64 members.
    pub pad: u32,
    /// The connection; 0: nobody has asked for its cookie, so nobody asks for it now.
    pub cookie: u64,
    /// The listener.
    pub listener: u64,
}

/// See [`KIND_SOCKET`].
pub const KIND_ORIGIN: u32 = 4;

/// A moment in a connection's life, and the thread whose call it was.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CallMoment {
    /// When; 0: it was not seen, and nothing else is known.
    pub time_ns: u64,
    /// The name of the thread's user stack, see [`UserStack::name`]; 0: not known.
    pub stack: u64,
    /// When the process started: tells it from a later one with its pid.
    pub start_ns: u64,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Thread name.
    pub comm: [u8; 16],
}

/// [`Origin::flags`]: the connection was accepted, by `accept` or `accept4`.
pub const ACCEPTED: u32 = 1;
/// [`Origin::flags`]: the connection was opened: SYN_SENT was entered in the calling thread.
pub const CONNECTED: u32 = 2;

/// Where a connection comes from, and who read from it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Origin {
    /// [`KIND_ORIGIN`].
    pub kind: u32,
    /// [`ACCEPTED`] or [`CONNECTED`]; 0 where [`Self::opened`] was not seen.
    pub flags: u32,
    /// The socket.
    pub cookie: u64,
    /// It was accepted or opened.
    pub opened: CallMoment,
    /// The last read that returned data.
    pub read: CallMoment,
    /// A read was told that the stream has ended (it returned 0).
    pub end: CallMoment,
}

/// Return addresses of a [`UserStack`], at most.
pub const CHAIN: usize = 64;
/// Bytes of a [`UserStack`], at most.
pub const STACK_BYTES: usize = 16 << 10;

/// A thread's user stack in a system call, as it is handed over once for each name.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UserStack {
    /// Its name: a number that stands for the calls that led here. Never 0.
    pub name: u64,
    /// When.
    pub time_ns: u64,
    /// When the process started.
    pub start_ns: u64,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer register, whatever the program uses it for.
    pub fp: u64,
    /// Link register, where the architecture has one; else 0.
    pub lr: u64,
    /// How many of [`Self::chain`] there are.
    pub calls: u32,
    /// How many of [`Self::bytes`] there are.
    pub length: u32,
    /// The instruction pointer, then return addresses by frame pointers, the innermost first. What
    /// code without frame pointers makes of it is anything.
    pub chain: [u64; CHAIN],
    /// Memory from the stack pointer up.
    pub bytes: [u8; STACK_BYTES],
}

const _: () = {
    assert!(size_of::<CallMoment>() == 48);
    assert!(size_of::<Origin>() == 160);
    assert!(size_of::<UserStack>() == 72 + 8 * CHAIN + STACK_BYTES);
    assert!(NURSERY_SLOTS.is_power_of_two());
    assert!(size_of::<NurserySlot>() == 80);
    assert!(size_of::<Streamed>() == 64);
    assert!(size_of::<Tuple>() == 40);
    assert!(size_of::<Transition>() == 128);
    assert!(size_of::<Socket>() == 144);
    assert!(size_of::<Holding>() == 64);
    assert!(size_of::<Queued>() == 24);
};

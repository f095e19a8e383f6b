//! What user space fixes before the kernel programs load. The programs read it from frozen
//! read-only memory, so the verifier knows each value and drops the branches that can't be taken.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Stands for a kernel struct member that this kernel does not have.
pub const MISSING: u32 = u32::MAX;

macro_rules! offsets {
    ($($(#[$doc:meta])* $field:ident = $strukt:literal $path:literal,)*) => {
        /// Byte offsets of the kernel struct members that the programs read, resolved from the
        /// running kernel's BTF. [`MISSING`] where the kernel has no such member.
        #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct Offsets {
            $($(#[$doc])* #[doc = concat!("\n\n`struct ", $strukt, "`, member `", $path, "`.")] pub $field: u32,)*
        }

        impl Offsets {
            /// No member known.
            pub const NONE: Self = Self { $($field: MISSING,)* };

            /// Calls `resolve(struct, member path)` for every offset.
            pub fn resolve(mut resolve: impl FnMut(&'static str, &'static str) -> u32) -> Self {
                Self { $($field: resolve($strukt, $path),)* }
            }

            /// The offsets with the struct and the member path that each stands for.
            #[must_use]
            pub fn named(&self) -> [(&'static str, &'static str, u32); [$($strukt),*].len()] {
                [$(($strukt, $path, self.$field)),*]
            }
        }
    };
}

offsets! {
    /// Address family.
    sk_family = "sock_common" "skc_family",
    /// State number.
    sk_state = "sock_common" "skc_state",
    /// Remote port, network order.
    sk_dport = "sock_common" "skc_dport",
    /// Local port, host order; 0 from the moment the port is given back (inet_put_port), which is
    /// before a change to CLOSE is traced.
    sk_num = "sock_common" "skc_num",
    /// Local port, network order. Stays when the port is given back.
    inet_sport = "inet_sock" "inet_sport",
    /// Remote IPv4 address, network order.
    sk_daddr = "sock_common" "skc_daddr",
    /// Local IPv4 address, network order.
    sk_rcv_saddr = "sock_common" "skc_rcv_saddr",
    /// Remote IPv6 address.
    sk_v6_daddr = "sock_common" "skc_v6_daddr",
    /// Local IPv6 address.
    sk_v6_rcv_saddr = "sock_common" "skc_v6_rcv_saddr",
    /// Network namespace.
    sk_net = "sock_common" "skc_net.net",
    /// Inode number of a network namespace.
    net_inum = "net" "ns.inum",
    /// `IPPROTO_TCP` or `IPPROTO_MPTCP`.
    sk_protocol = "sock" "sk_protocol",
    /// Null while the connection waits in an accept queue, and again once it is orphaned.
    sk_socket = "sock" "sk_socket",
    /// Null while no BPF program has stored anything with this socket.
    sk_bpf_storage = "sock" "sk_bpf_storage",
    /// Length of a listener's accept queue.
    sk_ack_backlog = "sock" "sk_ack_backlog",
    /// Limit of a listener's accept queue. A child is a clone of its listener and keeps it.
    sk_max_ack_backlog = "sock" "sk_max_ack_backlog",
    /// Connections that a listener dropped.
    sk_drops = "sock" "sk_drops",
    /// Null while the socket's own timer does not run: keepalive's, outside LISTEN.
    sk_timer = "sock" "sk_timer.entry.pprev",
    /// The socket's cgroup v2.
    sk_cgroup = "sock" "sk_cgrp_data.cgroup",
    /// The directory of a cgroup.
    cgroup_kn = "cgroup" "kn",
    /// The id of a cgroup: the inode number of its directory.
    kn_id = "kernfs_node" "id",
    /// The file of a `struct socket`.
    socket_file = "socket" "file",
    /// The `struct sock` of a `struct socket`.
    socket_sk = "socket" "sk",
    /// The connection that has waited longest in a listener's accept queue.
    icsk_accept_head = "inet_connection_sock" "icsk_accept_queue.rskq_accept_head",
    /// The next one in the queue.
    req_next = "request_sock" "dl_next",
    /// Its socket.
    req_sk = "request_sock" "sk",
    /// A socket's cookie; 0: nobody has asked for it.
    sk_cookie = "sock_common" "skc_cookie",
    /// References to a file, up to 6.12: 0 while its last one is being closed.
    file_count = "file" "f_count",
    /// The same from 6.13 on (`file_ref_t`): negative while its last one is being closed.
    file_ref = "file" "f_ref.refcnt",
    /// The inode of a file.
    file_inode = "file" "f_inode",
    /// An inode's number.
    inode_ino = "inode" "i_ino",
    /// Next byte expected from the peer.
    tcp_rcv_nxt = "tcp_sock" "rcv_nxt",
    /// Next byte the program has not read.
    tcp_copied_seq = "tcp_sock" "copied_seq",
    /// One after the last byte the program wrote.
    tcp_write_seq = "tcp_sock" "write_seq",
    /// First byte the peer has not acknowledged.
    tcp_snd_una = "tcp_sock" "snd_una",
    /// Data bytes sent, retransmissions included.
    tcp_bytes_sent = "tcp_sock" "bytes_sent",
    /// The peer's window, bytes.
    tcp_snd_wnd = "tcp_sock" "snd_wnd",
    /// What the retransmission timer is used for.
    icsk_pending = "inet_connection_sock" "icsk_pending",
    /// How often in a row it ran out.
    icsk_retransmits = "inet_connection_sock" "icsk_retransmits",
    /// Probes that were not answered.
    icsk_probes_out = "inet_connection_sock" "icsk_probes_out",
    /// When data was sent last, in jiffies.
    tcp_lsndtime = "tcp_sock" "lsndtime",
    /// A subflow of MPTCP: the kernel's socket, below the program's.
    tcp_is_mptcp = "tcp_sock" "is_mptcp",
    /// When the last acknowledgement came, in jiffies.
    tcp_rcv_tstamp = "tcp_sock" "rcv_tstamp",
    /// When the last data came, in jiffies.
    icsk_lrcvtime = "inet_connection_sock" "icsk_ack.lrcvtime",
    /// Process id.
    task_tgid = "task_struct" "tgid",
    /// Thread id.
    task_pid = "task_struct" "pid",
    /// Command name, 16 bytes.
    task_comm = "task_struct" "comm",
    /// The task's PF_ flags.
    task_flags = "task_struct" "flags",
    /// The process's first thread.
    task_leader = "task_struct" "group_leader",
    /// The parent process's task.
    task_real_parent = "task_struct" "real_parent",
    /// When the task started, ns of the boot clock.
    task_start = "task_struct" "start_boottime",
    /// The task's cgroups.
    task_cgroups = "task_struct" "cgroups",
    /// The cgroup v2 of a `css_set`.
    css_set_dfl = "css_set" "dfl_cgrp",
    /// The task's descriptor table.
    task_files = "task_struct" "files",
    /// The table's present array, as it was when the table grew last.
    files_fdt = "files_struct" "fdt",
    /// Files by descriptor number.
    fdt_fd = "fdtable" "fd",
    /// How many there may be.
    fdt_max = "fdtable" "max_fds",
    /// Of a socket's file: its `struct socket`.
    file_private = "file" "private_data",
    /// The task's memory.
    task_mm = "task_struct" "mm",
    /// Where the program's code begins.
    mm_start_code = "mm_struct" "start_code",
    /// Where it ends.
    mm_end_code = "mm_struct" "end_code",
    /// x86-64: instruction pointer.
    regs_ip = "pt_regs" "ip",
    /// Stack pointer.
    regs_sp = "pt_regs" "sp",
    /// x86-64: frame pointer.
    regs_bp = "pt_regs" "bp",
    /// aarch64: instruction pointer.
    regs_pc = "pt_regs" "pc",
    /// aarch64: the general registers: 29 is the frame pointer, 30 the link register.
    regs_all = "pt_regs" "regs",
}

/// What the programs do. Zero means "any" for each of the filters.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Config {
    /// Stays shorter than this, in ns, cost no event.
    pub min_age_ns: u64,
    /// Length of a jiffy in ns.
    pub jiffy_ns: u64,
    /// Watched states: bit `1 << number`.
    pub states: u32,
    /// 1: every transition into or out of a watched state is an event.
    pub transitions: u32,
    /// Only this network namespace (inode number).
    pub netns: u32,
    /// Only this family, 4 or 6; a mapped address counts as 4.
    pub family: u32,
    /// Only this local port, host order.
    pub lport: u32,
    /// Only this remote port, host order.
    pub rport: u32,
    /// 1: stays begin in the nursery. Only where the holders program sees every process of the
    /// host.
    pub nursery: u32,
    /// Records in each CPU's stream, a power of two; 0: what streams goes through the ring buffer.
    pub stream: u32,
    /// 1: the processor may show another one stores in another order than they were made (x86 does
    /// not).
    pub weakly_ordered: u32,
    /// 1: the kernel may run a program while it runs already on that CPU (before 6.1).
    pub nests: u32,
    /// Whose calls are looked at: [`BY_PROCESS`], [`BY_DESCENT`], [`BY_CGROUP`]; 0: everybody's.
    pub origins_of: u32,
    /// 1: origins are kept.
    pub origins: u32,
    /// The cgroups of [`BY_CGROUP`].
    pub cgroups: [Ancestor; CGROUPS],
    /// Where the kernel keeps things.
    pub offsets: Offsets,
}

/// [`Config::origins_of`]: only of the processes that the map `ASKED` has.
pub const BY_PROCESS: u32 = 1;
/// [`Config::origins_of`]: and of their descendants.
pub const BY_DESCENT: u32 = 2;
/// [`Config::origins_of`]: only in these cgroups.
pub const BY_CGROUP: u32 = 4;
/// Cgroups that the programs can ask for.
pub const CGROUPS: usize = 4;

/// A cgroup v2 that tasks may be below.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ancestor {
    /// Its id; 0: none, and no more follow.
    pub id: u64,
    /// How deep it is; the root is at 0.
    pub level: u32,
    /// To the alignment of the u64 members.
    pub pad: u32,
}

impl Config {
    /// Watches nothing.
    pub const NONE: Self = Self {
        min_age_ns: 0,
        jiffy_ns: 0,
        states: 0,
        transitions: 0,
        netns: 0,
        family: 0,
        lport: 0,
        rport: 0,
        nursery: 0,
        stream: 0,
        weakly_ordered: 0,
        nests: 0,
        origins_of: 0,
        origins: 0,
        cgroups: [Ancestor { id: 0, level: 0, pad: 0 }; CGROUPS],
        offsets: Offsets::NONE,
    };
}

/// What user space tells the iterators before each scan.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Control {
    /// The time of the scan, ns of the boot clock.
    pub now_ns: u64,
    /// Younger stays are neither listed nor moved, ns. It may change from scan to scan, but not
    /// below [`Config::min_age_ns`]: ends of what is younger are not told.
    pub min_age_ns: u64,
    /// The number of the scan, from 1. Sockets that a scan reports carry it, and the holders of
    /// just those are then asked for.
    pub scan: u32,
    /// [`SCAN_ALL`], [`ADOPT`], [`ALL_DESCRIPTORS`], [`PROMOTE`].
    pub mode: u32,
}

/// [`Control::mode`]: every live stay is listed, not only those that are due.
pub const SCAN_ALL: u32 = 1;
/// [`Control::mode`]: the holders program gives each matching socket without a stay one.
pub const ADOPT: u32 = 2;
/// [`Control::mode`]: the holders program lists every TCP socket, not only those of this scan.
pub const ALL_DESCRIPTORS: u32 = 4;
/// [`Control::mode`]: the holders program moves aged stays from the nursery to socket storage.
pub const PROMOTE: u32 = 8;

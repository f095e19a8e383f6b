//! Typed reads of kernel structs. Loads go through pointers that the verifier knows the type of:
//! it checks each one against the kernel's BTF, and a load that faults reads 0.

use core::mem::MaybeUninit;

use aya_ebpf::{
    cty::c_void,
    helpers::generated::{
        bpf_get_socket_cookie, bpf_jiffies64, bpf_probe_read_kernel, bpf_skc_to_tcp_sock,
    },
};
use tcptrace_common::event::{
    CLOSING, HAS_SOCKET, HAS_TCP, KEEPALIVE, KIND_SOCKET, NO_SOCKET, NO_TIMER, OPEN, Socket, Tuple,
};

use crate::{
    filter::{LISTEN, SYN_RECV},
    offsets::{self, known, off},
};

pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const IPPROTO_TCP: u16 = 6;
pub const IPPROTO_MPTCP: u16 = 262;
/// Low and high half of `::ffff:0.0.0.0`, as loaded on a little-endian machine.
const MAPPED: (u64, u64) = (0, 0xffff_0000);

/// A pointer to a kernel struct, with the verifier's knowledge of its type.
#[derive(Clone, Copy)]
pub struct Kernel(*mut c_void);

impl Kernel {
    #[inline(always)]
    pub fn new(ptr: *mut c_void) -> Option<Self> {
        (!ptr.is_null()).then_some(Self(ptr))
    }

    /// Reads a member of type `T`.
    #[inline(always)]
    pub fn read<T: Copy>(self, offset: u32) -> T {
        // SAFETY: the verifier refuses the program unless the member lies within the struct.
        unsafe { self.0.byte_add(offset as usize).cast::<T>().read_volatile() }
    }

    /// Follows a member that is a pointer.
    #[inline(always)]
    pub fn follow(self, offset: u32) -> Option<Self> {
        Self::new(self.read(offset))
    }

    /// Where it is.
    #[inline(always)]
    pub fn address(self) -> Address {
        Address(self.0 as u64)
    }
}

/// The address of a kernel struct, for the iterators: reads through it are checked when they are
/// made, and where it can't be read, all is 0. Following typed pointers is cheaper to run and
/// dearer to load: for each of them, on each path, the verifier searches the kernel's types by name
/// (`btf_nested_type_is_trusted`).
///
/// Nothing here branches: a null is read like any address, and gives 0. Each branch would double
/// the paths to what follows, and the verifier of 6.1 takes none of them for another: with a dozen
/// reads, a million instructions are not enough for it.
#[derive(Clone, Copy)]
pub struct Address(u64);

impl Address {
    #[inline(always)]
    pub fn new(address: u64) -> Self {
        Self(address)
    }

    #[inline(always)]
    pub fn number(self) -> u64 {
        self.0
    }

    /// So many bytes further.
    #[inline(always)]
    pub fn at(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// Reads a member of type `T`, a number.
    #[inline(always)]
    pub fn read<T: Copy>(self, offset: u32) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        let from = (self.0 + u64::from(offset)) as *const c_void;
        // SAFETY: the helper takes any address, checks it, and fills all of the value: with zeroes
        // where it fails.
        unsafe {
            bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from);
            value.assume_init()
        }
    }

    /// Follows a member that is a pointer.
    #[inline(always)]
    pub fn follow(self, offset: u32) -> Self {
        Self(self.read(offset))
    }

    #[inline(always)]
    pub fn is_null(self) -> bool {
        self.0 == 0
    }
}

/// A `struct sock` (or `struct sock_common` of a full socket).
#[derive(Clone, Copy)]
pub struct Sock(Kernel);

impl Sock {
    #[inline(always)]
    pub fn new(ptr: *mut c_void) -> Option<Self> {
        Kernel::new(ptr).map(Self)
    }

    #[inline(always)]
    pub fn from_kernel(sk: Kernel) -> Self {
        Self(sk)
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *mut c_void {
        self.0.0
    }

    #[inline(always)]
    pub fn family(self) -> u16 {
        self.0.read(off!(sk_family))
    }

    #[inline(always)]
    pub fn protocol(self) -> u16 {
        self.0.read(off!(sk_protocol))
    }

    #[inline(always)]
    pub fn state(self) -> u8 {
        self.0.read(off!(sk_state))
    }

    /// TCP or MPTCP over IP: what all programs are about.
    #[inline(always)]
    pub fn is_tcp(self) -> bool {
        is_tcp(self.family(), self.protocol())
    }

    /// Whether the program has read all that came, the FIN included. Of MPTCP's own sockets, whose
    /// queues are in their subflows, that is taken to be so.
    #[inline(always)]
    pub fn is_read_up(self) -> bool {
        self.tcp().is_none_or(|tcp| recv_q(tcp) == 0)
    }

    /// Whether any BPF program stored anything with it: cheaper to ask than the storage itself.
    #[inline(always)]
    pub fn has_storage(self) -> bool {
        self.0.read::<u64>(off!(sk_bpf_storage)) != 0
    }

    #[inline(always)]
    pub fn has_socket(self) -> bool {
        self.0.read::<u64>(off!(sk_socket)) != 0
    }

    /// Whether a descriptor leads to it, or just ceases to. close() and shutdown() set the same
    /// flags before they change the state; but while the last descriptor is being closed, its file
    /// has no references left (__fput).
    #[inline(always)]
    pub fn descriptor(self) -> u8 {
        let socket = self.0.address().follow(off!(sk_socket));
        if socket.is_null() {
            return NO_SOCKET;
        }
        let file = socket.follow(off!(socket_file));
        if file.is_null() {
            return OPEN;
        }
        let closing = if known(off!(file_ref)) {
            file.read::<i64>(off!(file_ref)) < 0
        } else {
            known(off!(file_count)) && file.read::<i64>(off!(file_count)) == 0
        };
        if closing { CLOSING } else { OPEN }
    }

    /// Host order.
    #[inline(always)]
    pub fn lport(self) -> u16 {
        match self.0.read(off!(sk_num)) {
            0 => self.tcp().map_or(0, |tcp| u16::from_be(tcp.read(off!(inet_sport)))),
            port => port,
        }
    }

    /// Host order.
    #[inline(always)]
    pub fn rport(self) -> u16 {
        u16::from_be(self.0.read(off!(sk_dport)))
    }

    #[inline(always)]
    pub fn netns(self) -> u32 {
        self.0.follow(off!(sk_net)).map_or(0, |net| net.read(off!(net_inum)))
    }

    /// Whether the remote address is an IPv4 one in IPv6 clothes (RFC 4291, 2.5.5.2).
    #[inline(always)]
    pub fn is_mapped(self) -> bool {
        self.0.read::<u64>(off!(sk_v6_daddr)) == MAPPED.0
            && self.0.read::<u32>(off!(sk_v6_daddr) + 8) == MAPPED.1 as u32
    }

    /// Not to be asked of what may be a listener in its child's place (`LISTEN` to `SYN_RECV`).
    #[inline(always)]
    pub fn cookie(self) -> u64 {
        // SAFETY: the helper takes any socket the verifier vouches for.
        unsafe { bpf_get_socket_cookie(self.as_ptr()) }
    }

    /// The cookie, where asking would not name the listener instead: up to 6.12 the socket of
    /// LISTEN to SYN_RECV is a copy that still has the listener's.
    #[inline(always)]
    pub fn cookie_unless_listener(self, old: u32, new: u32) -> u64 {
        if old == LISTEN && new == SYN_RECV { 0 } else { self.cookie() }
    }

    /// The `struct tcp_sock`; `None` for MPTCP's own sockets.
    #[inline(always)]
    pub fn tcp(self) -> Option<Kernel> {
        // SAFETY: the helper takes any socket the verifier vouches for.
        Kernel::new(unsafe { bpf_skc_to_tcp_sock(self.as_ptr()) }.cast())
    }

    #[inline(always)]
    pub fn tuple_in(self, netns: u32) -> Tuple {
        let (laddr, raddr) = if self.family() == AF_INET {
            (mapped(self.0.read(off!(sk_rcv_saddr))), mapped(self.0.read(off!(sk_daddr))))
        } else {
            (self.v6(off!(sk_v6_rcv_saddr)), self.v6(off!(sk_v6_daddr)))
        };
        Tuple { laddr, raddr, netns, lport: self.lport(), rport: self.rport() }
    }

    #[inline(always)]
    fn v6(self, offset: u32) -> [u8; 16] {
        bytes(self.0.read(offset), self.0.read(offset + 8))
    }

    /// The file's inode number: the file hangs off `struct socket`.
    #[inline(always)]
    fn inode(self) -> u64 {
        let file = self.0.address().follow(off!(sk_socket)).follow(off!(socket_file));
        file.follow(off!(file_inode)).read(off!(inode_ino))
    }

    #[inline(always)]
    fn cgroup(self) -> u64 {
        if !known(off!(sk_cgroup)) {
            return 0;
        }
        cgroup_id(self.0.address().follow(off!(sk_cgroup)))
    }

    #[inline(always)]
    fn keepalive(self) -> u8 {
        if !known(off!(sk_timer)) {
            return NO_TIMER;
        }
        if self.0.address().follow(off!(sk_timer)).is_null() { 0 } else { KEEPALIVE }
    }

    /// Limit of a listener's accept queue; a connection has its listener's, or 0.
    #[inline(always)]
    pub fn max_backlog(self) -> u32 {
        self.0.read(off!(sk_max_ack_backlog))
    }

    /// Everything an iterator reports of a socket, into a record that is all zero; the times are
    /// the caller's. Field by field: what is read ahead of a helper's call waits on the stack
    /// for its place, and the stack is 512 bytes.
    #[inline(always)]
    pub fn describe(self, s: &mut Socket) {
        s.kind = KIND_SOCKET;
        (s.sent_ago_ns, s.acked_ago_ns, s.received_ago_ns) = (u64::MAX, u64::MAX, u64::MAX);
        s.backlog = self.0.read(off!(sk_ack_backlog));
        s.max_backlog = self.max_backlog();
        s.state = self.state();
        s.protocol = self.protocol();
        s.cookie = self.cookie();
        s.inode = self.inode() as u32;
        s.cgroup = self.cgroup();
        if known(off!(sk_drops)) {
            s.drops = self.0.read(off!(sk_drops));
        }
        s.tuple = self.tuple_in(self.0.address().follow(off!(sk_net)).read(off!(net_inum)));
        if !self.0.address().follow(off!(sk_socket)).is_null() {
            s.flags |= HAS_SOCKET;
        }
        if let Some(tcp) = self.tcp() {
            s.flags |= HAS_TCP;
            s.snd_una = tcp.read(off!(tcp_snd_una));
            if known(off!(icsk_pending))
                && known(off!(icsk_retransmits))
                && known(off!(icsk_probes_out))
            {
                s.pending = tcp.read::<u8>(off!(icsk_pending)).wrapping_add(1);
                s.retransmits = tcp.read(off!(icsk_retransmits));
                s.probes = tcp.read(off!(icsk_probes_out));
                s.snd_wnd = tcp.read(off!(tcp_snd_wnd));
            }
            (s.recv_q, s.send_q) = (recv_q(tcp), send_q(tcp));
            s.bytes_sent = tcp.read(off!(tcp_bytes_sent));
            // Without an answer yet there are no times (tcp_connect_init, net/ipv4/tcp_output.c).
            if tcp.read::<u32>(off!(tcp_rcv_tstamp)) != 0 {
                let ago = |stamp| jiffies_since(tcp.read(stamp)) * offsets::jiffy_ns();
                s.sent_ago_ns = ago(off!(tcp_lsndtime));
                s.acked_ago_ns = ago(off!(tcp_rcv_tstamp));
                s.received_ago_ns = ago(off!(icsk_lrcvtime));
            }
        }
        s.flags |= self.keepalive();
    }
}

/// Bytes received that the program has not read, the FIN counted as one.
#[inline(always)]
pub fn recv_q(tcp: Kernel) -> u32 {
    diff(tcp.read(off!(tcp_rcv_nxt)), tcp.read(off!(tcp_copied_seq)))
}

/// Bytes written that the peer has not acknowledged.
#[inline(always)]
pub fn send_q(tcp: Kernel) -> u32 {
    diff(tcp.read(off!(tcp_write_seq)), tcp.read(off!(tcp_snd_una)))
}

/// A subflow of MPTCP: a socket of the kernel's own, below the one that the program holds.
#[inline(always)]
pub fn is_subflow(tcp: Option<Kernel>) -> bool {
    known(off!(tcp_is_mptcp)) && tcp.is_some_and(|tcp| tcp.read::<u8>(off!(tcp_is_mptcp)) != 0)
}

/// Data bytes sent so far, retransmissions included.
#[inline(always)]
pub fn bytes_sent(tcp: Option<Kernel>) -> u64 {
    tcp.map_or(0, |tcp| tcp.read(off!(tcp_bytes_sent)))
}

/// The id of a `struct cgroup`.
#[inline(always)]
pub fn cgroup_id(cgroup: Address) -> u64 {
    cgroup.follow(off!(cgroup_kn)).read(off!(kn_id))
}

/// Jiffies since a 32-bit stamp.
#[inline(always)]
pub fn jiffies_since(stamp: u32) -> u64 {
    // SAFETY: the helper takes no argument.
    u64::from((unsafe { bpf_jiffies64() } as u32).wrapping_sub(stamp))
}

/// Distance of two sequence numbers, 0 where it would be negative (as sock_diag has it).
#[inline(always)]
fn diff(a: u32, b: u32) -> u32 {
    let d = a.wrapping_sub(b);
    if d > i32::MAX as u32 { 0 } else { d }
}

/// TCP or MPTCP over IP, by family and protocol.
#[inline(always)]
pub fn is_tcp(family: u16, protocol: u16) -> bool {
    (family == AF_INET || family == AF_INET6)
        && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP)
}

#[inline(always)]
fn mapped(v4: u32) -> [u8; 16] {
    bytes(MAPPED.0, MAPPED.1 | u64::from(v4) << 32)
}

#[inline(always)]
fn bytes(low: u64, high: u64) -> [u8; 16] {
    // SAFETY: two u64 are 16 plain bytes.
    unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>([low, high]) }
}

//! What sock_diag answers (sock_diag(7), uapi/linux/inet_diag.h), from bytes to sockets.

use tcptrace_common::event::{
    ADOPTED, HAS_SOCKET, HAS_TCP, KEEPALIVE, KIND_SOCKET, NO_LIMIT, NO_TIMER, Socket, TIMER_NONE,
    TIMER_PROBE, TIMER_RETRANSMIT, TIMER_TIME_WAIT, Tuple,
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, network_endian};

use super::netlink::{MAPPED, address, attributes_of, number};

/// `AF_INET` and `AF_INET6`: [`request`] is about one at a time.
pub const FAMILIES: [u8; 2] = [AF_INET, AF_INET6];
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `IPPROTO_TCP`.
pub const TCP: u16 = 6;
/// `IPPROTO_MPTCP`: more than a request's byte holds, it goes as an attribute.
pub const MPTCP: u16 = 262;

const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const INET_DIAG_REQ_PROTOCOL: u16 = 3;

/// Attributes of an answer; those asked for by bit `1 << (type - 1)` of a request's `ext`.
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_SKMEMINFO: u16 = 7;
const INET_DIAG_ULP_INFO: u16 = 19;
const INET_DIAG_CGROUP_ID: u16 = 21;

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    len: u32,
    kind: u16,
    flags: u16,
    seq: u32,
    pid: u32,
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SocketId {
    sport: network_endian::U16,
    dport: network_endian::U16,
    src: [u8; 16],
    dst: [u8; 16],
    interface: u32,
    cookie: [u32; 2],
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Request {
    header: Header,
    family: u8,
    protocol: u8,
    ext: u8,
    pad: u8,
    states: u32,
    id: SocketId,
    attribute_len: u16,
    attribute_kind: u16,
    attribute_value: u32,
}

#[derive(FromBytes)]
#[repr(C)]
struct Answer {
    family: u8,
    state: u8,
    timer: u8,
    retrans: u8,
    id: SocketId,
    expires: u32,
    rqueue: u32,
    wqueue: u32,
    uid: u32,
    inode: u32,
}

/// The request that there was before other protocols had one (`struct inet_diag_req`). All kernels
/// take it, and it is about both families (net/ipv4/inet_diag.c: `inet_diag_dump_compat`).
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct OldRequest {
    header: Header,
    family: u8,
    source_len: u8,
    destination_len: u8,
    ext: u8,
    id: SocketId,
    states: u32,
    tables: u32,
}

const _: () = {
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<OldRequest>() == 16 + 60);
    assert!(size_of::<Request>() == 16 + 56 + 8);
    assert!(size_of::<Answer>() == 72);
};

/// What is asked of each socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing: they are counted.
    Count,
    /// Nothing more than their ends.
    Ends,
    /// Connections: their `tcp_info` and cgroups.
    Connection,
    /// Listeners: what they dropped, and cgroups.
    Listener,
}

impl Detail {
    /// A request's `ext`.
    const fn ext(self) -> u8 {
        match self {
            Self::Count | Self::Ends => 0,
            Self::Connection => 1 << (INET_DIAG_INFO - 1),
            Self::Listener => 1 << (INET_DIAG_SKMEMINFO - 1),
        }
    }
}

const fn header(len: usize, kind: u16, flags: u16) -> Header {
    Header { len: len as u32, kind, flags: NLM_F_REQUEST | flags, seq: 0, pid: 0 }
}

/// A request for all TCP sockets of both families in the given states (bit `1 << number`): the
/// kernel goes through its tables once.
#[must_use]
pub fn request_tcp(states: u32, detail: Detail) -> Vec<u8> {
    let request = OldRequest {
        header: header(size_of::<OldRequest>(), TCPDIAG_GETSOCK, NLM_F_DUMP),
        family: 0,
        source_len: 0,
        destination_len: 0,
        ext: detail.ext(),
        id: SocketId::new_zeroed(),
        states,
        tables: 0,
    };
    request.as_bytes().to_vec()
}

/// A request for all sockets of a family in the given states (bit `1 << number`).
#[must_use]
pub fn request(family: u8, protocol: u16, states: u32, detail: Detail) -> Vec<u8> {
    let header = header(size_of::<Request>(), SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
    asking(header, family, protocol, states, detail, SocketId::new_zeroed())
}

/// A request for one TCP connection by its ends and cookie; `interface`: what it is bound to, or 0.
/// The answer is one message, or that there is none: `ENOENT`, or `ESTALE` where another socket has
/// these ends now.
#[must_use]
pub fn request_one(socket: &Socket, interface: u32) -> Vec<u8> {
    let header = header(size_of::<Request>(), SOCK_DIAG_BY_FAMILY, 0);
    about(header, socket, interface)
}

/// A request to end one TCP connection (SOCK_DESTROY, Linux 4.5, CONFIG_INET_DIAG_DESTROY). The
/// kernel finds it by its ends, compares the cookie, and only then destroys it
/// (net/ipv4/tcp_diag.c: `tcp_diag_destroy`; before 6.18 net/ipv4/inet_diag.c:
/// `inet_diag_find_one_icsk`): another socket that has these ends now is left alone. The answer is
/// an [`acknowledgement`]: `ENOENT` or `ESTALE` where it is gone, `EPERM` without CAP_NET_ADMIN
/// over its network namespace (net/core/sock_diag.c: `sock_diag_destroy`), `EOPNOTSUPP` of a kernel
/// that was built without it.
#[must_use]
pub fn request_destroy(socket: &Socket, interface: u32) -> Vec<u8> {
    about(header(size_of::<Request>(), SOCK_DESTROY, NLM_F_ACK), socket, interface)
}

/// What the kernel says of a request that has no other answer: that it was done, or an errno; 0 for
/// an answer that makes no sense.
///
/// # Errors
/// The errno.
pub fn acknowledgement(bytes: &[u8]) -> Result<(), i32> {
    let (header, body) = Header::read_from_prefix(bytes).map_err(|_| 0)?;
    match i32::read_from_prefix(body) {
        Ok((0, _)) if header.kind == NLMSG_ERROR => Ok(()),
        Ok((errno @ ..0, _)) if header.kind == NLMSG_ERROR => Err(errno.saturating_neg()),
        _ => Err(0),
    }
}

/// A request about one TCP connection.
fn about(header: Header, socket: &Socket, interface: u32) -> Vec<u8> {
    let Tuple { laddr, raddr, lport, rport, .. } = socket.tuple;
    let mapped = |address: [u8; 16]| address.starts_with(&MAPPED);
    let v4 = mapped(laddr) && mapped(raddr);
    let address = |address: [u8; 16]| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&address[12..]);
        if v4 { bytes } else { address }
    };
    let id = SocketId {
        sport: lport.into(),
        dport: rport.into(),
        src: address(laddr),
        dst: address(raddr),
        interface,
        cookie: [socket.cookie as u32, (socket.cookie >> 32) as u32],
    };
    asking(header, if v4 { AF_INET } else { AF_INET6 }, TCP, u32::MAX, Detail::Connection, id)
}

fn asking(
    header: Header,
    family: u8,
    protocol: u16,
    states: u32,
    detail: Detail,
    id: SocketId,
) -> Vec<u8> {
    let request = Request {
        header,
        family,
        protocol: protocol.to_le_bytes()[0],
        ext: detail.ext(),
        pad: 0,
        states,
        id,
        attribute_len: 8,
        attribute_kind: INET_DIAG_REQ_PROTOCOL,
        attribute_value: u32::from(protocol),
    };
    request.as_bytes().to_vec()
}

/// What a dump of one namespace has answered so far.
#[derive(Debug)]
pub struct Dump {
    netns: u32,
    /// The protocol that is asked for.
    pub protocol: u16,
    detail: Detail,
    /// The sockets, where details were asked for.
    pub sockets: Vec<Socket>,
    /// How many of each state, by its number.
    pub states: [u64; 16],
    /// The interfaces of those that are bound to one, by cookie.
    pub bound: Vec<(u64, u32)>,
    /// Messages that nobody could make sense of.
    pub skipped: u64,
}

impl Dump {
    /// An empty one.
    #[must_use]
    pub fn new(netns: u32, protocol: u16, detail: Detail) -> Self {
        Self {
            netns,
            protocol,
            detail,
            sockets: Vec::new(),
            states: [0; 16],
            bound: Vec::new(),
            skipped: 0,
        }
    }

    /// Takes in what one read returned at `now`. True: it was the last.
    ///
    /// # Errors
    /// The errno that the kernel answered.
    pub fn take(&mut self, mut bytes: &[u8], now: u64) -> Result<bool, i32> {
        while let Ok((header, _)) = Header::read_from_prefix(bytes) {
            let len = header.len as usize;
            let Some(body) = bytes.get(size_of::<Header>()..len) else { break };
            match header.kind {
                NLMSG_DONE => return Ok(true),
                // A negative errno; 0 would acknowledge what we did not ask to be acknowledged.
                NLMSG_ERROR if let Ok((errno @ ..0, _)) = i32::read_from_prefix(body) => {
                    return Err(errno.saturating_neg());
                }
                SOCK_DIAG_BY_FAMILY | TCPDIAG_GETSOCK => self.answer(body, now),
                _ => self.skipped += 1,
            }
            bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        self.skipped += u64::from(!bytes.is_empty());
        Ok(false)
    }

    fn answer(&mut self, body: &[u8], now: u64) {
        let Ok((answer, attributes)) = Answer::read_from_prefix(body) else {
            self.skipped += 1;
            return;
        };
        if let Some(count) = self.states.get_mut(usize::from(answer.state)) {
            *count += 1;
        }
        if self.detail != Detail::Count
            && let Some(socket) = socket(&answer, attributes, self.netns, self.protocol, now)
        {
            if answer.id.interface != 0 {
                self.bound.push((socket.cookie, answer.id.interface));
            }
            self.sockets.push(socket);
        }
    }
}

/// `None` for a subflow of MPTCP: a socket of the kernel's own.
fn socket(
    answer: &Answer,
    attributes: &[u8],
    netns: u32,
    protocol: u16,
    now: u64,
) -> Option<Socket> {
    const LISTEN: u8 = 10;
    let id = &answer.id;
    let v4 = answer.family == AF_INET;
    let mut s = Socket::new_zeroed();
    s.kind = KIND_SOCKET;
    s.state = answer.state;
    s.protocol = protocol;
    s.flags = ADOPTED | NO_LIMIT | if answer.inode != 0 { HAS_SOCKET } else { 0 };
    s.cookie = u64::from(id.cookie[0]) | u64::from(id.cookie[1]) << 32;
    s.inode = answer.inode;
    s.tuple = Tuple {
        laddr: address(id.src, v4),
        raddr: address(id.dst, v4),
        netns,
        lport: id.sport.get(),
        rport: id.dport.get(),
    };
    (s.latest_ns, s.sent_ago_ns, s.acked_ago_ns, s.received_ago_ns) =
        (now, u64::MAX, u64::MAX, u64::MAX);
    s.snd_wnd = u32::MAX;
    if answer.state == LISTEN {
        // inet_diag fills a listener's queue and limit in there (tcp_diag_get_info).
        (s.backlog, s.max_backlog) = (answer.rqueue, answer.wqueue);
    } else if protocol == TCP {
        s.flags |= HAS_TCP;
        (s.recv_q, s.send_q) = (answer.rqueue, answer.wqueue);
    }
    timers(answer, protocol, &mut s, now);
    for (kind, value) in attributes_of(attributes) {
        match kind {
            INET_DIAG_INFO if protocol == TCP => tcp_info(value, &mut s, now),
            INET_DIAG_CGROUP_ID => s.cgroup = u64::read_from_prefix(value).map_or(0, |(id, _)| id),
            // SK_MEMINFO_DROPS is the ninth number.
            INET_DIAG_SKMEMINFO => s.drops = number(value, 8 * 4).unwrap_or(0),
            INET_DIAG_ULP_INFO if is_subflow(value) => return None,
            _ => {}
        }
    }
    Some(s)
}

/// `idiag_timer` (uapi/linux/inet_diag.h; net/ipv4/inet_diag.c: `inet_sk_diag_fill`,
/// `inet_twsk_diag_fill`, `inet_req_diag_fill`).
const RETRANSMITS: u8 = 1;
const KEEPALIVES: u8 = 2;
const WAITS: u8 = 3;
const PROBES: u8 = 4;
const TIME_WAIT: u8 = 6;

/// What the timer says: it is shown whatever was asked for.
fn timers(answer: &Answer, protocol: u16, s: &mut Socket, now: u64) {
    // Others than keepalive's hide whether that runs too.
    s.flags |= match answer.timer {
        0 => 0,
        KEEPALIVES => KEEPALIVE,
        _ => NO_TIMER,
    };
    if protocol != TCP {
        return;
    }
    let pending = match answer.timer {
        0 | KEEPALIVES => TIMER_NONE,
        RETRANSMITS => TIMER_RETRANSMIT,
        WAITS => TIMER_TIME_WAIT,
        PROBES => TIMER_PROBE,
        _ => return,
    };
    s.pending = pending + 1;
    match answer.timer {
        RETRANSMITS => s.retransmits = answer.retrans,
        KEEPALIVES | PROBES => s.probes = answer.retrans,
        WAITS => {
            // What is left of the socket has no queues: the kernel fills in zeroes.
            s.flags &= !HAS_TCP;
            if answer.state == TIME_WAIT {
                // Begun anew with each late segment (inet_twsk_reschedule).
                let left = u64::from(answer.expires) * 1_000_000;
                let past = TIME_WAIT_NS.saturating_sub(left).saturating_sub(SLACK_NS);
                s.latest_ns = now.saturating_sub(past);
            }
        }
        _ => {}
    }
}

/// `TCP_TIMEWAIT_LEN` (include/net/tcp.h): no setting changes it.
const TIME_WAIT_NS: u64 = 60_000_000_000;

/// Half a jiffy at 100 Hz is lost on each side of a time in `tcp_info`.
const SLACK_NS: u64 = 20_000_000;

/// What `struct tcp_info` (uapi/linux/tcp.h) has: times, ms; what waits for an answer; the peer's
/// window (Linux 5.4).
///
/// CLOSE_WAIT: the peer's FIN came after its last data and carried an acknowledgement. FIN_WAIT2:
/// our FIN went out after our last data, and was acknowledged. Each began between the two.
fn tcp_info(info: &[u8], s: &mut Socket, now: u64) {
    const SYN_SENT: u8 = 2;
    const FIN_WAIT2: u8 = 5;
    const CLOSE_WAIT: u8 = 8;
    let byte = |offset: usize| info.get(offset).copied().unwrap_or(0);
    (s.retransmits, s.probes) = (byte(2), byte(3));
    s.snd_wnd = number(info, 228).unwrap_or(u32::MAX);
    // Before the handshake is over the kernel has no such times.
    if s.state == SYN_SENT {
        return;
    }
    let ago = |offset| number(info, offset).map_or(u64::MAX, |ms| u64::from(ms) * 1_000_000);
    (s.sent_ago_ns, s.received_ago_ns, s.acked_ago_ns) = (ago(44), ago(52), ago(56));
    let data_ago_ns = match s.state {
        CLOSE_WAIT => s.received_ago_ns,
        FIN_WAIT2 => s.sent_ago_ns,
        _ => return,
    };
    s.latest_ns = now.saturating_sub(s.acked_ago_ns.saturating_sub(SLACK_NS));
    s.earliest_ns = now.saturating_sub(data_ago_ns.saturating_add(SLACK_NS)).min(s.latest_ns);
}

/// A subflow's upper layer protocol is called so (net/mptcp/subflow.c); the name is attribute 1.
fn is_subflow(ulp: &[u8]) -> bool {
    attributes_of(ulp).any(|(kind, value)| kind == 1 && value.starts_with(b"mptcp\0"))
}

#[cfg(test)]
mod tests;

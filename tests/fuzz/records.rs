//! What the kernel programs may write, and BTF that has all they need: beginnings for `ring`,
//! `iter` and `btf` that follow what the code asks for. `TCPTRACE_RENEW=1 cargo test --test
//! fuzz records` puts them into the corpus.

use std::{collections::BTreeMap, net::IpAddr};

use tcptrace_common::{
    config::Offsets,
    event::{
        ADOPTED, CLOSING, HAS_SOCKET, HAS_TCP, Holding, KEEPALIVE, KIND_DESTROY, KIND_HOLDING,
        KIND_QUEUED, KIND_SOCKET, KIND_TRANSITION, NO_LIMIT, OPEN, Queued, Socket, Transition,
        Tuple, UNPLACED,
    },
    state::TcpState::{self, Close, CloseWait, Established, Listen, SynSent},
};
use zerocopy::{FromZeros, IntoBytes};

/// Records by target and name.
pub fn all() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let ghost = [change(Established, Close, OPEN), end()].concat();
    let streamed = [change(Close, SynSent, OPEN), change(SynSent, Established, OPEN)].concat();
    let waiting = Socket { recv_q: 5, max_backlog: 128, inode: 0, ..socket(CloseWait, HAS_TCP) };
    let listener = Socket {
        cookie: 99,
        backlog: 2,
        max_backlog: 128,
        drops: 3,
        ..socket(Listen, HAS_SOCKET | NO_LIMIT)
    };
    let held = socket(CloseWait, HAS_SOCKET | HAS_TCP | KEEPALIVE);
    let sent = Socket { bytes_sent: 9, sent_ago_ns: SECOND, received_ago_ns: 2 * SECOND, ..held };
    let queued = Queued { kind: KIND_QUEUED, pad: 0, cookie: COOKIE, listener: 99 };
    let (parent, child) = (holder(42, 1, b"parent"), holder(43, 42, b"child\x1b]0;x\x07\n"));
    let server = Holding { cookie: 99, ..parent };
    let bytes = |parts: &[&[u8]]| parts.concat();
    vec![
        ("btf", "made", btf()),
        ("ring", "closed", change(CloseWait, TcpState::LastAck, CLOSING)),
        ("ring", "ghost", ghost),
        ("ring", "streamed", streamed),
        (
            "iter",
            "never-accepted",
            bytes(&[listener.as_bytes(), waiting.as_bytes(), queued.as_bytes(), server.as_bytes()]),
        ),
        ("iter", "inherited", bytes(&[held.as_bytes(), parent.as_bytes(), child.as_bytes()])),
        ("iter", "half-close", bytes(&[sent.as_bytes(), parent.as_bytes()])),
        (
            "iter",
            "ghost",
            bytes(&[socket(Close, HAS_SOCKET | HAS_TCP).as_bytes(), child.as_bytes()]),
        ),
        (
            "iter",
            "unplaced",
            bytes(&[
                socket(CloseWait, UNPLACED).as_bytes(),
                socket(Established, ADOPTED).as_bytes(),
            ]),
        ),
    ]
}

const SECOND: u64 = 1_000_000_000;
const COOKIE: u64 = 7;

fn tuple() -> Tuple {
    let address = |text: &str| match text.parse().expect("an address") {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    Tuple {
        laddr: address("10.0.0.1"),
        raddr: address("2001:db8::9"),
        netns: 1,
        lport: 8080,
        rport: 51514,
    }
}

fn change(old: TcpState, new: TcpState, socket: u8) -> Vec<u8> {
    let mut t = Transition::new_zeroed();
    (t.kind, t.cookie, t.protocol, t.tuple, t.pid, t.socket) =
        (KIND_TRANSITION, COOKIE, 6, tuple(), 42, socket);
    (t.old, t.new, t.time_ns, t.earliest_ns, t.latest_ns) =
        (old as u8, new as u8, 9 * SECOND, SECOND, SECOND);
    t.comm[..5].copy_from_slice(b"java\n");
    t.as_bytes().to_vec()
}

fn end() -> Vec<u8> {
    let mut t = Transition::new_zeroed();
    (t.kind, t.cookie, t.protocol, t.tuple, t.pid, t.socket) =
        (KIND_DESTROY, COOKIE, 6, tuple(), 42, CLOSING);
    (t.old, t.new, t.time_ns, t.earliest_ns, t.latest_ns) =
        (7, 7, 10 * SECOND, 9 * SECOND, 9 * SECOND);
    t.as_bytes().to_vec()
}

fn socket(state: TcpState, flags: u8) -> Socket {
    let mut s = Socket::new_zeroed();
    (s.kind, s.cookie, s.protocol, s.tuple) = (KIND_SOCKET, COOKIE, 6, tuple());
    (s.state, s.flags, s.inode, s.cgroup) = (state as u8, flags, 9, 77);
    (s.earliest_ns, s.latest_ns) = (SECOND, SECOND);
    (s.sent_ago_ns, s.acked_ago_ns, s.received_ago_ns) = (u64::MAX, u64::MAX, u64::MAX);
    s
}

fn holder(pid: u32, ppid: u32, name: &[u8]) -> Holding {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name);
    let start_ns = u64::from(pid) * SECOND / 10;
    Holding {
        kind: KIND_HOLDING,
        fd: 5,
        cookie: COOKIE,
        start_ns,
        cgroup: 77,
        pid,
        tid: pid,
        ppid,
        max_backlog: 0,
        comm,
    }
}

/// Every struct and member that is asked for (Documentation/bpf/btf.rst), each member 8 bytes long.
fn btf() -> Vec<u8> {
    const INT: u32 = 1;
    let kind = |number: u32, members: usize| number << 24 | members as u32;
    let mut strings = vec![0];
    let mut name = |text: &str| {
        let at = strings.len() as u32;
        strings.extend(text.bytes().chain([0]));
        at
    };
    let mut structs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (strukt, path, _) in Offsets::NONE.named() {
        structs.entry(strukt).or_default().push(path);
    }
    let (mut types, mut last) = (vec![name("int"), kind(1, 0), 8, 64], INT);
    for (strukt, paths) in structs {
        let mut members = Vec::new();
        for (n, path) in paths.iter().enumerate() {
            let mut names: Vec<&str> = path.split('.').collect();
            let mut of = INT;
            while let [_, .., inner] = names[..] {
                types.extend([0, kind(4, 1), 8, name(inner), of, 0]);
                last += 1;
                (of, _) = (last, names.pop());
            }
            members.extend([name(names[0]), of, n as u32 * 64]);
        }
        types.extend([name(strukt), kind(4, paths.len()), paths.len() as u32 * 8]);
        types.extend(members);
        last += 1;
    }
    types.extend([name("btf_trace_inet_sock_set_state"), kind(8, 0), INT]);
    types.extend([name("bpf_iter_task_file"), kind(12, 0), INT]);
    let types: Vec<u8> = types.into_iter().flat_map(u32::to_ne_bytes).collect();
    let header =
        [24, 0, types.len(), types.len(), strings.len()].map(|n| (n as u32).to_ne_bytes()).concat();
    [&0xeb9fu16.to_ne_bytes()[..], &[1, 0], &header, &types, &strings].concat()
}

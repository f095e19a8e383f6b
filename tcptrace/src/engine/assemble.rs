//! From what scans list to a record: who holds a socket, in whose queue it waits, its role.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

use tcptrace_common::{
    event::{
        self, HAS_SOCKET, HAS_TCP, KEEPALIVE, NO_LIMIT, NO_TIMER, Queued, SEEDED, Socket, UNPLACED,
    },
    state::TcpState,
};

use crate::engine::{
    decode::{self, Event},
    opener,
    processes::{Context, Processes},
    record::{
        BootNs, Connection, Evidence, Holder, HolderSource, Listener, ProcessId, Record, Role,
    },
    unknown::Unknown,
    verdict::{Verdict, judge},
};

/// Who holds what, as of one scan of the descriptor tables.
#[derive(Debug, Default)]
pub struct Holdings {
    /// Holders by socket cookie.
    pub by_cookie: HashMap<u64, Vec<Holder>>,
    /// Listening sockets by network namespace and port.
    listeners: HashMap<(u32, u16), Vec<Listening>>,
    /// Listeners by the cookies of the connections that wait in their queues.
    queued: HashMap<u64, u64>,
    /// Whether every process of the host was asked.
    all_seen: bool,
}

/// A listening socket, its holders apart.
#[derive(Clone, Copy, Debug)]
struct Listening {
    cookie: u64,
    local: SocketAddr,
    queue: u32,
    limit: u32,
    drops: u32,
}

impl Holdings {
    /// Sorts a scan: the listening sockets, and the holders of all sockets by cookie.
    #[must_use]
    pub fn new(
        sockets: &[Socket],
        queued: &[Queued],
        mut by_cookie: HashMap<u64, Vec<Holder>>,
        all_seen: bool,
    ) -> Self {
        for holders in by_cookie.values_mut() {
            holders.sort_by_key(|h| (h.process.pid, h.tid, h.fd));
        }
        let mut listeners: HashMap<_, Vec<Listening>> = HashMap::new();
        for socket in sockets.iter().filter(|s| s.state == TcpState::Listen as u8) {
            let Connection { netns, local, cookie, .. } =
                Connection::new(socket.cookie, &socket.tuple, socket.protocol);
            let list = listeners.entry((netns, local.port())).or_default();
            // A listener with several descriptors is listed once for each.
            if list.iter().all(|l| l.cookie != cookie) {
                list.push(Listening {
                    cookie,
                    local,
                    queue: socket.backlog,
                    limit: socket.max_backlog,
                    drops: socket.drops,
                });
            }
        }
        let queued =
            queued.iter().filter(|q| q.cookie != 0).map(|q| (q.cookie, q.listener)).collect();
        Self { by_cookie, listeners, queued, all_seen }
    }

    /// The listener whose child a connection is: the one in whose queue it waits. Of one that was
    /// accepted, or waits far back, only the port is known, which several may share
    /// (SO_REUSEPORT): those bound to the very address come before those bound to any, those with a
    /// queue before those without, and all that remain are named together.
    #[must_use]
    pub fn listener(&self, c: &Connection) -> Option<Listener> {
        let parents = self.parents(c);
        let first = parents.clone().max_by_key(|l| l.queue)?;
        let held = parents.filter_map(|l| self.by_cookie.get(&l.cookie));
        let holders = held.flatten().cloned().collect();
        Some(Listener {
            local: first.local,
            queue: first.queue,
            limit: first.limit,
            drops: first.drops,
            holders,
        })
    }

    /// Where that listener is bound.
    fn came_in_by(&self, c: &Connection) -> Option<SocketAddr> {
        self.parents(c).max_by_key(|l| l.queue).map(|l| l.local)
    }

    /// See [`Self::listener`].
    fn parents(&self, c: &Connection) -> impl Iterator<Item = &Listening> + Clone {
        let list = self.listeners.get(&(c.netns, c.local.port())).map_or(&[][..], Vec::as_slice);
        let (queue, local) = (self.queued.get(&c.cookie), c.local.ip());
        let distance = move |l: &Listening| match l.local.ip() {
            _ if queue == Some(&l.cookie) => Some(0),
            bound if bound == local => Some(1),
            bound if takes_any(bound, local) => Some(2),
            _ => None,
        };
        let least = list.iter().filter_map(distance).min();
        let found = list.iter().filter(move |l| least.is_some() && distance(l) == least);
        let busy = found.clone().any(|l| l.queue > 0);
        found.filter(move |l| !busy || l.queue > 0)
    }
}

/// Whether a listener on `bound` takes connections to `local`. `::` takes IPv4 too unless it was
/// made IPv6-only; then IPv4 has a listener of its own.
fn takes_any(bound: IpAddr, local: IpAddr) -> bool {
    match bound {
        IpAddr::V4(v4) => v4.is_unspecified() && local.is_ipv4(),
        IpAddr::V6(v6) => v6.is_unspecified(),
    }
}

const HELD_OUTSIDE: &str = "held outside descriptor tables: in flight over a unix socket, an \
                            io_uring fixed file, or a kernel socket";

const NOT_ALL: &str = "not every process can be seen from here";
const BEFORE_TRACING: &str = "the FIN came before tracing began";
const NO_WAY: &str = "no descriptor leads to it";

/// A record of a socket that the scan at `now` listed. `stalled_ns`: for how long the peer has taken
/// nothing of what was sent, where earlier scans tell.
#[must_use]
pub fn record(
    socket: &Socket,
    holdings: &Holdings,
    cgroup: Option<Rc<str>>,
    stalled_ns: Option<u64>,
    now: BootNs,
) -> Record {
    let connection = Connection::new(socket.cookie, &socket.tuple, socket.protocol);
    let has = |flag| socket.flags & flag != 0;
    let state = TcpState::from_number(socket.state).unwrap_or(TcpState::Close);
    let mut unknown = Unknown::default();
    if !has(HAS_TCP) {
        for field in ["recv_q", "send_q", "bytes_sent_since_fin"] {
            unknown.insert(
                field,
                if has(UNPLACED) { NO_WAY } else { "MPTCP keeps these in its subflows" },
            );
        }
    } else if has(SEEDED) {
        unknown.insert("bytes_sent_since_fin", BEFORE_TRACING);
    }
    if socket.earliest_ns == 0 {
        unknown.insert("age_ms.max", "it was there before tracing, and nothing bounds how long");
    }
    let came_in_by = holdings.came_in_by(&connection);
    let mut held = holdings.by_cookie.get(&socket.cookie).cloned().unwrap_or_default();
    opener::mark(&mut held, socket.latest_ns);
    // It may have been accepted between being listed and the scan of the descriptors.
    let accepted = has(HAS_SOCKET) || !held.is_empty();
    let waiting = !accepted && waits(state);
    let listener = waiting.then(|| holdings.listener(&connection)).flatten();
    let (holders, holder_source) = match &listener {
        _ if !held.is_empty() => (held, HolderSource::FdTable),
        Some(listener) => (listener.holders.clone(), HolderSource::Listener),
        // The slot knows how it was when the state was entered.
        _ if has(UNPLACED) && may_be_orphaned(state) => {
            unknown.insert("holders", NO_WAY);
            (Vec::new(), HolderSource::None)
        }
        _ if accepted && holdings.all_seen => {
            unknown.insert("holders", HELD_OUTSIDE);
            (Vec::new(), HolderSource::OutsideFdTables)
        }
        _ => {
            unknown.insert(
                "holders",
                if holdings.all_seen { "no process has a descriptor for it" } else { NOT_ALL },
            );
            (Vec::new(), HolderSource::None)
        }
    };
    // A child is a clone of its listener and keeps its limit; who connected out has none, unless
    // it was told to listen with a limit of 0.
    let role = match socket.max_backlog {
        1.. => Some(Role::Server),
        0 if waiting || came_in_by.is_some() => Some(Role::Server),
        0 if has(UNPLACED) => {
            unknown.insert("role", NO_WAY);
            None
        }
        0 if has(NO_LIMIT) => {
            unknown.insert("role", "no listener on its port, and only BPF shows who connected");
            None
        }
        0 => Some(Role::Client),
    };
    let mut record = Record {
        connection,
        role,
        state,
        earliest_ns: socket.earliest_ns,
        latest_ns: socket.latest_ns,
        seen_ns: now,
        verdict: None,
        also: Vec::new(),
        evidence: Evidence {
            recv_q: has(HAS_TCP).then_some(socket.recv_q),
            send_q: has(HAS_TCP).then_some(socket.send_q),
            accepted: (!has(UNPLACED) || !may_be_orphaned(state)).then_some(accepted),
            bytes_sent_since_fin: (has(HAS_TCP) && !has(SEEDED)).then_some(socket.bytes_sent),
            inode: (socket.inode != 0).then_some(socket.inode),
            keepalive: (!has(NO_TIMER)).then_some(has(KEEPALIVE)),
            sent_ago_ns: known(socket.sent_ago_ns),
            received_ago_ns: known(socket.received_ago_ns),
            acked_ago_ns: known(socket.acked_ago_ns),
            stalled_ns,
        },
        holders,
        holder_source,
        former_holders: Vec::new(),
        came_in_by,
        listener,
        cgroup,
        unknown,
    };
    if record.evidence.inode.is_none() {
        record.unknown.insert("inode", if has(UNPLACED) { NO_WAY } else { "it has no file" });
    }
    if record.evidence.keepalive.is_none() {
        record.unknown.insert(
            "keepalive",
            if has(UNPLACED) { NO_WAY } else { "another timer runs, or the kernel hides it" },
        );
    }
    note_opener(&mut record);
    match judge(&record, holdings.all_seen) {
        Ok((verdict, also)) => (record.verdict, record.also) = (Some(verdict), also),
        Err(why) => record.unknown.insert("verdict", why),
    }
    record
}

/// Whether a connection without a `struct socket` waits to be accepted, and is not being torn down.
fn waits(state: TcpState) -> bool {
    matches!(
        state,
        TcpState::SynRecv | TcpState::NewSynRecv | TcpState::Established | TcpState::CloseWait
    )
}

/// States in which close() of the last descriptor changes nothing but that nobody holds the socket.
fn may_be_orphaned(state: TcpState) -> bool {
    matches!(state, TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck)
}

/// The kernel programs' u64::MAX stands for "never, or nobody knows".
fn known(ago_ns: u64) -> Option<u64> {
    (ago_ns != u64::MAX).then_some(ago_ns)
}

/// Says why an opener is unknown, where one is.
pub fn note_opener(record: &mut Record) {
    let unknown = record.holder_source == HolderSource::FdTable
        && record.holders.iter().any(|h| h.opener.is_none());
    if !unknown {
        record.unknown.remove("opener");
        return;
    }
    let alone = record.holders.iter().all(|h| h.process == record.holders[0].process);
    let why = if alone {
        "its only holder: nobody watched whether another opened it and let go"
    } else {
        "not told by parents and descriptor numbers, and nobody watched it being opened"
    };
    record.unknown.insert("opener", why);
}

/// A record of a stay that ended before a scan found it: only its event speaks.
#[must_use]
pub fn ended(event: &Event, all_seen: bool) -> Record {
    const GONE: &str = "it ended before it could be looked at";
    let mut unknown: Unknown =
        ["role", "inode", "keepalive", "holders"].map(|field| (field, GONE)).into_iter().collect();
    match &event.queues {
        None => {
            for field in ["recv_q", "send_q", "bytes_sent_since_fin"] {
                unknown.insert(field, GONE);
            }
        }
        Some(_) if event.adopted => unknown.insert("bytes_sent_since_fin", BEFORE_TRACING),
        Some(_) => {}
    }
    let sent = event.queues.filter(|_| !event.adopted).map(|q| q.bytes_sent);
    let mut record = Record {
        connection: event.change.connection,
        role: None,
        state: event.change.old,
        earliest_ns: event.since.0,
        latest_ns: event.since.1,
        seen_ns: event.time,
        verdict: None,
        also: Vec::new(),
        evidence: Evidence {
            accepted: Some(event.has_socket),
            recv_q: event.queues.map(|q| q.recv_q),
            send_q: event.queues.map(|q| q.send_q),
            bytes_sent_since_fin: sent,
            sent_ago_ns: event.queues.and_then(|q| q.sent_ago_ns),
            ..Evidence::default()
        },
        holders: Vec::new(),
        holder_source: HolderSource::None,
        former_holders: Vec::new(),
        listener: None,
        came_in_by: None,
        cgroup: None,
        unknown,
    };
    // Without a struct socket it may have waited in a queue: whose, nobody can say any more.
    let verdict = match event.change.old {
        // Only a socket with a descriptor stays in CLOSE.
        TcpState::Close if event.destroyed && record.connection.remote.port() != 0 => {
            Ok((Verdict::GhostFd, Vec::new()))
        }
        _ if event.has_socket => judge(&record, all_seen),
        _ => Err(GONE),
    };
    match verdict {
        Ok((verdict, also)) => (record.verdict, record.also) = (Some(verdict), also),
        Err(why) => record.unknown.insert("verdict", why),
    }
    record
}

/// Who holds what, as of one scan.
#[must_use]
pub fn holdings(
    listeners: &[Socket],
    queued: &[Queued],
    descriptors: &[event::Holder],
    processes: &Processes,
    all_seen: bool,
) -> Holdings {
    let by_cookie = by_cookie(descriptors, |id| processes.context(id));
    Holdings::new(listeners, queued, by_cookie, all_seen)
}

/// Holders by socket cookie. `context`: what is known of a process.
#[must_use]
pub fn by_cookie(
    descriptors: &[event::Holder],
    mut context: impl FnMut(ProcessId) -> Context,
) -> HashMap<u64, Vec<Holder>> {
    let mut by_cookie: HashMap<u64, Vec<Holder>> = HashMap::with_capacity(descriptors.len());
    // They come one process after the other.
    let mut last: Option<(&event::Holder, Holder)> = None;
    for raw in descriptors {
        let known = last.take().filter(|(last, _)| is_same_process(last, raw));
        let (_, holder) = last.insert(known.unwrap_or_else(|| {
            let process = ProcessId { pid: raw.pid, start_ns: raw.start_ns };
            let Context { cgroups, inner_pid } = context(process);
            let comm = decode::comm(&raw.comm);
            let (ppid, opener) = (raw.ppid, None);
            (raw, Holder { process, tid: None, ppid, fd: 0, comm, cgroups, inner_pid, opener })
        }));
        let tid = (raw.tid != raw.pid).then_some(raw.tid);
        let holder = Holder { fd: raw.fd, tid, ..holder.clone() };
        match by_cookie.entry(raw.cookie) {
            // Room for one: hardly any has a second.
            Entry::Vacant(free) => {
                free.insert(vec![holder]);
            }
            Entry::Occupied(mut held) => held.get_mut().push(holder),
        }
    }
    by_cookie
}

fn is_same_process(a: &event::Holder, b: &event::Holder) -> bool {
    (a.pid, a.start_ns, a.ppid, a.comm) == (b.pid, b.start_ns, b.ppid, b.comm)
}

#[cfg(test)]
mod tests {
    use tcptrace_common::event::{KIND_QUEUED, KIND_SOCKET};
    use zerocopy::FromZeros;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const V4: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1];
    const ANY_V4: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0];

    fn socket(cookie: u64, state: TcpState, laddr: [u8; 16]) -> Socket {
        let mut s = Socket::new_zeroed();
        (s.kind, s.cookie, s.state, s.protocol) = (KIND_SOCKET, cookie, state as u8, 6);
        (s.earliest_ns, s.latest_ns, s.flags, s.sent_ago_ns) = (1, 1, HAS_TCP, u64::MAX);
        (s.tuple.laddr, s.tuple.lport, s.tuple.netns) = (laddr, 80, 1);
        (s.tuple.raddr, s.tuple.rport) = (V4, 5000);
        s
    }

    fn listener(cookie: u64, laddr: [u8; 16], queue: u32) -> Socket {
        let mut s = socket(cookie, TcpState::Listen, laddr);
        (s.backlog, s.max_backlog) = (queue, 8);
        s
    }

    fn holder(pid: u32) -> Holder {
        let process = ProcessId { pid, start_ns: 0 };
        Holder {
            process,
            tid: None,
            ppid: 1,
            fd: 3,
            comm: "x".into(),
            cgroups: None,
            inner_pid: None,
            opener: None,
        }
    }

    fn blamed(listeners: &[Socket]) -> Vec<u32> {
        blamed_with(listeners, &[])
    }

    fn blamed_with(listeners: &[Socket], queued: &[Queued]) -> Vec<u32> {
        let held = listeners.iter().map(|l| (l.cookie, vec![holder(l.cookie as u32)])).collect();
        let holdings = Holdings::new(listeners, queued, held, true);
        let record = record(&socket(99, TcpState::CloseWait, V4), &holdings, None, None, 9);
        record.holders.iter().map(|h| h.process.pid).collect()
    }

    #[test]
    fn the_closest_listener_is_blamed() {
        assert_eq!(
            blamed(&[listener(1, ANY_V4, 1), listener(2, V4, 1)]),
            [2],
            "bound to the address itself"
        );
        assert_eq!(blamed(&[listener(1, ANY_V4, 1)]), [1]);
        assert_eq!(blamed(&[listener(1, [0; 16], 1)]), [1], ":: takes IPv4");
        assert_eq!(
            blamed(&[listener(1, V4, 0), listener(2, V4, 3)]),
            [2],
            "SO_REUSEPORT: the one with a queue"
        );
        assert_eq!(blamed(&[listener(1, V4, 1), listener(2, V4, 1)]), [1, 2], "or all of them");
        let two = [listener(1, V4, 1), listener(2, V4, 1)];
        let queued = Queued { kind: KIND_QUEUED, pad: 0, cookie: 99, listener: 1 };
        assert_eq!(blamed_with(&two, &[queued]), [1], "the one in whose queue it is");
        let mut elsewhere = listener(1, V4, 1);
        elsewhere.tuple.netns = 2;
        assert_eq!(blamed(&[elsewhere]), [0; 0]);
    }

    #[test]
    fn verdicts_follow_the_evidence() {
        let judge = |change: &dyn Fn(&mut Socket), held: &[u32]| {
            let mut s = socket(7, TcpState::CloseWait, V4);
            s.flags |= HAS_SOCKET;
            change(&mut s);
            let held =
                (!held.is_empty()).then(|| (7, held.iter().map(|pid| holder(*pid)).collect()));
            let record = record(
                &s,
                &Holdings::new(&[], &[], held.into_iter().collect(), true),
                None,
                None,
                100 * SECOND,
            );
            record.verdict.map(|v| (v, record.also.clone()))
        };
        assert_eq!(judge(&|_| {}, &[1]), Some((Verdict::EofNotClosed, vec![])));
        assert_eq!(judge(&|s| s.recv_q = 1, &[1]), Some((Verdict::UnreadFin, vec![])));
        assert_eq!(judge(&|s| s.recv_q = 2, &[1]), Some((Verdict::UnreadData, vec![])));
        assert_eq!(
            judge(&|s| s.recv_q = 2, &[1, 2]),
            Some((Verdict::InheritedFd, vec![Verdict::UnreadData]))
        );
        assert_eq!(
            judge(&|_| {}, &[1, 1]),
            Some((Verdict::EofNotClosed, vec![])),
            "two descriptors, one process"
        );
        let sent = |s: &mut Socket, ago| (s.bytes_sent, s.sent_ago_ns) = (9, ago);
        let in_use = Some((Verdict::HalfCloseInUse, vec![Verdict::EofNotClosed]));
        let not_closed = Some((Verdict::EofNotClosed, vec![]));
        assert_eq!(judge(&|s| sent(s, 3 * SECOND), &[1]), in_use);
        assert_eq!(judge(&|s| sent(s, 40 * SECOND), &[1]), not_closed, "it has stopped sending");
        // Seeded: the FIN came 10 to 60 seconds ago.
        let seeded = |s: &mut Socket, ago| {
            (s.earliest_ns, s.latest_ns, s.received_ago_ns, s.sent_ago_ns) =
                (40 * SECOND, 90 * SECOND, 60 * SECOND, ago);
            s.flags |= SEEDED;
        };
        assert_eq!(judge(&|s| seeded(s, 3 * SECOND), &[1]), in_use, "sent after the FIN");
        assert_eq!(
            judge(&|s| seeded(s, 20 * SECOND), &[1]),
            in_use,
            "or perhaps before: the benefit of the doubt"
        );
        assert_eq!(judge(&|s| seeded(s, 40 * SECOND), &[1]), not_closed);
        assert_eq!(judge(&|s| seeded(s, 60 * SECOND), &[1]), not_closed, "sent before the FIN");
        // Read 10 seconds before now: its last data and its answer were 5 seconds old then.
        let read_earlier = |s: &mut Socket| {
            seeded(s, 5 * SECOND);
            (s.earliest_ns, s.received_ago_ns) = (85 * SECOND, 5 * SECOND);
        };
        assert_eq!(
            judge(&read_earlier, &[1]),
            not_closed,
            "answered before the FIN, however late the record"
        );
        assert_eq!(
            judge(&|s| s.send_q = 9, &[1]).map(|v| v.0),
            Some(Verdict::HalfCloseInUse),
            "the peer reads slowly"
        );
        assert_eq!(judge(&|s| s.flags &= !HAS_SOCKET, &[]), Some((Verdict::Orphan, vec![])));
        assert_eq!(
            judge(&|s| s.flags &= !HAS_TCP, &[1]),
            None,
            "unknown queues are no empty queues"
        );
        assert_eq!(
            judge(&|s| s.state = TcpState::Close as u8, &[1]),
            Some((Verdict::GhostFd, vec![]))
        );
        assert_eq!(judge(&|s| s.state = TcpState::Established as u8, &[1]), None);
    }
}

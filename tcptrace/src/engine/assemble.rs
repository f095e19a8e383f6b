//! From what the passes list to a record: who holds a socket, in whose queue it waits, its role.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    rc::Rc,
};

use tcptrace_common::{
    event::{HAS_SOCKET, HAS_TCP, SEEDED, Socket},
    state::TcpState,
};

use super::{
    decode::Event,
    event::{Connection, Evidence, Holder, HolderSource, Listener, Record, Role},
    verdict::judge,
};

/// Who holds what, as of one pass over the descriptor tables.
#[derive(Debug, Default)]
pub struct Holdings {
    /// Holders by socket cookie.
    pub by_cookie: HashMap<u64, Vec<Holder>>,
    /// Listening sockets by network namespace and port, without their holders.
    listeners: HashMap<(u32, u16), Vec<(Connection, u32, u32)>>,
}

impl Holdings {
    /// Sorts a pass: the listening sockets, and the holders of all sockets by cookie.
    #[must_use]
    pub fn new(sockets: &[Socket], mut by_cookie: HashMap<u64, Vec<Holder>>) -> Self {
        for holders in by_cookie.values_mut() {
            holders.sort_by_key(|h| (h.process.pid, h.tid, h.fd));
        }
        let mut listeners: HashMap<_, Vec<(Connection, u32, u32)>> = HashMap::new();
        for socket in sockets.iter().filter(|s| s.state == TcpState::Listen as u8) {
            let connection = Connection::new(socket.cookie, &socket.tuple, socket.protocol);
            let list = listeners.entry((connection.netns, connection.local.port())).or_default();
            // A listener with several descriptors is listed once for each.
            if list.iter().all(|(c, _, _)| c.cookie != connection.cookie) {
                list.push((connection, socket.backlog, socket.max_backlog));
            }
        }
        Self { by_cookie, listeners }
    }

    /// The listener whose child a connection is. Several may share the port (SO_REUSEPORT): those
    /// bound to the very address come before those bound to any, those with a queue before those
    /// without, and all that remain are blamed together.
    #[must_use]
    pub fn listener(&self, c: &Connection) -> Option<Listener> {
        let list = self.listeners.get(&(c.netns, c.local.port()))?;
        let exact: Vec<_> = list.iter().filter(|(l, _, _)| l.local.ip() == c.local.ip()).collect();
        let any: Vec<_> = list.iter().filter(|(l, _, _)| takes_any(l.local.ip(), c.local.ip())).collect();
        let found = if exact.is_empty() { any } else { exact };
        let queued: Vec<_> = found.iter().copied().filter(|(_, queue, _)| *queue > 0).collect();
        let found = if queued.is_empty() { found } else { queued };
        let (first, queue, limit) = found.iter().max_by_key(|(_, queue, _)| *queue)?;
        let held = found.iter().filter_map(|(l, _, _)| self.by_cookie.get(&l.cookie));
        Some(Listener { local: first.local, queue: *queue, limit: *limit, holders: held.flatten().cloned().collect() })
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

const HELD_OUTSIDE: &str = "held outside descriptor tables: in flight over a unix socket, an io_uring fixed file, a \
                            kernel socket, or in a pid namespace that can't be seen from here";

/// A record of a socket that a look listed. `sent_before`: see [`judge`].
#[must_use]
pub fn record(socket: &Socket, holdings: &Holdings, cgroup: Option<Rc<str>>, sent_before: Option<u64>) -> Record {
    let connection = Connection::new(socket.cookie, &socket.tuple, socket.protocol);
    let has = |flag| socket.flags & flag != 0;
    let state = TcpState::from_number(socket.state).unwrap_or(TcpState::Close);
    let mut unknown = BTreeMap::new();
    if !has(HAS_TCP) {
        for field in ["recv_q", "send_q", "bytes_sent_since_fin"] {
            unknown.insert(field, "MPTCP keeps these in its subflows");
        }
    } else if has(SEEDED) {
        unknown.insert("bytes_sent_since_fin", "counted from the start of tracing, later than the FIN");
    }
    if socket.earliest_ns == 0 {
        unknown.insert("age_ms.max", "it was there before tracing, and nothing bounds how long");
    }
    unknown.insert("opener", "nobody watched it being opened");

    let listener = holdings.listener(&connection);
    let waiting = !has(HAS_SOCKET) && state == TcpState::CloseWait;
    let held = holdings.by_cookie.get(&socket.cookie).cloned().unwrap_or_default();
    let (holders, holder_source) = match &listener {
        _ if !held.is_empty() => (held, HolderSource::FdTable),
        Some(listener) if waiting => (listener.holders.clone(), HolderSource::Listener),
        _ if has(HAS_SOCKET) => {
            unknown.insert("holders", HELD_OUTSIDE);
            (Vec::new(), HolderSource::OutsideFdTables)
        }
        _ => {
            unknown.insert("holders", "no process has a descriptor for it");
            (Vec::new(), HolderSource::None)
        }
    };
    // A child is a clone of its listener and keeps its limit; who connected out has none, unless
    // it was told to listen with a limit of 0.
    let role = if socket.max_backlog > 0 || waiting || listener.is_some() { Role::Server } else { Role::Client };
    let mut record = Record {
        connection,
        role: Some(role),
        state,
        earliest_ns: socket.earliest_ns,
        latest_ns: socket.latest_ns,
        verdict: None,
        also: Vec::new(),
        evidence: Evidence {
            recv_q: has(HAS_TCP).then_some(socket.recv_q),
            send_q: has(HAS_TCP).then_some(socket.send_q),
            accepted: Some(has(HAS_SOCKET)),
            bytes_sent_since_fin: has(HAS_TCP).then_some(socket.bytes_sent),
            inode: (socket.inode != 0).then_some(socket.inode),
        },
        holders,
        holder_source,
        listener: listener.filter(|_| waiting),
        cgroup,
        unknown,
    };
    if record.evidence.inode.is_none() {
        record.unknown.insert("inode", "it has no file");
    }
    match judge(&record, sent_before) {
        Ok((verdict, also)) => (record.verdict, record.also) = (Some(verdict), also),
        Err(why) => drop(record.unknown.insert("verdict", why)),
    }
    record
}

/// A record of a stay that ended before a look found it: only its event speaks.
#[must_use]
pub fn ended(event: &Event, holders: Vec<Holder>) -> Record {
    const GONE: &str = "it ended before it could be looked at";
    let mut unknown: BTreeMap<_, _> =
        ["role", "verdict", "recv_q", "send_q", "bytes_sent_since_fin", "inode"].map(|field| (field, GONE)).into();
    if holders.is_empty() {
        unknown.insert("holders", GONE);
    }
    Record {
        connection: event.change.connection,
        role: None,
        state: event.change.old,
        earliest_ns: event.since.0,
        latest_ns: event.since.1,
        verdict: None,
        also: Vec::new(),
        evidence: Evidence { accepted: Some(event.has_socket), ..Evidence::default() },
        holders,
        holder_source: HolderSource::None,
        listener: None,
        cgroup: None,
        unknown,
    }
}

//! Who holds what, as of one scan of the descriptor tables, and which listener a connection came in
//! by.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, SocketAddr},
};

use tcptrace_common::{
    event::{Holding, Queued, Socket, UNPLACED},
    state::TcpState,
};

use crate::engine::{
    decode,
    handshakes::Handshakes,
    processes::{Context, Processes},
    record::{Connection, Holder, Listener, ProcessId},
};

/// Holders by socket cookie.
pub type ByCookie = HashMap<u64, Vec<Holder>>;

/// Who holds what, as of one scan of the descriptor tables.
#[derive(Debug, Default)]
pub struct Holdings {
    /// Holders by socket cookie.
    pub by_cookie: ByCookie,
    /// Listening sockets by network namespace and port.
    listeners: HashMap<(u32, u16), Vec<Listening>>,
    /// Listeners by the cookies of the connections that wait in their queues.
    queued: HashMap<u64, u64>,
    /// Whether every process of the host was asked.
    pub all_seen: bool,
    /// Handshakes under way by their listener's cookie, of each network namespace where somebody
    /// counted them.
    handshakes: HashMap<u32, HashMap<u64, u32>>,
    /// SYN cookies sent, by network namespace, where somebody asked.
    cookies: HashMap<u32, u64>,
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
        mut by_cookie: ByCookie,
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
        Self { by_cookie, listeners, queued, all_seen, ..Self::default() }
    }

    /// Takes in the handshakes that are under way. Where several listeners share a port, nobody can
    /// tell whose they are.
    pub fn count_handshakes(&mut self, all: &Handshakes) {
        let netns = all.netns;
        self.cookies.extend(all.cookies.map(|n| (netns, n)));
        if all.uncounted > 0 {
            return;
        }
        let mut counts: HashMap<u64, u32> = HashMap::new();
        for (local, n) in &all.by_end {
            let any = Connection { cookie: 0, netns, local: *local, remote: *local, mptcp: false };
            let mut parents = self.parents(&any);
            if let (Some(parent), None) = (parents.next(), parents.next()) {
                let count = counts.entry(parent.cookie).or_default();
                *count = count.saturating_add(*n);
            }
        }
        self.handshakes.insert(netns, counts);
    }

    /// What a listening socket says of itself. `None`: it comes from a slot of the nursery, which
    /// has no queue, and the scan did not list it.
    #[must_use]
    pub fn itself(&self, socket: &Socket, holders: &[Holder]) -> Option<Listener> {
        let Connection { netns, local, cookie, .. } =
            Connection::new(socket.cookie, &socket.tuple, socket.protocol);
        let on_port = self.listeners.get(&(netns, local.port())).map_or(&[][..], Vec::as_slice);
        let listed = on_port.iter().find(|l| l.cookie == cookie).copied();
        let (queue, limit, drops) = (socket.backlog, socket.max_backlog, socket.drops);
        let seen = socket.flags & UNPLACED == 0;
        let listening = listed.or(seen.then_some(Listening { cookie, local, queue, limit, drops }));
        listening.map(|listening| self.told(&listening, netns, holders.to_vec()))
    }

    fn told(&self, l: &Listening, netns: u32, holders: Vec<Holder>) -> Listener {
        let Listening { cookie, local, queue, limit, drops } = *l;
        let of_listener = |all: &HashMap<u64, u32>| all.get(&cookie).copied().unwrap_or_default();
        let handshakes = self.handshakes.get(&netns).map(of_listener);
        let cookies = self.cookies.get(&netns).copied();
        Listener { local, queue, limit, drops, handshakes, cookies, holders }
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
        Some(self.told(first, c.netns, holders))
    }

    /// Where the listener is bound that [`Self::listener`] names.
    #[must_use]
    pub fn came_in_by(&self, c: &Connection) -> Option<SocketAddr> {
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

/// Who holds what, as of one scan.
#[must_use]
pub fn of_scan(
    listeners: &[Socket],
    queued: &[Queued],
    descriptors: &[Holding],
    processes: &Processes,
    all_seen: bool,
) -> Holdings {
    Holdings::new(listeners, queued, by_cookie(descriptors, processes), all_seen)
}

/// The holders of each socket, with what is known of their processes.
#[must_use]
pub fn by_cookie(descriptors: &[Holding], processes: &Processes) -> ByCookie {
    let mut by_cookie = ByCookie::with_capacity(descriptors.len());
    // A scan lists one process after the other.
    let mut last: Option<(&Holding, Holder)> = None;
    for raw in descriptors {
        let known = last.take().filter(|(last, _)| is_same_process(last, raw));
        let (_, holder) = last.insert(known.unwrap_or_else(|| (raw, of(raw, processes))));
        let tid = (raw.tid != raw.pid).then_some(raw.tid);
        let holder = Holder { fd: Some(raw.fd), tid, ..holder.clone() };
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

fn is_same_process(a: &Holding, b: &Holding) -> bool {
    (a.pid, a.start_ns, a.ppid, a.comm) == (b.pid, b.start_ns, b.ppid, b.comm)
}

/// The process of a descriptor.
fn of(raw: &Holding, processes: &Processes) -> Holder {
    let process = ProcessId { pid: raw.pid, start_ns: raw.start_ns };
    let Context { name, cgroups, inner_pid } = processes.context(process);
    Holder {
        process,
        tid: None,
        ppid: raw.ppid,
        fd: None,
        comm: decode::comm(&raw.comm),
        name,
        cgroups,
        inner_pid,
        opener: None,
    }
}

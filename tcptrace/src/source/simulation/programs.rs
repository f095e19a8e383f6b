//! The kernel programs, as a model: the same decisions as in `tcptrace-ebpf`, the same slot protocol
//! (`tcptrace_common::slot`), on plain cells. Runs can be missed, the ring can be full, memory can
//! be short, and slots are few.

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
};

use tcptrace_common::{
    counters::Counters,
    event::{
        CLOSING, HAS_SOCKET, HAS_TCP, KIND_DESTROY, KIND_SOCKET, KIND_TRANSITION, NO_MEMORY,
        NO_SOCKET, OPEN, SEEDED, Socket, Transition, Tuple, UNPLACED,
    },
    slot::{Found, Place, Slot},
    state::TcpState,
};
use zerocopy::FromZeros;

use super::host::SocketId;
use crate::engine::{record::BootNs, tracker::next_doubling};

/// What a program sees of a socket.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// The socket.
    pub id: SocketId,
    /// Where it is in memory.
    pub address: u64,
    /// Its name.
    pub cookie: u64,
    /// Its state.
    pub state: TcpState,
    /// It has a `struct socket`.
    pub has_socket: bool,
    /// Its last descriptor is being closed.
    pub closing: bool,
    /// Bytes not read, the FIN counted as one.
    pub recv_q: u32,
    /// Bytes not acknowledged.
    pub send_q: u32,
    /// Data bytes sent.
    pub bytes_sent: u64,
    /// First byte that is not acknowledged.
    pub snd_una: u32,
    /// How long ago data was sent last.
    pub sent_ago_ns: u64,
    /// How long ago data came last.
    pub received_ago_ns: u64,
    /// How long ago an acknowledgement came last.
    pub acked_ago_ns: u64,
    /// Of a listener: who waits.
    pub queue: u32,
    /// And how many may.
    pub limit: u32,
    /// Local port.
    pub lport: u16,
    /// Remote port.
    pub rport: u16,
    /// MPTCP's own.
    pub mptcp: bool,
}

/// Who is on the CPU.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Its process.
    pub pid: u32,
}

/// What the programs are told at the start.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Shorter stays are no event.
    pub min_age_ns: u64,
    /// Watched states: bit `1 << number`.
    pub states: u32,
    /// Every change is an event.
    pub transitions: bool,
    /// 0: not asked for.
    /// Local port.
    pub lport: u16,
    /// Slots of the nursery.
    pub slots: usize,
    /// Records that the ring buffer holds.
    pub ring: usize,
}

/// A slot of the nursery.
#[derive(Debug, Default)]
struct Cradle {
    owner: Cell<u64>,
    since: Cell<u64>,
    cookie: Cell<u64>,
    sent_before: Cell<u64>,
    tuple: Cell<Tuple>,
    protocol: Cell<u16>,
    state: Cell<u8>,
    has_socket: Cell<bool>,
}

impl Cradle {
    fn words(&self) -> Slot<&Cell<u64>> {
        Slot { owner: &self.owner, since: &self.since }
    }

    /// Addresses are used again: the stay here may be that of an earlier socket.
    fn is_of(&self, v: &View) -> bool {
        self.cookie.get() == 0 || self.cookie.get() == v.cookie
    }

    /// Its end was missed.
    fn is_stale(&self, v: &View, since: BootNs, now: BootNs) -> bool {
        self.state.get() != v.state as u8 && now.saturating_sub(since) >= SETTLED_NS
    }
}

/// A place for a stay in socket storage.
#[derive(Debug, Default)]
struct Kept {
    latest_ns: Cell<u64>,
    earliest_ns: Cell<u64>,
    sent_before: Cell<u64>,
    state: Cell<u8>,
    flags: Cell<u8>,
}

impl Kept {
    fn place(&self) -> Place<&Cell<u64>> {
        Place(&self.latest_ns)
    }

    /// When the stay here began; one in another state than its socket is thrown out.
    fn live(&self, state: TcpState, now: BootNs) -> Option<u64> {
        let since = self.place().since()?;
        if self.state.get() != state as u8 && now.saturating_sub(since) >= SETTLED_NS {
            self.place().end(since);
            return None;
        }
        Some(since)
    }
}

/// What a socket's storage holds.
#[derive(Debug, Default)]
struct Storage {
    settled: Kept,
    moved: Kept,
    reported_of: Cell<u64>,
    due_ns: Cell<u64>,
    scan: Cell<u32>,
}

/// From this age on a stay's state is its socket's.
const SETTLED_NS: u64 = 100_000_000;

/// The kernel's stamps are this coarse.
const SLACK_NS: u64 = 8_000_000;

/// The stay that just ended.
#[derive(Clone, Copy, Default)]
struct Ended {
    earliest_ns: u64,
    latest_ns: u64,
    sent_before: u64,
    flags: u8,
}

/// The programs and what they share.
#[derive(Debug)]
pub struct Programs {
    settings: Settings,
    slots: Vec<Cradle>,
    storage: BTreeMap<SocketId, Storage>,
    /// What they counted.
    pub counters: Counters,
    /// Runs that the kernel did not make.
    pub missed: u64,
    /// So many of the next runs are not made.
    pub miss: u32,
    /// There is no memory for socket storage.
    pub no_memory: bool,
    /// Records that nobody has taken out yet.
    pub ring: VecDeque<Transition>,
    /// The ends of sockets are followed.
    pub follows_ends: bool,
}

impl Programs {
    /// Programs that have seen nothing.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            slots: (0..settings.slots).map(|_| Cradle::default()).collect(),
            storage: BTreeMap::new(),
            counters: Counters::default(),
            missed: 0,
            miss: 0,
            no_memory: false,
            ring: VecDeque::new(),
            follows_ends: false,
        }
    }

    /// What they were told.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn watches(&self, state: TcpState) -> bool {
        self.settings.states & state.bit() != 0
    }

    fn cradle(&self, address: u64) -> Option<(u32, &Cradle)> {
        let index = address as usize % self.slots.len().max(1);
        self.slots.get(index).map(|cradle| (index as u32, cradle))
    }

    /// tp_btf/inet_sock_set_state.
    pub fn set_state(&mut self, v: &View, old: TcpState, new: TcpState, task: Task, now: BootNs) {
        if self.miss > 0 {
            self.miss -= 1;
            self.missed += 1;
            return;
        }
        self.counters.seen += 1;
        let has_storage = self.storage.contains_key(&v.id);
        let left = self.watches(old) || old == TcpState::Close && has_storage;
        let entered = self.watches(new);
        if !(left || entered) {
            self.counters.filtered += 1;
            return;
        }
        let handshake =
            old == TcpState::Close || matches!(new, TcpState::SynSent | TcpState::SynRecv);
        let refused = self.refuses(v, handshake);
        let descriptor = match (new, v.has_socket) {
            (TcpState::Close, true) if v.closing => CLOSING,
            (TcpState::Close, true) => OPEN,
            _ => NO_SOCKET,
        };
        let stays = !refused && if new == TcpState::Close { descriptor == OPEN } else { entered };
        let (ended, ours) = if left { self.leave(v, old, now) } else { Default::default() };
        if stays {
            if !self.begin(v, old, new, now, ours) && !self.settle(v, new, now) {
                self.counters.storage_failed += 1;
            }
        } else if ours && let Some((_, cradle)) = self.cradle(v.address) {
            cradle.words().free();
        }
        if refused {
            self.counters.filtered += 1;
            return;
        }
        let aged = left && self.is_aged(ended, now);
        if !(self.settings.transitions || aged) {
            self.counters.filtered += 1;
            return;
        }
        let change = Change { kind: KIND_TRANSITION, old, new, ended, now };
        if self.emit(v, task, change) {
            self.counters.emitted += 1;
        } else {
            self.counters.ring_full += 1;
        }
    }

    /// tp_btf/tcp_destroy_sock.
    pub fn destroy(&mut self, v: &View, task: Task, now: BootNs) {
        if self.follows_ends && self.storage.contains_key(&v.id) {
            let ended = self.end_in_storage(v.id, v.state);
            if self.is_aged(ended, now) {
                let (old, new) = (v.state, v.state);
                if self.emit(v, task, Change { kind: KIND_DESTROY, old, new, ended, now }) {
                    self.counters.destroy_emitted += 1;
                } else {
                    self.counters.destroy_ring_full += 1;
                }
            }
        }
        self.storage.remove(&v.id);
    }

    fn refuses(&self, v: &View, handshake: bool) -> bool {
        let wanted = self.settings.lport;
        wanted != 0 && v.lport != wanted && !(handshake && v.lport == 0)
    }

    fn is_aged(&self, ended: Ended, now: BootNs) -> bool {
        ended.latest_ns != 0 && now.wrapping_sub(ended.latest_ns) >= self.settings.min_age_ns
    }

    /// Ends the stay in state `old`. True: the slot is ours now.
    fn leave(&mut self, v: &View, old: TcpState, now: BootNs) -> (Ended, bool) {
        if let Some((_, cradle)) = self.cradle(v.address) {
            match cradle.words().end(v.address, old as u8, || cradle.state.get()) {
                Found::Ended(since) => {
                    let ended = Ended {
                        earliest_ns: since,
                        latest_ns: since,
                        sent_before: cradle.sent_before.get(),
                        flags: 0,
                    };
                    // Asked of long stays only.
                    let other = self.is_aged(ended, now) && !cradle.is_of(v);
                    return (if other { Ended::default() } else { ended }, true);
                }
                Found::Stale => return (Ended::default(), true),
                // Moves are not interrupted here; loom tries that.
                Found::Nothing | Found::Moving(_) => {}
            }
        }
        (self.end_in_storage(v.id, old), false)
    }

    fn end_in_storage(&self, id: SocketId, old: TcpState) -> Ended {
        let mut ended = Ended::default();
        let Some(storage) = self.storage.get(&id) else { return ended };
        for kept in [&storage.moved, &storage.settled] {
            let Some(since) = kept.place().since() else { continue };
            let there = Ended {
                earliest_ns: kept.earliest_ns.get(),
                latest_ns: since,
                sent_before: kept.sent_before.get(),
                flags: kept.flags.get(),
            };
            if kept.place().end(since) && kept.state.get() == old as u8 {
                ended = there;
            }
        }
        ended
    }

    /// Begins a stay in the nursery. False: socket storage must take it.
    fn begin(&self, v: &View, old: TcpState, new: TcpState, now: BootNs, kept: bool) -> bool {
        let Some((_, cradle)) = self.cradle(v.address) else { return false };
        if new == TcpState::Close || new == TcpState::CloseWait && !v.has_socket {
            if kept {
                cradle.words().free();
            }
            return false;
        }
        if !kept && !cradle.words().take(v.address) {
            return false;
        }
        if !kept || new == TcpState::Established {
            cradle.cookie.set(cookie_unless_listener(v, old, new));
            cradle.tuple.set(tuple(v));
            cradle.protocol.set(protocol(v));
        }
        let sent_before = if new == TcpState::CloseWait { v.bytes_sent } else { 0 };
        cradle.sent_before.set(sent_before);
        cradle.state.set(new as u8);
        cradle.has_socket.set(v.has_socket);
        cradle.words().begin(now);
        true
    }

    fn storage_or_new(&mut self, id: SocketId) -> Option<&Storage> {
        if self.no_memory && !self.storage.contains_key(&id) {
            return None;
        }
        Some(self.storage.entry(id).or_default())
    }

    fn settle(&mut self, v: &View, new: TcpState, now: BootNs) -> bool {
        let sent_before = if new == TcpState::CloseWait { v.bytes_sent } else { 0 };
        let Some(storage) = self.storage_or_new(v.id) else { return false };
        let kept = &storage.settled;
        kept.place().empty();
        kept.earliest_ns.set(now);
        kept.sent_before.set(sent_before);
        kept.state.set(new as u8);
        kept.flags.set(0);
        kept.place().begin(now);
        true
    }

    fn emit(&mut self, v: &View, task: Task, change: Change) -> bool {
        if self.ring.len() >= self.settings.ring {
            return false;
        }
        let Change { kind, old, new, ended, now } = change;
        let mut t = Transition::new_zeroed();
        (t.time_ns, t.cookie) = (now, cookie_unless_listener(v, old, new));
        (t.earliest_ns, t.latest_ns, t.tuple) = (ended.earliest_ns, ended.latest_ns, tuple(v));
        (t.pid, t.protocol, t.kind) = (task.pid, protocol(v), kind);
        t.socket = match v.has_socket {
            true if v.closing => CLOSING,
            true => OPEN,
            false => NO_SOCKET,
        };
        t.comm[..4].copy_from_slice(b"prog");
        (t.old, t.new) = (old as u8, new as u8);
        t.sent_ago_ns = u64::MAX;
        if self.is_aged(ended, now) && !v.mptcp {
            t.flags = HAS_TCP | ended.flags;
            (t.recv_q, t.send_q, t.sent_ago_ns) = (v.recv_q, v.send_q, v.sent_ago_ns);
            t.bytes_sent = v.bytes_sent.saturating_sub(ended.sent_before);
        }
        self.ring.push_back(t);
        true
    }

    /// iter/bpf_sk_storage_map: the sockets that have storage, after one of them.
    pub fn stored_after(&self, id: Option<SocketId>) -> Option<SocketId> {
        let from = id.map_or(0, |id| id + 1);
        self.storage.range(from..).next().map(|(id, _)| *id)
    }

    /// One step of it: what is listed of the socket.
    pub fn list(&self, v: &View, scan: u32, now: BootNs, all: bool) -> Option<Socket> {
        let storage = self.storage.get(&v.id)?;
        let (settled, moved) = (&storage.settled, &storage.moved);
        let (here, there) = (settled.live(v.state, now), moved.live(v.state, now));
        let kept = if here.is_some() { settled } else { moved };
        let latest_ns = here.or(there)?;
        if let (Some(_), Some(stale)) = (here, there) {
            moved.place().end(stale);
        }
        let age = now.saturating_sub(latest_ns);
        let due_ns = if storage.reported_of.get() == latest_ns { storage.due_ns.get() } else { 0 };
        let due = if due_ns == 0 { age >= self.settings.min_age_ns } else { now >= due_ns };
        if !due && !all {
            return None;
        }
        let mut s = describe(v);
        s.latest_ns = latest_ns;
        (s.state, s.earliest_ns) = (kept.state.get(), kept.earliest_ns.get());
        s.flags |= kept.flags.get();
        s.bytes_sent = s.bytes_sent.saturating_sub(kept.sent_before.get());
        let next = latest_ns + next_doubling(age, self.settings.min_age_ns);
        storage.reported_of.set(latest_ns);
        storage.due_ns.set(if due { next } else { due_ns });
        storage.scan.set(scan);
        Some(s)
    }

    /// iter/task_file: whether the holders of a socket are asked for by this scan.
    pub fn asks_for(&self, id: SocketId, scan: u32) -> bool {
        self.storage.get(&id).is_some_and(|storage| storage.scan.get() == scan)
    }

    /// When the socket's stay in the nursery began; one of another socket, or in another state,
    /// whose end was missed, is thrown out.
    pub fn young_since(&self, v: &View, now: BootNs) -> Option<BootNs> {
        let (_, cradle) = self.cradle(v.address)?;
        let since = cradle.words().since(v.address)?;
        if !cradle.is_of(v) || cradle.is_stale(v, since, now) {
            cradle.words().evict(since);
            return None;
        }
        Some(since)
    }

    /// iter/task_file: moves a stay that has aged to storage; what is listed of the socket.
    pub fn promote(&mut self, v: &View, scan: u32, now: BootNs) -> Option<Socket> {
        let since = self.young_since(v, now)?;
        let age = now.saturating_sub(since);
        let (state, sent_before) = {
            let (_, cradle) = self.cradle(v.address)?;
            (cradle.state.get(), cradle.sent_before.get())
        };
        let mut s = describe(v);
        (s.state, s.earliest_ns, s.latest_ns) = (state, since, since);
        s.bytes_sent = s.bytes_sent.saturating_sub(sent_before);
        if self.storage_or_new(v.id).is_none() {
            self.counters.scan_failed += 1;
            s.flags |= NO_MEMORY;
            return Some(s);
        }
        let storage = self.storage.get(&v.id)?;
        let (_, cradle) = self.cradle(v.address)?;
        let moved = &storage.moved;
        cradle.words().promote(since, moved.place(), || {
            moved.earliest_ns.set(since);
            moved.sent_before.set(sent_before);
            moved.state.set(state);
            moved.flags.set(0);
            storage.reported_of.set(since);
            storage.due_ns.set(since + next_doubling(age, self.settings.min_age_ns));
            storage.scan.set(scan);
            true
        });
        Some(s)
    }

    /// Gives a socket a stay if it is in a watched state and has none; `scan_ns`: when the scan
    /// began.
    pub fn adopt(&mut self, v: &View, scan_ns: BootNs, now: BootNs) {
        let watched = self.watches(v.state) || v.state == TcpState::Close;
        let new = v.state == TcpState::Close && v.rport == 0;
        if !watched || new || self.refuses(v, false) {
            return;
        }
        if let Some((_, cradle)) = self.cradle(v.address)
            && let Some(since) = cradle.words().since(v.address)
        {
            let stale = !cradle.is_of(v) || cradle.is_stale(v, since, scan_ns);
            if !stale || !cradle.words().evict(since) {
                return;
            }
        }
        let (bytes_sent, state) = (v.bytes_sent, v.state);
        let (earliest_ns, latest_ns) = match state {
            TcpState::CloseWait => (
                now.saturating_sub(v.received_ago_ns + SLACK_NS),
                now.saturating_sub(v.acked_ago_ns.saturating_sub(SLACK_NS)),
            ),
            _ => (0, now),
        };
        let Some(storage) = self.storage_or_new(v.id) else {
            self.counters.scan_failed += 1;
            return;
        };
        if storage.settled.live(state, scan_ns).is_some()
            || storage.moved.live(state, scan_ns).is_some()
        {
            return;
        }
        let moved = &storage.moved;
        moved.place().empty();
        moved.earliest_ns.set(earliest_ns);
        moved.sent_before.set(bytes_sent);
        moved.flags.set(SEEDED);
        moved.state.set(state as u8);
        moved.place().adopt(latest_ns);
    }

    /// The nursery as user space sees it: the slots with stays, and when each began.
    pub fn young(&self) -> impl Iterator<Item = (u32, u64, BootNs)> + '_ {
        let stay = |(n, cradle): (usize, &Cradle)| {
            cradle.words().stay_of_any().map(|(owner, since)| (n as u32, owner, since))
        };
        self.slots.iter().enumerate().filter_map(stay)
    }

    /// What a slot says of the stay that began at `since`, if that is still there.
    pub fn still(&self, slot: u32, owner: u64, since: BootNs) -> Option<Socket> {
        let cradle = &self.slots[slot as usize];
        if cradle.words().stay_of_any() != Some((owner, since)) {
            return None;
        }
        let mut s = Socket::new_zeroed();
        (s.kind, s.state, s.protocol) = (KIND_SOCKET, cradle.state.get(), cradle.protocol.get());
        s.flags = UNPLACED | if cradle.has_socket.get() { HAS_SOCKET } else { 0 };
        (s.cookie, s.tuple) = (cradle.cookie.get(), cradle.tuple.get());
        (s.earliest_ns, s.latest_ns) = (since, since);
        (s.sent_ago_ns, s.acked_ago_ns, s.received_ago_ns) = (u64::MAX, u64::MAX, u64::MAX);
        Some(s)
    }

    /// Cookies of all stays in the nursery.
    pub fn young_cookies(&self) -> Vec<u64> {
        self.young().map(|(slot, ..)| self.slots[slot as usize].cookie.get()).collect()
    }

    /// Throws a stay out of the nursery.
    pub fn give_up(&self, slot: u32, since: BootNs) {
        let words = self.slots[slot as usize].words();
        if words.stay_of_any().is_some_and(|(_, there)| there == since) {
            words.evict(since);
        }
    }

    /// How many sockets have storage: what the kernel's memory is used for.
    pub fn stored(&self) -> usize {
        self.storage.len()
    }
}

/// What an event says.
struct Change {
    kind: u8,
    old: TcpState,
    new: TcpState,
    ended: Ended,
    now: BootNs,
}

/// Up to 6.12 the socket of LISTEN to SYN_RECV still has its listener's cookie.
fn cookie_unless_listener(v: &View, old: TcpState, new: TcpState) -> u64 {
    if old == TcpState::Listen && new == TcpState::SynRecv { 0 } else { v.cookie }
}

fn protocol(v: &View) -> u16 {
    if v.mptcp { 262 } else { 6 }
}

fn tuple(v: &View) -> Tuple {
    let address = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1];
    Tuple { laddr: address, raddr: address, netns: 1, lport: v.lport, rport: v.rport }
}

/// Everything an iterator reports of a socket; the times of its stay are the caller's.
pub fn describe(v: &View) -> Socket {
    let mut s = Socket::new_zeroed();
    (s.kind, s.state, s.protocol, s.cookie) = (KIND_SOCKET, v.state as u8, protocol(v), v.cookie);
    s.tuple = tuple(v);
    (s.backlog, s.max_backlog) = (v.queue, v.limit);
    if v.has_socket {
        s.flags |= HAS_SOCKET;
        s.inode = 10_000 + v.cookie;
    }
    (s.sent_ago_ns, s.acked_ago_ns, s.received_ago_ns) = (u64::MAX, u64::MAX, u64::MAX);
    if !v.mptcp {
        s.flags |= HAS_TCP;
        (s.recv_q, s.send_q, s.bytes_sent) = (v.recv_q, v.send_q, v.bytes_sent);
        s.snd_una = v.snd_una;
        s.sent_ago_ns = v.sent_ago_ns;
        (s.acked_ago_ns, s.received_ago_ns) = (v.acked_ago_ns, v.received_ago_ns);
    }
    s
}

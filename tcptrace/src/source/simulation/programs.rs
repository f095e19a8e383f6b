//! The kernel programs, as a model: the same decisions as in `tcptrace-ebpf`, the same slot
//! protocol (`tcptrace_common::slot`), on plain cells. Runs can be missed, the ring can be full,
//! memory can be short, and slots are few.

pub mod records;
pub mod scan;
mod stays;

use std::collections::{BTreeMap, VecDeque};

use tcptrace_common::{
    counters::Counters,
    event::{CLOSING, HAS_TCP, KIND_DESTROY, KIND_TRANSITION, NO_SOCKET, OPEN, Transition},
    slot::Found,
    state::TcpState,
};
use zerocopy::FromZeros;

use self::{
    records::{cookie_unless_listener, protocol, tuple},
    stays::{ModelSlot, Storage},
};
use super::parts::{SocketId, SocketView, Task};
use crate::engine::record::BootNs;

/// What the programs are told at the start.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Shorter stays are no event.
    pub min_age_ns: u64,
    /// Watched states: bit `1 << number`.
    pub states: u32,
    /// Every change is an event.
    pub transitions: bool,
    /// Local port; 0: not asked for.
    pub lport: u16,
    /// Slots of the nursery.
    pub slots: usize,
    /// Records that the ring buffer holds.
    pub ring: usize,
}

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
    slots: Vec<ModelSlot>,
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
            slots: (0..settings.slots).map(|_| ModelSlot::default()).collect(),
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

    fn slot(&self, address: u64) -> Option<(u32, &ModelSlot)> {
        let index = address as usize % self.slots.len().max(1);
        self.slots.get(index).map(|slot| (index as u32, slot))
    }

    /// tp_btf/inet_sock_set_state.
    pub fn set_state(
        &mut self,
        v: &SocketView,
        old: TcpState,
        new: TcpState,
        task: Task,
        now: BootNs,
    ) {
        if self.miss > 0 {
            self.miss -= 1;
            self.missed += 1;
            return;
        }
        self.counters.seen += 1;
        let has_storage = self.storage.contains_key(&v.id);
        let left = self.watches(old) || old == TcpState::Close && has_storage;
        let entered = self.watches(new);
        let ghost = new == TcpState::Close
            && self.watches(TcpState::CloseWait)
            && is_connected(old)
            && v.has_socket;
        if !(left || entered || ghost) {
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
        } else if ours && let Some((_, slot)) = self.slot(v.address) {
            slot.words().free();
        }
        if refused || !(left || entered) {
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
    pub fn destroy(&mut self, v: &SocketView, task: Task, now: BootNs) {
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

    fn refuses(&self, v: &SocketView, handshake: bool) -> bool {
        let wanted = self.settings.lport;
        wanted != 0 && v.lport != wanted && !(handshake && v.lport == 0)
    }

    fn is_aged(&self, ended: Ended, now: BootNs) -> bool {
        ended.latest_ns != 0 && now.wrapping_sub(ended.latest_ns) >= self.settings.min_age_ns
    }

    /// Ends the stay in state `old`. True: the slot is ours now.
    fn leave(&mut self, v: &SocketView, old: TcpState, now: BootNs) -> (Ended, bool) {
        if let Some((_, slot)) = self.slot(v.address) {
            match slot.words().end(v.address, old as u8, || slot.state.get()) {
                Found::Ended(since) => {
                    let ended = Ended {
                        earliest_ns: since,
                        latest_ns: since,
                        sent_before: slot.sent_before.get(),
                        flags: 0,
                    };
                    // Asked of long stays only.
                    let other = self.is_aged(ended, now) && !slot.is_of(v);
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
    fn begin(&self, v: &SocketView, old: TcpState, new: TcpState, now: BootNs, kept: bool) -> bool {
        let Some((_, slot)) = self.slot(v.address) else { return false };
        if new == TcpState::Close || new == TcpState::CloseWait && !v.has_socket {
            if kept {
                slot.words().free();
            }
            return false;
        }
        if !kept && !slot.words().take(v.address) {
            return false;
        }
        if !kept || new == TcpState::Established {
            slot.cookie.set(cookie_unless_listener(v, old, new));
            slot.tuple.set(tuple(v));
            slot.protocol.set(protocol(v));
        }
        let sent_before = if new == TcpState::CloseWait { v.bytes_sent } else { 0 };
        slot.sent_before.set(sent_before);
        slot.state.set(new as u8);
        slot.has_socket.set(v.has_socket);
        slot.words().begin(now);
        true
    }

    fn storage_or_new(&mut self, id: SocketId) -> Option<&Storage> {
        if self.no_memory && !self.storage.contains_key(&id) {
            return None;
        }
        Some(self.storage.entry(id).or_default())
    }

    fn settle(&mut self, v: &SocketView, new: TcpState, now: BootNs) -> bool {
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

    fn emit(&mut self, v: &SocketView, task: Task, change: Change) -> bool {
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
}

/// What an event says.
struct Change {
    kind: u8,
    old: TcpState,
    new: TcpState,
    ended: Ended,
    now: BootNs,
}

/// Whether a socket in this state has, or had, another end that answered.
pub fn is_connected(state: TcpState) -> bool {
    use TcpState::{Close, Listen, SynRecv, SynSent};
    !matches!(state, Close | Listen | SynSent | SynRecv)
}

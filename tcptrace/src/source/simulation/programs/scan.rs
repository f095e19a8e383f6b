//! What a scan asks the programs: the iterators, and the nursery as user space sees it.

use tcptrace_common::{
    event::{ADOPTED, HAS_SOCKET, KIND_SOCKET, NO_MEMORY, Socket, UNPLACED},
    state::TcpState,
};
use zerocopy::FromZeros;

use super::{Programs, records::describe, stays::ModelSlot};
use crate::{
    engine::{record::BootNs, tracker::next_doubling},
    source::simulation::parts::{SocketId, SocketView},
};

/// A stay in the nursery.
#[derive(Clone, Copy, Debug)]
pub struct YoungStay {
    /// The slot's number.
    pub slot: u32,
    /// Its socket's address.
    pub owner: u64,
    /// When it began, ns of the boot clock.
    pub since_ns: BootNs,
}

/// The kernel's stamps are this coarse.
const SLACK_NS: u64 = 8_000_000;

impl Programs {
    /// iter/bpf_sk_storage_map: the sockets that have storage, after one of them.
    pub fn stored_after(&self, id: Option<SocketId>) -> Option<SocketId> {
        let from = id.map_or(0, |id| id + 1);
        self.storage.range(from..).next().map(|(id, _)| *id)
    }

    /// One step of it: what is listed of the socket.
    pub fn list(&self, v: &SocketView, scan: u32, now: BootNs, all: bool) -> Option<Socket> {
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
    pub fn young_since(&self, v: &SocketView, now: BootNs) -> Option<BootNs> {
        let (_, slot) = self.slot(v.address)?;
        let since = slot.words().since(v.address)?;
        if !slot.is_of(v) || slot.is_stale(v, since, now) {
            slot.words().evict(since);
            return None;
        }
        Some(since)
    }

    /// iter/task_file: moves a stay that has aged to storage; what is listed of the socket.
    pub fn promote(&mut self, v: &SocketView, scan: u32, now: BootNs) -> Option<Socket> {
        let since = self.young_since(v, now)?;
        let age = now.saturating_sub(since);
        let (state, sent_before) = {
            let (_, slot) = self.slot(v.address)?;
            (slot.state.get(), slot.sent_before.get())
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
        let (_, slot) = self.slot(v.address)?;
        let moved = &storage.moved;
        slot.words().promote(since, moved.place(), || {
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
    pub fn adopt(&mut self, v: &SocketView, scan_ns: BootNs, now: BootNs) {
        let watched = self.watches(v.state) || v.state == TcpState::Close;
        let new = v.state == TcpState::Close && v.rport == 0;
        if !watched || new || self.refuses(v, false) {
            return;
        }
        if let Some((_, slot)) = self.slot(v.address)
            && let Some(since) = slot.words().since(v.address)
        {
            let stale = !slot.is_of(v) || slot.is_stale(v, since, scan_ns);
            if !stale || !slot.words().evict(since) {
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
        moved.flags.set(ADOPTED);
        moved.state.set(state as u8);
        moved.place().adopt(latest_ns);
    }

    /// The nursery as user space sees it: the slots with stays, and when each began.
    pub fn young(&self) -> impl Iterator<Item = YoungStay> + '_ {
        let stay = |(n, slot): (usize, &ModelSlot)| {
            slot.words().stay_of_any().map(|(owner, since_ns)| YoungStay {
                slot: n as u32,
                owner,
                since_ns,
            })
        };
        self.slots.iter().enumerate().filter_map(stay)
    }

    /// What a slot says of the stay that began there, if it is still there.
    pub fn still(&self, stay: YoungStay) -> Option<Socket> {
        let YoungStay { slot, owner, since_ns: since } = stay;
        let slot = &self.slots[slot as usize];
        if slot.words().stay_of_any() != Some((owner, since)) {
            return None;
        }
        let mut s = Socket::new_zeroed();
        (s.kind, s.state, s.protocol) = (KIND_SOCKET, slot.state.get(), slot.protocol.get());
        s.flags = UNPLACED | if slot.has_socket.get() { HAS_SOCKET } else { 0 };
        (s.cookie, s.tuple) = (slot.cookie.get(), slot.tuple.get());
        (s.earliest_ns, s.latest_ns) = (since, since);
        (s.sent_ago_ns, s.acked_ago_ns, s.received_ago_ns) = (u64::MAX, u64::MAX, u64::MAX);
        Some(s)
    }

    /// Cookies of all stays in the nursery.
    pub fn young_cookies(&self) -> Vec<u64> {
        self.young().map(|stay| self.slots[stay.slot as usize].cookie.get()).collect()
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

//! The nursery as user space sees it: a mapped array of the kernel programs.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use aya::maps::MapData;
use tcptrace_common::event::{HAS_SOCKET, KIND_SOCKET, NO_TIMER, SLOTS, Slot, Socket, UNPLACED};

use crate::source::live::bpf::mapped::Mapped;

/// Young stays, seen without a system call.
pub struct Nursery {
    slots: Mapped<Slot>,
}

/// A slot and the stay that was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Young {
    index: usize,
    sk: u64,
    since_ns: u64,
}

impl Nursery {
    /// Maps the array.
    ///
    /// # Errors
    /// What mmap answers.
    pub fn new(slots: &MapData) -> io::Result<Self> {
        Mapped::new(slots, SLOTS).map(|slots| Self { slots })
    }

    /// The stays that have lasted `min_age_ns` at `now_ns`.
    pub fn aged(&self, now_ns: u64, min_age_ns: u64) -> impl Iterator<Item = Young> + '_ {
        self.all().filter(move |young| now_ns.saturating_sub(young.since_ns) >= min_age_ns)
    }

    /// The cookies of all stays here.
    pub fn cookies(&self) -> impl Iterator<Item = u64> + '_ {
        self.all().map(|young| self.slots.read(young.index).cookie)
    }

    fn all(&self) -> impl Iterator<Item = Young> + '_ {
        (0..SLOTS).filter_map(|index| {
            let (sk, since_ns) = self.stay(index);
            (sk != 0 && since_ns != 0).then_some(Young { index, sk, since_ns })
        })
    }

    /// Whose stay is in a slot, and since when.
    fn stay(&self, index: usize) -> (u64, u64) {
        let slot = self.slots.at(index);
        // SAFETY: within the mapping; plain integers, which the kernel may change at any time.
        unsafe {
            ((&raw const (*slot).sk).read_volatile(), (&raw const (*slot).since_ns).read_volatile())
        }
    }

    /// The slot's number, and when the stay in it began.
    #[must_use]
    pub fn place(&self, young: &Young) -> (u32, u64) {
        (u32::try_from(young.index).unwrap_or(u32::MAX), young.since_ns)
    }

    /// Frees a slot whose stay began at `since_ns`, if that is still in it.
    pub fn give_up(&self, slot: u32, since_ns: u64) {
        let index = slot as usize;
        if index < SLOTS {
            let (sk, since) = self.stay(index);
            if sk != 0 && since == since_ns {
                self.evict(&Young { index, sk, since_ns });
            }
        }
    }

    /// What is known of a stay that is still here.
    #[must_use]
    pub fn still(&self, young: &Young) -> Option<Socket> {
        let slot = self.slots.read(young.index);
        // Checked afterwards: had the slot changed hands meanwhile, its beginning would tell.
        if self.stay(young.index) != (young.sk, young.since_ns) {
            return None;
        }
        Some(Socket {
            kind: KIND_SOCKET,
            recv_q: 0,
            send_q: 0,
            backlog: 0,
            max_backlog: 0,
            state: slot.state,
            flags: UNPLACED | NO_TIMER | if slot.has_socket != 0 { HAS_SOCKET } else { 0 },
            protocol: slot.protocol,
            cookie: slot.cookie,
            earliest_ns: young.since_ns,
            latest_ns: young.since_ns,
            inode: 0,
            cgroup: 0,
            bytes_sent: 0,
            sent_ago_ns: u64::MAX,
            acked_ago_ns: u64::MAX,
            received_ago_ns: u64::MAX,
            drops: 0,
            snd_una: 0,
            tuple: slot.tuple,
        })
    }

    /// Frees the slot of a stay whose end was missed.
    pub fn evict(&self, young: &Young) {
        let slot = self.slots.at(young.index);
        // SAFETY: within the mapping, aligned, and touched as atomics by all who end a stay.
        let (since, owner) = unsafe {
            (
                AtomicU64::from_ptr(&raw mut (*slot).since_ns),
                AtomicU64::from_ptr(&raw mut (*slot).sk),
            )
        };
        // Lost to the kernel program: so much the better.
        if since.compare_exchange(young.since_ns, 0, SeqCst, SeqCst).is_ok() {
            let _ = owner.compare_exchange(young.sk, 0, SeqCst, SeqCst);
        }
    }
}

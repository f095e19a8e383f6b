//! The nursery as user space sees it: a mapped array of the kernel programs.

use std::{io, sync::atomic::AtomicU64};

use aya::maps::MapData;
use tcptrace_common::{
    event::{HAS_SOCKET, KIND_SOCKET, NO_TIMER, NURSERY_SLOTS, NurserySlot, Socket, UNPLACED},
    slot::Slot,
};

use crate::source::live::bpf::mapped::Mapped;

/// Young stays, seen without a system call.
pub struct Nursery {
    slots: Mapped<NurserySlot>,
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
        Mapped::new(slots, NURSERY_SLOTS).map(|slots| Self { slots })
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
        (0..NURSERY_SLOTS).filter_map(|index| {
            let (sk, since_ns) = self.words(index).stay_of_any()?;
            Some(Young { index, sk, since_ns })
        })
    }

    /// The words of a slot that the kernel programs change too.
    fn words(&self, index: usize) -> Slot<&AtomicU64> {
        let slot = self.slots.at(index);
        // SAFETY: within the mapping, which lives as long as we; aligned to 8, and touched as
        // atomics by all.
        unsafe {
            Slot {
                owner: AtomicU64::from_ptr(&raw mut (*slot).sk),
                since: AtomicU64::from_ptr(&raw mut (*slot).since_ns),
            }
        }
    }

    /// The slot's number, and when the stay in it began.
    #[must_use]
    pub fn place(&self, young: &Young) -> (u32, u64) {
        (u32::try_from(young.index).unwrap_or(u32::MAX), young.since_ns)
    }

    /// Throws out the stay that began at `since_ns`, if it is still in the slot.
    pub fn give_up(&self, slot: u32, since_ns: u64) {
        let index = slot as usize;
        if index < NURSERY_SLOTS {
            // False: it ended, so much the better.
            let _ = self.words(index).evict(since_ns);
        }
    }

    /// What is known of a stay that is still here.
    #[must_use]
    pub fn still(&self, young: &Young) -> Option<Socket> {
        let slot = self.slots.read(young.index);
        // Checked afterwards: had the slot changed hands meanwhile, its beginning would tell.
        if self.words(young.index).stay_of_any() != Some((young.sk, young.since_ns)) {
            return None;
        }
        Some(Socket {
            kind: KIND_SOCKET,
            pending: 0,
            retransmits: 0,
            probes: 0,
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
            snd_wnd: u32::MAX,
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
}

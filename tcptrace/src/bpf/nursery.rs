//! The nursery as user space sees it: two mapped arrays of the kernel programs.

use std::{
    io,
    marker::PhantomData,
    os::fd::AsFd,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use aya::maps::MapData;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use tcptrace_common::event::{HAS_SOCKET, KIND_SOCKET, NO_TIMER, SLOTS, Slot, SlotInfo, Socket, UNPLACED};

/// Young stays, seen without a system call.
pub struct Nursery {
    slots: Mapped<Slot>,
    infos: Mapped<SlotInfo>,
}

/// A slot and the stay that was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Young {
    index: usize,
    sk: u64,
    since_ns: u64,
}

impl Nursery {
    /// Maps both arrays.
    ///
    /// # Errors
    /// What mmap answers.
    pub fn new(slots: &MapData, infos: &MapData) -> io::Result<Self> {
        Ok(Self { slots: Mapped::new(slots)?, infos: Mapped::new(infos)? })
    }

    /// The stays that have lasted `min_age_ns` at `now_ns`.
    pub fn aged(&self, now_ns: u64, min_age_ns: u64) -> impl Iterator<Item = Young> + '_ {
        self.all().filter(move |young| now_ns.saturating_sub(young.since_ns) >= min_age_ns)
    }

    /// The cookies of all stays here.
    pub fn cookies(&self) -> impl Iterator<Item = u64> + '_ {
        self.all().map(|young| self.infos.read(young.index).cookie)
    }

    fn all(&self) -> impl Iterator<Item = Young> + '_ {
        (0..SLOTS).filter_map(|index| {
            let Slot { sk, since_ns } = self.slots.read(index);
            (sk != 0 && since_ns != 0).then_some(Young { index, sk, since_ns })
        })
    }

    /// What is known of a stay that is still here.
    #[must_use]
    pub fn still(&self, young: &Young) -> Option<Socket> {
        let info = self.infos.read(young.index);
        // Read before the check: had the slot changed hands meanwhile, its beginning would tell.
        let Slot { sk, since_ns } = self.slots.read(young.index);
        if (sk, since_ns) != (young.sk, young.since_ns) {
            return None;
        }
        Some(Socket {
            kind: KIND_SOCKET,
            recv_q: 0,
            send_q: 0,
            backlog: 0,
            max_backlog: 0,
            state: info.state,
            flags: UNPLACED | NO_TIMER | if info.has_socket != 0 { HAS_SOCKET } else { 0 },
            protocol: info.protocol,
            cookie: info.cookie,
            earliest_ns: since_ns,
            latest_ns: since_ns,
            inode: 0,
            cgroup: 0,
            bytes_sent: 0,
            sent_ago_ns: u64::MAX,
            acked_ago_ns: u64::MAX,
            received_ago_ns: u64::MAX,
            drops: 0,
            pad: 0,
            tuple: info.tuple,
        })
    }

    /// Frees the slot of a stay whose end was missed.
    pub fn evict(&self, young: &Young) {
        // SAFETY: within the mapping, aligned, and touched as an atomic by all who hand it over.
        let owner = unsafe { AtomicU64::from_ptr(&raw mut (*self.slots.at(young.index)).sk) };
        // Lost to the kernel program: so much the better.
        let _ = owner.compare_exchange(young.sk, 0, SeqCst, SeqCst);
    }
}

/// A mapped array map of `SLOTS` values.
struct Mapped<T> {
    start: NonNull<T>,
    values: PhantomData<T>,
}

impl<T: Copy> Mapped<T> {
    const BYTES: usize = SLOTS * size_of::<T>();

    fn new(map: &MapData) -> io::Result<Self> {
        // SAFETY: a fresh mapping of a whole array map, whose values lie one after the other.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                Self::BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map.fd().as_fd(),
                0,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { start, values: PhantomData })
    }

    fn at(&self, index: usize) -> *mut T {
        assert!(index < SLOTS, "no such slot");
        // SAFETY: within the mapping.
        unsafe { self.start.as_ptr().add(index) }
    }

    fn read(&self, index: usize) -> T {
        // SAFETY: within the mapping; plain integers, which the kernel may change at any time.
        unsafe { self.at(index).read_volatile() }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and nothing borrows from it.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), SLOTS * size_of::<T>()) };
    }
}

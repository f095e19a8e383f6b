//! What the programs share with one another and with user space.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_SK_STORAGE_GET_F_CREATE},
    btf_maps::{Array, RingBuf, SkStorage},
    cty::c_void,
    helpers::{bpf_get_smp_processor_id, generated::bpf_sk_storage_get},
    macros::btf_map,
};
use tcptrace_common::{config::Control, counters::PerCpu, event::Transition, slot::Place};

use crate::{offsets, sock::Sock, word::Shared};

/// A socket's stay, where it lasts: kept with the socket, it goes when the socket goes. It is in
/// one of two places, so that the hot path and a scan never write to the same one (see
/// `tcptrace_common::slot`).
#[repr(C)]
pub struct Storage {
    /// What the hot path put here at once.
    pub settled: Kept,
    /// What a scan moved here from the nursery, or adopted.
    pub moved: Kept,
    /// The scan's own notes.
    pub reported: Reported,
}

/// A place for one stay.
#[repr(C)]
pub struct Kept {
    /// It began not after this, ns of the boot clock: its name; 0: there is none.
    pub latest_ns: u64,
    /// It began not before this; 0: unknown.
    pub earliest_ns: u64,
    /// `bytes_sent` when it began.
    pub sent_before: u64,
    /// The state.
    pub state: u8,
    /// `ADOPTED`, or 0.
    pub flags: u8,
    /// To the alignment of the u64 members.
    pub pad: [u8; 6],
}

impl Kept {
    /// `kept`: a valid map value.
    #[inline(always)]
    pub fn place(kept: *mut Self) -> Place<Shared> {
        // SAFETY: a projection to a member, which reads nothing.
        Place(Shared(unsafe { &raw mut (*kept).latest_ns }))
    }
}

/// What scans said of a socket's stay.
#[repr(C)]
pub struct Reported {
    /// The stay, by its name.
    pub of: u64,
    /// When it is to be reported next; 0: when it reaches min-age.
    pub due_ns: u64,
    /// The last scan that reported it.
    pub scan: u32,
    /// To the alignment of the u64 members.
    pub pad: u32,
}

#[btf_map]
pub static STAYS: SkStorage<Storage> = SkStorage::new();

#[btf_map]
pub static EVENTS: RingBuf<Transition, { 1 << 20 }> = RingBuf::new();

/// By CPU number; user space sets the length. A plain array, because a per-CPU one costs the hot
/// path another cache line to find; mapped, because then its values lie on cache lines.
#[btf_map]
pub static CPUS: Array<PerCpu, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
pub static CONTROL: Array<Control, 1> = Array::new();

/// Adds one to a counter of this CPU's. Each is written by one program only, and since 6.1 the
/// kernel runs no program twice at once on one CPU, so a plain addition does.
#[inline(always)]
pub fn count(counter: &mut u64) {
    if offsets::nests() == 0 {
        *counter += 1;
    } else {
        // SAFETY: a valid map value, aligned to 8.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(counter, 1) };
    }
}

/// What is kept for this CPU.
#[inline(always)]
pub fn this_cpu() -> Option<&'static mut PerCpu> {
    // SAFETY: the slot is this CPU's own and lives as long as the program.
    unsafe { CPUS.get_ptr_mut(bpf_get_smp_processor_id()).map(|cpu| &mut *cpu) }
}

/// Counts a stay that a scan could not move to socket storage, or adopt there.
#[inline(always)]
pub fn scan_failed() {
    if let Some(cpu) = this_cpu() {
        count(&mut cpu.counters.scan_failed);
    }
}

/// What is stored with the socket, if anything is.
#[inline(always)]
pub fn storage(sk: Sock) -> Option<&'static mut Storage> {
    get(sk, 0)
}

/// What is stored with the socket, made (all zero) where there was nothing. `None`: the kernel has
/// no memory.
#[inline(always)]
pub fn storage_or_new(sk: Sock) -> Option<&'static mut Storage> {
    get(sk, u64::from(BPF_SK_STORAGE_GET_F_CREATE))
}

#[inline(always)]
fn get(sk: Sock, flags: u64) -> Option<&'static mut Storage> {
    let map = (&raw const STAYS).cast_mut().cast::<c_void>();
    // SAFETY: `map` is a socket storage map of `Storage`, `sk` a socket that the verifier vouches
    // for; the value is valid until the program returns.
    unsafe {
        bpf_sk_storage_get(map, sk.as_ptr(), core::ptr::null_mut(), flags)
            .cast::<Storage>()
            .as_mut()
    }
}

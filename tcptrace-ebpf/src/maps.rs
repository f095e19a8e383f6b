//! What the programs share with one another and with user space.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_SK_STORAGE_GET_F_CREATE},
    btf_maps::{Array, RingBuf, SkStorage},
    cty::c_void,
    helpers::{bpf_get_smp_processor_id, generated::bpf_sk_storage_get},
    macros::btf_map,
};
use tcptrace_common::{config::Control, counters::PerCpu, event::Transition};

use crate::sock::Sock;

/// A socket's stay in a watched state, kept with the socket: it goes when the socket goes.
#[repr(C)]
pub struct Stay {
    /// It began not before this, ns of the boot clock; 0: unknown.
    pub earliest_ns: u64,
    /// It began not after this.
    pub latest_ns: u64,
    /// When it is to be reported next; 0: when it reaches min-age.
    pub due_ns: u64,
    /// `bytes_sent` when it began.
    pub sent_before: u64,
    /// The last look that reported it.
    pub look: u32,
    /// The state; 0 outside the watched ones.
    pub state: u8,
    /// `SEEDED`, or 0.
    pub flags: u8,
    /// To the alignment of the u64 members.
    pub pad: u16,
}

#[btf_map]
pub static STAYS: SkStorage<Stay> = SkStorage::new();

#[btf_map]
pub static EVENTS: RingBuf<Transition, { 1 << 20 }> = RingBuf::new();

/// By CPU number; user space sets the length. A plain array, because a per-CPU one costs the hot
/// path another cache line to find; mapped, because then its values lie on cache lines.
#[btf_map]
pub static CPUS: Array<PerCpu, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
pub static CONTROL: Array<Control, 1> = Array::new();

/// What is kept for this CPU. Each field is written by one program only, and the kernel runs no
/// program twice at once on one CPU, so plain additions are safe.
#[inline(always)]
pub fn this_cpu() -> Option<&'static mut PerCpu> {
    // SAFETY: the slot is this CPU's own and lives as long as the program.
    unsafe { CPUS.get_ptr_mut(bpf_get_smp_processor_id()).map(|cpu| &mut *cpu) }
}

/// The socket's stay, if it has one.
#[inline(always)]
pub fn stay(sk: Sock) -> Option<&'static mut Stay> {
    get(sk, 0)
}

/// The socket's stay, made (all zero) where there was none. `None`: the kernel has no memory.
#[inline(always)]
pub fn stay_or_new(sk: Sock) -> Option<&'static mut Stay> {
    get(sk, u64::from(BPF_SK_STORAGE_GET_F_CREATE))
}

#[inline(always)]
fn get(sk: Sock, flags: u64) -> Option<&'static mut Stay> {
    let map = (&raw const STAYS).cast_mut().cast::<c_void>();
    // SAFETY: `map` is a socket storage map of `Stay`, `sk` a socket that the verifier vouches for;
    // the value is valid until the program returns.
    unsafe {
        bpf_sk_storage_get(map, sk.as_ptr(), core::ptr::null_mut(), flags).cast::<Stay>().as_mut()
    }
}

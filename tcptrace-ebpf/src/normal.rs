//! How long stays last as a rule, by listener and by remote (`--min-age auto`). A program of its
//! own, at the tracepoint of `set_state` and before it, while the stay is still where it was kept.
//! Nothing of it is loaded unless it is asked for.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::Array,
    helpers::generated::bpf_ktime_get_boot_ns,
    macros::{btf_map, btf_tracepoint},
    programs::BtfTracePointContext,
};
use tcptrace_common::{
    counters::{BUCKETS, bucket},
    normal::{BUSY, FREE, NormalOf, NormalSlot, PROBES, READY, slot},
    slot::Word,
};

use crate::{
    filter::{in_netns, watched},
    maps::{self, Kept},
    nursery::Cradle,
    sock::Sock,
    word::Shared,
};

/// User space sets the length, and maps it.
#[btf_map]
static NORMALS: Array<NormalSlot, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn normal(ctx: BtfTracePointContext) -> i32 {
    let old = ctx.arg::<u32>(1);
    if let Some(sk) = Sock::new(ctx.arg(0))
        && watched(old)
        && in_netns(sk)
        && sk.is_tcp()
        && let Some(since) = began(sk, old)
    {
        // SAFETY: the helper takes no argument.
        let now = unsafe { bpf_ktime_get_boot_ns() };
        count(sk, old, bucket(now.saturating_sub(since)));
    }
    0
}

/// When the socket's stay in state `old` began, where that was traced. One that a scan is moving
/// just now is not found.
#[inline(always)]
fn began(sk: Sock, old: u32) -> Option<u64> {
    if let Some(since) = Cradle::of(sk).and_then(|cradle| cradle.began(old)) {
        return Some(since);
    }
    if !sk.has_storage() {
        return None;
    }
    let storage = maps::storage(sk)?;
    for kept in [&raw mut storage.settled, &raw mut storage.moved] {
        // SAFETY: a valid map value.
        let (state, earliest) = unsafe { ((*kept).state, (*kept).earliest_ns) };
        let since = Kept::place(kept).since();
        if u32::from(state) == old && since == Some(earliest) {
            return since;
        }
    }
    None
}

/// Counts a stay in `state`, by what it has in common with others.
#[inline(always)]
fn count(sk: Sock, state: u32, bucket: usize) {
    // A child is a clone of its listener and keeps its limit; who connected out has none.
    let server = sk.max_backlog() != 0;
    let words = NormalOf::of(server, &sk.tuple_in(sk.netns()), state as u8).words();
    for n in 0..PROBES {
        let Some(there) = NORMALS.get_ptr_mut(slot(words, n) as u32) else { return };
        if is_for(there, words) {
            // SAFETY: a valid map value; other CPUs count here too.
            unsafe {
                let stays = (&raw mut (*there).stays).cast::<u64>();
                let bucket = stays.add(bucket & (BUCKETS - 1));
                atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(bucket, 1);
            }
            return;
        }
    }
}

/// Whether the slot is for this; a free one is from now on.
#[inline(always)]
fn is_for(slot: *mut NormalSlot, words: [u64; 3]) -> bool {
    // SAFETY: projections to members of a valid map value.
    let (taken, of) = unsafe { (Shared(&raw mut (*slot).taken), (&raw mut (*slot).of)) };
    match taken.load() {
        READY => {
            // SAFETY: a valid map value, which nobody writes to any more.
            let [a, b, c] = unsafe { of.read_volatile() };
            // Not as arrays: those the compiler compares by a call.
            (a == words[0]) & (b == words[1]) & (c == words[2])
        }
        FREE if taken.exchange(FREE, BUSY) => {
            // SAFETY: a valid map value, and ours.
            unsafe { of.write_volatile(words) };
            taken.store(READY);
            true
        }
        _ => false,
    }
}

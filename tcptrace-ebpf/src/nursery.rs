//! Where stays begin. Socket storage is the place for what lasts, but to make it takes the kernel
//! most of a microsecond, and almost every stay in CLOSE_WAIT is over before that has paid off. So
//! a stay begins in a slot of a plain array, found by the socket's address; a look moves those that
//! last to socket storage, through the descriptor that leads to the socket. User space maps the
//! array and sees without a system call whether there is anything to move.
//!
//! A slot is taken and given back by compare-and-exchange of its `sk`: whoever does it owns the
//! stay. What finds its slot taken by another socket goes to socket storage at once.

use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg};

use aya_ebpf::{bindings::BPF_F_MMAPABLE, btf_maps::Array, macros::btf_map};
use tcptrace_common::event::{SLOTS, Slot, SlotInfo};

use crate::{
    filter::CLOSE_WAIT,
    offsets,
    sock::{Kernel, Sock, bytes_sent},
};

#[btf_map]
pub static NURSERY: Array<Slot, SLOTS, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
pub static NURSERY_INFO: Array<SlotInfo, SLOTS, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The socket's address as a number that means nothing but itself. The verifier takes no
/// arithmetic on a pointer, except its distance from another one; ours never moves.
#[inline(always)]
fn address(sk: Sock) -> u64 {
    (sk.as_ptr() as u64).wrapping_sub(offsets::anchor() as u64)
}

/// Sockets lie at multiples of their slab's object size: a multiplication spreads them
/// (Fibonacci hashing).
#[inline(always)]
fn index(address: u64) -> u32 {
    (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOTS.trailing_zeros())) as u32
}

/// Who has the slot.
#[inline(always)]
fn owner(slot: *mut Slot) -> u64 {
    // SAFETY: a valid map value.
    unsafe { (&raw const (*slot).sk).read_volatile() }
}

/// Gives the slot from one owner to another (0: nobody). False: it was not the first one's.
#[inline(always)]
fn hand_over(slot: *mut Slot, from: u64, to: u64) -> bool {
    // SAFETY: a valid map value, aligned to 8.
    let (_, done) = unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(&raw mut (*slot).sk, from, to) };
    done
}

#[inline(always)]
fn slot_of(address: u64) -> Option<*mut Slot> {
    if offsets::nursery() == 0 { None } else { NURSERY.get_ptr_mut(index(address)) }
}

/// Begins a stay in state `new`. False: socket storage must take it.
#[inline(always)]
pub fn begin(sk: Sock, tcp: Option<Kernel>, old: u32, new: u32, now: u64) -> bool {
    // No descriptor leads to a connection that nobody has accepted: storage alone does.
    let has_socket = sk.has_socket();
    if new == CLOSE_WAIT && !has_socket {
        return false;
    }
    let address = address(sk);
    let Some(slot) = slot_of(address) else { return false };
    let Some(info) = NURSERY_INFO.get_ptr_mut(index(address)) else { return false };
    // Its own address in it: the end of an earlier stay was missed, or of an earlier socket there.
    if owner(slot) != address && !hand_over(slot, 0, address) {
        return false;
    }
    // SAFETY: both are valid map values, and the slot is ours.
    unsafe {
        info.write(SlotInfo {
            cookie: sk.cookie_unless_listener(old, new),
            sent_before: if new == CLOSE_WAIT { bytes_sent(tcp) } else { 0 },
            tuple: sk.tuple(),
            protocol: sk.protocol(),
            state: new as u8,
            has_socket: u8::from(has_socket),
            pad: 0,
        });
        (&raw mut (*slot).since_ns).write_volatile(now);
    }
    true
}

/// Ends the socket's stay, if it is here, and returns when it began.
#[inline(always)]
pub fn end(sk: Sock) -> Option<u64> {
    let address = address(sk);
    let slot = slot_of(address)?;
    if owner(slot) != address {
        return None;
    }
    // SAFETY: a valid map value.
    let since = unsafe { (&raw const (*slot).since_ns).read_volatile() };
    give_back(slot, address).then_some(since)
}

/// The socket's stay, if it is here: its beginning and what else is known.
#[inline(always)]
pub fn peek(sk: Sock) -> Option<(u64, &'static SlotInfo)> {
    let address = address(sk);
    let slot = slot_of(address)?;
    if owner(slot) != address {
        return None;
    }
    let info = NURSERY_INFO.get(index(address))?;
    // SAFETY: a valid map value.
    let since = unsafe { (&raw const (*slot).since_ns).read_volatile() };
    (since != 0).then_some((since, info))
}

/// Gives the socket's slot back once socket storage has its stay. False: the stay ended meanwhile.
#[inline(always)]
pub fn moved(sk: Sock) -> bool {
    let address = address(sk);
    slot_of(address).is_some_and(|slot| give_back(slot, address))
}

#[inline(always)]
fn give_back(slot: *mut Slot, address: u64) -> bool {
    // SAFETY: a valid map value. A reader takes 0 for a stay that begins just now.
    unsafe { (&raw mut (*slot).since_ns).write_volatile(0) };
    hand_over(slot, address, 0)
}

//! Where stays begin. Socket storage is the place for what lasts, but to make it takes the kernel
//! most of a microsecond, and almost every stay in CLOSE_WAIT is over before that has paid off. So
//! a stay begins in a slot of a plain array, found by the socket's address; a look moves those that
//! last to socket storage, through the descriptor that leads to the socket. User space maps the
//! array and sees without a system call whether there is anything to move.
//!
//! A slot is taken by compare-and-exchange of its `sk`, and the stay in it, to end it or to move
//! it, by compare-and-exchange of its beginning. What finds its slot taken by another socket goes
//! to socket storage at once.

use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg};

use aya_ebpf::{bindings::BPF_F_MMAPABLE, btf_maps::Array, macros::btf_map};
use tcptrace_common::event::{SLOTS, Slot};

use crate::{
    filter::{CLOSE, CLOSE_WAIT, ESTABLISHED},
    offsets,
    sock::{Kernel, Sock, bytes_sent},
};

#[btf_map]
pub static NURSERY: Array<Slot, SLOTS, { BPF_F_MMAPABLE as usize }> = Array::new();

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

/// Compare and exchange; false: it was not `from`.
#[inline(always)]
fn exchange(value: *mut u64, from: u64, to: u64) -> bool {
    // SAFETY: the callers pass a member of a valid map value, aligned to 8.
    let (_, done) = unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(value, from, to) };
    done
}

#[inline(always)]
fn slot_of(address: u64) -> Option<*mut Slot> {
    if offsets::nursery() == 0 { None } else { NURSERY.get_ptr_mut(index(address)) }
}

/// Begins a stay in state `new`. `kept`: the slot is the socket's, from its stay before. False:
/// socket storage must take it.
#[inline(always)]
pub fn begin(
    sk: Sock,
    tcp: Option<Kernel>,
    (netns, has_socket): (u32, bool),
    (old, new): (u32, u32),
    now: u64,
    kept: bool,
) -> bool {
    let address = address(sk);
    let Some(slot) = slot_of(address) else { return false };
    // What stays in CLOSE, a ghost, lasts. And no descriptor leads to a connection that nobody has
    // accepted: storage alone does.
    if new == CLOSE || new == CLOSE_WAIT && !has_socket {
        if kept {
            give_back(slot);
        }
        return false;
    }
    // Its own address in it: the end of an earlier stay was missed, or of an earlier socket there.
    // SAFETY: a valid map value.
    if !kept && owner(slot) != address && !exchange(unsafe { &raw mut (*slot).sk }, 0, address) {
        return false;
    }
    // From ESTABLISHED on a connection is called what it was called before.
    if !kept || new == ESTABLISHED {
        // SAFETY: as below.
        unsafe {
            (*slot).cookie = sk.cookie_unless_listener(old, new);
            (*slot).tuple = sk.tuple_in(netns);
            (*slot).protocol = sk.protocol();
        }
    }
    // SAFETY: a valid map value, and the slot is ours; its beginning last, because with it the stay
    // can be seen.
    unsafe {
        (*slot).sent_before = if new == CLOSE_WAIT { bytes_sent(tcp) } else { 0 };
        (*slot).state = new as u8;
        (*slot).has_socket = u8::from(has_socket);
        (&raw mut (*slot).since_ns).write_volatile(now);
    }
    true
}

/// Ends the socket's stay, if it is here, and returns when it began. `keep`: the slot, for the stay
/// that [`begin`]s now.
#[inline(always)]
pub fn end(sk: Sock, keep: bool) -> Option<u64> {
    let address = address(sk);
    let slot = slot_of(address)?;
    let since = began(slot, address)?;
    // A look that is moving it to storage at this moment may be first.
    if !finish(slot, since) {
        return None;
    }
    if !keep {
        give_back(slot);
    }
    Some(since)
}

/// When the socket's stay began, if it is here.
#[inline(always)]
pub fn since(sk: Sock) -> Option<u64> {
    let address = address(sk);
    began(slot_of(address)?, address)
}

/// The socket's slot, whosever it is.
#[inline(always)]
pub fn slot(sk: Sock) -> Option<&'static Slot> {
    // SAFETY: a valid map value, of plain integers.
    slot_of(address(sk)).map(|slot| unsafe { &*slot })
}

/// Gives the slot back of the socket's stay that began at `since`, once socket storage has it.
/// False: the stay ended meanwhile.
#[inline(always)]
pub fn moved(sk: Sock, since: u64) -> bool {
    let Some(slot) = slot_of(address(sk)) else { return false };
    let moved = finish(slot, since);
    if moved {
        give_back(slot);
    }
    moved
}

#[inline(always)]
fn began(slot: *mut Slot, address: u64) -> Option<u64> {
    if owner(slot) != address {
        return None;
    }
    // SAFETY: a valid map value.
    let since = unsafe { (&raw const (*slot).since_ns).read_volatile() };
    (since != 0).then_some(since)
}

/// Takes the stay that began at `since` out of the slot. False: somebody else did.
#[inline(always)]
fn finish(slot: *mut Slot, since: u64) -> bool {
    // SAFETY: a valid map value.
    exchange(unsafe { &raw mut (*slot).since_ns }, since, 0)
}

#[inline(always)]
fn give_back(slot: *mut Slot) {
    // SAFETY: a valid map value, whose stay we have just ended or moved.
    unsafe { (&raw mut (*slot).sk).write_volatile(0) };
}

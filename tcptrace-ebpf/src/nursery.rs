//! Where stays begin. Socket storage is the place for what lasts, but to make it takes the kernel
//! most of a microsecond, and almost every stay in CLOSE_WAIT is over before that has paid off. So
//! a stay begins in a slot of a plain array, found by the socket's address; a scan moves those that
//! last to socket storage, through the descriptor that leads to the socket. User space maps the
//! array and sees without a system call whether there is anything to move.
//!
//! Who may do what to a slot, and when: `tcptrace_common::slot`. What finds its slot taken by
//! another socket goes to socket storage at once.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, btf_maps::Array, macros::btf_map};
use tcptrace_common::{
    event::{NURSERY_SLOTS, NurserySlot},
    slot::{Found, Place, Slot},
};

use crate::{
    filter::{CLOSE, CLOSE_WAIT, ESTABLISHED},
    log::say,
    offsets,
    scan::SETTLED_NS,
    sock::{Kernel, Sock, bytes_sent},
    word::Shared,
};

#[btf_map]
pub static NURSERY: Array<NurserySlot, NURSERY_SLOTS, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The slot that a socket's stays begin in, whosever it is now.
#[derive(Clone, Copy)]
pub struct Cradle {
    /// A valid map value.
    slot: *mut NurserySlot,
    sk: u64,
}

/// What a stay begins with.
pub struct Entry {
    pub tcp: Option<Kernel>,
    pub has_socket: bool,
    pub old: u32,
    pub new: u32,
    pub now: u64,
}

impl Cradle {
    #[inline(always)]
    pub fn of(sk: Sock) -> Option<Self> {
        if offsets::nursery() == 0 {
            return None;
        }
        // The address as a number that means nothing but itself. The verifier takes no arithmetic
        // on a pointer, except its distance from another one; ours never moves.
        let address = (sk.as_ptr() as u64).wrapping_sub(offsets::anchor() as u64);
        // Sockets lie at multiples of their slab's object size: a multiplication spreads them
        // (Fibonacci hashing).
        let spread = address.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let index = (spread >> (64 - NURSERY_SLOTS.trailing_zeros())) as u32;
        NURSERY.get_ptr_mut(index).map(|slot| Self { slot, sk: address })
    }

    #[inline(always)]
    fn words(self) -> Slot<Shared> {
        // SAFETY: projections to members of a valid map value, aligned to 8.
        let (owner, since) = unsafe { (&raw mut (*self.slot).sk, &raw mut (*self.slot).since_ns) };
        Slot { owner: Shared(owner), since: Shared(since) }
    }

    /// Begins a stay. `kept`: the slot is the caller's, from the stay before. False: socket storage
    /// must take it, and the slot is nobody's business any more.
    #[inline(always)]
    pub fn begin(self, sk: Sock, entry: &Entry, kept: bool) -> bool {
        let &Entry { tcp, has_socket, old, new, now } = entry;
        // What stays in CLOSE, a ghost, lasts. And no descriptor leads to a connection that nobody
        // has accepted: storage alone does.
        if new == CLOSE || new == CLOSE_WAIT && !has_socket {
            if kept {
                self.free();
            }
            return false;
        }
        if !kept && !self.words().take(self.sk) {
            return false;
        }
        let slot = self.slot;
        // From ESTABLISHED on a connection is called what it was called before.
        if !kept || new == ESTABLISHED {
            // SAFETY: a valid map value, and the slot is ours.
            unsafe {
                (*slot).cookie = sk.cookie_unless_listener(old, new);
                (*slot).tuple = sk.tuple_in(sk.netns());
                (*slot).protocol = sk.protocol();
            }
        }
        // SAFETY: as above; its beginning last, because with it the stay can be seen.
        unsafe {
            (*slot).sent_before = if new == CLOSE_WAIT { bytes_sent(tcp) } else { 0 };
            (*slot).state = new as u8;
            (*slot).has_socket = u8::from(has_socket);
        }
        self.words().begin(now);
        true
    }

    /// Ends the socket's stay in state `old`, if it is here.
    #[inline(always)]
    pub fn end(self, old: u32) -> Found {
        self.words().end(self.sk, old as u8, || self.state())
    }

    /// When the socket's stay in state `old` began, if it is here and nobody moves it.
    #[inline(always)]
    pub fn began(self, old: u32) -> Option<u64> {
        self.words().since(self.sk).filter(|_| u32::from(self.state()) == old)
    }

    /// Frees a slot that is the caller's.
    #[inline(always)]
    pub fn free(self) {
        self.words().free();
    }

    /// The state of the stay here.
    #[inline(always)]
    pub fn state(self) -> u8 {
        // SAFETY: a valid map value.
        unsafe { (&raw const (*self.slot).state).read_volatile() }
    }

    /// `bytes_sent` when the stay here began.
    #[inline(always)]
    pub fn sent_before(self) -> u64 {
        // SAFETY: a valid map value.
        unsafe { (&raw const (*self.slot).sent_before).read_volatile() }
    }

    /// Whether the stay here is this very socket's, and not that of an earlier one at its address,
    /// whose end was missed.
    #[inline(always)]
    pub fn is_of(self, sk: Sock) -> bool {
        // SAFETY: a valid map value.
        let cookie = unsafe { (&raw const (*self.slot).cookie).read_volatile() };
        cookie == 0 || cookie == sk.cookie()
    }

    /// For a scan: when the socket's stay began, if it is here. One whose end was missed, of an
    /// earlier socket at its address or in another state, is thrown out.
    #[inline(always)]
    pub fn since(self, sk: Sock, now: u64) -> Option<u64> {
        let since = self.words().since(self.sk)?;
        let young = now.saturating_sub(since) < SETTLED_NS;
        if !self.is_of(sk) || !young && self.state() != sk.state() {
            self.words().evict(since);
            say!(sk, "the slot of socket {}, state {}, had a stay of another socket or state");
            return None;
        }
        Some(since)
    }

    /// For a scan, see [`Slot::promote`].
    #[inline(always)]
    pub fn promote(self, since: u64, to: Place<Shared>, fill: impl FnOnce() -> bool) -> bool {
        self.words().promote(since, to, fill)
    }
}

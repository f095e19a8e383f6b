//! Where a stay is kept while it lasts, and how it begins, ends and moves without a lock.
//!
//! A stay lives in one of three places: in its socket's [`Slot`] of the nursery, or in one of the
//! two [`Place`]s of the socket's storage, of which the hot path fills one and the scan the other.
//! Each place has a word that says when the stay there began, 0 where there is none. As no two
//! stays in one place begin at the same time, that word is the stay's name: who exchanges it for 0
//! has ended the stay, or taken it out, and nobody else can have. What else is known of a stay is
//! written before the word is set and read before it is exchanged, so who wins the exchange has
//! read what belongs together.
//!
//! Who takes part: of each socket one change of state at a time (the *hot path*), those of other
//! sockets at any time, and one *scan*.
//!
//! Slot:
//!
//! | owner | since | means |
//! |---|---|---|
//! | 0 | 0 | free |
//! | socket | 0 | in the hands of who took it, or took the stay out: nobody else touches it |
//! | socket | time | a stay |
//! | socket | time and [`MOVING`] | a scan moves it; the place that it fills decides who has it |

/// In [`Slot::since`]: a scan is moving the stay to socket storage.
pub const MOVING: u64 = 1 << 63;

/// In a [`Place`]: the stay ended while it was being moved here. As good as 0 to all but the move.
const ENDED: u64 = u64::MAX;

/// A word that several may change at once.
pub trait Word: Copy {
    /// Reads it; what is read later is not older.
    fn load(self) -> u64;
    /// Sets it; what was stored earlier is seen with it.
    fn store(self, value: u64);
    /// Sets it if it is `from`; false: it was not. Ordered with all before and after.
    fn exchange(self, from: u64, to: u64) -> bool;
}

#[cfg(target_has_atomic = "64")]
impl Word for &core::sync::atomic::AtomicU64 {
    fn load(self) -> u64 {
        self.load(core::sync::atomic::Ordering::SeqCst)
    }

    fn store(self, value: u64) {
        self.store(value, core::sync::atomic::Ordering::SeqCst);
    }

    fn exchange(self, from: u64, to: u64) -> bool {
        use core::sync::atomic::Ordering::SeqCst;
        self.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }
}

/// For one thread that plays all parts.
impl Word for &core::cell::Cell<u64> {
    fn load(self) -> u64 {
        self.get()
    }

    fn store(self, value: u64) {
        self.set(value);
    }

    fn exchange(self, from: u64, to: u64) -> bool {
        self.get() == from && {
            self.set(to);
            true
        }
    }
}

/// A slot of the nursery, which sockets of all the host share.
#[derive(Clone, Copy, Debug)]
pub struct Slot<W> {
    /// A number that stands for the socket while it exists: taken; 0: free.
    pub owner: W,
    /// When the stay began.
    pub since: W,
}

/// What became of a stay that was to end in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is none of this socket.
    Nothing,
    /// It is over, and began then. The slot is the caller's: to begin a stay in, or to free.
    Ended(u64),
    /// It was in another state, so the end of it was missed, and it is gone. The slot as above.
    Stale,
    /// A scan is moving it: see [`Place::end_moving`]. The slot is the scan's.
    Moving(u64),
}

impl<W: Word> Slot<W> {
    /// Takes the slot for a stay of `sk` to [`begin`](Self::begin). False: storage must do.
    #[inline(always)]
    pub fn take(self, sk: u64) -> bool {
        let owner = self.owner.load();
        if owner == 0 {
            return self.owner.exchange(0, sk);
        }
        if owner != sk {
            return false;
        }
        // The end of a stay was missed, of this socket or of an earlier one where it is now. Or a
        // scan has it in hand.
        match self.stay(sk) {
            Some(since) if since & MOVING == 0 => self.since.exchange(since, 0),
            _ => false,
        }
    }

    /// Begins a stay in a slot that is the caller's; all that is known of it is written.
    #[inline(always)]
    pub fn begin(self, now: u64) {
        self.since.store(now);
    }

    /// Frees a slot that is the caller's.
    #[inline(always)]
    pub fn free(self) {
        self.owner.store(0);
    }

    /// Ends the stay of `sk` as it leaves the state `old`. `state`: the one of the stay here.
    #[inline(always)]
    pub fn end(self, sk: u64, old: u8, state: impl FnOnce() -> u8) -> Found {
        let Some(since) = self.stay(sk) else { return Found::Nothing };
        let same = state() == old;
        if since & MOVING == 0 {
            if self.since.exchange(since, 0) {
                return if same { Found::Ended(since) } else { Found::Stale };
            }
            // A scan was first.
            if self.since.load() != since | MOVING {
                return Found::Nothing;
            }
        }
        if same { Found::Moving(since & !MOVING) } else { Found::Nothing }
    }

    /// When the stay of `sk` began, with [`MOVING`], if there is one here.
    ///
    /// The beginning is read first: should the slot change hands in between, an exchange of that
    /// word can't succeed any more.
    #[inline(always)]
    fn stay(self, sk: u64) -> Option<u64> {
        let since = self.since.load();
        (since != 0 && self.owner.load() == sk).then_some(since)
    }

    /// For a scan: when the stay of `sk` began, if there is one here that nobody moves.
    #[inline(always)]
    pub fn since(self, sk: u64) -> Option<u64> {
        self.stay(sk).filter(|since| since & MOVING == 0)
    }

    /// For a scan: whose stay is here, and since when.
    #[inline(always)]
    pub fn stay_of_any(self) -> Option<(u64, u64)> {
        let since = self.since.load();
        let owner = self.owner.load();
        (owner != 0 && since != 0 && since & MOVING == 0 && self.since.load() == since)
            .then_some((owner, since))
    }

    /// For a scan: throws out the stay that began at `since` and frees the slot. False: it ended.
    #[inline(always)]
    pub fn evict(self, since: u64) -> bool {
        let evicted = self.since.exchange(since, 0);
        if evicted {
            self.free();
        }
        evicted
    }

    /// For a scan: moves the stay that began at `since` to the scan's place in its socket's
    /// storage. `fill` writes there what is known of it, and may call it off. False: the stay ended
    /// or was called off, and the place is empty.
    #[inline(always)]
    pub fn promote(self, since: u64, place: Place<W>, fill: impl FnOnce() -> bool) -> bool {
        place.empty();
        if !fill() || !self.since.exchange(since, since | MOVING) {
            return false;
        }
        let moved = place.0.exchange(0, since);
        self.since.store(0);
        self.free();
        moved
    }
}

/// A place for a stay in socket storage: when the stay there began.
#[derive(Clone, Copy, Debug)]
pub struct Place<W>(pub W);

impl<W: Word> Place<W> {
    /// When the stay here began, if there is one.
    #[inline(always)]
    pub fn since(self) -> Option<u64> {
        let since = self.0.load();
        (since != 0 && since != ENDED).then_some(since)
    }

    /// Begins a stay: the hot path in its own place.
    #[inline(always)]
    pub fn begin(self, now: u64) {
        self.0.store(now);
    }

    /// Ends or throws out the stay that began at `since`. False: somebody else did.
    #[inline(always)]
    pub fn end(self, since: u64) -> bool {
        self.0.exchange(since, 0)
    }

    /// Ends a stay that is being moved here from the slot. False: it was over before.
    #[inline(always)]
    pub fn end_moving(self, since: u64) -> bool {
        self.0.exchange(0, ENDED) || self.0.exchange(since, ENDED)
    }

    /// For a scan: empties its place, to fill it.
    #[inline(always)]
    pub fn empty(self) {
        let held = self.0.load();
        if held != 0 {
            self.0.exchange(held, 0);
        }
    }

    /// For a scan: begins a stay in its place, which it has filled.
    #[inline(always)]
    pub fn adopt(self, since: u64) -> bool {
        self.0.exchange(0, since)
    }
}

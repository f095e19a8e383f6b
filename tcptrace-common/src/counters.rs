//! What the kernel programs keep for each CPU: counts, which only grow, and where its stream is.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// States that have a histogram row: the kernel's numbers 0 to 15.
pub const STATES: usize = 16;
/// Histogram slots. Slot 0 counts stays below 1 µs, slot `n` those of `2^(n-1)` to `2^n` µs; the
/// last one also counts everything longer (from 18 minutes on).
pub const SLOTS: usize = 32;

/// One CPU's counters, a cache line. `seen = filtered + emitted + ring_full` holds at any quiet
/// moment.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Counters {
    /// Changes of state, in the watched network namespace if one was asked for, that reached the
    /// program on `inet_sock_set_state`.
    pub seen: u64,
    /// Of those: not asked for, or a stay too short to report.
    pub filtered: u64,
    /// Of those: handed to user space.
    pub emitted: u64,
    /// Of those: wanted, but the ring buffer was full.
    pub ring_full: u64,
    /// Stays that could not be timed because the kernel had no memory for socket storage.
    pub storage_failed: u64,
    /// The same, of sockets that were there before tracing began.
    pub seed_failed: u64,
    /// Ends of sockets that were handed to user space by the program on `tcp_destroy_sock`.
    pub destroy_emitted: u64,
    /// Ends of sockets that were wanted, but the ring buffer was full.
    pub destroy_ring_full: u64,
}

/// Where one CPU's stream is. Each of the two ends has a cache line of its own.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Cursor {
    /// Records that the kernel program has written, from the start.
    pub written: u64,
    /// To the end of the cache line.
    pub pad: [u64; 7],
    /// Of those: records that user space has taken.
    pub taken: u64,
    /// To the end of the cache line.
    pub pad2: [u64; 7],
}

/// All that is kept for one CPU.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct PerCpu {
    /// What was counted.
    pub counters: Counters,
    /// Its stream.
    pub cursor: Cursor,
    /// How long stays were.
    pub histogram: Histogram,
}

/// Stays by the state that was left and by their length, see [`slot`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Histogram {
    /// One row a state.
    pub stays: [[u64; SLOTS]; STATES],
}

/// The histogram slot of a stay of `ns` nanoseconds: the bit length of its whole microseconds,
/// taken as 1,024 ns because a shift costs the hot path nothing. Five compares: BPF has no
/// instruction that counts leading zeros, and the compiler's substitute takes thirty.
#[must_use]
#[inline(always)]
pub const fn slot(ns: u64) -> usize {
    let mut rest = ns >> 10;
    if rest == 0 {
        return 0;
    }
    if rest >= 1 << (SLOTS - 2) {
        return SLOTS - 1;
    }
    let mut slot = 1;
    if rest >= 1 << 16 {
        slot += 16;
        rest >>= 16;
    }
    if rest >= 1 << 8 {
        slot += 8;
        rest >>= 8;
    }
    if rest >= 1 << 4 {
        slot += 4;
        rest >>= 4;
    }
    if rest >= 1 << 2 {
        slot += 2;
        rest >>= 2;
    }
    slot + (rest >> 1) as usize
}

const _: () = {
    assert!(size_of::<Counters>() == 64);
    assert!(size_of::<Cursor>() == 128);
    assert!(size_of::<PerCpu>() == 192 + 8 * SLOTS * STATES);
};

/// The length that all stays of a histogram slot are below, ns; the last slot has no such length.
#[must_use]
pub const fn below(slot: usize) -> Option<u64> {
    if slot < SLOTS - 1 { Some(1024 << slot) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_double() {
        assert_eq!((slot(0), slot(1023), slot(1024), slot(2047)), (0, 0, 1, 1));
        for n in 1..SLOTS - 1 {
            let first = 1u64 << (n - 1) << 10;
            assert_eq!((slot(first), slot(2 * first - 1)), (n, n), "slot {n}");
        }
        assert_eq!((slot(1 << 41), slot(u64::MAX)), (SLOTS - 1, SLOTS - 1));
    }

    #[test]
    fn a_slot_ends_where_the_next_begins() {
        for n in 0..SLOTS - 1 {
            let end = below(n).expect("an end");
            assert_eq!((slot(end - 1), slot(end)), (n, n + 1));
        }
        assert_eq!(below(SLOTS - 1), None);
    }
}

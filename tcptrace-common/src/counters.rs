//! What the kernel programs keep for each CPU: counts, which only grow, and where its stream is.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// States that have a histogram row: the kernel's numbers 0 to 15.
pub const STATES: usize = 16;
/// Histogram buckets. Bucket 0 counts stays below 1 µs, bucket `n` those of `2^(n-1)` to `2^n` µs;
/// the last one also counts everything longer (from 18 minutes on).
pub const BUCKETS: usize = 32;

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
    /// Stays that a scan could not adopt in socket storage, or move there, for the same reason. One
    /// that could not be moved is counted each time.
    pub scan_failed: u64,
    /// Ends of sockets that were handed to user space by the program on `tcp_destroy_sock`.
    pub destroy_emitted: u64,
    /// Ends of sockets that were wanted, but the ring buffer was full.
    pub destroy_ring_full: u64,
}

/// What was not kept of where connections come from, on one CPU.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct OriginCounts {
    /// Moments that were not kept, because all places were taken.
    pub full: u64,
    /// User stacks that were not handed over: too many in a second, or no room.
    pub stacks_lost: u64,
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

/// Stays by the state that was left and by their length, see [`bucket`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Histogram {
    /// One row a state.
    pub stays: [[u64; BUCKETS]; STATES],
}

/// The histogram bucket of a stay of `ns` nanoseconds: the bit length of its whole microseconds,
/// taken as 1,024 ns because a shift costs the hot path nothing. Five compares: BPF has no
/// instruction that counts leading zeros, and the compiler's substitute takes thirty.
#[must_use]
#[inline(always)]
pub const fn bucket(ns: u64) -> usize {
    let mut rest = ns >> 10;
    if rest == 0 {
        return 0;
    }
    if rest >= 1 << (BUCKETS - 2) {
        return BUCKETS - 1;
    }
    let mut bucket = 1;
    if rest >= 1 << 16 {
        bucket += 16;
        rest >>= 16;
    }
    if rest >= 1 << 8 {
        bucket += 8;
        rest >>= 8;
    }
    if rest >= 1 << 4 {
        bucket += 4;
        rest >>= 4;
    }
    if rest >= 1 << 2 {
        bucket += 2;
        rest >>= 2;
    }
    bucket + (rest >> 1) as usize
}

const _: () = {
    assert!(size_of::<Counters>() == 64);
    assert!(size_of::<Cursor>() == 128);
    assert!(size_of::<PerCpu>() == 192 + 8 * BUCKETS * STATES);
};

/// The length that all stays of a histogram bucket are below, ns; the last one has no such length.
#[must_use]
pub const fn below(bucket: usize) -> Option<u64> {
    if bucket < BUCKETS - 1 { Some(1024 << bucket) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_double() {
        assert_eq!((bucket(0), bucket(1023), bucket(1024), bucket(2047)), (0, 0, 1, 1));
        for n in 1..BUCKETS - 1 {
            let first = 1u64 << (n - 1) << 10;
            assert_eq!((bucket(first), bucket(2 * first - 1)), (n, n), "bucket {n}");
        }
        assert_eq!((bucket(1 << 41), bucket(u64::MAX)), (BUCKETS - 1, BUCKETS - 1));
    }

    #[test]
    fn a_bucket_ends_where_the_next_begins() {
        for n in 0..BUCKETS - 1 {
            let end = below(n).expect("an end");
            assert_eq!((bucket(end - 1), bucket(end)), (n, n + 1));
        }
        assert_eq!(below(BUCKETS - 1), None);
    }
}

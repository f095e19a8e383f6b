//! How long stays last as a rule, counted apart by where a connection leads (`--min-age auto`):
//! a table in memory that the kernel program fills and user space looks into.
//!
//! A slot is taken once and for all: `taken` goes from [`FREE`] to [`BUSY`] by
//! compare-and-exchange, then what it is for is written, then `taken` goes to [`READY`]. Who finds
//! it busy passes on, as if it were another's: what leads to one place may then have two slots, and
//! the first one counts.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{counters::BUCKETS, event::Tuple};

/// Slots of the table: so many listeners, remotes and states are told apart.
pub const SLOTS: usize = 4096;
/// Slots in a row that may be what is looked for.
pub const PROBES: usize = 4;

/// [`NormalSlot::taken`]: nobody's.
pub const FREE: u64 = 0;
/// [`NormalSlot::taken`]: being written.
pub const BUSY: u64 = 1;
/// [`NormalSlot::taken`]: the rest can be read.
pub const READY: u64 = 2;

/// Where a connection leads, and the state that it was in: what is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NormalOf {
    /// Of a client's end: the remote address, IPv4 mapped. Of a server's: zeroes.
    pub addr: [u8; 16],
    /// Network namespace (inode number).
    pub netns: u32,
    /// Host order. Of a client's end: the remote port. Of a server's: the local one.
    pub port: u16,
    /// The state, by the kernel's number.
    pub state: u8,
    /// 1: a server's end.
    pub server: u8,
}

impl NormalOf {
    /// Connections that come in at a port.
    #[must_use]
    #[inline(always)]
    pub const fn server(netns: u32, port: u16, state: u8) -> Self {
        Self { addr: [0; 16], netns, port, state, server: 1 }
    }

    /// Connections to a remote end.
    #[must_use]
    #[inline(always)]
    pub const fn client(netns: u32, addr: [u8; 16], port: u16, state: u8) -> Self {
        Self { addr, netns, port, state, server: 0 }
    }

    /// Either, of a connection with these ends.
    #[must_use]
    #[inline(always)]
    pub const fn of(server: bool, ends: &Tuple, state: u8) -> Self {
        if server {
            Self::server(ends.netns, ends.lport, state)
        } else {
            Self::client(ends.netns, ends.raddr, ends.rport, state)
        }
    }

    /// The same as numbers, which compare in three instructions.
    #[must_use]
    #[inline(always)]
    pub const fn words(&self) -> [u64; 3] {
        let a = &self.addr;
        let low = u64::from_ne_bytes([a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]]);
        let high = u64::from_ne_bytes([a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15]]);
        let rest = (self.netns as u64)
            | (self.port as u64) << 32
            | (self.state as u64) << 48
            | (self.server as u64) << 56;
        [low, high, rest]
    }
}

/// The `n`th slot that may be for this (`n` below [`PROBES`]).
#[must_use]
#[inline(always)]
pub const fn slot(words: [u64; 3], n: usize) -> usize {
    // Multiplications spread the bits upwards (Fibonacci hashing), an addition between them keeps
    // two addresses apart whose halves are exchanged.
    let spread = words[0].wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(words[1]);
    let spread = spread.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(words[2]);
    let spread = spread.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((spread >> (64 - SLOTS.trailing_zeros())) as usize + n) & (SLOTS - 1)
}

/// A slot: what it is for, and how long stays were there.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NormalSlot {
    /// [`FREE`], [`BUSY`] or [`READY`].
    pub taken: u64,
    /// [`NormalOf::words`] of what it is for.
    pub of: [u64; 3],
    /// Stays that have ended, by their length, see [`crate::counters::bucket`].
    pub stays: [u64; BUCKETS],
}

const _: () = {
    assert!(SLOTS.is_power_of_two());
    assert!(size_of::<NormalOf>() == 24);
    assert!(size_of::<NormalSlot>() == 32 + 8 * BUCKETS);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_one_host_are_spread() {
        let slots =
            (0..1_000).map(|port| slot(NormalOf::server(4_026_531_840, port, 8).words(), 0));
        let mut taken = [0u8; SLOTS];
        slots.for_each(|slot| taken[slot] += 1);
        assert!(taken.iter().all(|n| usize::from(*n) <= PROBES), "most find a place");
    }

    #[test]
    fn what_differs_in_anything_has_other_words() {
        let of = NormalOf::client(1, [9; 16], 80, 8);
        for other in [
            NormalOf { netns: 2, ..of },
            NormalOf { port: 81, ..of },
            NormalOf { state: 7, ..of },
            NormalOf { server: 1, ..of },
            NormalOf { addr: [8; 16], ..of },
        ] {
            assert_ne!(of.words(), other.words());
        }
    }
}

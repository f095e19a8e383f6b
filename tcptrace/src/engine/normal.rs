//! What is normal: how long stays last as a rule where a socket leads, and from which age on one is
//! worth a word (`--min-age auto`).

/// Stays younger than this are never reported, ns: scans would have to come more often.
pub const YOUNGEST_NS: u64 = 100_000_000;
/// With fewer stays than this nothing is called normal: 999 of 1,000 of them could not be told.
pub const FEWEST: u64 = 1_000;
/// So many of 1,000 stays are shorter than what is called normal.
pub const PER_MILLE: u64 = 999;
/// What is so many times longer than normal is reported.
pub const FACTOR: u64 = 10;

/// How long stays in one state last as a rule where a socket leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normal {
    /// [`PER_MILLE`] of 1,000 were shorter, ns: a power of two in units of 1,024 ns.
    pub below_ns: u64,
    /// So many have ended.
    pub ended: u64,
    /// It is about all connections that came in at the port; else about those to the remote end.
    pub server: bool,
}

impl Normal {
    /// The age from which on a stay is reported, ns.
    #[must_use]
    pub fn reported_from_ns(&self) -> u64 {
        self.below_ns.saturating_mul(FACTOR).max(YOUNGEST_NS)
    }
}

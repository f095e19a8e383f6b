//! The order of rows.

use std::cmp::Ordering;

use super::rows::Row;
use crate::engine::{record::BootNs, verdict::Verdict};

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// How many sockets, the most first.
    #[default]
    Count,
    /// Age, the oldest first.
    Age,
    /// Growth, the quickest first.
    Growth,
    /// Verdict, in the order of `docs/verdicts.md`.
    Verdict,
    /// Name of the process, then pid.
    Holder,
    /// Local end.
    Local,
    /// Remote end.
    Remote,
    /// Bytes not read, the most first.
    RecvQ,
    /// Descriptors used of the limit, the fullest first.
    Descriptors,
    /// When none of them is left, the soonest first.
    Full,
}

impl Sort {
    /// In the order in which keys go through them.
    pub const ALL: [Self; 10] = [
        Self::Count,
        Self::Age,
        Self::Growth,
        Self::Verdict,
        Self::Holder,
        Self::Local,
        Self::Remote,
        Self::RecvQ,
        Self::Descriptors,
        Self::Full,
    ];

    /// As the screen spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Age => "age",
            Self::Growth => "growth",
            Self::Verdict => "verdict",
            Self::Holder => "holder",
            Self::Local => "local",
            Self::Remote => "remote",
            Self::RecvQ => "recv-q",
            Self::Descriptors => "descriptors",
            Self::Full => "full in",
        }
    }

    /// The next one, or the one before, round and round.
    #[must_use]
    pub fn turned(self, back: bool) -> Self {
        let all = Self::ALL.len();
        let at = Self::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Self::ALL[(at + if back { all - 1 } else { 1 }) % all]
    }

    fn compare(self, a: &Row, b: &Row) -> Ordering {
        let by = match self {
            Self::Count => b.count.cmp(&a.count),
            Self::Age => Ordering::Equal,
            Self::Growth => b.growth.cmp(&a.growth),
            Self::Verdict => rank(a.verdict()).cmp(&rank(b.verdict())),
            Self::Holder => name(a).cmp(&name(b)),
            Self::Local => a.local.first.cmp(&b.local.first),
            Self::Remote => a.remote.first.cmp(&b.remote.first),
            Self::RecvQ => b.recv_q.cmp(&a.recv_q),
            Self::Descriptors => fullness(b).cmp(&fullness(a)),
            Self::Full => full_at(a).cmp(&full_at(b)),
        };
        let age = || a.oldest.latest_ns.cmp(&b.oldest.latest_ns);
        by.then_with(age).then_with(|| a.key.cmp(&b.key))
    }
}

fn rank(verdict: Option<Verdict>) -> usize {
    verdict.map_or(usize::MAX, |v| v as usize)
}

/// Rows without a holder come last.
fn name(row: &Row) -> (bool, &str, u32) {
    let holder = row.oldest.holders.first();
    holder.map_or((true, "", 0), |h| (false, h.called(), h.process.pid))
}

/// In thousandths; without a limit that is known, less than anything with one.
fn fullness(row: &Row) -> Option<u64> {
    let (used, limit) = row.descriptors?;
    Some(used.saturating_mul(1_000) / limit?.max(1))
}

/// What is not foretold comes last.
fn full_at(row: &Row) -> BootNs {
    row.full.map_or(BootNs::MAX, |full| full.full_at.est)
}

/// Sorts rows, the same ones always in the same order.
pub fn sort(rows: &mut [Row], by: Sort, reverse: bool) {
    rows.sort_unstable_by(|a, b| {
        let order = by.compare(a, b);
        if reverse { order.reverse() } else { order }
    });
}

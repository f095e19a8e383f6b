//! Counts over time, in bounded memory: when there are too many moments, every second one goes.

use super::counting::{STATES, VERDICTS};
use crate::engine::record::BootNs;

/// What was counted at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// When, ns of the boot clock.
    pub at_ns: BootNs,
    /// Open sockets by state number.
    pub by_state: [u64; STATES],
    /// Open sockets by verdict ([`super::counting::verdict`]).
    pub by_verdict: [u64; VERDICTS],
    /// Leaks that are open.
    pub leaks: u64,
    /// Sockets that got stuck until then.
    pub stuck: u64,
    /// Sockets that were resolved until then.
    pub resolved: u64,
    /// The processes with most of them.
    pub processes: Vec<AtProcess>,
}

/// What was counted of a process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtProcess {
    /// Its number among the incident's processes.
    pub process: u32,
    /// Sockets in CLOSE_WAIT.
    pub close_wait: u64,
    /// Leaks.
    pub leaks: u64,
    /// Descriptors in use, where that was known.
    pub used: Option<u64>,
    /// Descriptors that it may have.
    pub limit: Option<u64>,
}

/// The moments, the oldest first.
#[derive(Clone, Debug)]
pub struct Series {
    moments: Vec<Moment>,
    apart_ns: u64,
}

impl Default for Series {
    fn default() -> Self {
        Self { moments: Vec::new(), apart_ns: Self::FIRST_NS }
    }
}

impl Series {
    /// More are not kept.
    pub const MOMENTS: usize = 512;
    /// Processes of a moment.
    pub const PROCESSES: usize = 16;
    /// At first, moments are so far apart, ns.
    const FIRST_NS: u64 = 250_000_000;

    /// Whether the last moment is long enough ago: so long at least, ns.
    #[must_use]
    pub fn is_due(&self, now: BootNs, least_ns: u64) -> bool {
        let apart = self.apart_ns.max(least_ns);
        self.moments.last().is_none_or(|last| now >= last.at_ns.saturating_add(apart))
    }

    /// Adds a moment; one of the same time takes the place of the one before.
    pub fn push(&mut self, moment: Moment) {
        if self.moments.last().is_some_and(|last| last.at_ns >= moment.at_ns) {
            self.moments.pop();
        }
        if self.moments.len() >= Self::MOMENTS {
            // The newest stays, and so does the beginning, to within one moment.
            let mut n = self.moments.len();
            self.moments.retain(|_| {
                n -= 1;
                n.is_multiple_of(2)
            });
            self.apart_ns = self.apart_ns.saturating_mul(2);
        }
        self.moments.push(moment);
    }

    /// The moments, the oldest first.
    #[must_use]
    pub fn moments(&self) -> &[Moment] {
        &self.moments
    }

    /// How far moments are apart, ns; of fewer than two, nothing.
    #[must_use]
    pub fn apart_ns(&self) -> u64 {
        let ends = self.moments.first().zip(self.moments.last());
        let between = self.moments.len().saturating_sub(1) as u64;
        ends.map_or(0, |(first, last)| (last.at_ns - first.at_ns).checked_div(between).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_watch_is_told_more_coarsely() {
        let mut series = Series::default();
        let (mut now, end) = (7, 7 + 30 * 86_400 * 1_000_000_000);
        while now < end {
            if series.is_due(now, 0) {
                series.push(Moment { at_ns: now, stuck: now, ..Moment::default() });
            }
            assert!(series.moments().len() <= Series::MOMENTS);
            now += 200_000_000 + series.apart_ns / 3;
        }
        let moments = series.moments();
        assert!(moments.len() > Series::MOMENTS / 3, "{}", moments.len());
        assert!(moments.is_sorted_by(|a, b| a.at_ns < b.at_ns));
        assert!(moments[0].at_ns <= 7 + 2 * series.apart_ns, "the beginning is there");
        assert!(now - moments[moments.len() - 1].at_ns <= 2 * series.apart_ns);
    }

    #[test]
    fn one_moment_is_told_once() {
        let mut series = Series::default();
        for stuck in [1, 2] {
            series.push(Moment { at_ns: 5, stuck, ..Moment::default() });
        }
        assert_eq!(series.moments().iter().map(|m| m.stuck).collect::<Vec<_>>(), [2]);
    }
}

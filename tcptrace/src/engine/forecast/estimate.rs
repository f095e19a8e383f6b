//! When something that grows is full.

use super::{Between, NoForecast, Samples, WINDOW_NS};
use crate::engine::{record::BootNs, usage::InUse};

/// When something is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// In use at the latest sample.
    pub used: u64,
    /// How many there may be.
    pub limit: u64,
    /// Growth in an hour.
    pub per_hour: Between<u64>,
    /// When it is full if it goes on like this, ns of the boot clock.
    pub full_at: Between<BootNs>,
}

impl Estimate {
    /// When that which is sampled reaches `limit`.
    ///
    /// # Errors
    /// Why that can't be told.
    pub fn of(samples: &Samples, limit: u64) -> Result<Self, NoForecast> {
        let used = samples.last().map_or(0, |last| last.value);
        Self::with(samples, used, limit)
    }

    /// When what is in use, which grows as leaks came that are so old (ns), reaches its limit.
    ///
    /// # Errors
    /// Why that can't be told.
    pub fn of_leaks(
        ages_ns: &[u64],
        now: BootNs,
        in_use: Option<InUse>,
    ) -> Result<Self, NoForecast> {
        let InUse { used, limit } = in_use.ok_or(NoForecast::NoLimit)?;
        Self::with(&Samples::of_ages(ages_ns, now, WINDOW_NS), used, limit)
    }

    fn with(samples: &Samples, used: u64, limit: u64) -> Result<Self, NoForecast> {
        // RLIM_INFINITY.
        if limit == u64::MAX {
            return Err(NoForecast::NoLimit);
        }
        let pace = samples.pace()?;
        // As if the rest of it had been there from the start.
        let rest = used.saturating_sub(samples.last().map_or(0, |last| last.value));
        let full_at = pace.full_at(limit.saturating_sub(rest))?;
        Ok(Self { used, limit, per_hour: pace.whole_per_hour(), full_at })
    }

    /// How long from `now` until it is full, ns.
    #[must_use]
    pub fn left(&self, now: BootNs) -> Between<u64> {
        let Between { min, est, max } = self.full_at;
        let left = |at: BootNs| at.saturating_sub(now);
        Between { min: left(min), est: left(est), max: left(max) }
    }
}

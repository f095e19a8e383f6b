//! How fast something grows, and when it will be full: the only estimate of a pace from samples.
//!
//! The slope is Theil and Sen's: the median of the slopes between all pairs of samples, which up to
//! 29% of wild samples cannot move out of the rest (Sen 1968, "Estimates of the regression
//! coefficient based on Kendall's tau", JASA 63). Its interval is Sen's, too, from the order
//! statistics of those slopes and the variance of Kendall's S.
//!
//! That interval takes samples as independent, and counts of descriptors are not: one that wanders
//! shows a trend most of the time. So growth must be more than what a random walk with steps like
//! those that were seen reaches by chance, both halves of the samples must grow as well, and the
//! interval is wide enough for all of that. Nothing is claimed of what lies further ahead than
//! [`HORIZON`] times what was seen.

pub mod estimate;
#[cfg(test)]
mod tests;
pub mod told;

use std::collections::VecDeque;

use super::record::BootNs;

/// Samples that are kept.
pub const KEPT: usize = 64;
/// Older samples are forgotten, ns.
pub const WINDOW_NS: u64 = 900_000_000_000;
/// Samples are at least so far apart, ns: nearer ones are left out.
pub const APART_NS: u64 = 900_000_000;
/// Fewer samples show no pace.
pub const FEWEST: usize = 8;
/// Into so many parts of time samples are divided.
const PARTS: u128 = 8;
/// So many times the time seen a pace is believed to go on at most.
pub const HORIZON: u64 = 100;
/// So many standard deviations of a random walk, told by seven steps of it, are not chance however
/// often one looks.
const BEYOND: f64 = 16.0;
/// The same of what never fell in so many samples: a walk does.
const BEYOND_RISING: f64 = 3.0;
const RISEN: usize = 24;
/// Of a normal distribution, two in a hundred lie outside so many deviations.
const DEVIATIONS: f64 = 2.33;

/// What was there at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// When, ns of the boot clock.
    pub at_ns: BootNs,
    /// How many.
    pub value: u64,
}

/// Something between two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between<T> {
    /// At least.
    pub min: T,
    /// As estimated.
    pub est: T,
    /// At most.
    pub max: T,
}

/// Why nothing is forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoForecast {
    /// Fewer than [`FEWEST`] samples.
    TooFew,
    /// It does not grow.
    NotGrowing,
    /// It may grow or not: the samples don't show which.
    TooNoisy,
    /// At this pace it is full later than can be told from what was seen.
    TooFar,
    /// There is no limit, or it isn't known.
    NoLimit,
}

/// The samples of one number, the oldest first: bounded in number and in time.
#[derive(Clone, Debug, Default)]
pub struct Samples(VecDeque<Sampled>);

impl Samples {
    /// What samples of a number would have been until `now` to which came one at each of these ages
    /// (ns), and from which none goes: of the last `window_ns` at most.
    #[must_use]
    pub fn of_ages(ages_ns: &[u64], now: BootNs, window_ns: u64) -> Self {
        let mut ages = ages_ns.to_vec();
        ages.sort_unstable();
        let length = ages.last().copied().unwrap_or(0).min(window_ns).min(WINDOW_NS);
        let step = (length / (KEPT as u64 - 1)).max(APART_NS);
        let mut samples = Self::default();
        for n in (0..=length / step).rev() {
            let before = n * step;
            let there = ages.len() - ages.partition_point(|age| *age < before);
            let at_ns = now.saturating_sub(before);
            samples.add(Sampled { at_ns, value: there as u64 });
        }
        samples
    }

    /// Adds one. Time does not go back: an older one is left out, and so is one that comes too soon
    /// after the last. A fall to less than half is a new beginning (a restart, a great clean-up):
    /// what was before says nothing of what comes.
    pub fn add(&mut self, sample: Sampled) {
        if let Some(last) = self.0.back() {
            if sample.value < last.value / 2 && sample.at_ns > last.at_ns {
                self.0.clear();
            } else if sample.at_ns < last.at_ns.saturating_add(APART_NS) {
                return;
            }
        }
        self.0.push_back(sample);
        let from = sample.at_ns.saturating_sub(WINDOW_NS);
        while self.0.len() > 1 && self.0.front().is_some_and(|first| first.at_ns < from) {
            self.0.pop_front();
        }
        if self.0.len() > KEPT {
            // Every second one of the older half goes: long is seen, and the last of it well.
            let mut n = 0;
            self.0.retain(|_| {
                n += 1;
                n > KEPT / 2 || n % 2 == 1
            });
        }
    }

    /// The latest.
    #[must_use]
    pub fn last(&self) -> Option<Sampled> {
        self.0.back().copied()
    }

    /// From the first to the last, ns.
    #[must_use]
    pub fn span_ns(&self) -> u64 {
        let first = self.0.front().map_or(0, |first| first.at_ns);
        self.last().map_or(0, |last| last.at_ns.saturating_sub(first))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How fast it grows, as far as that can be told: over all samples, else over the newer half of
    /// them, for what has begun to grow not long ago.
    ///
    /// # Errors
    /// Why it can't, over all samples.
    pub fn pace(&self) -> Result<Growth, NoForecast> {
        let all: Vec<Sampled> = self.0.iter().copied().collect();
        let whole = pace(&all);
        whole.or_else(|why| pace(&all[all.len() / 2..]).map_err(|_| why))
    }
}

/// A pace that was shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Growth an hour. All of it is more than nothing.
    pub per_hour: Between<f64>,
    /// The latest sample.
    last: Sampled,
    /// Where the line through the samples is at that time.
    level: f64,
    /// How long was looked at, ns.
    seen_ns: u64,
}

const HOUR_NS: f64 = 3_600_000_000_000.0;

impl Growth {
    /// The same in whole numbers, rounded outwards.
    #[must_use]
    pub fn whole_per_hour(&self) -> Between<u64> {
        let Between { min, est, max } = self.per_hour;
        // From a float, too large is the largest.
        Between { min: min.floor() as u64, est: est.round() as u64, max: max.ceil() as u64 }
    }

    /// When `limit` is reached if it goes on like this, ns of the boot clock.
    ///
    /// # Errors
    /// [`NoForecast::TooFar`].
    pub fn full_at(&self, limit: u64) -> Result<Between<BootNs>, NoForecast> {
        let left = |used: f64, per_hour: f64| {
            let hours = (limit as f64 - used).max(0.0) / per_hour;
            // From a float, too large is the largest.
            self.last.at_ns.saturating_add((hours * HOUR_NS) as u64)
        };
        let used = self.last.value as f64;
        let Between { min, est, max } = self.per_hour;
        let est = left(used, est);
        let horizon = self.last.at_ns.saturating_add(self.seen_ns.saturating_mul(HORIZON));
        if est > horizon {
            return Err(NoForecast::TooFar);
        }
        // A sample may be off the line by chance, or the line may be wrong: both are within.
        Ok(Between {
            min: left(used.max(self.level), max).min(est),
            est,
            max: left(used.min(self.level), min).max(est),
        })
    }
}

/// The slope of `samples`, growth in an hour; `None` of fewer than two.
#[must_use]
pub fn per_hour(samples: &[Sampled]) -> Option<f64> {
    middle(&slopes(samples))
}

/// The pace of samples whose times rise.
///
/// # Errors
/// Why none was shown.
pub fn pace(samples: &[Sampled]) -> Result<Growth, NoForecast> {
    let n = samples.len();
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return Err(NoForecast::TooFew);
    };
    if n < FEWEST {
        return Err(NoForecast::TooFew);
    }
    if samples.iter().all(|sample| sample.value == first.value) {
        return Err(NoForecast::NotGrowing);
    }
    let wander = Wander::of(samples).ok_or(NoForecast::TooFew)?;
    if wander.drift <= 0.0 {
        return Err(NoForecast::NotGrowing);
    }
    if wander.drift < wander.by_chance * beyond_chance(samples) {
        return Err(NoForecast::TooNoisy);
    }
    let slopes = slopes(samples);
    let est = middle(&slopes).ok_or(NoForecast::TooFew)?;
    if est <= 0.0 {
        return Err(NoForecast::NotGrowing);
    }
    let (low, high) = bounds(&slopes, n).ok_or(NoForecast::TooFew)?;
    let (older, newer) = samples.split_at(n / 2);
    let halves = [older, newer].map(|half| per_hour(half).unwrap_or(0.0));
    let walked = DEVIATIONS * wander.by_chance;
    let min = halves.into_iter().fold(low.min(wander.drift - walked), f64::min);
    let max = halves.into_iter().fold(high.max(wander.drift + walked), f64::max);
    if min <= 0.0 {
        return Err(NoForecast::TooNoisy);
    }
    let hours = |sample: &Sampled| last.at_ns.saturating_sub(sample.at_ns) as f64 / HOUR_NS;
    let mut levels: Vec<f64> = samples.iter().map(|s| s.value as f64 + est * hours(s)).collect();
    levels.sort_unstable_by(f64::total_cmp);
    Ok(Growth {
        per_hour: Between { min: min.min(est), est, max: max.max(est) },
        last: *last,
        level: middle(&levels).unwrap_or(last.value as f64),
        seen_ns: last.at_ns.saturating_sub(first.at_ns),
    })
}

/// The steps between eighths of the time, each at its median, taken as those of a random walk:
/// steps that know nothing of each other. What goes up and down within an eighth is no step.
struct Wander {
    /// Growth an hour from the first of them to the last.
    drift: f64,
    /// One standard deviation of that, if steps up were as likely as steps down.
    by_chance: f64,
}

impl Wander {
    fn of(samples: &[Sampled]) -> Option<Self> {
        let (first, last) = (samples.first()?, samples.last()?);
        let span = u128::from(last.at_ns.saturating_sub(first.at_ns).max(1));
        let eighth = |s: &Sampled| {
            let since = u128::from(s.at_ns.saturating_sub(first.at_ns));
            (since * PARTS / span).min(PARTS - 1)
        };
        let eighths: Vec<(f64, f64)> = samples
            .chunk_by(|a, b| eighth(a) == eighth(b))
            .filter_map(|part| {
                let sorted = |of: fn(&Sampled) -> u64| {
                    let mut list: Vec<f64> = part.iter().map(|s| of(s) as f64).collect();
                    list.sort_unstable_by(f64::total_cmp);
                    list
                };
                Some((middle(&sorted(|s| s.at_ns))? / HOUR_NS, middle(&sorted(|s| s.value))?))
            })
            .collect();
        let (first, last) = (eighths.first()?, eighths.last()?);
        let whole = last.0 - first.0;
        let drift = (last.1 - first.1) / whole;
        let steps = eighths.windows(2).map(|pair| (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1));
        let steps: Vec<(f64, f64)> = steps.filter(|(hours, _)| *hours > 0.0).collect();
        if steps.len() < 2 {
            return None;
        }
        // A walk's variance grows as its time does.
        let of_an_hour = |(hours, rise): &(f64, f64)| (rise - drift * hours).powi(2) / hours;
        let variance = steps.iter().map(of_an_hour).sum::<f64>() / (steps.len() - 1) as f64;
        Some(Self { drift, by_chance: (variance / whole).sqrt() })
    }
}

/// So many deviations are not chance.
fn beyond_chance(samples: &[Sampled]) -> f64 {
    let falls = samples.windows(2).any(|pair| pair[1].value < pair[0].value);
    if falls || samples.len() < RISEN { BEYOND } else { BEYOND_RISING }
}

/// The slopes between all pairs, growth in an hour, the smallest first. Pairs of one moment have
/// none.
fn slopes(samples: &[Sampled]) -> Vec<f64> {
    let pairs = samples.iter().enumerate().flat_map(|(i, a)| {
        samples[i + 1..].iter().filter(|b| b.at_ns > a.at_ns).map(move |b| {
            (b.value as f64 - a.value as f64) * (HOUR_NS / (b.at_ns - a.at_ns) as f64)
        })
    });
    let mut slopes: Vec<f64> = pairs.collect();
    slopes.sort_unstable_by(f64::total_cmp);
    slopes
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let n = sorted.len();
    let high = *sorted.get(n / 2)?;
    Some(if n % 2 == 1 { high } else { f64::midpoint(sorted[n / 2 - 1], high) })
}

/// Sen's interval of the slope of `n` samples, without his correction for ties: it is wider so.
fn bounds(slopes: &[f64], n: usize) -> Option<(f64, f64)> {
    let samples = n as f64;
    let variance = samples * (samples - 1.0) * (2.0 * samples + 5.0) / 18.0;
    let outside = (slopes.len() as f64 - DEVIATIONS * variance.sqrt()) / 2.0;
    if outside < 0.0 {
        return None;
    }
    // Rounded outwards.
    let low = outside as usize;
    let high = slopes.len().checked_sub(1 + low)?;
    Some((*slopes.get(low)?, *slopes.get(high)?))
}

//! Counts over the last minutes, and small pictures of them.

use std::collections::VecDeque;

use crate::engine::record::BootNs;

/// Samples are a second apart.
const APART_NS: u64 = 1_000_000_000;
/// Wider screens show no more than four minutes.
const KEPT: usize = 240;

/// What is counted each second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Rows in CLOSE_WAIT.
    pub close_wait: u64,
    /// Sockets that were new, a second.
    pub new: u64,
    /// Sockets that were resolved, a second.
    pub resolved: u64,
}

/// The samples, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
    last: Option<Since>,
}

/// Counts since the start, at a moment.
#[derive(Clone, Copy, Debug)]
struct Since {
    at: BootNs,
    new: u64,
    resolved: u64,
}

impl History {
    /// Takes in counts: rows in CLOSE_WAIT now, and all that were new and were resolved since the
    /// start.
    pub fn count(&mut self, now: BootNs, close_wait: u64, new: u64, resolved: u64) {
        let counted = Since { at: now, new, resolved };
        let Some(before) = self.last else {
            // What was there already did not come in this second.
            self.last = Some(counted);
            self.push(Sample { close_wait, new: 0, resolved: 0 });
            return;
        };
        let passed = now.saturating_sub(before.at);
        if passed < APART_NS {
            if let Some(last) = self.samples.back_mut() {
                last.close_wait = close_wait;
            }
            return;
        }
        let rate = |now: u64, before: u64| {
            let ns = u128::from(now.saturating_sub(before)) * u128::from(APART_NS);
            u64::try_from(ns.div_ceil(u128::from(passed))).unwrap_or(u64::MAX)
        };
        self.push(Sample {
            close_wait,
            new: rate(new, before.new),
            resolved: rate(resolved, before.resolved),
        });
        self.last = Some(counted);
    }

    fn push(&mut self, sample: Sample) {
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The newest sample.
    #[must_use]
    pub fn newest(&self) -> Sample {
        self.samples.back().copied().unwrap_or_default()
    }

    /// A picture of one of the counts, `width` columns, the newest at the right.
    #[must_use]
    pub fn picture(&self, width: usize, of: impl Fn(&Sample) -> u64) -> String {
        let from = self.samples.len().saturating_sub(width);
        let shown: Vec<u64> = self.samples.iter().skip(from).map(of).collect();
        let most = shown.iter().copied().max().unwrap_or(0);
        let blank = std::iter::repeat_n(' ', width - shown.len());
        blank.chain(shown.into_iter().map(|n| bar(n, most))).collect()
    }
}

/// Something is never shown as nothing.
fn bar(n: u64, most: u64) -> char {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    if n == 0 {
        return ' ';
    }
    let height = (u128::from(n) * BARS.len() as u128).div_ceil(u128::from(most.max(1)));
    BARS[usize::try_from(height).unwrap_or(BARS.len()).clamp(1, BARS.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = APART_NS;

    #[test]
    fn rates_are_by_the_second() {
        let mut history = History::default();
        history.count(0, 5, 1_000, 7);
        assert_eq!(history.newest(), Sample { close_wait: 5, new: 0, resolved: 0 });
        history.count(SECOND / 2, 6, 1_002, 7);
        assert_eq!(history.newest().close_wait, 6, "the number is as of now");
        history.count(2 * SECOND, 9, 1_010, 8);
        assert_eq!(history.newest(), Sample { close_wait: 9, new: 5, resolved: 1 });
    }

    #[test]
    fn pictures_end_with_the_newest() {
        let mut history = History::default();
        for (second, rows) in [0, 1, 4, 8].into_iter().enumerate() {
            history.count(second as u64 * SECOND, rows, 0, 0);
        }
        assert_eq!(history.picture(6, |s| s.close_wait), "   ▁▄█");
        assert_eq!(history.picture(2, |s| s.close_wait), "▄█");
        assert_eq!(history.picture(0, |s| s.close_wait), "");
        for second in 4..1_000 {
            history.count(second * SECOND, u64::MAX, second, 0);
        }
        assert_eq!(history.picture(KEPT + 9, |s| s.new).chars().count(), KEPT + 9);
    }
}

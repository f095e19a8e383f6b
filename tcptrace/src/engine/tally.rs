//! Counts by something of which there may be any number, in bounded memory.

use std::{collections::HashMap, hash::Hash};

/// Counts by key. Beyond [`Self::KEPT`] keys those with the smallest counts are counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally<K: Eq + Hash> {
    counts: HashMap<K, u64>,
    others: u64,
}

impl<K: Eq + Hash> Default for Tally<K> {
    fn default() -> Self {
        Self { counts: HashMap::new(), others: 0 }
    }
}

impl<K: Clone + Eq + Hash + Ord> Tally<K> {
    /// Keys that are told apart at the most.
    pub const KEPT: usize = 1024;

    /// Counts one.
    pub fn add(&mut self, key: K) {
        *self.counts.entry(key).or_default() += 1;
        if self.counts.len() > Self::KEPT {
            self.merge_smallest();
        }
    }

    /// Takes one back that was counted before.
    pub fn remove(&mut self, key: &K) {
        match self.counts.get_mut(key) {
            Some(1) => drop(self.counts.remove(key)),
            Some(n) => *n -= 1,
            None => self.others = self.others.saturating_sub(1),
        }
    }

    /// One in four keys, so that it is done seldom.
    fn merge_smallest(&mut self) {
        let mut counts: Vec<u64> = self.counts.values().copied().collect();
        let (_, &mut limit, _) = counts.select_nth_unstable(Self::KEPT / 4);
        let mut left = Self::KEPT / 4;
        let others = &mut self.others;
        self.counts.retain(|_, n| {
            let goes = *n <= limit && left > 0;
            if goes {
                left -= 1;
                *others += *n;
            }
            !goes
        });
    }

    /// The keys and their counts, the largest first.
    #[must_use]
    pub fn sorted(&self) -> Vec<(K, u64)> {
        let mut list: Vec<(K, u64)> = self.counts.iter().map(|(k, n)| (k.clone(), *n)).collect();
        list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        list
    }

    /// What is counted without being told apart.
    #[must_use]
    pub fn others(&self) -> u64 {
        self.others
    }

    /// All that is counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum::<u64>() + self.others
    }

    /// Whether nothing is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// How many keys are told apart.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_are_kept() {
        let mut tally = Tally::default();
        for key in 0..100_000u64 {
            tally.add(key);
            tally.add(key % 7);
        }
        let sorted = tally.sorted();
        assert!(sorted.len() <= Tally::<u64>::KEPT);
        assert!(sorted[..7].iter().all(|(key, n)| *key < 7 && *n >= 14_000), "{:?}", &sorted[..8]);
        assert_eq!(tally.total(), 200_000);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(keys in proptest::collection::vec(0u32..3000, 0..5000)) {
            let mut tally = Tally::default();
            keys.iter().for_each(|key| tally.add(*key));
            prop_assert_eq!(tally.total(), keys.len() as u64);
            keys.iter().for_each(|key| tally.remove(key));
            prop_assert!(tally.len() <= Tally::<u32>::KEPT);
            if tally.others() == 0 {
                prop_assert!(tally.is_empty());
            }
        }
    }
}

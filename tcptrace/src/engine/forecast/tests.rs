use proptest::{collection::vec, prelude::*};

use super::*;
use crate::engine::usage::InUse;

const SECOND: u64 = 1_000_000_000;

fn samples(values: impl IntoIterator<Item = u64>) -> Samples {
    let mut samples = Samples::default();
    for (n, value) in (1..).zip(values) {
        samples.add(Sampled { at_ns: n * SECOND, value });
    }
    samples
}

fn line(n: u64, from: u64, step: u64) -> Vec<Sampled> {
    (0..n).map(|i| Sampled { at_ns: (i + 1) * SECOND, value: from + i * step }).collect()
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

#[test]
fn why_there_is_none() {
    assert_eq!(samples([]).pace().err(), Some(NoForecast::TooFew));
    assert_eq!(samples(0..7).pace().err(), Some(NoForecast::TooFew));
    assert_eq!(samples([5; 30]).pace().err(), Some(NoForecast::NotGrowing));
    assert_eq!(samples((100..130).rev()).pace().err(), Some(NoForecast::NotGrowing));
    let swings = (0..40).map(|n| 100 + n % 7 * 10 + n / 10);
    assert!(samples(swings).pace().is_err(), "a busy server");
    let once = (0..40).map(|n| if n < 20 { 100 } else { 200 });
    assert!(samples(once).pace().is_err(), "a step is no pace");
    let far = samples(0..20).pace().expect("a pace").full_at(1_000_000);
    assert_eq!(far, Err(NoForecast::TooFar));
}

#[test]
fn what_began_to_grow_not_long_ago() {
    let pace = samples((0..40).map(|n: u64| 100 + n.saturating_sub(19) * 5)).pace();
    assert!(near(pace.expect("seen in the newer half").per_hour.est, 18_000.0));
}

#[test]
fn a_new_beginning() {
    let mut samples = samples((0..20).map(|n| 1_000 + n));
    samples.add(Sampled { at_ns: 21 * SECOND, value: 10 });
    assert_eq!((samples.len(), samples.last().map(|s| s.value)), (1, Some(10)));
    samples.add(Sampled { at_ns: 20 * SECOND, value: 11 });
    samples.add(Sampled { at_ns: 21 * SECOND, value: 12 });
    assert_eq!(samples.len(), 1, "time does not go back, nor stand");
}

/// What explain sees in one look: how old the leaks are.
#[test]
fn from_the_ages_of_leaks() {
    let now = 1_000 * SECOND;
    let of = |ages: Vec<u64>| {
        let ages: Vec<u64> = ages.into_iter().map(|age| age * SECOND).collect();
        estimate::Estimate::of_leaks(&ages, now, InUse::of(Some(50 + ages.len() as u64), Some(200)))
    };
    let steady = of((1..=50).collect()).expect("one a second");
    let Between { min, est, max } = steady.left(now);
    assert!(est.abs_diff(100 * SECOND) < 3 * SECOND, "{steady:?}");
    assert!(min <= 100 * SECOND && 100 * SECOND <= max, "{steady:?}");
    assert_eq!((steady.used, steady.limit), (100, 200));
    assert_eq!(of(vec![500]), Err(NoForecast::NotGrowing), "one leak has no pace");
    assert_eq!(of(vec![0; 20]), Err(NoForecast::TooFew), "all just now");
    assert!(of(vec![60; 20]).is_err(), "all at once, a minute ago");
    assert!(of((300..350).collect()).is_err(), "no more for five minutes");
    let free = estimate::Estimate::of_leaks(&[], now, InUse::of(Some(5), Some(u64::MAX)));
    assert_eq!(free, Err(NoForecast::NoLimit));
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    /// Below `n`.
    fn below(&mut self, n: u64) -> i64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n) as i64
    }
}

/// Of 100 times ten minutes, a sample a second, how many claim that 1,024 will be reached, looking
/// every eight seconds.
fn claimed(mut next: impl FnMut(&mut Random, i64, u64) -> i64) -> usize {
    let mut random = Random(1);
    let mut once = || {
        let (mut value, mut samples) = (100_i64, Samples::default());
        (1..=600).any(|second| {
            value = next(&mut random, value, second);
            samples.add(Sampled { at_ns: second * SECOND, value: value.unsigned_abs() });
            second % 8 == 0 && samples.pace().and_then(|pace| pace.full_at(1_024)).is_ok()
        })
    };
    (0..100).filter(|_| once()).count()
}

/// Counts that wander have no pace: how often one is claimed all the same.
#[test]
fn what_wanders_is_seldom_taken_for_growth() {
    let walk = claimed(|random, value, _| (value + random.below(7) - 3).max(3));
    let level = claimed(|random, _, _| 100 + random.below(40));
    let pulled =
        claimed(|random, value, _| (value + random.below(7) - 3 + (100 - value) / 20).max(0));
    let pool = claimed(|random, value, _| match random.below(10) {
        0 => 100 + random.below(60),
        _ => value + random.below(3) - 1,
    });
    let all = [walk, level, pulled, pool];
    assert!(all.iter().all(|claimed| *claimed <= 6), "{all:?} of 100");
}

/// A leak is found under a load that goes up and down.
#[test]
fn what_leaks_is_found() {
    let steady = claimed(|_, value, _| value + 1);
    let now_and_then = claimed(|random, value, _| value + i64::from(random.below(5) == 0));
    let slow = claimed(|random, value, _| value + i64::from(random.below(20) == 0));
    let mut leaked = 0;
    let loaded = claimed(|random, _, second| {
        leaked = if second == 1 { 0 } else { leaked + random.below(3) };
        100 + leaked + random.below(40)
    });
    let all = [steady, now_and_then, slow, loaded];
    assert!(all.iter().all(|claimed| *claimed >= 95), "{all:?} of 100");
}

proptest! {
    #[test]
    fn of_a_line_it_is_exact(n in 8u64..60, from in 0u64..10_000, step in 1u64..1_000) {
        let pace = pace(&line(n, from, step)).expect("it grows");
        let exact = step as f64 * 3_600.0;
        let Between { min, est, max } = pace.per_hour;
        prop_assert!([min, est, max].into_iter().all(|slope| near(slope, exact)), "{pace:?}");
        let full = pace.full_at(from + (n + 9) * step).expect("near");
        let after = (n + 10) * SECOND;
        prop_assert!(full.est.abs_diff(after) < 1_000, "{full:?} {after}");
        prop_assert!(full.max - full.min < 10_000);
    }

    #[test]
    fn wild_samples_do_not_matter(
        n in 20usize..60, step in 1u64..1_000,
        wild in vec((any::<prop::sample::Index>(), 0u64..1 << 40), 0..20),
    ) {
        let mut list = line(n as u64, 500, step);
        // With so few wild ones, more than half of the pairs are of others.
        for (at, value) in wild.into_iter().take(n * 28 / 100) {
            list[at.index(n)].value = value;
        }
        let slope = per_hour(&list).expect("a slope");
        prop_assert!(near(slope, step as f64 * 3_600.0), "{slope}");
    }

    #[test]
    fn scale_and_shift(
        values in vec(0u64..10_000, 8..40), times in 1u64..1_000, more in 0u64..100_000,
        later in 0u64..1 << 40,
    ) {
        let at = |n: usize| (n as u64 + 1) * SECOND;
        let plain: Vec<_> = values.iter().enumerate()
            .map(|(n, value)| Sampled { at_ns: at(n), value: *value }).collect();
        let other: Vec<_> = plain.iter()
            .map(|s| Sampled { at_ns: s.at_ns + later, value: s.value * times + more }).collect();
        let slopes = (per_hour(&plain).expect("one"), per_hour(&other).expect("one"));
        prop_assert!(near(slopes.0 * times as f64, slopes.1), "{slopes:?}");
        prop_assert_eq!(pace(&plain).is_ok(), pace(&other).is_ok());
    }

    /// As if somebody had counted all the time.
    #[test]
    fn ages_are_as_good_as_samples(mut ages in vec(0u64..600, 0..80)) {
        let now = 1_000 * SECOND;
        ages.iter_mut().for_each(|age| *age *= SECOND);
        let samples = Samples::of_ages(&ages, now, WINDOW_NS);
        prop_assert!(samples.len() <= KEPT);
        for sample in &samples.0 {
            let there = ages.iter().filter(|age| now - **age <= sample.at_ns).count();
            prop_assert_eq!(sample.value, there as u64);
        }
        prop_assert_eq!(samples.last().map(|last| last.at_ns), Some(now));
    }

    #[test]
    fn what_falls_has_none(mut values in vec(any::<u64>(), 8..60)) {
        values.sort_unstable_by(|a, b| b.cmp(a));
        prop_assert!(samples(values).pace().is_err());
    }

    #[test]
    fn any_numbers(list in vec((any::<u64>(), any::<u64>()), 0..150), limit: u64) {
        let mut samples = Samples::default();
        for (at_ns, value) in list {
            samples.add(Sampled { at_ns, value });
            prop_assert!(samples.len() <= KEPT);
            if let Ok(pace) = samples.pace() {
                let Between { min, est, max } = pace.per_hour;
                prop_assert!(0.0 < min && min <= est && est <= max && max.is_finite(), "{pace:?}");
                if let Ok(full) = pace.full_at(limit) {
                    prop_assert!(full.min <= full.est && full.est <= full.max, "{full:?}");
                }
            }
        }
    }

    #[test]
    fn for_however_long_it_takes_little(values in vec(0u64..3, 100..2_000)) {
        let mut sum = 100;
        let mut samples = Samples::default();
        for (n, value) in (1..).zip(values) {
            sum += value;
            samples.add(Sampled { at_ns: n * SECOND, value: sum });
            prop_assert!(samples.len() <= KEPT);
        }
    }
}

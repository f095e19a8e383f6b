use proptest::{collection::vec, prelude::*};

use super::*;

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
    let pace = samples((0..40).map(|n: u64| 100 + n.saturating_sub(28) * 5)).pace();
    assert!(near(pace.expect("seen in the newest quarter").per_hour.est, 18_000.0));
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

/// A count that wanders has no pace: how often one is claimed all the same, and acted on.
#[test]
fn what_wanders_is_seldom_taken_for_growth() {
    let mut random = 1_u64;
    let mut step = || {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    let claimed = (0..1_000)
        .filter(|_| {
            // About a level, as what opens and closes is.
            let mut values = samples((0..64).map(|_| 100 + (step() % 40)));
            values.pace().and_then(|pace| pace.full_at(1_024)).is_ok()
        })
        .count();
    assert!(claimed <= 20, "{claimed} of 1000");
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
    fn growing_for_long_it_is_known_in_little(values in vec(0u64..3, 100..2_000)) {
        let mut sum = 100;
        let mut samples = Samples::default();
        for (n, value) in (1..).zip(values) {
            sum += value;
            samples.add(Sampled { at_ns: n * SECOND, value: sum });
            prop_assert!(samples.len() <= KEPT);
        }
        prop_assert!(samples.pace().is_ok());
    }
}

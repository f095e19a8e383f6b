//! When something is tried again: later and later, never at the same moment as everybody else's,
//! and not for ever. Time and chance are arguments.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// The first pause.
const FIRST: Duration = Duration::from_secs(1);
/// No pause is longer, unless who is asked wants one.
const LONGEST: Duration = Duration::from_secs(30);
/// What was not taken by then is dropped, as the OpenTelemetry collector does it.
pub const GIVE_UP: Duration = Duration::from_secs(300);

/// How often it was tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Schedule {
    failures: u32,
}

impl Schedule {
    /// How long to wait after another failure; `None`: it is given up. `passed`: since the first
    /// try. `asked`: how long who is asked wants to be left alone. `chance`: from 0 to 1.
    pub fn next(
        &mut self,
        passed: Duration,
        asked: Option<Duration>,
        chance: f64,
    ) -> Option<Duration> {
        let doubled = FIRST.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(31);
        // Between half of it and all.
        let pause = doubled.min(LONGEST).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        let pause = asked.map_or(pause, |asked| asked.max(pause));
        (passed.saturating_add(pause) <= GIVE_UP).then_some(pause)
    }
}

/// From 0 to 1: what the standard library's tables are seeded with. It protects no secret.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "32 bits")]
pub fn chance() -> f64 {
    (RandomState::new().hash_one(0) >> 32) as f64 / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_double() {
        let mut schedule = Schedule::default();
        let pauses: Vec<u64> = (0..8)
            .filter_map(|_| schedule.next(Duration::ZERO, None, 1.0).map(|d| d.as_secs()))
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        let asked = Duration::from_secs(60);
        assert_eq!(schedule.next(Duration::ZERO, Some(asked), 0.5), Some(asked));
        assert_eq!(schedule.next(GIVE_UP, None, 0.0), None);
        let mut schedule = Schedule::default();
        assert_eq!(schedule.next(Duration::ZERO, Some(Duration::MAX), 0.5), None);
    }

    proptest! {
        /// It ends in time, whatever chance says and is asked for.
        #[test]
        fn it_ends(chances in proptest::collection::vec((any::<f64>(), 0..400u64), 1_000)) {
            let (mut schedule, mut passed) = (Schedule::default(), Duration::ZERO);
            for (chance, asked) in chances {
                let asked = (asked > 200).then(|| Duration::from_secs(asked));
                let Some(pause) = schedule.next(passed, asked, chance) else { break };
                prop_assert!(pause >= FIRST / 2);
                prop_assert!(asked.is_none_or(|asked| pause >= asked));
                passed += pause;
            }
            prop_assert!(passed <= GIVE_UP);
        }
    }
}

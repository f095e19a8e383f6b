//! A simulated host as a source of facts, against known truth: processes that fork, share, pass
//! descriptors and exit; both ends of connections, resets, half-closes, connections that nobody
//! accepts; and a lossy tracer, whose scans interleave with everything at every step. From a seed;
//! what fails is shrunk to the shortest schedule.

pub mod check;
pub mod host;
pub mod parts;
pub mod programs;
pub mod scan;
pub mod schedule;
pub mod truth;
pub mod world;

use tcptrace_common::state::TcpState;

use self::{check::Mistake, programs::Settings, schedule::Action};

/// What a seed's schedule is run with.
#[must_use]
pub fn settings(seed: u64) -> Settings {
    let all = TcpState::ALL.into_iter().fold(0, |states, state| states | state.bit());
    let everything = all & !TcpState::TimeWait.bit();
    let plain = Settings {
        min_age_ns: 1_000_000_000,
        states: TcpState::CloseWait.bit(),
        transitions: false,
        lport: 0,
        slots: 3,
        ring: 8,
    };
    match seed % 16 {
        0 => Settings { states: everything, ..plain },
        1 => Settings { transitions: true, ring: 40, ..plain },
        2 => Settings { min_age_ns: 0, ..plain },
        3 => Settings { slots: 0, ..plain },
        5 => Settings { ring: 1, ..plain },
        4 => Settings { states: everything, lport: 20_001, ..plain },
        _ => plain,
    }
}

/// Runs the schedule of a seed; if it fails, the shortest part of it that does, and how.
///
/// # Errors
/// A [`FailedSeed`].
pub fn try_seed(seed: u64) -> Result<(), Box<FailedSeed>> {
    let settings = settings(seed);
    let steps = schedule::from_seed(seed);
    let Err(_) = world::run(&steps, settings) else { return Ok(()) };
    let steps = schedule::shrink(steps, |steps| world::run(steps, settings).is_err());
    match world::run(&steps, settings) {
        Err(failure) => Err(Box::new(FailedSeed { seed, steps, failure })),
        Ok(_) => Ok(()),
    }
}

/// What a seed found.
#[derive(Clone, Debug)]
pub struct FailedSeed {
    /// The seed.
    pub seed: u64,
    /// The shortest part of its schedule that fails.
    pub steps: Vec<Action>,
    /// How.
    pub failure: Mistake,
}

impl std::fmt::Display for FailedSeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, steps, failure } = self;
        write!(f, "seed {seed}: {failure}\n{}", schedule::Listed(steps))
    }
}

//! How many lines the same holders may have: few in a second, and not many more in an hour.

use super::What;
use crate::engine::record::BootNs;

/// Lines that are free at once.
const FREE: u32 = 4;
/// In the long run there is a line in half an hour.
const PERIOD_NS: u64 = 1_800_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// That nothing is left may be said this often, ns, whatever was said before.
const ENDS_NS: u64 = 60_000_000_000;

/// What was said of some holders.
#[derive(Debug)]
pub struct Budget {
    since: BootNs,
    lines: u32,
    /// States and verdicts that were told.
    told: Vec<What>,
    ended_ns: Option<BootNs>,
}

impl Budget {
    /// Nothing was said before `now`.
    pub fn new(now: BootNs) -> Self {
        Self { since: now, lines: 0, told: Vec::new(), ended_ns: None }
    }

    /// One more each time the time since the first line doubles, and a few for long runs.
    fn has_left(&self, now: BootNs) -> bool {
        let ns = now.saturating_sub(self.since);
        let doublings = (1 + ns / SECOND_NS).ilog2();
        let periods = u32::try_from(ns / PERIOD_NS).unwrap_or(u32::MAX);
        self.lines < FREE.saturating_add(doublings).saturating_add(periods)
    }

    /// Whether a group of theirs may be told. A state or a verdict that is new always is.
    pub fn may_say(&self, now: BootNs, what: Option<What>) -> bool {
        self.has_left(now) || what.is_some_and(|what| !self.told.contains(&what))
    }

    /// Whether it may be told that nothing is left of a group.
    pub fn may_end(&self, now: BootNs) -> bool {
        let pause = ENDS_NS.max(now.saturating_sub(self.since) / 2);
        self.has_left(now) || self.ended_ns.is_none_or(|at| now.saturating_sub(at) >= pause)
    }

    /// So many lines were said; `what`: of which state and verdict, `None`: that they ended.
    pub fn spend(&mut self, now: BootNs, lines: u32, what: Option<What>) {
        self.lines = self.lines.saturating_add(lines);
        match what {
            Some(what) if self.told.contains(&what) => {}
            Some(what) => self.told.push(what),
            None => self.ended_ns = Some(now),
        }
    }
}

//! What the tracepoint never shows, and sock_diag counts: TIME_WAIT, which has no socket any more.

use tcptrace_common::state::TcpState;

use super::{Plan, Said, Watch};
use crate::engine::{record::BootNs, time_wait::TimeWaits, update::Update};

/// They are not told of more often than this, ns.
const PERIOD_NS: u64 = 10_000_000_000;

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Passing {
    pub(super) time_waits: Option<Box<TimeWaits>>,
    /// When they were told of last, and how many there were.
    said: Option<(BootNs, u64)>,
}

impl Passing {
    /// At first, as soon as there are any, and whenever there are twice or half as many.
    fn is_news(&self, now: BootNs, count: u64) -> bool {
        self.said.map_or(count > 0, |(at, before)| {
            let moved = count >= before.saturating_mul(2).max(1) || count <= before / 2;
            count != before && moved && now >= at.saturating_add(PERIOD_NS)
        })
    }
}

impl Watch {
    /// Takes in those that were counted at `now`, `of` a selection of ends: of any other, nobody
    /// knows how many there are. They have no process: who asks for some processes only is not told
    /// of them.
    pub(super) fn time_waits(
        &mut self,
        now: BootNs,
        of: &str,
        all: &TimeWaits,
        said: &mut Vec<Said>,
    ) {
        let Plan { states, selection, .. } = &self.plan;
        let asked = states & TcpState::TimeWait.bit() != 0 && !selection.asks_for_holders();
        if !asked || selection.ends() != of {
            return;
        }
        let news = self.passing.is_news(now, all.count);
        self.passing.time_waits = Some(Box::new(all.clone()));
        if news {
            self.passing.said = Some((now, all.count));
            self.say(now, Update::TimeWaits(Box::new(all.clone())), said);
        }
    }

    /// How many there were when they were counted last; `None`: they are not asked for, or not
    /// counted yet.
    #[must_use]
    pub fn in_time_wait(&self) -> Option<u64> {
        self.passing.time_waits.as_ref().map(|all| all.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_or_half_as_many_are_news() {
        let said =
            |before, now, count| Passing { said: before, ..Passing::default() }.is_news(now, count);
        assert!(!said(None, 1, 0) && said(None, 1, 1));
        let then = PERIOD_NS + 5;
        for (before, count, news) in [
            (100, 199, false),
            (100, 200, true),
            (100, 51, false),
            (100, 50, true),
            (1, 0, true),
            (0, 0, false),
            (0, 1, true),
            (u64::MAX, u64::MAX, false),
        ] {
            assert_eq!(said(Some((5, before)), then, count), news, "{before} {count}");
            assert!(!said(Some((5, before)), then - 1, count), "not so often");
        }
    }
}

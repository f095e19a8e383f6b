//! What the tracepoint never shows, and sock_diag does: TIME_WAIT, which has no socket any more,
//! and handshakes, which have none yet.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use tcptrace_common::{event::Socket, state::TcpState};

use super::{Plan, Said, Watch};
use crate::engine::{
    handshakes::Handshakes,
    holdings::Holdings,
    record::{BootNs, Record},
    select::Selection,
    time_wait::TimeWaits,
    unknown::Reason,
    update::Update,
};

/// They are not told of more often than this, ns.
const PERIOD_NS: u64 = 10_000_000_000;

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Passing {
    pub(super) time_waits: Option<Box<TimeWaits>>,
    /// When they were told of last, and how many there were.
    said: Option<(BootNs, u64)>,
    handshakes: Vec<Handshakes>,
    /// They were looked at since the last scan.
    is_fresh: bool,
    /// Those of them that have not been answered, by cookie, and when each was seen first.
    unanswered: HashMap<u64, BootNs>,
}

/// Network namespaces that are looked at, at most. A recording may claim any number.
const PLACES: usize = 16;

impl Passing {
    /// Takes in those that are under way.
    pub(super) fn handshakes(&mut self, all: &[Handshakes]) {
        self.handshakes = all.iter().take(PLACES).cloned().collect();
        self.is_fresh = true;
    }

    /// Those that were counted last.
    pub(super) fn counted(&self) -> &[Handshakes] {
        &self.handshakes
    }

    /// Cookies of those that have not been answered.
    pub(super) fn under_way(&self) -> impl Iterator<Item = u64> {
        self.unanswered.keys().copied()
    }

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
    /// knows how many there are; who chooses none has all that a recording has. They have no
    /// process: who asks for some processes only is not told of them.
    pub(super) fn time_waits(
        &mut self,
        now: BootNs,
        of: &str,
        all: &TimeWaits,
        said: &mut Vec<Said>,
    ) {
        let Plan { states, selection, .. } = &self.plan;
        let asked = states & TcpState::TimeWait.bit() != 0 && !selection.asks_for_holders();
        let ends = selection.ends();
        if !asked || ends != of && ends != Selection::default().ends() {
            return;
        }
        let news = self.passing.is_news(now, all.count);
        self.passing.time_waits = Some(Box::new(all.clone()));
        if news {
            self.passing.said = Some((now, all.count));
            self.say(now, Update::TimeWaits(Box::new(all.clone())), said);
        }
    }

    /// Judges the handshakes that nobody has answered, and ends what was said of those that are
    /// over.
    pub(super) fn found_handshakes(
        &mut self,
        holdings: &mut Holdings,
        now: BootNs,
        said: &mut Vec<Said>,
    ) {
        if !std::mem::take(&mut self.passing.is_fresh) {
            return;
        }
        let places = &self.passing.handshakes;
        let sockets: Vec<Socket> = places
            .iter()
            .flat_map(|of| of.unanswered.0.iter().take(Handshakes::MOST))
            .copied()
            .collect();
        let there: HashSet<u64> = sockets.iter().map(|s| s.cookie).collect();
        let looked_at: HashSet<u32> = places.iter().map(|of| of.netns).collect();
        let over = |record: &&Rc<Record>| {
            let c = record.connection;
            record.state == TcpState::SynRecv
                && looked_at.contains(&c.netns)
                && !there.contains(&c.cookie)
        };
        let mut ended: Vec<u64> =
            self.rows().filter(over).map(|record| record.connection.cookie).collect();
        ended.sort_unstable();
        for cookie in ended {
            if let Some(update) = self.tracker.over(cookie, now, Reason::HandshakeOver) {
                self.say(now, update, said);
            }
        }
        self.passing.unanswered.retain(|cookie, _| there.contains(cookie));
        for socket in sockets {
            // When it was seen first, it was there: since when, the kernel doesn't say.
            let known = &mut self.passing.unanswered;
            let since = *known.entry(socket.cookie).or_insert(socket.latest_ns);
            let socket = Socket { latest_ns: since.min(socket.latest_ns), ..socket };
            self.found(&socket, holdings, now, said);
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
    use tcptrace_common::event::HAS_TCP;
    use zerocopy::FromZeros;

    use super::*;
    use crate::engine::{
        fact::{Fact, Scan, Timed},
        handshakes::HandshakeCounter,
        verdict::Verdict,
    };

    const SECOND: u64 = 1_000_000_000;

    fn handshake(cookie: u64, seen_ns: BootNs) -> Socket {
        let mut s = Socket::new_zeroed();
        (s.cookie, s.state, s.protocol) = (cookie, TcpState::SynRecv as u8, 6);
        (s.flags, s.retransmits, s.pending, s.latest_ns) = (HAS_TCP, 1, 2, seen_ns);
        s.tuple.netns = 7;
        s
    }

    /// A look, and the scan after it.
    fn look(watch: &mut Watch, at: BootNs, sockets: &[Socket]) -> Vec<Update> {
        let told: HashSet<u64> = watch.passing.under_way().collect();
        let mut all = HandshakeCounter::new(7, Some(3), &told);
        sockets.iter().for_each(|s| all.take(s));
        let scan = Scan { now_ns: at, ..Scan::default() };
        let mut said = Vec::new();
        for fact in [Fact::Handshakes(vec![all.counted()]), Fact::Scan(Box::new(scan))] {
            watch.take(&Timed { at, fact }, &mut said);
        }
        said.into_iter().map(|s| s.update).collect()
    }

    fn watch() -> Watch {
        let states = TcpState::SynRecv.bit();
        Watch::new(Plan { states, min_age_ns: SECOND, ..Plan::default() })
    }

    #[test]
    fn a_handshake_is_as_old_as_it_was_seen() {
        let mut watch = watch();
        assert!(look(&mut watch, SECOND, &[handshake(5, SECOND)]).is_empty(), "too young");
        let said = look(&mut watch, 3 * SECOND, &[handshake(5, 3 * SECOND)]);
        let [Update::Stuck(record)] = &said[..] else { panic!("{said:?}") };
        assert_eq!(record.verdict, Some(Verdict::HandshakeUnfinished));
        assert_eq!(record.age(3 * SECOND).min_ns, 2 * SECOND, "no younger; older, maybe");
        assert!(record.age(3 * SECOND).max_ns.is_none_or(|max| max > 2 * SECOND));
        let said = look(&mut watch, 5 * SECOND, &[]);
        let [Update::Resolved { unknown, .. }] = &said[..] else { panic!("{said:?}") };
        assert_eq!(*unknown, Reason::HandshakeOver);
        assert_eq!((watch.rows().len(), watch.passing.unanswered.len()), (0, 0));
    }

    #[test]
    fn a_complete_scan_leaves_them_alone() {
        let mut watch = watch();
        look(&mut watch, SECOND, &[handshake(5, SECOND)]);
        look(&mut watch, 3 * SECOND, &[handshake(5, 3 * SECOND)]);
        for n in 4..8 {
            let scan = Scan { now_ns: n * SECOND, complete: true, ..Scan::default() };
            let mut said = Vec::new();
            let fact = Fact::Scan(Box::new(scan));
            watch.take(&Timed { at: n * SECOND, fact }, &mut said);
            assert!(said.is_empty(), "{said:?}");
        }
    }

    #[test]
    fn of_a_flood_as_many_are_told_as_fit_until_they_are_over() {
        let mut watch = watch();
        let flood: Vec<Socket> = (1..=9_000).map(|n| handshake(n, SECOND)).collect();
        for n in 1..40 {
            // The oldest go, as in a hash table's order.
            let part: Vec<Socket> = flood[n * 100..].iter().rev().copied().collect();
            look(&mut watch, n as u64 * SECOND, &part);
            let all = &watch.passing.handshakes[0];
            assert_eq!(all.unanswered.0.len(), Handshakes::MOST);
            assert_eq!(all.by_end.values().sum::<u32>() as usize, part.len());
            assert_eq!(all.more as usize, part.len() - Handshakes::MOST);
        }
        assert_eq!(watch.rows().len(), Handshakes::MOST, "the same as at first");
        assert_eq!(watch.totals().resolved, 0);
        look(&mut watch, 50 * SECOND, &[]);
        assert_eq!((watch.rows().len(), watch.remembered()), (0, 0));
        assert_eq!(watch.totals().resolved, Handshakes::MOST as u64);
    }

    fn waits(count: u64, of: &str) -> Fact {
        let all = Box::new(TimeWaits { count, ..TimeWaits::default() });
        Fact::TimeWaits { of: of.to_owned(), all }
    }

    #[test]
    fn who_asks_for_other_ends_is_not_told_of_time_wait() {
        let selection = Selection { lport: vec![80], ..Selection::default() };
        let plan = Plan { states: TcpState::TimeWait.bit(), selection, ..Plan::default() };
        let ends = plan.selection.ends();
        let mut watch = Watch::new(plan);
        let mut said = Vec::new();
        watch.take(&Timed { at: 1, fact: waits(4, "others") }, &mut said);
        assert_eq!((said.len(), watch.in_time_wait()), (0, None));
        watch.take(&Timed { at: 2, fact: waits(4, &ends) }, &mut said);
        assert_eq!((said.len(), watch.in_time_wait()), (1, Some(4)));
    }

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

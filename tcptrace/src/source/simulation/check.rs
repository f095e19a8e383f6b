//! What is said, held against what really happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use tcptrace_common::state::TcpState;

use super::{
    host::ModelHost,
    programs::is_connected,
    schedule::Action,
    truth::{Story, Truth},
};
use crate::engine::{
    record::{BootNs, HolderSource, Record},
    update::Update,
    verdict::Verdict,
    watch::{Said, Watch},
};

/// Something that was said and is not so, or was not said and is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake(String);

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Mistake {
    /// After which step.
    #[must_use]
    pub fn at(self, n: usize, step: Action) -> Self {
        Self(format!("step {n} ({step:?}): {}", self.0))
    }
}

/// When something was looked at, ns of the boot clock.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Not before.
    pub from_ns: BootNs,
    /// Not after.
    pub to_ns: BootNs,
}

/// What was said of sockets that are open.
#[derive(Debug)]
pub struct Book {
    min_age_ns: u64,
    open: BTreeSet<u64>,
    stuck: u64,
    resolved: u64,
    /// When each was last said to be stuck, and in which state.
    said: BTreeMap<u64, (BootNs, TcpState)>,
}

macro_rules! check {
    ($holds:expr, $($why:tt)*) => {
        if !$holds {
            return Err(Mistake(format!($($why)*)));
        }
    };
}

impl Book {
    /// An empty one.
    #[must_use]
    pub fn new(min_age_ns: u64) -> Self {
        let (open, said) = (BTreeSet::new(), BTreeMap::new());
        Self { min_age_ns, open, stuck: 0, resolved: 0, said }
    }

    /// Takes in what was said.
    ///
    /// # Errors
    /// It is not so.
    pub fn enter(&mut self, said: &Said, truth: &Truth, window: Window) -> Result<(), Mistake> {
        match &said.update {
            Update::Stuck(record) => {
                self.check_stuck(record, truth, window)?;
                let cookie = record.connection.cookie;
                self.stuck += u64::from(self.open.insert(cookie));
                let before = self.said.insert(cookie, (said.time, record.state));
                if let Some((time, state)) = before.filter(|_| self.open.contains(&cookie)) {
                    check!(said.time > time || state != record.state, "{cookie} was said twice");
                }
            }
            Update::Resolved { record, closed_by, unknown, .. } => {
                let cookie = record.connection.cookie;
                check!(self.open.remove(&cookie), "{cookie} was resolved and was not open");
                self.resolved += 1;
                let Some(story) = truth.by_cookie(cookie) else {
                    return Err(Mistake(format!("{cookie} never was")));
                };
                if let Some(closer) = closed_by {
                    check!(
                        // A ghost that connected anew, its change of state not traced, may end as
                        // any connection does: by a packet (ARCHITECTURE.md, Known limits).
                        story.closer() == Some(closer.pid) || story.was_missed(),
                        "{cookie} was closed by {:?}, not by {}",
                        story.closer(),
                        closer.pid
                    );
                }
                if !unknown.takes_back() {
                    let still = story.now().is_some_and(|(state, since)| {
                        state == record.state
                            && since >= record.earliest_ns
                            && since <= record.latest_ns
                    });
                    check!(!still, "{cookie} was resolved and is still {:?}", record.state);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check_stuck(&self, r: &Record, truth: &Truth, window: Window) -> Result<(), Mistake> {
        let cookie = r.connection.cookie;
        let Some(story) = truth.by_cookie(cookie) else {
            return Err(Mistake(format!("{cookie} was invented: {r:?}")));
        };
        let Window { from_ns, to_ns } = window;
        let mut stays = story.stays(r.state, from_ns, to_ns);
        let begun = stays.find(|(begin, _)| r.earliest_ns <= *begin && *begin <= r.latest_ns);
        let Some((begin, _)) = begun else {
            if story.came_back_unseen(r.state, r.earliest_ns, r.latest_ns) {
                return Ok(());
            }
            return Err(Mistake(format!(
                "{cookie} was not {:?} since {}..{}: {story:?}",
                r.state, r.earliest_ns, r.latest_ns
            )));
        };
        check!(
            r.seen_ns.saturating_sub(begin) >= self.min_age_ns,
            "{cookie} was said before min-age"
        );
        for holder in r.holders.iter().filter(|_| r.holder_source == HolderSource::FdTable) {
            check!(
                story.is_held(holder.process, from_ns, to_ns),
                "{:?} does not hold {cookie}: {story:?}",
                holder.process
            );
        }
        if r.holder_source == HolderSource::OutsideFdTables {
            check!(
                story.was_held_elsewhere(from_ns, to_ns),
                "{cookie} is not held outside descriptor tables: {r:?} {story:?}"
            );
        }
        if r.verdict == Some(Verdict::NeverAccepted) {
            check!(!story.was_accepted_before(from_ns), "{cookie} was accepted");
        }
        // Of one that was there before tracing, an answer at once is taken for one before the FIN
        // (`engine::verdict`).
        let traced = r.earliest_ns == r.latest_ns;
        // Nothing shows what MPTCP, or who has no descriptor, does with it.
        let hidden = r.connection.mptcp || r.holder_source == HolderSource::OutsideFdTables;
        let told_apart = traced && !hidden;
        if r.is_leak() && r.state == TcpState::CloseWait && told_apart {
            // A slow scan may have come to it when it was no more.
            let in_use = story.is_in_use_throughout(begin, from_ns, to_ns);
            check!(!in_use, "{cookie} is in use: {r:?} {story:?}");
        }
        Ok(())
    }

    /// Holds the end against the truth: all leaks are named with all their holders, none is
    /// invented, the counts balance.
    ///
    /// # Errors
    /// What is not so.
    pub fn close(&self, host: &ModelHost, watch: &Watch) -> Result<(), Mistake> {
        let rows: BTreeMap<u64, &Record> =
            watch.rows().map(|r| (r.connection.cookie, &**r)).collect();
        for story in host.truth.all() {
            let row = rows.get(&story.cookie).copied();
            let due = self.is_leak(story, host);
            match (due, row) {
                (Some(state), None) => {
                    return Err(Mistake(format!("missed {}, {state:?}: {story:?}", story.cookie)));
                }
                (Some(state), Some(row)) => {
                    check!(row.state == state, "{} is {state:?}: {row:?}", story.cookie);
                    self.check_holders(row, story)?;
                }
                (None, Some(row)) if !may_be_listed(row, story, host.now) => {
                    return Err(Mistake(format!("no leak: {row:?}: {story:?}")));
                }
                _ => {}
            }
        }
        let totals = watch.totals();
        check!(
            (totals.stuck, totals.resolved) == (self.stuck, self.resolved)
                && totals.still_open == self.open.len() as u64
                && totals.still_open == rows.len() as u64,
            "the counts do not balance: {totals:?}, said {} and {}",
            self.stuck,
            self.resolved
        );
        let c = &host.programs.counters;
        check!(c.seen == c.filtered + c.emitted + c.ring_full, "counters do not balance: {c:?}");
        let live = host.live().count();
        check!(
            host.programs.stored() <= live && watch.remembered() <= 2 * live + 64,
            "more is remembered than there is: {} of {live}",
            watch.remembered()
        );
        Ok(())
    }

    fn check_holders(&self, row: &Record, story: &Story) -> Result<(), Mistake> {
        if row.holder_source != HolderSource::FdTable {
            let held: Vec<_> = story.holders().collect();
            check!(held.is_empty(), "{} is held by {held:?}: {row:?}", story.cookie);
            return Ok(());
        }
        let said: BTreeSet<u32> = row.holders.iter().map(|h| h.process.pid).collect();
        let held: BTreeSet<u32> = story.holders().map(|h| h.pid).collect();
        check!(said == held, "{} is held by {held:?}, not {said:?}", story.cookie);
        Ok(())
    }

    /// The state in which a socket leaks at the end.
    fn is_leak(&self, story: &Story, host: &ModelHost) -> Option<TcpState> {
        let (state, since) = story.now()?;
        if host.now.saturating_sub(since) < self.min_age_ns {
            return None;
        }
        let settings = host.programs.settings();
        let asked = |port: u16| settings.lport == 0 || settings.lport == port;
        let socket = host.sockets.iter().find(|s| s.cookie == story.cookie)?;
        if !asked(socket.lport) {
            return None;
        }
        match state {
            TcpState::CloseWait => {
                let reachable = socket.file.is_some() || socket.waits_at.is_some();
                (reachable && !story.is_in_use(since, host.now)).then_some(state)
            }
            // Reset in the queue and accepted then: no change of state shows that one.
            TcpState::Close if story.holders().next().is_some() && story.closed_with_a_socket() => {
                let before = story.state_before()?;
                let watched = |state: TcpState| settings.states & state.bit() != 0;
                let ghost = watched(TcpState::CloseWait) && is_connected(before);
                (watched(before) || ghost).then_some(state)
            }
            _ => None,
        }
    }
}

/// Whether a row is true though it need not be there.
fn may_be_listed(row: &Record, story: &Story, now: BootNs) -> bool {
    let Some((state, since)) = story.now() else { return false };
    let begun = row.earliest_ns <= since && since <= row.latest_ns;
    let unseen = story.came_back_unseen(state, row.earliest_ns, row.latest_ns);
    let same = state == row.state && (begun || unseen);
    // A half-close that was used so lately that no scan has seen it since.
    let in_use = state == TcpState::CloseWait && story.is_in_use(since, now);
    same && !in_use
}

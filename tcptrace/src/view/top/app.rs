//! What the screen shows, as plain data.

use std::{collections::VecDeque, rc::Rc};

use tcptrace_common::state::TcpState;

use super::{
    filter::Filter,
    history::History,
    page::{Basis, Page},
    rows::{self, Key, MINUTE_NS, Row},
    seen::Seen,
    sort::{self, Sort},
};
use crate::{
    engine::{
        group::GroupBy,
        record::{BootNs, Record},
        update::Lost,
    },
    view::Clock,
};

/// Which of the screens.
#[derive(Clone, Debug, Default)]
pub enum Showing {
    /// Rows.
    #[default]
    Table,
    /// The keys.
    Help,
    /// All of one row.
    Page(Page),
}

/// A row of which only the sockets are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Within {
    /// What they were grouped by, and will be again.
    pub by: Option<GroupBy>,
    /// Which row it was.
    pub key: Key,
    /// How it is called; may hold anything.
    pub name: String,
}

/// What is counted for the header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadCount {
    /// All sockets.
    pub sockets: u64,
    /// Of those: leaks.
    pub leaks: u64,
    /// By state, in the kernel's order.
    pub states: Vec<(TcpState, u64)>,
}

/// How a recording is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Played {
    /// So many times faster than it was.
    pub speed: f64,
    /// It stands still.
    pub stands: bool,
    /// It is over.
    pub is_over: bool,
}

/// All that ended in a minute is remembered up to so many: more would be a flood, and no leak.
const ENDED: usize = 1 << 16;

/// The state of the screen.
#[derive(Clone, Debug)]
pub struct App {
    /// What is watched, `CLOSE_WAIT over 1s`.
    pub watched: String,
    /// Colours may be used.
    pub colour: bool,
    /// What can't be seen on this host.
    pub notes: Vec<String>,
    /// From the boot clock to the time of day.
    pub clock: Clock,
    /// Columns of the terminal.
    pub width: u16,
    /// Lines of the terminal.
    pub height: u16,
    /// Which screen.
    pub showing: Showing,
    /// What rows have in common.
    pub by: Option<GroupBy>,
    /// What they are sorted by.
    pub sort: Sort,
    /// The other way round.
    pub reverse: bool,
    /// Only sockets with this in their row.
    pub filter: String,
    /// The filter is being typed.
    pub typing: bool,
    /// Only sockets of this row.
    pub within: Option<Within>,
    /// Rows stay as they are.
    pub paused: bool,
    /// How the recording is played; `None`: this is live.
    pub played: Option<Played>,
    /// What the last key did, where that does not show otherwise.
    pub message: Option<String>,
    /// When the header is of, ns of the boot clock.
    pub now: BootNs,
    /// The header's counts.
    pub counted: HeadCount,
    /// What could not be seen.
    pub lost: Lost,
    /// The last minutes.
    pub history: History,
    /// What the rows are made of.
    pub seen: Seen,
    /// The rows, sorted.
    pub rows: Vec<Row>,
    /// Index of the row that keys act on.
    pub selected: usize,
    /// Index of the first row on the screen.
    pub first: usize,
    /// What ended in the last minute.
    pub(super) ended: VecDeque<(BootNs, Rc<Record>)>,
    /// The user has chosen a row: then it stays chosen wherever it moves to.
    pub(super) chosen: Option<Key>,
}

impl App {
    /// A screen on which nothing was seen yet.
    #[must_use]
    pub fn new(watched: String, clock: Clock, by: Option<GroupBy>) -> Self {
        Self {
            watched,
            colour: true,
            notes: Vec::new(),
            clock,
            width: 80,
            height: 24,
            showing: Showing::Table,
            by,
            sort: if by.is_none() { Sort::Age } else { Sort::Count },
            reverse: false,
            filter: String::new(),
            typing: false,
            within: None,
            paused: false,
            played: None,
            message: None,
            now: 0,
            counted: HeadCount::default(),
            lost: Lost::default(),
            history: History::default(),
            seen: Seen::default(),
            rows: Vec::new(),
            selected: 0,
            first: 0,
            ended: VecDeque::new(),
            chosen: None,
        }
    }

    /// The row that keys act on.
    #[must_use]
    pub fn row(&self) -> Option<&Row> {
        self.rows.get(self.selected)
    }

    /// The sockets that rows are made of, less those that are not asked for.
    pub fn sockets(&self) -> impl Iterator<Item = &Rc<Record>> {
        let mut filter = Filter::new(&self.filter);
        let wanted = move |record: &&Rc<Record>| self.wants(record, &mut filter);
        self.seen.sockets.iter().filter(wanted)
    }

    fn wants(&self, record: &Record, filter: &mut Filter) -> bool {
        let inside = |scope: &Within| Key::of(record, scope.by) == scope.key;
        self.within.as_ref().is_none_or(inside) && filter.lets_through(record)
    }

    /// Takes in what the core knows now.
    pub(super) fn see(&mut self, seen: Seen) {
        self.now = seen.now;
        self.lost = seen.lost;
        self.counted = count(&seen.sockets);
        let close_wait =
            seen.sockets.iter().filter(|record| rows::waits_for_close(record)).count() as u64;
        self.history.count(seen.now, close_wait, seen.stuck, seen.resolved);
        let old = |(at, _): &(BootNs, _)| seen.now.saturating_sub(*at) > MINUTE_NS;
        while self.ended.front().is_some_and(old) {
            self.ended.pop_front();
        }
        if !self.paused {
            self.seen = seen;
            self.regroup();
        }
    }

    pub(super) fn end(&mut self, at: BootNs, record: Rc<Record>) {
        if self.ended.len() == ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back((at, record));
    }

    /// Forgets what was counted and has ended.
    pub(super) fn forget(&mut self) {
        self.history = History::default();
        self.ended.clear();
        self.seen = Seen::default();
        (self.now, self.counted, self.lost) = (0, HeadCount::default(), Lost::default());
        self.regroup();
    }

    /// Makes the rows anew.
    pub(super) fn regroup(&mut self) {
        let mut filter = Filter::new(&self.filter);
        let ended: Vec<&Rc<Record>> = self.ended.iter().map(|(_, record)| record).collect();
        let ended = ended.into_iter().filter(|record| self.wants(record, &mut filter));
        let mut rows = rows::group(self.sockets(), ended, self.by, self.seen.now);
        for row in &mut rows {
            row.descriptors = self.seen.descriptors(row);
            row.full = self.seen.full(row);
        }
        self.rows = rows;
        self.sort();
        self.renew_page();
    }

    /// The page of a row, as of now.
    #[must_use]
    pub(super) fn page_of(&self, row: &Row) -> Page {
        Page::new(row, self.by, &self.members(self.by, &row.key), &self.basis())
    }

    /// Makes the lines of the page anew, if one is shown.
    pub(super) fn renew_page(&mut self) {
        if let Showing::Page(page) = &self.showing {
            let page = page.renewed(&self.members(page.by, &page.key), &self.basis());
            self.showing = Showing::Page(page);
        }
    }

    fn members(&self, by: Option<GroupBy>, key: &Key) -> Vec<&Rc<Record>> {
        self.sockets().filter(|record| Key::of(record, by) == *key).collect()
    }

    fn basis(&self) -> Basis<'_> {
        Basis { seen: &self.seen, clock: &self.clock, width: usize::from(self.width) }
    }

    /// Sorts the rows anew. A row that was chosen stays so.
    pub(super) fn sort(&mut self) {
        sort::sort(&mut self.rows, self.sort, self.reverse);
        let chosen = self.chosen.as_ref();
        let at = chosen.and_then(|key| self.rows.iter().position(|row| row.key == *key));
        self.select(at.unwrap_or(self.selected));
    }

    /// Selects a row, the last one where there are fewer, and scrolls to it.
    pub(super) fn select(&mut self, at: usize) {
        self.selected = at.min(self.rows.len().saturating_sub(1));
        let shown = self.shown().max(1);
        let last = self.rows.len().saturating_sub(shown);
        let lowest = (self.selected + 1).saturating_sub(shown);
        self.first = self.first.clamp(lowest, self.selected.max(lowest)).min(last);
    }

    /// Lines above the rows, the heads of the columns included.
    #[must_use]
    pub fn above(&self) -> usize {
        // Title and counts; three pictures where there is room; the heads.
        if self.height >= 12 { 6 } else { 3 }
    }

    /// How many rows are on the screen.
    #[must_use]
    pub fn shown(&self) -> usize {
        usize::from(self.height).saturating_sub(self.above() + 1)
    }

    /// How many lines of a page are on the screen: all but a title and the keys.
    #[must_use]
    pub fn page_shown(&self) -> usize {
        usize::from(self.height).saturating_sub(2)
    }
}

fn count(sockets: &[Rc<Record>]) -> HeadCount {
    let mut states = [0; TcpState::ALL.len() + 1];
    let mut leaks = 0;
    for record in sockets {
        states[record.state as usize] += 1;
        leaks += u64::from(record.is_leak());
    }
    let states = TcpState::ALL.into_iter().map(|state| (state, states[state as usize]));
    let states = states.filter(|(_, n)| *n > 0).collect();
    HeadCount { sockets: sockets.len() as u64, leaks, states }
}

//! The page of a row: what `tcptrace explain` says, from what the core knows.

use std::rc::Rc;

use unicode_width::UnicodeWidthChar;

use super::{
    rows::{Key, Row, title},
    seen::Seen,
};
use crate::{
    engine::{
        group::GroupBy,
        pages,
        record::{Holder, Record},
        update::Update,
    },
    view::{Clock, View, table::Table},
};

/// All of a row.
#[derive(Clone, Debug)]
pub struct Page {
    /// What the row's sockets have in common.
    pub by: Option<GroupBy>,
    /// Which row.
    pub key: Key,
    /// How it is called; may hold anything.
    pub title: String,
    /// The socket that has been in its state for longest.
    pub oldest: Rc<Record>,
    /// None of its sockets is there any more: the rest is as last seen.
    pub gone: bool,
    /// Its lines.
    pub lines: Vec<Line>,
    /// Index of the first line on the screen.
    pub scroll: usize,
}

/// A line of a page, without anything that steers a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its text.
    pub text: String,
    /// It heads what follows.
    pub heading: bool,
}

/// Sockets that are listed; more are only counted.
const SOCKETS: usize = 10;
/// Narrower text is read by nobody.
const NARROWEST: usize = 20;
/// How often what is asked for by name is not known here.
const BY_EXPLAIN: &str = "tcptrace explain PID tells them";

/// What pages are made of, besides the row's sockets.
#[derive(Clone, Copy, Debug)]
pub struct Basis<'a> {
    /// What the core knows.
    pub seen: &'a Seen,
    /// From the boot clock to the time of day.
    pub clock: &'a Clock,
    /// Columns.
    pub width: usize,
}

impl Page {
    /// A row's, of these sockets.
    #[must_use]
    pub fn new(row: &Row, by: Option<GroupBy>, members: &[&Rc<Record>], basis: &Basis<'_>) -> Self {
        let page = Self {
            by,
            key: row.key.clone(),
            title: title(row, by),
            oldest: Rc::clone(&row.oldest),
            gone: false,
            lines: Vec::new(),
            scroll: 0,
        };
        page.renewed(members, basis)
    }

    /// The same of these sockets now.
    #[must_use]
    pub fn renewed(&self, members: &[&Rc<Record>], basis: &Basis<'_>) -> Self {
        let mut members = members.to_vec();
        members.sort_unstable_by_key(|r| (r.latest_ns, r.connection.cookie));
        let Some(oldest) = members.first() else { return Self { gone: true, ..self.clone() } };
        let pages = pages::PageBasis {
            knows: basis.seen,
            now: basis.seen.now,
            listed: SOCKETS,
            elsewhere: BY_EXPLAIN,
        };
        let updates = match self.by {
            None => pages.of_socket(oldest),
            Some(GroupBy::Holder) => {
                let processes: Vec<&Holder> = oldest.holders.iter().collect();
                pages.of_group(&members, &processes)
            }
            Some(_) => pages.of_group(&members, &[]),
        };
        let lines = lines(&updates, basis);
        Self { oldest: Rc::clone(oldest), gone: false, lines, ..self.clone() }
    }
}

/// What the table format makes of it.
fn lines(updates: &[Update], basis: &Basis<'_>) -> Vec<Line> {
    let width = basis.width.max(NARROWEST);
    let mut bytes = Vec::new();
    let mut table = Table::new(&mut bytes, basis.clock.clone(), width);
    for update in updates {
        // Writing to memory does not fail.
        let _ = table.update(basis.seen.now, update);
    }
    let text = String::from_utf8_lossy(&bytes);
    let line = |line: &str| {
        let heading = line.starts_with("\x1b[1m");
        let plain = anstream::adapter::strip_str(line).to_string();
        let pieces = broken(&plain, width);
        pieces.into_iter().map(move |text| Line { text, heading }).collect::<Vec<_>>()
    };
    text.lines().flat_map(line).collect()
}

/// A line that is too long, as code may be, in several.
fn broken(text: &str, width: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut at = 0;
    for c in text.chars() {
        let columns = c.width().unwrap_or(0);
        if at + columns > width {
            pieces.push("    ".to_owned());
            at = 4;
        }
        at += columns;
        if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
    }
    pieces
}

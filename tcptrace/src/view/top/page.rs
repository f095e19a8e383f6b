//! The page of a row: what `tcptrace explain` says, from what the core knows.

use std::{collections::HashMap, rc::Rc};

use unicode_width::UnicodeWidthChar;

use super::{
    rows::{Key, Row, title},
    seen::Seen,
};
use crate::{
    engine::{
        blocked::blockage::{Blockage, Kept, Unserved},
        fact::Process,
        forecast::estimate::Estimate,
        group::GroupBy,
        language::{Language, language},
        name::file_name,
        record::{Holder, Record},
        report::{self, Explanation, ProcessReport},
        stack::threads::LeftAlone,
        stories::stories,
        update::Update,
        usage::InUse,
        verdict::Verdict,
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
/// Processes that are told of; more are only counted.
const PROCESSES: usize = 3;
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
        let updates = if self.by.is_none() {
            of_socket(oldest, basis)
        } else {
            of_group(&members, self.by, basis)
        };
        let lines = lines(&updates, basis);
        Self { oldest: Rc::clone(oldest), gone: false, lines, ..self.clone() }
    }
}

fn of_socket(record: &Rc<Record>, basis: &Basis<'_>) -> Vec<Update> {
    let Some(verdict) = record.verdict else { return vec![Update::Socket(Rc::clone(record))] };
    let language = language_of(record, basis);
    let about = report::About::Socket(Rc::clone(record));
    let role = record.role;
    vec![Update::Explanation(Box::new(Explanation { verdict, about, language, role }))]
}

fn of_group(members: &[&Rc<Record>], by: Option<GroupBy>, basis: &Basis<'_>) -> Vec<Update> {
    let mut updates = Vec::new();
    if by == Some(GroupBy::Holder) {
        let mut holders: HashMap<_, &Holder> = HashMap::new();
        for holder in members.first().iter().flat_map(|record| &record.holders) {
            holders.insert((holder.process.pid, holder.process.start_ns), holder);
        }
        let mut holders: Vec<_> = holders.into_iter().collect();
        holders.sort_unstable_by_key(|(id, _)| *id);
        for (_, holder) in holders.into_iter().take(PROCESSES) {
            updates.push(Update::Process(Box::new(process(holder, members, basis))));
        }
    }
    let stories = stories(members.iter().copied());
    if !stories.is_empty() {
        updates.push(Update::Stories(stories));
    }
    let listed = members.iter().take(SOCKETS);
    updates.extend(listed.map(|record| Update::Socket(Rc::clone(record))));
    let mut verdicts: Vec<(Verdict, u64, &Rc<Record>)> = Vec::new();
    for record in members {
        let Some(verdict) = record.verdict else { continue };
        match verdicts.iter_mut().find(|(v, ..)| *v == verdict) {
            Some((_, n, _)) => *n += 1,
            None => verdicts.push((verdict, 1, record)),
        }
    }
    verdicts.sort_by_key(|(_, n, _)| std::cmp::Reverse(*n));
    updates.extend(verdicts.into_iter().map(|(verdict, n, record)| {
        let language = language_of(record, basis);
        let about = report::About::Sockets(n);
        let alike = members.iter().filter(|r| r.verdict == Some(verdict));
        let role = report::role_of(alike.map(|r| &***r));
        Update::Explanation(Box::new(Explanation { verdict, about, language, role }))
    }));
    updates
}

/// What is known of a holder; the rest is what [`BY_EXPLAIN`] says.
fn process(holder: &Holder, members: &[&Rc<Record>], basis: &Basis<'_>) -> ProcessReport {
    let known = basis.seen.processes.get(&holder.process);
    let (used, limit) = known.map_or((None, None), |p| (p.descriptors, p.descriptor_limit));
    let leaks: Vec<&Rc<Record>> = members.iter().copied().filter(|r| r.is_leak()).collect();
    // What waits in a queue has no descriptor.
    let held = leaks.iter().filter(|r| r.listener.is_none());
    let ages: Vec<u64> = held.map(|r| r.age(basis.seen.now).min_ns).collect();
    let by_ages = || Estimate::of_leaks(&ages, basis.seen.now, InUse::of(used, limit));
    let sampled = basis.seen.full.get(&holder.process).copied();
    let waits = basis.seen.waits.get(&holder.process);
    let known_threads = waits.map_or(Err(BY_EXPLAIN), |waits| waits.threads.as_ref().clone());
    let with_effect = |cause: &Blockage| {
        let effect = Unserved::count(&cause.workers, members.iter().map(|r| &***r));
        Kept { cause: cause.clone(), effect }
    };
    let kept = waits.map_or(Err(BY_EXPLAIN), |w| Ok(w.causes.iter().map(with_effect).collect()));
    ProcessReport {
        process: holder.clone(),
        command: known.map(|p| p.command.clone()).unwrap_or_default(),
        parent: None,
        used: used.ok_or("not known here"),
        limit: limit.ok_or("not known here"),
        sockets: report::count(members.iter().map(|r| &***r), basis.seen.now),
        leaks: leaks.len() as u64,
        full: sampled.unwrap_or_else(by_ages),
        listeners: Vec::new(),
        overflows: Err(BY_EXPLAIN),
        threads: known_threads,
        kept,
        stacks: Err(LeftAlone::NotAskedFor),
    }
}

/// What its holder is written in, as far as a command line or a name tells.
fn language_of(record: &Record, basis: &Basis<'_>) -> Option<Language> {
    let holder = record.holders.first()?;
    let command = |process: &Process| Some(process.command.first()?.clone());
    let program = basis.seen.processes.get(&holder.process).and_then(command).unwrap_or_default();
    language(file_name(&program), &holder.comm)
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

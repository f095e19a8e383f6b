//! Rows: of sockets, and of sockets that are told together.

use std::io::{self, Write};

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use crate::{
    engine::{
        alike::{GroupReport, Report},
        record::{Age, BootNs, ClosedBy, Connection, Record},
        unknown::Reason,
        update::Change,
        verdict::Verdict,
    },
    view::table::{
        BAD, BOLD, DIM, GOOD, PLAIN, Table,
        fit::{Last, Ways, fit},
        words::{age_text, common, cookie, counts, ended, ends, more, pad, reason, who},
    },
    view::text::safe,
};

/// From this width on, groups have their state.
const WITH_STATE: usize = 100;
/// The ends are padded to a share of the room, so that who holds them stands below one another.
const SHARE: (usize, usize) = (2, 3);
const LONGEST_PAD: usize = 44;

/// Widths of the leading columns, each with its space.
const TIME: usize = 9;
const COUNT: usize = 6;
const NEW: usize = 7;
const AGE: usize = 7;
const STATE: usize = 12;
const VERDICT: usize = 15;

/// What a row says.
struct Row {
    style: Style,
    /// Its leading columns; the time is apart.
    time: String,
    lead: String,
    last: Last<Ways>,
}

impl<W: Write> Table<W> {
    /// The header, once.
    fn head(&mut self, columns: &str) -> io::Result<()> {
        if std::mem::replace(&mut self.headed, true) {
            return Ok(());
        }
        self.has_times = columns.starts_with("TIME");
        self.lead = columns.width();
        let ends = ends_column(self.width().saturating_sub(columns.width()));
        self.styled(DIM, &format!("{columns}{}HOLDER", pad("ENDS", ends)))?;
        writeln!(self.out)
    }

    fn row(&mut self, row: &Row) -> io::Result<()> {
        self.styled(DIM, &row.time)?;
        self.styled(row.style, &row.lead)?;
        let used = row.time.width() + row.lead.width();
        let room = self.width().saturating_sub(used);
        let Last { ends, who, more } = fit(room, &row.last);
        let rest = who.width() + more.width() + usize::from(!more.is_empty());
        let space = room.saturating_sub(ends.width() + rest);
        // A word longer than its column takes from the ends', so that the next stands in line.
        let over = used.saturating_sub(self.lead);
        let column = ends_column(room.saturating_add(over)).saturating_sub(over);
        let space = column.saturating_sub(ends.width()).clamp(1, space.max(1));
        write!(self.out, "{ends}{}", " ".repeat(space))?;
        self.styled(BOLD, &who)?;
        if !more.is_empty() {
            write!(self.out, " {more}")?;
        }
        writeln!(self.out)
    }

    /// A socket by itself: state and verdict instead of counts.
    fn single(
        &mut self,
        time: BootNs,
        style: Style,
        cells: [&str; 3],
        last: Last<Ways>,
    ) -> io::Result<()> {
        let head = [("TIME", TIME), ("AGE", AGE), ("STATE", STATE), ("VERDICT", VERDICT)];
        let head: String = head.iter().map(|(name, width)| pad(name, *width)).collect();
        self.head(&head)?;
        let [age, state, verdict] = cells;
        self.row(&Row {
            style,
            time: pad(&self.clock.short(time), TIME),
            lead: format!("{}{}{}", pad(age, AGE), pad(state, STATE), pad(verdict, VERDICT)),
            last,
        })
    }

    pub(super) fn stuck(&mut self, time: BootNs, r: &Record) -> io::Result<()> {
        let cells = [&*age_text(&r.age(time)), r.state.name(), verdict(r)];
        self.single(time, style(r), cells, of_socket(r))
    }

    pub(super) fn change(&mut self, time: BootNs, c: &Change) -> io::Result<()> {
        let age = c.stayed.as_ref().map_or_else(|| "-".to_owned(), age_text);
        let to = format!("->{}", c.new.name());
        let who = Ways::only(format!("cpu:{}", c.on_cpu_pid));
        let last = Last { ends: ends(&c.connection, true), who, more: with_cookie(&c.connection) };
        let cells = [&*age, c.old.name(), &*to];
        self.single(time, PLAIN, cells, last)
    }

    pub(super) fn resolved(
        &mut self,
        time: BootNs,
        r: &Record,
        stayed: &Age,
        closed_by: Option<&ClosedBy>,
        unknown: Reason,
    ) -> io::Result<()> {
        let cells = [&*age_text(stayed), r.state.name(), "resolved"];
        self.single(time, GOOD, cells, of_ended(r, closed_by, unknown))
    }

    /// A socket of one scan.
    pub(super) fn socket_row(&mut self, now: BootNs, r: &Record) -> io::Result<()> {
        if let Some((_, leaks)) = &mut self.untold {
            *leaks = leaks.saturating_sub(1);
        }
        let head = format!("{}{}{}", pad("AGE", AGE), pad("STATE", STATE), pad("VERDICT", VERDICT));
        self.head(&head)?;
        let age = pad(&age_text(&r.age(now)), AGE);
        self.row(&Row {
            style: style(r),
            time: String::new(),
            lead: format!("{age}{}{}", pad(r.state.name(), STATE), pad(verdict(r), VERDICT)),
            last: of_socket(r),
        })
    }

    pub(super) fn report(&mut self, time: BootNs, report: &Report) -> io::Result<()> {
        let with_state = self.width() >= WITH_STATE;
        let columns = |count: &str, new: &str, age: &str, state: &str, verdict: &str| {
            let state = if with_state { pad(state, STATE) } else { String::new() };
            let (count, new) = (right(count, COUNT), right(new, NEW));
            format!("{count}{new}{}{state}{}", pad(age, AGE), pad(verdict, VERDICT))
        };
        let head = columns("COUNT", "NEW", "OLDEST", "STATE", "VERDICT");
        self.head(&format!("{}{head}", pad("TIME", TIME)))?;
        let stamp = pad(&self.clock.short(time), TIME);
        let row = match report {
            Report::Socket { record: r, count, new } => {
                let new = if *new { "+1" } else { "+0" };
                let age = age_text(&r.age(time));
                let lead = columns(&count.to_string(), new, &age, r.state.name(), called(r));
                Row { style: style(r), time: stamp, lead, last: of_socket(r) }
            }
            Report::Group(group) => {
                let style = if group.leaks > 0 { BAD } else { PLAIN };
                let (count, new) = (group.count.to_string(), format!("+{}", group.new));
                let verdict = match &group.verdicts[..] {
                    [_] => called(&group.oldest),
                    _ => "several",
                };
                let state = group.oldest.state.name();
                let lead = columns(&count, &new, &age_text(&group.age), state, verdict);
                let (ends, more) = (common(group), counts(group));
                Row { style, time: stamp, lead, last: Last { ends, who: whose(group), more } }
            }
            Report::Ended { record: r, left, count, stayed, closed_by, unknown, value } => {
                let (left, new) = (left.to_string(), format!("-{count}"));
                let lead = columns(&left, &new, &age_text(stayed), r.state.name(), "resolved");
                let last = if *count == 1 && value.is_none() {
                    of_ended(r, closed_by.as_ref(), *unknown)
                } else {
                    let last = closed_by
                        .as_ref()
                        .map(|c| format!("the last one closed by {}[{}]", safe(&c.comm), c.pid));
                    let more = Ways::default().or(last.unwrap_or_default(), 0).or("", 1);
                    let who = value.as_ref().map_or_else(|| who(r), |value| of_value(value));
                    Last { ends: Ways::only("-"), who, more }
                };
                Row { style: GOOD, time: stamp, lead, last }
            }
        };
        self.row(&row)
    }
}

/// How wide the ends are with their padding, of so much room.
fn ends_column(room: usize) -> usize {
    (room * SHARE.0 / SHARE.1).min(LONGEST_PAD)
}

fn of_socket(r: &Record) -> Last<Ways> {
    Last { ends: ends(&r.connection, true), who: who(r), more: more(r) }
}

fn of_ended(r: &Record, closed_by: Option<&ClosedBy>, unknown: Reason) -> Last<Ways> {
    let who = ended(closed_by, unknown);
    Last { ends: ends(&r.connection, false), who, more: with_cookie(&r.connection) }
}

fn with_cookie(c: &Connection) -> Ways {
    Ways::default().or(cookie(c), 0).or("", 1)
}

fn right(text: &str, width: usize) -> String {
    format!("{text:>width$} ", width = width - 1)
}

fn style(r: &Record) -> Style {
    if r.is_leak() { BAD } else { PLAIN }
}

fn verdict(r: &Record) -> &'static str {
    r.verdict.map_or("-", Verdict::name)
}

/// Its verdict; where it has none, its state.
fn called(r: &Record) -> &'static str {
    r.verdict.map_or(r.state.name(), Verdict::name)
}

fn of_value(value: &str) -> Ways {
    Ways::only(safe(value))
}

fn whose(group: &GroupReport) -> Ways {
    match &group.value {
        Some(value) => of_value(value),
        None if group.same_holders => who(&group.oldest),
        None => reason("several holders"),
    }
}

#[cfg(test)]
mod tests;

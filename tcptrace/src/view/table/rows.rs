//! Rows: of sockets, and of sockets that are told together.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

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
        fit::{Ways, fit},
        words::{age_text, common, ended, ends, pad, reason, who},
    },
    view::text::safe,
};

/// From this width on, groups have their state.
const WITH_STATE: usize = 100;
/// Who is padded to a share of the room, so that the ends stand below one another.
const SHARE: (usize, usize) = (2, 5);
const LONGEST_PAD: usize = 40;

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
    who: Ways,
    ends: Ways,
}

impl<W: Write> Table<W> {
    /// The header, once.
    fn head(&mut self, columns: &str) -> io::Result<()> {
        if std::mem::replace(&mut self.headed, true) {
            return Ok(());
        }
        self.styled(DIM, columns)?;
        writeln!(self.out)
    }

    fn row(&mut self, row: &Row) -> io::Result<()> {
        self.styled(DIM, &row.time)?;
        self.styled(row.style, &row.lead)?;
        let used = row.time.width() + row.lead.width();
        let room = self.width().saturating_sub(used);
        let (who, ends) = fit(room, &row.who, &row.ends);
        let column = (room * SHARE.0 / SHARE.1).min(LONGEST_PAD);
        let space = room.saturating_sub(who.width() + ends.width());
        let space = column.saturating_sub(who.width()).clamp(1, space.max(1));
        self.styled(BOLD, &who)?;
        if !ends.is_empty() {
            write!(self.out, "{}{ends}", " ".repeat(space))?;
        }
        writeln!(self.out)
    }

    /// A socket by itself: state and verdict instead of counts.
    fn single(
        &mut self,
        time: BootNs,
        style: Style,
        cells: [&str; 3],
        who: Ways,
        ends: Ways,
    ) -> io::Result<()> {
        let head = [("TIME", TIME), ("AGE", AGE), ("STATE", STATE), ("VERDICT", VERDICT)];
        let head: String = head.iter().map(|(name, width)| pad(name, *width)).collect();
        self.head(&format!("{head}HOLDER, ENDS"))?;
        let [age, state, verdict] = cells;
        self.row(&Row {
            style,
            time: pad(&self.clock.short(time), TIME),
            lead: format!("{}{}{}", pad(age, AGE), pad(state, STATE), pad(verdict, VERDICT)),
            who,
            ends,
        })
    }

    pub(super) fn stuck(&mut self, time: BootNs, r: &Record) -> io::Result<()> {
        let cells = [&*age_text(&r.age(time)), r.state.name(), verdict(r)];
        self.single(time, style(r), cells, who(r), ends(r))
    }

    pub(super) fn change(&mut self, time: BootNs, c: &Change) -> io::Result<()> {
        let age = c.stayed.as_ref().map_or_else(|| "-".to_owned(), age_text);
        let to = format!("->{}", c.new.name());
        let who = Ways::default().or(format!("cpu:{}", c.on_cpu_pid), 0);
        let cells = [&*age, c.old.name(), &*to];
        self.single(time, PLAIN, cells, who, plain_ends(&c.connection))
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
        self.single(time, GOOD, cells, ended(closed_by, unknown), plain_ends(&r.connection))
    }

    /// A socket of one scan.
    pub(super) fn socket_row(&mut self, now: BootNs, r: &Record) -> io::Result<()> {
        if let Some((_, leaks)) = &mut self.untold {
            *leaks = leaks.saturating_sub(1);
        }
        let head = format!("{}{}{}", pad("AGE", AGE), pad("STATE", STATE), pad("VERDICT", VERDICT));
        self.head(&format!("{head}HOLDER, ENDS"))?;
        let age = pad(&age_text(&r.age(now)), AGE);
        self.row(&Row {
            style: style(r),
            time: String::new(),
            lead: format!("{age}{}{}", pad(r.state.name(), STATE), pad(verdict(r), VERDICT)),
            who: who(r),
            ends: ends(r),
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
        self.head(&format!("{}{head}HOLDER, ENDS", pad("TIME", TIME)))?;
        let stamp = pad(&self.clock.short(time), TIME);
        let row = match report {
            Report::Socket { record: r, count, new } => {
                let new = if *new { "+1" } else { "+0" };
                let age = age_text(&r.age(time));
                let lead = columns(&count.to_string(), new, &age, r.state.name(), called(r));
                Row { style: style(r), time: stamp, lead, who: who(r), ends: ends(r) }
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
                Row { style, time: stamp, lead, who: whose(group), ends: common(group) }
            }
            Report::Ended { record: r, count, stayed, closed_by, unknown, value } => {
                let new = format!("-{count}");
                let lead = columns("0", &new, &age_text(stayed), r.state.name(), "resolved");
                let (who, ends) = if *count == 1 && value.is_none() {
                    (ended(closed_by.as_ref(), *unknown), plain_ends(&r.connection))
                } else {
                    let last = closed_by
                        .as_ref()
                        .map(|c| format!("the last one closed by {}[{}]", safe(&c.comm), c.pid));
                    let all = Ways::default().or(last.unwrap_or_default(), 0).or("", 1);
                    (value.as_ref().map_or_else(|| who(r), |value| of_value(value)), all)
                };
                Row { style: GOOD, time: stamp, lead, who, ends }
            }
        };
        self.row(&row)
    }
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
    Ways::default().or(safe(value), 0)
}

fn whose(group: &GroupReport) -> Ways {
    match &group.value {
        Some(value) => of_value(value),
        None if group.same_holders => who(&group.oldest),
        None => reason("several holders"),
    }
}

/// Both ends, as explain takes them.
fn plain_ends(c: &Connection) -> Ways {
    let short = |local: SocketAddr| format!(":{},{}", local.port(), c.remote);
    let cookie = if c.cookie == 0 { String::new() } else { format!("cookie:{}", c.cookie) };
    Ways::default()
        .or(format!("{},{} {cookie}", c.local, c.remote).trim_end(), 0)
        .or(format!("{},{}", c.local, c.remote), 1)
        .or(short(c.local), 2)
        .or(cookie, 6)
        .or("", 9)
}

#[cfg(test)]
mod tests;

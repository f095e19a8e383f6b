//! Lines for people: aligned, one an update where the width allows it, else two.

mod host;
mod page;
mod words;

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use self::words::{age_text, closer, cut, detail, lost_text, pad, who};
use crate::{
    engine::{
        group::{Group, Overview},
        record::{BootNs, Connection, Record},
        update::{Stays, Summary, Update},
        verdict::Verdict,
    },
    prose::{advice::advice, reasons, time::human},
    view::{Clock, View, text::safe},
};

/// From this width on, a record takes one line.
const WIDE: usize = 132;
/// Rows of the summary's lists.
const TOP: usize = 5;
/// Where the second line of a record begins.
const INDENT: usize = 9;

const BAD: Style = AnsiColor::Red.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const PLAIN: Style = Style::new();

/// Writes a table.
#[derive(Debug)]
pub struct Table<W> {
    out: W,
    clock: Clock,
    width: usize,
    headed: bool,
    /// What helps nobody, as far as it was said: once is enough.
    said: Vec<&'static str>,
}

impl<W: Write> Table<W> {
    /// A view that writes to `out`, which takes styles away where they are not wanted, for `width`
    /// columns.
    pub fn new(out: W, clock: Clock, width: usize) -> Self {
        Self { out, clock, width, headed: false, said: Vec::new() }
    }

    fn wide(&self) -> bool {
        self.width >= WIDE
    }

    /// The header of records: with the time and the event, or of one scan without.
    fn head(&mut self, live: bool) -> io::Result<()> {
        if std::mem::replace(&mut self.headed, true) {
            return Ok(());
        }
        let mut line = lead(live.then_some(("TIME", "EVENT")), "AGE", "STATE");
        if self.wide() {
            line.push_str(&format!(
                "{}{}{}",
                pad("VERDICT", 18),
                pad("LOCAL", 25),
                pad("REMOTE", 25)
            ));
        }
        self.styled(DIM, &format!("{line}WHO"))?;
        writeln!(self.out)
    }

    fn styled(&mut self, style: Style, text: &str) -> io::Result<()> {
        write!(self.out, "{style}{text}{style:#}")
    }

    /// One line where the width allows it; else one with who, and below it the rest.
    fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        self.head(row.event.is_some())?;
        let stamp = row.event.map(|(time, event)| (self.clock.short(time), event));
        let lead =
            lead(stamp.as_ref().map(|(time, event)| (time.as_str(), *event)), &row.age, row.state);
        let (time, rest) = lead.split_at(if stamp.is_some() { lead.len().min(9) } else { 0 });
        self.styled(DIM, time)?;
        self.styled(row.style, rest)?;
        let (local, remote) = (row.connection.local.to_string(), row.connection.remote.to_string());
        if self.wide() {
            write!(self.out, "{}{}{}", pad(row.verdict, 18), pad(&local, 25), pad(&remote, 25))?;
            self.styled(BOLD, &row.who)?;
            let detail =
                if row.detail.is_empty() { String::new() } else { format!("  {}", row.detail) };
            return writeln!(self.out, "{DIM}{detail}{DIM:#}");
        }
        self.styled(BOLD, &cut(&row.who, self.width.saturating_sub(lead.width())))?;
        writeln!(self.out)?;
        let remote = format!("<- {remote}");
        let words = [local.as_str(), &remote, row.verdict];
        self.wrapped(INDENT, words.into_iter().chain(row.detail.split(' ')))
    }

    /// Words, as many a line as fit, all lines indented.
    fn wrapped<'a>(
        &mut self,
        indent: usize,
        words: impl Iterator<Item = &'a str>,
    ) -> io::Result<()> {
        self.continued(0, indent, words)
    }

    /// The same, on a line that has `at` columns already.
    fn continued<'a>(
        &mut self,
        mut at: usize,
        indent: usize,
        words: impl Iterator<Item = &'a str>,
    ) -> io::Result<()> {
        for word in words.filter(|w| !w.is_empty()) {
            if at > 0 && at + 1 + word.width() > self.width {
                writeln!(self.out)?;
                at = 0;
            }
            let space = if at == 0 { indent } else { 1 };
            write!(self.out, "{}{word}", " ".repeat(space))?;
            at += space + word.width();
        }
        writeln!(self.out)
    }

    fn summary(&mut self, s: &Summary) -> io::Result<()> {
        writeln!(self.out)?;
        self.styled(
            BOLD,
            &format!("{} stuck, {} resolved, {} still open", s.stuck, s.resolved, s.still_open),
        )?;
        write!(self.out, "; {} transitions of all sockets seen", s.seen)?;
        if s.lost.total() > 0 {
            self.styled(BAD, &format!(", {} lost ({})", s.lost.total(), lost_text(&s.lost)))?;
        } else {
            write!(self.out, ", none lost")?;
        }
        writeln!(self.out)?;
        self.tops(&s.by_holder, &s.by_remote, &s.by_verdict)?;
        s.stays.iter().try_for_each(|stays| self.stays(stays))?;
        self.advice(&s.by_verdict)
    }

    fn stays(&mut self, stays: &Stays) -> io::Result<()> {
        let below = |ns: Option<u64>| ns.map_or_else(|| "any bound".to_owned(), human);
        let (half, most) = (below(stays.half_below_ns), below(stays.most_below_ns));
        let text = format!(
            "{} of all sockets: {}, half below {half}, 99% below {most}",
            stays.state.name(),
            stays.count
        );
        writeln!(self.out, "  {DIM}{}{DIM:#}{text}", pad("ended", 12))
    }

    fn overview(&mut self, o: &Overview) -> io::Result<()> {
        if o.sockets > 0 {
            writeln!(self.out)?;
        }
        self.styled(BOLD, &format!("{} sockets, {} leaks", o.sockets, o.leaks))?;
        writeln!(self.out, " in {} network namespaces", o.namespaces)?;
        if o.in_use > 0 {
            let text = format!(
                "{} more in use after a half-close: --verdict half-close-in-use lists them",
                o.in_use
            );
            writeln!(self.out, "  {text}")?;
        }
        let states: Vec<String> =
            o.states.iter().map(|(state, n)| format!("{} {n}", state.name())).collect();
        write!(self.out, "  {DIM}{}{DIM:#}", pad("all by state", 14))?;
        writeln!(self.out, "{}", states.join(", "))?;
        self.tops(&o.by_holder, &o.by_remote, &o.by_verdict)?;
        self.advice(&o.by_verdict)
    }

    fn group(&mut self, group: &Group) -> io::Result<()> {
        if !std::mem::replace(&mut self.headed, true) {
            let head = format!(
                "{}{}{}",
                pad("COUNT", 9),
                pad("OLDEST", 9),
                group.by.name().to_uppercase()
            );
            self.styled(DIM, &head)?;
            writeln!(self.out)?;
        }
        let style = if group.leaks > 0 { BAD } else { PLAIN };
        self.styled(
            style,
            &format!("{}{}", pad(&group.count.to_string(), 9), pad(&age_text(&group.oldest), 9)),
        )?;
        self.styled(BOLD, &safe(&group.key))?;
        let mut verdicts: Vec<_> = group.by_verdict.iter().collect();
        verdicts.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        let verdicts: Vec<String> =
            verdicts.iter().map(|(name, n)| format!("{name} {n}")).collect();
        writeln!(self.out, "  {DIM}{}{DIM:#}", verdicts.join(", "))
    }

    fn tops(
        &mut self,
        holders: &BTreeMap<String, u64>,
        remotes: &BTreeMap<std::net::IpAddr, u64>,
        verdicts: &BTreeMap<&'static str, u64>,
    ) -> io::Result<()> {
        self.top("by holder", holders.iter().map(|(k, n)| (safe(k).into_owned(), *n)).collect())?;
        self.top("by remote", remotes.iter().map(|(k, n)| (k.to_string(), *n)).collect())?;
        self.top("by verdict", verdicts.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect())
    }

    /// What to do about each verdict that was given.
    fn advice(&mut self, verdicts: &BTreeMap<&'static str, u64>) -> io::Result<()> {
        for (verdict, advice) in advice(verdicts) {
            writeln!(self.out)?;
            self.styled(BOLD, &format!("{}:", verdict.name()))?;
            writeln!(self.out)?;
            self.wrapped(2, advice.split(' '))?;
        }
        Ok(())
    }

    fn top(&mut self, title: &str, mut list: Vec<(String, u64)>) -> io::Result<()> {
        if list.is_empty() {
            return Ok(());
        }
        list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let shown: Vec<String> =
            list.iter().take(TOP).map(|(name, n)| format!("{name} {n}")).collect();
        let more = list.len().saturating_sub(TOP);
        let more = if more > 0 { format!(", {more} more") } else { String::new() };
        writeln!(self.out, "  {DIM}{}{DIM:#}{}{more}", pad(title, 12), shown.join(", "))
    }
}

/// What a line says.
struct Row<'a> {
    style: Style,
    /// When, and what happened; of one scan: nothing.
    event: Option<(BootNs, &'static str)>,
    age: String,
    state: &'static str,
    verdict: &'a str,
    connection: &'a Connection,
    who: String,
    detail: String,
}

impl<W: Write> View for Table<W> {
    fn update(&mut self, time: BootNs, update: &Update) -> io::Result<()> {
        match update {
            Update::Clock(_) => Ok(()),
            Update::Transition(c) => self.row(&Row {
                style: PLAIN,
                event: Some((time, "change")),
                age: c.stayed.as_ref().map_or_else(|| "-".to_owned(), age_text),
                state: c.old.name(),
                verdict: &format!("-> {}", c.new.name()),
                connection: &c.connection,
                who: format!("on cpu: {}", c.on_cpu_pid),
                detail: String::new(),
            }),
            Update::Stuck(r) => self.row(&Row::of(r, time, Some((time, "stuck")))),
            Update::Socket(r) => self.row(&Row::of(r, time, None)),
            Update::Group(group) => self.group(group),
            Update::Overview(overview) => self.overview(overview),
            Update::Process(report) => self.process(report, time),
            Update::Explanation(explanation) => self.explanation(explanation, time),
            Update::Finding(finding) => self.finding(finding),
            Update::Offers(offers) => self.offers(offers),
            Update::Resolved { record: r, stayed, closed_by, unknown } => self.row(&Row {
                style: GOOD,
                event: Some((time, "resolved")),
                age: age_text(stayed),
                state: r.state.name(),
                verdict: r.verdict.map_or("-", Verdict::name),
                connection: &r.connection,
                who: closed_by.as_ref().map_or_else(|| reasons::words(*unknown).to_owned(), closer),
                detail: String::new(),
            }),
            Update::Lost(lost) => {
                self.head(true)?;
                let line = format!(
                    "{} lost     {}: ages and ends are resynced",
                    self.clock.short(time),
                    lost_text(lost)
                );
                self.styled(BAD, &line)?;
                writeln!(self.out)
            }
            Update::Summary(s) => self.summary(s),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }
}

impl<'a> Row<'a> {
    fn of(r: &'a Record, now: BootNs, event: Option<(BootNs, &'static str)>) -> Self {
        Row {
            style: if r.is_leak() { BAD } else { PLAIN },
            event,
            age: age_text(&r.age(now)),
            state: r.state.name(),
            verdict: r.verdict.map_or("-", Verdict::name),
            connection: &r.connection,
            who: who(r),
            detail: detail(r),
        }
    }
}

fn lead(event: Option<(&str, &str)>, age: &str, state: &str) -> String {
    let event =
        event.map(|(time, event)| format!("{}{}", pad(time, 9), pad(event, 9))).unwrap_or_default();
    format!("{event}{}{}", pad(age, 8), pad(state, 12))
}

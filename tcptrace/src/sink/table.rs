//! Lines for people: aligned, one an update where the width allows it, else two.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use super::{Clock, Sink, human, text::safe};
use crate::engine::{
    event::{Age, BootNs, ClosedBy, Connection, Holder, HolderSource, Lost, Record, Summary, Update},
    verdict::Verdict,
};

/// From this width on, a record takes one line.
const WIDE: usize = 132;
/// Rows of the summary's lists.
const TOP: usize = 5;

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
}

impl<W: Write> Table<W> {
    /// A sink that writes to `out`, which takes styles away where they are not wanted, for `width`
    /// columns.
    pub fn new(out: W, clock: Clock, width: usize) -> Self {
        Self { out, clock, width, headed: false }
    }

    fn wide(&self) -> bool {
        self.width >= WIDE
    }

    fn head(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.headed, true) {
            return Ok(());
        }
        let mut line = lead("TIME", "EVENT", "AGE", "STATE");
        if self.wide() {
            line.push_str(&format!("{}{}{}", pad("VERDICT", 18), pad("LOCAL", 25), pad("REMOTE", 25)));
        }
        self.styled(DIM, &format!("{line}WHO"))?;
        writeln!(self.out)
    }

    fn styled(&mut self, style: Style, text: &str) -> io::Result<()> {
        write!(self.out, "{style}{text}{style:#}")
    }

    /// One line where the width allows it; else one with who, and below it the rest.
    fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        self.head()?;
        let lead = lead(&self.clock.short(row.time), row.event, &row.age, row.state);
        let (time, rest) = lead.split_at(lead.len().min(9));
        self.styled(DIM, time)?;
        self.styled(row.style, rest)?;
        let (local, remote) = (row.connection.local.to_string(), row.connection.remote.to_string());
        if self.wide() {
            write!(self.out, "{}{}{}", pad(row.verdict, 18), pad(&local, 25), pad(&remote, 25))?;
            self.styled(BOLD, &row.who)?;
            let detail = if row.detail.is_empty() { String::new() } else { format!("  {}", row.detail) };
            return writeln!(self.out, "{DIM}{detail}{DIM:#}");
        }
        self.styled(BOLD, &cut(&row.who, self.width.saturating_sub(lead.width())))?;
        writeln!(self.out)?;
        let remote = format!("<- {remote}");
        let words = [local.as_str(), &remote, row.verdict];
        self.wrapped(9, words.into_iter().chain(row.detail.split(' ')))
    }

    /// Words, as many a line as fit, all lines indented.
    fn wrapped<'a>(&mut self, indent: usize, words: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let mut at = 0;
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
        self.styled(BOLD, &format!("{} stuck, {} resolved, {} still open", s.stuck, s.resolved, s.still_open))?;
        write!(self.out, "; {} transitions of all sockets seen", s.seen)?;
        if s.lost.total() > 0 {
            self.styled(BAD, &format!(", {} lost ({})", s.lost.total(), lost_text(&s.lost)))?;
        } else {
            write!(self.out, ", none lost")?;
        }
        writeln!(self.out)?;
        self.top("by holder", s.by_holder.iter().map(|(k, n)| (safe(k).into_owned(), *n)).collect())?;
        self.top("by remote", s.by_remote.iter().map(|(k, n)| (k.to_string(), *n)).collect())?;
        self.top("by verdict", s.by_verdict.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect())?;
        for stays in &s.stays {
            let below = |ns: Option<u64>| ns.map_or_else(|| "any bound".to_owned(), human);
            let (half, most) = (below(stays.half_below_ns), below(stays.most_below_ns));
            let text =
                format!("{} of all sockets: {}, half below {half}, 99% below {most}", stays.state.name(), stays.count);
            writeln!(self.out, "  {DIM}{}{DIM:#}{text}", pad("ended", 12))?;
        }
        for verdict in Verdict::ALL.into_iter().filter(|v| s.by_verdict.contains_key(v.name())) {
            writeln!(self.out)?;
            self.styled(BOLD, &format!("{}:", verdict.name()))?;
            writeln!(self.out)?;
            self.wrapped(2, verdict.advice().split(' '))?;
        }
        Ok(())
    }

    fn top(&mut self, title: &str, mut list: Vec<(String, u64)>) -> io::Result<()> {
        if list.is_empty() {
            return Ok(());
        }
        list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let shown: Vec<String> = list.iter().take(TOP).map(|(name, n)| format!("{name} {n}")).collect();
        let more = list.len().saturating_sub(TOP);
        let more = if more > 0 { format!(", {more} more") } else { String::new() };
        writeln!(self.out, "  {DIM}{}{DIM:#}{}{more}", pad(title, 12), shown.join(", "))
    }
}

/// What a line says.
struct Row<'a> {
    style: Style,
    time: BootNs,
    event: &'static str,
    age: String,
    state: &'static str,
    verdict: &'a str,
    connection: &'a Connection,
    who: String,
    detail: String,
}

impl<W: Write> Sink for Table<W> {
    fn update(&mut self, time: BootNs, update: &Update) -> io::Result<()> {
        match update {
            Update::Transition(c) => self.row(&Row {
                style: PLAIN,
                time,
                event: "change",
                age: c.stayed.as_ref().map_or_else(|| "-".to_owned(), age_text),
                state: c.old.name(),
                verdict: &format!("-> {}", c.new.name()),
                connection: &c.connection,
                who: format!("on cpu: {}", c.on_cpu_pid),
                detail: String::new(),
            }),
            Update::Stuck(r) => self.row(&Row {
                style: BAD,
                time,
                event: "stuck",
                age: age_text(&r.age(time)),
                state: r.state.name(),
                verdict: r.verdict.map_or("-", Verdict::name),
                connection: &r.connection,
                who: who(r),
                detail: detail(r),
            }),
            Update::Resolved { record: r, stayed, closed_by, unknown } => self.row(&Row {
                style: GOOD,
                time,
                event: "resolved",
                age: age_text(stayed),
                state: r.state.name(),
                verdict: r.verdict.map_or("-", Verdict::name),
                connection: &r.connection,
                who: closed_by.as_ref().map_or_else(|| (*unknown).to_owned(), closer),
                detail: String::new(),
            }),
            Update::Lost(lost) => {
                self.head()?;
                let line =
                    format!("{} lost     {}: ages and ends are resynced", self.clock.short(time), lost_text(lost));
                self.styled(BAD, &line)?;
                writeln!(self.out)
            }
            Update::Summary(s) => self.summary(s),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// `java[4711] fd 12`, several separated by commas; for a connection that waits, its listener.
fn who(r: &Record) -> String {
    match r.holder_source {
        HolderSource::Listener => {
            let names: Vec<String> = r.holders.iter().map(process).collect();
            let queue = r.listener.as_ref().map(|l| format!(" queue {}/{}", l.queue, l.limit)).unwrap_or_default();
            format!("listener {}{queue}", names.join(", "))
        }
        HolderSource::OutsideFdTables => "held outside descriptor tables".to_owned(),
        _ if r.holders.is_empty() => {
            r.unknown.get("holders").map_or_else(|| "nobody".to_owned(), |why| (*why).to_owned())
        }
        _ => r.holders.iter().map(|h| format!("{} fd {}", process(h), h.fd)).collect::<Vec<_>>().join(", "),
    }
}

fn process(h: &Holder) -> String {
    format!("{}[{}]", safe(&h.comm), h.process.pid)
}

fn closer(c: &ClosedBy) -> String {
    format!("closed by {}[{}]", safe(&c.comm), c.pid)
}

fn detail(r: &Record) -> String {
    let mut parts = Vec::new();
    if let Some(role) = r.role {
        parts.push(role.name().to_owned());
    }
    if let Some(n) = r.evidence.recv_q {
        parts.push(format!("recv-q {n}"));
    }
    if let Some(n) = r.evidence.send_q.filter(|n| *n > 0) {
        parts.push(format!("send-q {n}"));
    }
    parts.extend(r.also.iter().map(|v| v.name().to_owned()));
    parts.join(" ")
}

fn lost_text(lost: &Lost) -> String {
    let kinds = lost.named().into_iter().filter(|(_, n)| *n > 0);
    kinds.map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
}

/// `5.0s`, or for an interval `>5.0s` (what is certain).
fn age_text(age: &Age) -> String {
    if age.is_exact() { human(age.min_ns) } else { format!(">{}", human(age.min_ns)) }
}

fn lead(time: &str, event: &str, age: &str, state: &str) -> String {
    format!("{}{}{}{}", pad(time, 9), pad(event, 9), pad(age, 8), pad(state, 12))
}

/// Pads to `width` columns, with at least one space.
fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width()).max(1)))
}

/// Cuts to `width` columns, and says so with an ellipsis.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        let mut next = out.clone();
        next.push(c);
        if next.width() + 1 > width {
            break;
        }
        out = next;
    }
    out + "…"
}

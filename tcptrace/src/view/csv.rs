//! One row an update, one header. Columns that an event does not have stay empty.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use crate::{
    engine::{
        close::{Closed, Planned},
        forecast::told::What,
        record::{Age, BootNs, ClosedBy, Connection, Holder, Record},
        update::Update,
    },
    prose::{advice::advice, check},
    view::{Clock, View, text::safe},
};

/// Which columns there are: those that a command can fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Of `watch`.
    Watch,
    /// Of `snapshot`.
    Snapshot,
    /// Of `close`.
    Close,
    /// Of `check`.
    Check,
}

/// Of a socket: the connection, and when it was seen.
const SOCKET: [&str; 9] =
    ["event", "time", "cookie", "netns", "family", "local", "remote", "role", "state"];
/// What changed.
const CHANGE: [&str; 2] = ["old", "new"];
/// What is known of a socket.
const KNOWN: [&str; 17] = [
    "age_min_ms",
    "age_max_ms",
    "verdict",
    "recv_q",
    "send_q",
    "accepted",
    "bytes_sent_since_fin",
    "inode",
    "holder_source",
    "holders",
    "listener",
    "listener_queue",
    "listener_limit",
    "timer",
    "retransmits",
    "probes",
    "snd_wnd",
];
/// Who ended it.
const END: [&str; 3] = ["closed_by_pid", "closed_by_comm", "on_cpu_pid"];
/// Of the last row.
const SUMMARY: [&str; 2] = ["counts", "advice"];
/// What will be full.
const FORECAST: [&str; 1] = ["what"];
const GROUP: [&str; 2] = ["group_by", "group"];
/// What is to be done, and what came of it.
const CLOSE: [&str; 6] = ["how", "refused", "result", "state_after", "still_held", "error"];
const CHECK: [&str; 9] =
    ["event", "time", "name", "ok", "found", "needed_for", "lost_without", "remedy", "counts"];

impl Columns {
    /// Their names, in order.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        match self {
            Self::Watch => [&SOCKET[..], &CHANGE, &KNOWN, &END, &SUMMARY, &FORECAST].concat(),
            Self::Snapshot => [&SOCKET[..], &KNOWN, &SUMMARY, &GROUP].concat(),
            Self::Close => [&SOCKET[..], &KNOWN, &CLOSE, &SUMMARY[..1]].concat(),
            Self::Check => CHECK.to_vec(),
        }
    }
}

/// Writes CSV (RFC 4180).
pub struct Csv<W: Write> {
    out: csv::Writer<W>,
    clock: Clock,
    columns: Vec<&'static str>,
}

impl<W: Write> Csv<W> {
    /// A view that writes to `out`, header first.
    ///
    /// # Errors
    /// What writing answers.
    pub fn new(out: W, clock: Clock, columns: Columns) -> io::Result<Self> {
        let (mut out, columns) = (csv::Writer::from_writer(out), columns.names());
        out.write_record(&columns).map_err(io_error)?;
        Ok(Self { out, clock, columns })
    }
}

/// One row, by column name.
struct Row<'a> {
    columns: &'a [&'static str],
    cells: Vec<String>,
}

impl<'a> Row<'a> {
    fn new(columns: &'a [&'static str], event: &str, time: String) -> Self {
        let mut row = Self { columns, cells: vec![String::new(); columns.len()] };
        row.set("event", event);
        row.set("time", time);
        row
    }

    /// Fills a cell, where there is that column.
    fn set(&mut self, column: &str, value: impl ToString) {
        if let Some(at) = self.columns.iter().position(|c| *c == column) {
            self.cells[at] = value.to_string();
        }
    }

    fn maybe(&mut self, column: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.set(column, value);
        }
    }

    fn connection(&mut self, c: &Connection) {
        self.maybe("cookie", (c.cookie != 0).then_some(c.cookie));
        self.set("netns", c.netns);
        self.set("family", c.family());
        self.set("local", c.local);
        self.set("remote", c.remote);
    }

    fn age(&mut self, age: &Age) {
        self.set("age_min_ms", ms(age.min_ns));
        self.maybe("age_max_ms", age.max_ns.map(ms));
    }

    fn record(&mut self, r: &Record) {
        self.connection(&r.connection);
        self.maybe("role", r.role.map(|role| role.name()));
        self.set("state", r.state.name());
        self.maybe("verdict", r.verdict.map(|v| v.name()));
        self.maybe("recv_q", r.evidence.recv_q);
        self.maybe("send_q", r.evidence.send_q);
        self.maybe("accepted", r.evidence.accepted);
        self.maybe("bytes_sent_since_fin", r.evidence.bytes_sent_since_fin);
        self.maybe("inode", r.evidence.inode);
        self.maybe("timer", r.evidence.timer.map(|timer| timer.name()));
        self.maybe("retransmits", r.evidence.retransmits);
        self.maybe("probes", r.evidence.probes);
        self.maybe("snd_wnd", r.evidence.snd_wnd);
        self.set("holder_source", r.holder_source.name());
        let holders: Vec<String> = r.holders.iter().map(holder).collect();
        self.set("holders", inert(&holders.join(";")));
        if let Some(l) = &r.listener {
            self.set("listener", l.local);
            self.set("listener_queue", l.queue);
            self.set("listener_limit", l.limit);
        }
    }

    fn planned(&mut self, planned: &Planned, now: BootNs) {
        self.record(&planned.record);
        self.age(&planned.record.age(now));
        self.maybe("how", planned.choice.ok().map(|(how, _)| how.name()));
        self.maybe("refused", planned.choice.err().map(|refusal| refusal.name()));
    }

    fn closed(&mut self, closed: &Closed, now: BootNs) {
        let attempt = &closed.attempt;
        self.record(&closed.record);
        self.age(&closed.record.age(now));
        self.set("how", attempt.how.name());
        self.set("result", attempt.outcome.name());
        self.maybe("state_after", attempt.state_after().map(|state| state.name()));
        let held = attempt.still_held.as_deref().unwrap_or_default().iter();
        let held: Vec<String> =
            held.map(|h| format!("{}[{}]:{}", safe(&h.comm), h.pid, h.fd)).collect();
        self.set("still_held", inert(&held.join(";")));
        self.maybe("error", attempt.error.as_deref().map(|error| inert(&safe(error))));
    }

    fn advice(&mut self, verdicts: &BTreeMap<&'static str, u64>) {
        let advice =
            advice(verdicts).map(|(verdict, advice)| format!("{}: {advice}", verdict.name()));
        self.set("advice", advice.collect::<Vec<_>>().join(" | "));
    }

    fn closer(&mut self, c: Option<&ClosedBy>) {
        self.maybe("closed_by_pid", c.map(|c| c.pid));
        self.maybe("closed_by_comm", c.map(|c| inert(&safe(&c.comm))));
    }
}

/// A holder in a word: `comm[pid]:fd`.
#[must_use]
pub fn holder(h: &Holder) -> String {
    let fd = h.fd.map_or_else(String::new, |fd| fd.to_string());
    format!("{}[{}]:{fd}", safe(&h.comm), h.process.pid)
}

/// Spreadsheets take a cell that begins with one of these for a formula (OWASP: CSV injection), the
/// wide forms included; and some take a semicolon for the end of a cell.
fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    let mut begins = true;
    for c in text.chars() {
        if begins && matches!(c, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠') {
            out.push('\'');
        }
        begins = matches!(c, ';' | ',');
        out.push(c);
    }
    out
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53 µs, 285 years")]
fn ms(ns: u64) -> f64 {
    (ns / 1_000) as f64 / 1_000.0
}

impl<W: Write> View for Csv<W> {
    fn update(&mut self, time: BootNs, update: &Update) -> io::Result<()> {
        let stamp = self.clock.rfc3339(time);
        let row = match update {
            Update::Transition(change) => {
                let mut row = Row::new(&self.columns, "transition", stamp);
                row.connection(&change.connection);
                row.set("old", change.old.name());
                row.set("new", change.new.name());
                if let Some(stayed) = &change.stayed {
                    row.age(stayed);
                }
                row.set("on_cpu_pid", change.on_cpu_pid);
                row
            }
            Update::Stuck(record) => {
                let mut row = Row::new(&self.columns, "stuck", stamp);
                row.record(record);
                row.age(&record.age(time));
                row
            }
            Update::Resolved { record, stayed, closed_by, .. } => {
                let mut row = Row::new(&self.columns, "resolved", stamp);
                row.record(record);
                row.age(stayed);
                row.closer(closed_by.as_ref());
                row
            }
            Update::Socket(record) => {
                let mut row = Row::new(&self.columns, "socket", stamp);
                row.record(record);
                row.age(&record.age(time));
                row
            }
            Update::Group(group) => {
                let mut row = Row::new(&self.columns, "group", stamp);
                row.age(&group.oldest);
                row.set("group_by", group.by.name());
                row.set("group", inert(&safe(&group.key)));
                let verdicts = group.by_verdict.iter().map(|(name, n)| (*name, *n));
                row.set(
                    "counts",
                    named(
                        [("count", group.count), ("leaks", group.leaks)]
                            .into_iter()
                            .chain(verdicts),
                    ),
                );
                row
            }
            Update::Overview(o) => {
                let mut row = Row::new(&self.columns, "summary", stamp);
                row.advice(&o.by_verdict);
                let states = o.states.iter().flatten().map(|(state, n)| (state.name(), *n));
                row.set(
                    "counts",
                    named([("sockets", o.sockets), ("leaks", o.leaks)].into_iter().chain(states)),
                );
                row
            }
            Update::Planned(planned) => {
                let mut row = Row::new(&self.columns, "planned", stamp);
                row.planned(planned, time);
                row
            }
            Update::Closed(closed) => {
                let mut row = Row::new(&self.columns, "closed", stamp);
                row.closed(closed, time);
                row
            }
            Update::Closes(c) => {
                let mut row = Row::new(&self.columns, "summary", stamp);
                let all = [("selected", c.selected), ("planned", c.planned)].into_iter();
                let outcomes = c.outcomes.iter().map(|(outcome, n)| (outcome.name(), *n));
                let refused = c.refused.iter().map(|(refusal, n)| (refusal.name(), *n));
                let held = [("still_held", c.still_held), ("not_begun", c.not_begun)];
                row.set("counts", named(all.chain(outcomes).chain(refused).chain(held)));
                row
            }
            Update::Finding(f) => {
                let mut row = Row::new(&self.columns, "check", stamp);
                row.set("name", f.item.name());
                row.maybe("ok", f.ok);
                row.set("found", inert(&safe(&f.found)));
                row.set("needed_for", check::needed_for(f.item));
                row.set("lost_without", check::lost_without(f.item, f.mark()));
                row.set("remedy", inert(check::remedy(f.remedy)));
                row
            }
            Update::Offers(o) => {
                let mut row = Row::new(&self.columns, "summary", stamp);
                let works = [("watch", o.watch), ("snapshot", o.snapshot), ("explain", o.explain)];
                let works = works.into_iter().map(|(name, works)| (name, u64::from(works)));
                row.set(
                    "counts",
                    named(works.chain(o.counts.iter().map(|(mark, n)| (mark.name(), *n)))),
                );
                row
            }
            // Pages have no rows: the sockets that they are about follow, one a row.
            Update::Clock(_)
            | Update::Report(_)
            | Update::Stories(_)
            | Update::Checkup(_)
            | Update::Process(_)
            | Update::Stacks(_)
            | Update::Explanation(_) => {
                return Ok(());
            }
            Update::Forecast(f) => {
                let mut row = Row::new(&self.columns, "forecast", stamp);
                let left = f.left(time);
                let (min, max) = (left.min / 1_000_000, left.max / 1_000_000);
                row.set(
                    "counts",
                    named([
                        ("used", f.estimate.used),
                        ("limit", f.estimate.limit),
                        ("per_hour_min", f.estimate.per_hour.min),
                        ("per_hour_max", f.estimate.per_hour.max),
                        ("left_ms_min", min),
                        ("left_ms_max", max),
                    ]),
                );
                row.set("what", f.what.name());
                if let Some(place) = f.what.place() {
                    row.set("netns", place.netns.to_string());
                }
                match &f.what {
                    What::Descriptors { process, .. } => {
                        let who = format!("{}[{}]", process.comm, process.process.pid);
                        row.set("holders", inert(&safe(&who)));
                    }
                    What::Ports { source, to, .. } => {
                        row.set("local", source.to_string());
                        row.set("remote", to.to_string());
                    }
                    What::AcceptQueue { local, .. } => row.set("local", local.to_string()),
                    What::FileTable | What::Conntrack { .. } | What::Memory => {}
                }
                row
            }
            Update::TimeWaits(all) => {
                let mut row = Row::new(&self.columns, "time_wait", stamp);
                row.set("state", "TIME_WAIT");
                row.set("counts", named([("count", all.count)]));
                row
            }
            Update::Lost(lost) => {
                let mut row = Row::new(&self.columns, "lost", stamp);
                row.set("counts", named(lost.named()));
                row
            }
            Update::Summary(s) => {
                let mut row = Row::new(&self.columns, "summary", stamp);
                row.advice(&s.by_verdict);
                row.set(
                    "counts",
                    named([
                        ("stuck", s.stuck),
                        ("resolved", s.resolved),
                        ("still_open", s.still_open),
                        ("leaks", s.leaks),
                        ("seen", s.seen),
                        ("filtered", s.filtered),
                        ("emitted", s.emitted),
                        ("lost", s.lost.total()),
                    ]),
                );
                row
            }
        };
        self.out.write_record(&row.cells).map_err(io_error)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }
}

fn named<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> String {
    counts.into_iter().map(|(name, n)| format!("{name}={n}")).collect::<Vec<_>>().join(" ")
}

fn io_error(e: csv::Error) -> io::Error {
    match e.into_kind() {
        csv::ErrorKind::Io(e) => e,
        other => io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_formulas() {
        let cases = [
            ("java[1]:4", "java[1]:4"),
            ("=1+1[1]:4", "'=1+1[1]:4"),
            ("a[1]:4;@SUM(A1)[2]:5", "a[1]:4;'@SUM(A1)[2]:5"),
            ("x;=1,-2", "x;'=1,'-2"),
            ("＝1", "'＝1"),
            ("a-b=c", "a-b=c"),
        ];
        for (text, harmless) in cases {
            assert_eq!(inert(text), harmless);
        }
    }

    proptest! {
        #[test]
        fn wherever_cells_end(text in "[-=+@,;a'＝]{0,12}") {
            let active = |cell: &str| cell.starts_with(['=', '+', '-', '@', '＝']);
            prop_assert!(!inert(&text).split([',', ';']).any(active));
        }
    }
}

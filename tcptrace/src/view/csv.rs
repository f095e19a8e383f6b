//! One row an update, one header. Columns that an event does not have stay empty.

mod row;

use std::io::{self, Write};

pub use self::row::holder;
use self::row::{CsvRow, inert, ms, named};
use crate::{
    engine::{record::BootNs, update::Update},
    prose::check,
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
    /// Of `fleet`.
    Fleet,
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
const FLEET: [&str; 8] =
    ["event", "time", "host", "who", "leaks", "stuck", "per_hour", "oldest_ms"];
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
            Self::Fleet => FLEET.to_vec(),
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

impl<W: Write> View for Csv<W> {
    fn update(&mut self, time: BootNs, update: &Update) -> io::Result<()> {
        let stamp = self.clock.rfc3339(time);
        let row = match update {
            Update::Transition(change) => {
                let mut row = CsvRow::new(&self.columns, "transition", stamp);
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
                let mut row = CsvRow::new(&self.columns, "stuck", stamp);
                row.record(record);
                row.age(&record.age(time));
                row
            }
            Update::Resolved { record, stayed, closed_by, .. } => {
                let mut row = CsvRow::new(&self.columns, "resolved", stamp);
                row.record(record);
                row.age(stayed);
                row.closer(closed_by.as_ref());
                row
            }
            Update::Socket(record) => {
                let mut row = CsvRow::new(&self.columns, "socket", stamp);
                row.record(record);
                row.age(&record.age(time));
                row
            }
            Update::Group(group) => {
                let mut row = CsvRow::new(&self.columns, "group", stamp);
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
                let mut row = CsvRow::new(&self.columns, "summary", stamp);
                row.advice(&o.by_verdict);
                let states = o.states.iter().flatten().map(|(state, n)| (state.name(), *n));
                row.set(
                    "counts",
                    named([("sockets", o.sockets), ("leaks", o.leaks)].into_iter().chain(states)),
                );
                row
            }
            Update::Planned(planned) => {
                let mut row = CsvRow::new(&self.columns, "planned", stamp);
                row.planned(planned, time);
                row
            }
            Update::Closed(closed) => {
                let mut row = CsvRow::new(&self.columns, "closed", stamp);
                row.closed(closed, time);
                row
            }
            Update::Closes(c) => {
                let mut row = CsvRow::new(&self.columns, "summary", stamp);
                let all = [("selected", c.selected), ("planned", c.planned)].into_iter();
                let outcomes = c.outcomes.iter().map(|(outcome, n)| (outcome.name(), *n));
                let refused = c.refused.iter().map(|(refusal, n)| (refusal.name(), *n));
                let held = [("still_held", c.still_held), ("not_begun", c.not_begun)];
                row.set("counts", named(all.chain(outcomes).chain(refused).chain(held)));
                row
            }
            Update::Finding(f) => {
                let mut row = CsvRow::new(&self.columns, "check", stamp);
                row.set("name", f.item.name());
                row.maybe("ok", f.ok);
                row.set("found", inert(&safe(&f.found)));
                row.set("needed_for", check::needed_for(f.item));
                row.set("lost_without", check::lost_without(f.item, f.mark()));
                row.set("remedy", inert(check::remedy(f.remedy)));
                row
            }
            Update::Offers(o) => {
                let mut row = CsvRow::new(&self.columns, "summary", stamp);
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
            Update::Fleet(fleet) => {
                for one in &fleet.leaking {
                    let mut row = CsvRow::new(&self.columns, "leaking", stamp.clone());
                    row.set("host", inert(&safe(&one.host)));
                    row.set("who", inert(&safe(&one.who)));
                    row.set("leaks", one.leaks);
                    row.maybe("stuck", one.stuck);
                    row.maybe("per_hour", one.per_hour);
                    row.maybe("oldest_ms", one.oldest_ns.map(ms));
                    self.out.write_record(&row.cells).map_err(io_error)?;
                }
                return Ok(());
            }
            Update::Forecast(f) => {
                let mut row = CsvRow::new(&self.columns, "forecast", stamp);
                row.forecast(f, time);
                row
            }
            Update::TimeWaits(all) => {
                let mut row = CsvRow::new(&self.columns, "time_wait", stamp);
                row.set("state", "TIME_WAIT");
                row.set("counts", named([("count", all.count)]));
                row
            }
            Update::Lost(lost) => {
                let mut row = CsvRow::new(&self.columns, "lost", stamp);
                row.set("counts", named(lost.named()));
                row
            }
            Update::Summary(s) => {
                let mut row = CsvRow::new(&self.columns, "summary", stamp);
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

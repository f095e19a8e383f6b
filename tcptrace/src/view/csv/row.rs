//! One row.

use std::collections::BTreeMap;

use crate::{
    engine::{
        close::{Closed, Planned},
        forecast::told::{Forecast, What},
        record::{Age, BootNs, ClosedBy, Connection, Holder, Record},
    },
    prose::advice::advice,
    view::text::safe,
};

/// One row, by column name.
pub struct CsvRow<'a> {
    columns: &'a [&'static str],
    /// Its cells, in order.
    pub cells: Vec<String>,
}

impl<'a> CsvRow<'a> {
    pub fn new(columns: &'a [&'static str], event: &str, time: String) -> Self {
        let mut row = Self { columns, cells: vec![String::new(); columns.len()] };
        row.set("event", event);
        row.set("time", time);
        row
    }

    /// Fills a cell, where there is that column.
    pub fn set(&mut self, column: &str, value: impl ToString) {
        if let Some(at) = self.columns.iter().position(|c| *c == column) {
            self.cells[at] = value.to_string();
        }
    }

    pub fn maybe(&mut self, column: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.set(column, value);
        }
    }

    pub fn connection(&mut self, c: &Connection) {
        self.maybe("cookie", (c.cookie != 0).then_some(c.cookie));
        self.set("netns", c.netns);
        self.set("family", c.family());
        self.set("local", c.local);
        self.set("remote", c.remote);
    }

    pub fn age(&mut self, age: &Age) {
        self.set("age_min_ms", ms(age.min_ns));
        self.maybe("age_max_ms", age.max_ns.map(ms));
    }

    pub fn record(&mut self, r: &Record) {
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

    pub fn planned(&mut self, planned: &Planned, now: BootNs) {
        self.record(&planned.record);
        self.age(&planned.record.age(now));
        self.maybe("how", planned.choice.ok().map(|(how, _)| how.name()));
        self.maybe("refused", planned.choice.err().map(|refusal| refusal.name()));
    }

    pub fn closed(&mut self, closed: &Closed, now: BootNs) {
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

    pub fn advice(&mut self, verdicts: &BTreeMap<&'static str, u64>) {
        let advice =
            advice(verdicts).map(|(verdict, advice)| format!("{}: {advice}", verdict.name()));
        self.set("advice", advice.collect::<Vec<_>>().join(" | "));
    }

    pub fn forecast(&mut self, f: &Forecast, time: BootNs) {
        let left = f.left(time);
        let (min, max) = (left.min / 1_000_000, left.max / 1_000_000);
        self.set(
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
        self.set("what", f.what.name());
        if let Some(place) = f.what.place() {
            self.set("netns", place.netns.to_string());
        }
        match &f.what {
            What::Descriptors { process, .. } => {
                let who = format!("{}[{}]", process.comm, process.process.pid);
                self.set("holders", inert(&safe(&who)));
            }
            What::Ports { source, to, .. } => {
                self.set("local", source.to_string());
                self.set("remote", to.to_string());
            }
            What::AcceptQueue { local, .. } => self.set("local", local.to_string()),
            What::FileTable | What::Conntrack { .. } | What::Memory => {}
        }
    }

    pub fn closer(&mut self, c: Option<&ClosedBy>) {
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
pub fn inert(text: &str) -> String {
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
pub fn ms(ns: u64) -> f64 {
    (ns / 1_000) as f64 / 1_000.0
}

/// Counts with their names, in one cell.
pub fn named<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> String {
    counts.into_iter().map(|(name, n)| format!("{name}={n}")).collect::<Vec<_>>().join(" ")
}

//! One JSON object a line. The names are a contract.

mod close;
mod count;
mod doctor;
mod fleet;
mod forecast;
mod host;
mod kept;
pub mod left;
mod lines;
mod ms;
mod origins;
mod page;
mod record;
pub mod schema;
mod stack;
mod stream;
mod time_wait;
mod write;

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::Formatter;

use self::{
    close::{ClosedLine, ClosesLine, planned},
    doctor::{CheckupLine, DiagnosisLine, RemarkLine, SettingLine, UnseenLine},
    fleet::{FleetLine, LeakingLine},
    forecast::ForecastLine,
    host::{FindingLine, OffersLine},
    lines::{GroupLine, LostLine, OverviewLine, SummaryLine},
    origins::{Stamps, stamps},
    page::{ExplanationLine, ProcessLine},
    record::{End, Stamped, record},
    stack::StacksLine,
    time_wait::TimeWaitEvent,
};
use crate::{
    engine::{
        doctor::Checkup,
        record::{BootNs, Record},
        update::Update,
    },
    view::{Clock, View, text::steers},
};

/// Writes JSON lines.
#[derive(Debug)]
pub struct Json<W> {
    out: W,
    clock: Clock,
    /// A line in the making.
    line: Vec<u8>,
    /// Its time stamp.
    time: String,
}

impl Json<Vec<u8>> {
    /// What was written since this was asked last.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

impl<W: Write> Json<W> {
    /// A view that writes to `out`.
    pub fn new(out: W, clock: Clock) -> Self {
        Self { out, clock, line: Vec::new(), time: String::new() }
    }

    /// What it was written to.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        // Every line that a test sees is described; those by hand have tests of their own.
        debug_assert_eq!(schema::check_value(value), Ok(()));
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut self.out, Escaping))?;
        self.out.write_all(b"\n")
    }

    /// What the doctor says, a line each.
    fn checkup(&mut self, time: &str, c: &Checkup) -> io::Result<()> {
        for d in &c.findings {
            self.line(&DiagnosisLine::new(time, d, c.apart_ns))?;
        }
        for remark in &c.remarks {
            self.line(&RemarkLine::new(time, remark, c.apart_ns))?;
        }
        for setting in &c.settings {
            self.line(&SettingLine::new(time, setting))?;
        }
        for unseen in &c.unseen {
            self.line(&UnseenLine::new(time, unseen))?;
        }
        self.line(&CheckupLine::new(time, c))
    }

    /// A line that is put together by hand.
    fn by_hand(&mut self, time: BootNs, write: impl FnOnce(&mut Vec<u8>, &str)) -> io::Result<()> {
        self.clock.rfc3339_into(time, &mut self.time);
        self.line.clear();
        write(&mut self.line, &self.time);
        self.out.write_all(&self.line)
    }

    fn stamp(&self, time: BootNs) -> String {
        self.clock.rfc3339(time)
    }

    fn stamps(&self, r: &Record) -> Stamps {
        r.origins.as_deref().map(|o| stamps(o, &self.clock)).unwrap_or_default()
    }

    fn record(&mut self, event: &str, time: BootNs, r: &Record) -> io::Result<()> {
        let stamps = self.stamps(r);
        self.by_hand(time, |line, stamp| {
            let times = Stamped { now: time, stamp, origins: &stamps };
            record(line, event, &times, r, None);
        })
    }
}

impl<W: Write> View for Json<W> {
    fn update(&mut self, time: BootNs, update: &Update) -> io::Result<()> {
        match update {
            // A line a socket: what is told together is for people.
            Update::Clock(_) | Update::Report(_) | Update::Stories(_) => Ok(()),
            Update::Transition(change) => {
                self.by_hand(time, |line, stamp| stream::transition(line, stamp, change))
            }
            Update::Socket(record) => self.record("socket", time, record),
            Update::Stuck(record) => self.record("stuck", time, record),
            Update::Resolved { record: r, stayed, closed_by, unknown } => {
                let as_of = self.clock.rfc3339(r.seen_ns);
                let closed_by = closed_by.as_ref();
                let ended = End { as_of: &as_of, stayed, closed_by, unknown: *unknown };
                let stamps = self.stamps(r);
                self.by_hand(time, |line, stamp| {
                    let times = Stamped { now: time, stamp, origins: &stamps };
                    record(line, "resolved", &times, r, Some(&ended));
                })
            }
            Update::Group(group) => self.line(&GroupLine::new(self.stamp(time), group)),
            Update::Overview(seen) => self.line(&OverviewLine::new(self.stamp(time), seen)),
            Update::Process(report) => {
                let clock = self.clock.clone();
                let stamp = |time| clock.rfc3339(time);
                self.line(&ProcessLine::new(stamp(time), time, report, &stamp))
            }
            Update::Stacks(s) => self.line(&StacksLine::new(self.stamp(time), s)),
            Update::Explanation(e) => self.line(&ExplanationLine::new(self.stamp(time), e)),
            Update::Planned(plan) => {
                let stamps = self.stamps(&plan.record);
                self.by_hand(time, |line, stamp| {
                    planned(line, &Stamped { now: time, stamp, origins: &stamps }, plan);
                })
            }
            Update::Closed(closed) => self.line(&ClosedLine::new(self.stamp(time), closed)),
            Update::Closes(closes) => self.line(&ClosesLine::new(self.stamp(time), closes)),
            Update::Finding(finding) => self.line(&FindingLine::new(self.stamp(time), finding)),
            Update::Offers(offers) => self.line(&OffersLine::new(self.stamp(time), offers)),
            Update::Checkup(checkup) => self.checkup(&self.stamp(time), checkup),
            Update::Fleet(fleet) => {
                let stamp = self.stamp(time);
                for one in &fleet.leaking {
                    self.line(&LeakingLine::new(&stamp, one))?;
                }
                self.line(&FleetLine::new(&stamp, fleet))
            }
            Update::Forecast(f) => self.line(&ForecastLine::new(self.stamp(time), time, f)),
            Update::TimeWaits(all) => self.line(&TimeWaitEvent::new(self.stamp(time), all)),
            Update::Lost(lost) => self.line(&LostLine::new(self.stamp(time), lost)),
            Update::Summary(summary) => {
                let clock = self.clock.clone();
                let stamp = |time| clock.rfc3339(time);
                self.line(&SummaryLine::new(stamp(time), time, summary, &stamp))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }
}

/// JSON lets control and format characters from U+007F on pass; terminals act on some of them.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // Nearly all that is ever written.
        if fragment.bytes().max() < Some(0x7f) {
            return out.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some(at) = rest.find(steers) {
            let (before, from) = rest.split_at(at);
            let c = from.chars().next().unwrap_or_default();
            out.write_all(before.as_bytes())?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = &from[c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

//! One JSON object a line. The names are a contract.

mod host;
mod lines;
mod page;
mod stream;

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::Formatter;

use self::{
    host::{FindingLine, OffersLine},
    lines::{GroupLine, LostLine, OverviewLine, RecordLine, ResolvedLine, SummaryLine},
    page::{ExplanationLine, ProcessLine},
};
use crate::{
    engine::{record::BootNs, update::Update},
    view::{Clock, Sink, text::steers},
};

/// Writes JSON lines.
#[derive(Debug)]
pub struct Json<W> {
    out: W,
    clock: Clock,
    /// A line in the making.
    line: Vec<u8>,
}

impl<W: Write> Json<W> {
    /// A sink that writes to `out`.
    pub fn new(out: W, clock: Clock) -> Self {
        Self { out, clock, line: Vec::new() }
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut self.out, Escaping))?;
        self.out.write_all(b"\n")
    }
}

impl<W: Write> Sink for Json<W> {
    fn update(&mut self, time: BootNs, update: &Update) -> io::Result<()> {
        let stamp = self.clock.rfc3339(time);
        match update {
            Update::Clock(_) => Ok(()),
            Update::Transition(change) => {
                self.line.clear();
                stream::transition(&mut self.line, &stamp, change);
                self.out.write_all(&self.line)
            }
            Update::Stuck(record) => self.line(&RecordLine::new("stuck", stamp, time, record)),
            Update::Resolved { record, stayed, closed_by, unknown } => {
                let as_of = self.clock.rfc3339(record.seen_ns);
                let line = RecordLine::new("resolved", stamp, time, record);
                self.line(&ResolvedLine::new(line, as_of, stayed, closed_by.as_ref(), unknown))
            }
            Update::Socket(record) => self.line(&RecordLine::new("socket", stamp, time, record)),
            Update::Group(group) => self.line(&GroupLine::new(stamp, group)),
            Update::Overview(overview) => self.line(&OverviewLine::new(stamp, overview)),
            Update::Process(report) => self.line(&ProcessLine::new(stamp, time, report)),
            Update::Explanation(explanation) => {
                self.line(&ExplanationLine::new(stamp, explanation))
            }
            Update::Finding(finding) => self.line(&FindingLine::new(stamp, finding)),
            Update::Offers(offers) => self.line(&OffersLine::new(stamp, offers)),
            Update::Lost(lost) => self.line(&LostLine::new(stamp, lost)),
            Update::Summary(summary) => self.line(&SummaryLine::new(stamp, summary)),
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

//! Lines for people: one a row, with fixed leading columns, in whatever width there is.

mod close;
mod doctor;
mod fit;
mod fleet;
mod host;
mod page;
mod rows;
mod summary;
mod time_wait;
mod words;

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

pub use self::fit::cut;
pub(super) use self::words::lost_text;
use crate::{
    engine::{record::BootNs, update::Update},
    prose::forecast::forecast,
    view::{Clock, View, text::safe},
};

const BAD: Style = AnsiColor::Red.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const PLAIN: Style = Style::new();

/// How wide the terminal is now; `None`: it does not say.
pub type Measure = fn() -> Option<usize>;

/// Writes a table.
#[derive(Debug)]
pub struct Table<W> {
    out: W,
    clock: Clock,
    width: usize,
    measure: Option<Measure>,
    headed: bool,
    /// Rows begin with a time.
    has_times: bool,
    /// Columns before the ends.
    lead: usize,
    /// The process of a page, and those of its leaks that have no row yet.
    untold: Option<(u32, u64)>,
    /// What helps nobody, as far as it was said: once is enough.
    said: Vec<&'static str>,
}

impl<W: Write> Table<W> {
    /// A view that writes to `out`, which takes styles away where they are not wanted, for `width`
    /// columns.
    pub fn new(out: W, clock: Clock, width: usize) -> Self {
        Self {
            out,
            clock,
            width,
            measure: None,
            headed: false,
            has_times: false,
            lead: 0,
            untold: None,
            said: Vec::new(),
        }
    }

    /// The same, which follows a terminal whose width changes.
    #[must_use]
    pub fn following(self, measure: Measure) -> Self {
        Self { measure: Some(measure), ..self }
    }

    /// Columns that there are now.
    fn width(&mut self) -> usize {
        if let Some(width) = self.measure.and_then(|measure| measure()) {
            self.width = width;
        }
        self.width
    }

    fn styled(&mut self, style: Style, text: &str) -> io::Result<()> {
        write!(self.out, "{style}{text}{style:#}")
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
        let width = self.width();
        for word in words.filter(|w| !w.is_empty()) {
            if at > 0 && at + 1 + word.width() > width {
                writeln!(self.out)?;
                at = 0;
            }
            let space = if at == 0 { indent } else { 1 };
            write!(self.out, "{}{word}", " ".repeat(space))?;
            at += space + word.width();
        }
        writeln!(self.out)
    }
}

impl<W: Write> View for Table<W> {
    fn update(&mut self, time: BootNs, update: &Update) -> io::Result<()> {
        match update {
            Update::Clock(_) => Ok(()),
            Update::Transition(change) => self.change(time, change),
            Update::Stuck(record) => self.stuck(time, record),
            Update::Resolved { record, stayed, closed_by, unknown } => {
                self.resolved(time, record, stayed, closed_by.as_ref(), *unknown)
            }
            Update::Report(report) => self.report(time, report),
            Update::Socket(record) => self.socket_row(time, record),
            Update::Group(group) => self.group(group),
            Update::Overview(overview) => self.overview(overview),
            Update::Process(report) => self.process(report, time),
            Update::Stacks(s) => self.stacks(&s.stacks, Some(&s.process)),
            Update::Explanation(explanation) => self.explanation(explanation, time),
            Update::Planned(planned) => self.planned(time, planned),
            Update::Closed(closed) => self.closed(time, closed),
            Update::Closes(closes) => self.closes(closes),
            Update::Finding(finding) => self.finding(finding),
            Update::Offers(offers) => self.offers(offers),
            Update::Checkup(checkup) => self.checkup(checkup),
            Update::Fleet(fleet) => self.fleet(fleet),
            Update::Stories(stories) => self.stories(stories),
            Update::Forecast(f) => {
                let line = format!("{} {}", self.clock.short(time), forecast(f, time));
                let line = safe(&line).into_owned();
                write!(self.out, "{BAD}")?;
                self.wrapped(0, line.split(' '))?;
                write!(self.out, "{BAD:#}")
            }
            Update::TimeWaits(all) => self.time_waits_now(time, all),
            Update::Lost(lost) => {
                let time = self.clock.short(time);
                let line = format!("{time} lost: {}; ages and ends are checked", lost_text(lost));
                self.styled(BAD, &line)?;
                writeln!(self.out)
            }
            Update::Summary(s) => self.summary(s, time),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.say_untold()?;
        self.out.flush()
    }

    fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }
}

//! What is to be closed and what came of it: the socket's row, and sentences below it.

use std::io::{self, Write};

use anstyle::Style;

use crate::{
    engine::{
        close::{CloseResult, Closed, Closes, Planned},
        record::BootNs,
    },
    prose::close,
    view::{
        table::{BAD, BOLD, DIM, GOOD, PLAIN, Table, words::cookie},
        text::safe,
    },
};

/// Where the sentences begin.
const INDENT: usize = 7;
/// The same behind a time.
const BEHIND_TIME: usize = 9;

impl<W: Write> Table<W> {
    pub(super) fn planned(&mut self, now: BootNs, p: &Planned) -> io::Result<()> {
        self.socket_row(now, &p.record)?;
        let style = if p.choice.is_ok() { PLAIN } else { DIM };
        let cookie = cookie(&p.record.connection);
        self.sentence(style, &format!("{cookie} {}", close::choice(&p.choice, &p.record)))
    }

    pub(super) fn closed(&mut self, now: BootNs, c: &Closed) -> io::Result<()> {
        if !self.has_times {
            self.socket_row(now, &c.record)?;
        }
        let style = match c.attempt.outcome {
            CloseResult::Closed => GOOD,
            CloseResult::Closing => BOLD,
            CloseResult::GoneBefore | CloseResult::Changed => PLAIN,
            CloseResult::Failed | CloseResult::NotAllowed => BAD,
        };
        let mut said = close::outcome(c).into_iter();
        let first = said.next().unwrap_or_default();
        if self.has_times {
            // Among the rows of a watch, which has told of it.
            let stamp = self.clock.short(now);
            let connection = &c.record.connection;
            self.styled(DIM, &stamp)?;
            let ends = format!("{},{}", connection.local, connection.remote);
            let line = format!("{ends} {} {first}", cookie(connection));
            write!(self.out, "{style}")?;
            self.continued(stamp.len(), BEHIND_TIME, safe(&line).split(' '))?;
            write!(self.out, "{style:#}")?;
            return said.try_for_each(|more| self.sentence(PLAIN, &more));
        }
        self.sentence(style, &format!("{} {first}", cookie(&c.record.connection)))?;
        said.try_for_each(|more| self.sentence(PLAIN, &more))
    }

    pub(super) fn closes(&mut self, c: &Closes) -> io::Result<()> {
        if c.selected > 0 {
            writeln!(self.out)?;
        }
        for (n, line) in close::summary(c).iter().enumerate() {
            let style = if n == 0 { BOLD } else { PLAIN };
            write!(self.out, "{style}")?;
            self.wrapped(0, line.split(' '))?;
            write!(self.out, "{style:#}")?;
        }
        Ok(())
    }

    fn sentence(&mut self, style: Style, text: &str) -> io::Result<()> {
        write!(self.out, "{style}")?;
        let indent = if self.has_times { BEHIND_TIME } else { INDENT };
        self.wrapped(indent, safe(text).split(' '))?;
        write!(self.out, "{style:#}")
    }
}

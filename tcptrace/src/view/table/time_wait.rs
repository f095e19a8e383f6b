//! TIME_WAIT, counted.

use std::io::{self, Write};

use super::{BOLD, DIM, Table, words::pad};
use crate::{
    engine::{record::BootNs, time_wait::TimeWaits},
    prose::time_wait::told,
};

impl<W: Write> Table<W> {
    /// Those of a watch, as counted now.
    pub(super) fn time_waits_now(&mut self, time: BootNs, all: &TimeWaits) -> io::Result<()> {
        let line = format!("{} {} in TIME_WAIT", self.clock.short(time), all.count);
        self.styled(BOLD, &line)?;
        writeln!(self.out)?;
        self.time_waits(all)
    }

    pub(super) fn time_waits(&mut self, all: &TimeWaits) -> io::Result<()> {
        if all.count == 0 {
            return Ok(());
        }
        for kind in told(all) {
            let mut title = kind.title;
            for line in &kind.lines {
                write!(self.out, "  {DIM}{}{DIM:#}", pad(title, 13))?;
                self.continued(15, 16, line.split(' '))?;
                title = "";
            }
        }
        Ok(())
    }
}

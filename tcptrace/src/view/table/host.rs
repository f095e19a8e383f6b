//! What `check` found: a line each, and below those that are not as they should be what to do.

use std::io::{self, Write};

use crate::{
    engine::check::{Finding, Mark, Offers},
    prose::check,
    view::{
        table::{BAD, BOLD, DIM, GOOD, Table, words::pad},
        text::safe,
    },
};

/// Where the names begin, and where what was found begins.
const NAME: usize = 9;
const FOUND: usize = 30;

impl<W: Write> Table<W> {
    pub(super) fn finding(&mut self, f: &Finding) -> io::Result<()> {
        if !std::mem::replace(&mut self.headed, true) {
            self.styled(DIM, &format!("{}{}FOUND", pad("", NAME), pad("NAME", FOUND - NAME)))?;
            writeln!(self.out)?;
        }
        let style = match f.mark() {
            Mark::Ok => GOOD,
            Mark::Missing => BAD,
            Mark::Limited | Mark::Unknown => BOLD,
        };
        self.styled(style, &pad(f.mark().name(), NAME))?;
        // The space before a word is the word's.
        write!(self.out, "{}", pad(f.item.name(), FOUND - NAME).split_at(FOUND - NAME - 1).0)?;
        self.continued(FOUND - 1, FOUND, safe(&f.found).split(' '))?;
        if f.mark() == Mark::Ok {
            return Ok(());
        }
        let rows = [
            ("needed for", check::needed_for(f.item)),
            ("lost without", check::lost_without(f.item, f.mark())),
            ("remedy", check::remedy(f.remedy)),
        ];
        for (name, text) in rows {
            let name = pad(name, FOUND - NAME - 1);
            write!(self.out, "{}{DIM}{name}{DIM:#}", " ".repeat(NAME))?;
            self.continued(FOUND - 1, FOUND, text.split(' '))?;
        }
        Ok(())
    }

    pub(super) fn offers(&mut self, o: &Offers) -> io::Result<()> {
        writeln!(self.out)?;
        let commands = [
            ("watch", o.watch),
            ("top", o.watch),
            ("snapshot", o.snapshot),
            ("explain", o.explain),
        ];
        for (title, style, works) in
            [("works here", GOOD, true), ("does not work here", BAD, false)]
        {
            let which: Vec<&str> = commands.iter().filter(|c| c.1 == works).map(|c| c.0).collect();
            if !which.is_empty() {
                self.styled(style, &format!("{title}: {}", which.join(", ")))?;
                writeln!(self.out)?;
            }
        }
        if let Some(why) = &o.why {
            self.wrapped(2, safe(why).split(' '))?;
        }
        let counts: Vec<String> =
            o.counts.iter().map(|(mark, n)| format!("{} {n}", mark.name())).collect();
        writeln!(self.out, "  {DIM}{}{DIM:#}", counts.join(", "))
    }
}

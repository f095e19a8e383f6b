//! Who leaks on many hosts.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use super::{BAD, BOLD, DIM, Table, words::pad};
use crate::{
    engine::{
        counted::counted,
        fleet::{Fleet, LeakingHost},
    },
    prose::time::human,
    view::text::safe,
};

/// Of a number.
const COLUMN: usize = 8;
/// Of a host, where the names are shorter.
const HOST: usize = 20;

impl<W: Write> Table<W> {
    pub(super) fn fleet(&mut self, fleet: &Fleet) -> io::Result<()> {
        let host =
            fleet.leaking.iter().map(|one| safe(&one.host).width()).max().unwrap_or(0).max(HOST)
                + 2;
        if !fleet.leaking.is_empty() {
            let head = ["LEAKS", "/HOUR", "OLDEST"].map(|name| pad(name, COLUMN)).concat();
            let head = format!("{head}{}WHO", pad("HOST", host));
            self.styled(DIM, &head)?;
            writeln!(self.out)?;
        }
        fleet.leaking.iter().try_for_each(|one| self.leaking(one, host))?;
        if fleet.more > 0 {
            writeln!(self.out, "and {} more; --limit shows more", fleet.more)?;
        }
        for (host, why) in &fleet.silent {
            self.styled(BAD, &format!("{}: {}", safe(host), safe(why)))?;
            writeln!(self.out)?;
        }
        let leaks = counted(fleet.leaks, "leak", "leaks");
        let hosts = counted(fleet.hosts, "host", "hosts");
        let silent = match fleet.silent.len() as u64 {
            0 => String::new(),
            n => format!(", {} without an answer", counted(n, "host", "hosts")),
        };
        self.styled(BOLD, &format!("{leaks} on {hosts}{silent}"))?;
        writeln!(self.out)
    }

    fn leaking(&mut self, one: &LeakingHost, host: usize) -> io::Result<()> {
        self.styled(BAD, &pad(&one.leaks.to_string(), COLUMN))?;
        let growth = one.per_hour.map_or_else(|| "-".to_owned(), |n| format!("{n:+.0}"));
        let oldest = one.oldest_ns.map_or_else(|| "-".to_owned(), human);
        write!(self.out, "{}{}", pad(&growth, COLUMN), pad(&oldest, COLUMN))?;
        write!(self.out, "{}", pad(&safe(&one.host), host))?;
        self.styled(BOLD, &safe(&one.who))?;
        let verdicts: Vec<String> =
            one.by_verdict.iter().map(|(name, n)| format!("{} {n}", safe(name))).collect();
        let space = if verdicts.is_empty() { "" } else { "  " };
        writeln!(self.out, "{space}{DIM}{}{DIM:#}", verdicts.join(", "))
    }
}

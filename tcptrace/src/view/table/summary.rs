//! What stands at the end, and groups of one scan.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use unicode_width::UnicodeWidthStr;

use crate::{
    engine::{
        counted::counted,
        group::{Group, HolderNames, Overview},
        record::BootNs,
        stories::CodeStory,
        update::{Stays, Summary},
    },
    prose::{advice::advice, forecast::forecast, last_word::last_word, origins, time::human},
    view::{
        table::{
            BAD, BOLD, DIM, GOOD, PLAIN, Table,
            words::{age_text, lost_text, pad},
        },
        text::safe,
    },
};

/// Rows of the summary's lists.
const TOP: usize = 5;
/// Width of the columns of groups, before what they have in common.
const COLUMN: usize = 9;

impl<W: Write> Table<W> {
    /// The last screen: a verdict in words, the counts, what to do, and what to type next.
    pub(super) fn summary(&mut self, s: &Summary, now: BootNs) -> io::Result<()> {
        writeln!(self.out)?;
        let clock = self.clock.clone();
        let mut words = last_word(s, &|time| clock.short(time)).into_iter();
        if let Some(first) = words.next() {
            let style = if s.leaks_open > 0 { BAD } else { GOOD };
            write!(self.out, "{style}")?;
            self.wrapped(0, safe(&first).split(' '))?;
            write!(self.out, "{style:#}")?;
        }
        let rest: Vec<String> = words.collect();
        let (next, rest) = rest.split_last().map_or((None, &[][..]), |(n, r)| (Some(n), r));
        for line in rest {
            self.wrapped(0, safe(line).split(' '))?;
        }
        writeln!(self.out)?;
        let counts =
            format!("{} stuck, {} resolved, {} still open", s.stuck, s.resolved, s.still_open);
        self.styled(BOLD, &counts)?;
        let seen = counted(s.seen, "transition", "transitions");
        let seen = format!("; {seen} of all sockets seen");
        let lost = match s.lost.total() {
            0 => ", none lost".to_owned(),
            n => format!(", {n} lost ({})", lost_text(&s.lost)),
        };
        let style = if s.lost.total() > 0 { BAD } else { PLAIN };
        if counts.len() + seen.len() + lost.len() > self.width() {
            writeln!(self.out, ";")?;
            write!(self.out, "{}", seen.trim_start_matches("; "))?;
        } else {
            write!(self.out, "{seen}")?;
        }
        self.styled(style, &lost)?;
        writeln!(self.out)?;
        self.tops(&s.by_holder, &s.names, &s.by_remote, &s.by_verdict)?;
        self.forecasts(s, now)?;
        s.time_waits.iter().try_for_each(|all| self.time_waits(all))?;
        s.stays.iter().try_for_each(|stays| self.stays(stays))?;
        self.stories(&s.stories)?;
        self.kept_ones(s)?;
        self.advice(&s.by_verdict)?;
        match next {
            Some(next) => {
                writeln!(self.out)?;
                self.styled(BOLD, &safe(next))?;
                writeln!(self.out)
            }
            None => Ok(()),
        }
    }

    /// Where leaks come from; nothing where that was not asked for.
    pub(super) fn stories(&mut self, stories: &[CodeStory]) -> io::Result<()> {
        if stories.is_empty() {
            return Ok(());
        }
        writeln!(self.out)?;
        self.styled(BOLD, "where they come from:")?;
        writeln!(self.out)?;
        for story in stories.iter().take(TOP) {
            for (line, indent) in origins::story(story).iter().zip([1, 3, 3, 3]) {
                write!(self.out, "{}", " ".repeat(indent))?;
                self.continued(indent, 6, safe(line).split(' '))?;
            }
        }
        let more: u64 = stories.iter().skip(TOP).map(|story| story.count).sum();
        if more > 0 { writeln!(self.out, "  {more} of other code") } else { Ok(()) }
    }

    /// What keeps those that hold leaks from their work.
    fn kept_ones(&mut self, s: &Summary) -> io::Result<()> {
        let clock = self.clock.clone();
        for kept in &s.kept {
            writeln!(self.out)?;
            self.styled(BOLD, &format!("what keeps it, as of {}:", clock.short(kept.cause.at_ns)))?;
            writeln!(self.out)?;
            self.one_kept(kept)?;
        }
        Ok(())
    }

    /// What will be full soon.
    fn forecasts(&mut self, s: &Summary, now: BootNs) -> io::Result<()> {
        for f in &s.forecasts {
            write!(self.out, "  {DIM}{}{DIM:#}", pad("forecast", 11))?;
            self.continued(13, 14, safe(&forecast(f, now)).split(' '))?;
        }
        Ok(())
    }

    fn stays(&mut self, stays: &Stays) -> io::Result<()> {
        let below = |ns: Option<u64>| ns.map_or_else(|| "any bound".to_owned(), human);
        let (half, most) = (below(stays.half_below_ns), below(stays.most_below_ns));
        let text = format!(
            "{} of all sockets: {}, half below {half}, 99% below {most}",
            stays.state.name(),
            stays.count
        );
        write!(self.out, "  {DIM}{}{DIM:#}", pad("ended", 11))?;
        self.continued(13, 14, text.split(' '))
    }

    pub(super) fn overview(&mut self, o: &Overview) -> io::Result<()> {
        if o.sockets > 0 {
            writeln!(self.out)?;
        }
        let sockets = counted(o.sockets, "socket", "sockets");
        self.styled(BOLD, &format!("{sockets}, {}", counted(o.leaks, "leak", "leaks")))?;
        let places = counted(o.namespaces, "network namespace", "network namespaces");
        writeln!(self.out, " in {places}")?;
        if o.in_use > 0 {
            let text = format!(
                "{} more in use after a half-close: --verdict half-close-in-use lists them",
                o.in_use
            );
            writeln!(self.out, "  {text}")?;
        }
        if o.age_unknown > 0 {
            let text = format!(
                "{} left out by --min-age: at least so old, that is not certain",
                counted(o.age_unknown, "socket", "sockets")
            );
            self.wrapped(2, text.split(' '))?;
        }
        if let Some(states) = &o.states {
            let states: Vec<String> =
                states.iter().map(|(state, n)| format!("{} {n}", state.name())).collect();
            write!(self.out, "  {DIM}{}{DIM:#}", pad("all by state", 13))?;
            let states = format!("{} (selected or not)", states.join(", "));
            self.continued(15, 16, states.split(' '))?;
        }
        if let Some(time_waits) = &o.time_waits {
            self.time_waits(time_waits)?;
        }
        self.tops(&o.by_holder, &o.names, &o.by_remote, &o.by_verdict)?;
        self.advice(&o.by_verdict)
    }

    pub(super) fn group(&mut self, group: &Group) -> io::Result<()> {
        if !std::mem::replace(&mut self.headed, true) {
            let head = format!(
                "{}{}{}",
                pad("COUNT", COLUMN),
                pad("OLDEST", COLUMN),
                group.by.name().to_uppercase()
            );
            self.styled(DIM, &head)?;
            writeln!(self.out)?;
        }
        let style = if group.leaks > 0 { BAD } else { PLAIN };
        self.styled(
            style,
            &format!(
                "{}{}",
                pad(&group.count.to_string(), COLUMN),
                pad(&age_text(&group.oldest), COLUMN)
            ),
        )?;
        let name = safe(&group.name);
        self.styled(BOLD, &name)?;
        let mut verdicts: Vec<_> = group.by_verdict.iter().collect();
        verdicts.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        let verdicts: Vec<String> =
            verdicts.iter().map(|(name, n)| format!("{name} {n}")).collect();
        let room = self.width().saturating_sub(2 * COLUMN + name.width() + 2);
        // As many as there is room for, the most frequent first.
        let fits = (0..=verdicts.len())
            .rev()
            .map(|n| verdicts[..n].join(", "))
            .find(|text| text.width() <= room)
            .unwrap_or_default();
        let space = if fits.is_empty() { "" } else { "  " };
        writeln!(self.out, "{space}{DIM}{fits}{DIM:#}")
    }

    fn tops(
        &mut self,
        holders: &BTreeMap<String, u64>,
        names: &HolderNames,
        remotes: &BTreeMap<std::net::IpAddr, u64>,
        verdicts: &BTreeMap<&'static str, u64>,
    ) -> io::Result<()> {
        let name = |key| safe(names.get(key).unwrap_or(key)).into_owned();
        self.top("by holder", holders.iter().map(|(key, n)| (name(key), *n)).collect())?;
        self.top("by remote", remotes.iter().map(|(k, n)| (k.to_string(), *n)).collect())?;
        self.top("by verdict", verdicts.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect())
    }

    /// What to do about each verdict that was given.
    fn advice(&mut self, verdicts: &BTreeMap<&'static str, u64>) -> io::Result<()> {
        for (verdict, advice) in advice(verdicts) {
            writeln!(self.out)?;
            self.styled(BOLD, &format!("{}:", verdict.name()))?;
            writeln!(self.out)?;
            self.wrapped(2, advice.split(' '))?;
        }
        Ok(())
    }

    fn top(&mut self, title: &str, mut list: Vec<(String, u64)>) -> io::Result<()> {
        if list.is_empty() {
            return Ok(());
        }
        list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let shown: Vec<String> =
            list.iter().take(TOP).map(|(name, n)| format!("{name} {n}")).collect();
        let more = list.len().saturating_sub(TOP);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        write!(self.out, "  {DIM}{}{DIM:#}", pad(title, 11))?;
        self.continued(13, 14, format!("{}{more}", shown.join(", ")).split(' '))
    }
}

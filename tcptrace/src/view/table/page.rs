//! The pages of `explain`: sections with a title each.

use std::io::{self, Write};

use crate::{
    engine::{
        blocked::blockage::Kept,
        counted::counted,
        record::{BootNs, Holder, Record, Role},
        report::{About, Explanation, ProcessReport},
        stack::threads::{LeftAlone, Stacks},
    },
    prose::{
        blocked,
        cure::{Snippet, cure},
        dump,
        forecast::span,
        origins, reasons, stacks, threads,
        time::human,
        words::{evidence, holders, name},
    },
    view::{
        table::{
            BAD, BOLD, DIM, PLAIN, Table,
            words::{age_text, pad},
        },
        text::safe,
    },
};

/// Listeners and thread groups beyond this many are only counted.
const SHOWN: usize = 12;
const SECOND_NS: u64 = 1_000_000_000;

impl<W: Write> Table<W> {
    pub(super) fn process(&mut self, r: &ProcessReport, now: BootNs) -> io::Result<()> {
        self.styled(BOLD, &safe(&name(&r.process)))?;
        writeln!(self.out)?;
        if !r.command.is_empty() {
            self.field("command", &safe(&r.command.join(" ")))?;
        }
        let started = r.process.process.start_ns;
        let parent = r
            .parent
            .as_ref()
            .map(|(pid, comm)| format!(", its parent is {}[{pid}]", safe(comm)))
            .unwrap_or_default();
        if started != 0 {
            self.field("started", &format!("{} ago{parent}", human(now.saturating_sub(started))))?;
        }
        if let Some(c) = r.process.cgroups.as_ref().and_then(|c| c.container()) {
            let runtime = c.runtime.map_or("unknown runtime", |runtime| runtime.name());
            let pod = c.pod.as_ref().map(|pod| format!(", pod {}", safe(pod))).unwrap_or_default();
            self.field("container", &format!("{} ({runtime}{pod})", safe(&c.id)))?;
        }
        if let Some(path) = r.process.cgroups.as_ref().and_then(|c| c.path()) {
            self.field("cgroup", &safe(path))?;
        }
        self.field("descriptors", &descriptors(r, now))?;
        self.sockets(r)?;
        self.listeners(r)?;
        self.threads(r)?;
        self.kept(r, now)?;
        self.stacks(&r.stacks, None)?;
        if r.leaks > 0 && matches!(r.stacks, Err(LeftAlone::NotAskedFor)) {
            self.its_code(r.process.process.pid)?;
        }
        self.untold = Some((r.process.process.pid, r.leaks)).filter(|(_, leaks)| *leaks > 0);
        if r.leaks > 0 { self.title("leaks, the oldest first") } else { Ok(()) }
    }

    fn sockets(&mut self, r: &ProcessReport) -> io::Result<()> {
        self.title(&format!("TCP sockets ({})", counted(r.leaks, "leak", "leaks")))?;
        if r.sockets.is_empty() {
            return writeln!(self.out, "  none");
        }
        for c in &r.sockets {
            let line = format!("  {}{}", pad(&c.count.to_string(), 8), pad(c.state.name(), 13));
            self.styled(if c.verdict.is_some_and(|v| v.is_leak()) { BAD } else { PLAIN }, &line)?;
            let oldest = if c.verdict.is_some() {
                format!("the oldest {}", age_text(&c.oldest))
            } else {
                String::new()
            };
            writeln!(
                self.out,
                "{}{DIM}{oldest}{DIM:#}",
                pad(c.verdict.map_or("", |v| v.name()), 17)
                    .trim_end_matches(|_| c.verdict.is_none())
            )?;
        }
        Ok(())
    }

    fn listeners(&mut self, r: &ProcessReport) -> io::Result<()> {
        if r.listeners.is_empty() {
            return Ok(());
        }
        let overflows = match r.overflows {
            Ok(n) => {
                let overflows = counted(n, "overflow", "overflows");
                format!("listeners ({overflows} in its network namespace so far)")
            }
            Err(why) => format!("listeners (overflows: {why})"),
        };
        self.title(&overflows)?;
        for l in r.listeners.iter().take(SHOWN) {
            let line = format!(
                "  {}queue {} of {}, dropped {}",
                pad(&l.local.to_string(), 24),
                l.queue,
                l.limit,
                l.drops
            );
            self.styled(if l.is_full() { BAD } else { PLAIN }, &line)?;
            let full = if l.is_full() { ": full, new connections are dropped" } else { "" };
            let shared: Vec<String> =
                l.shared_with.iter().take(SHOWN).map(|p| p.pid.to_string()).collect();
            let shared = if shared.is_empty() {
                String::new()
            } else {
                format!("; shared with {}", shared.join(", "))
            };
            writeln!(self.out, "{full}{shared}")?;
        }
        self.more(r.listeners.len())
    }

    fn threads(&mut self, r: &ProcessReport) -> io::Result<()> {
        self.title("threads")?;
        match &r.threads {
            Ok(threads) => {
                if let Some(limit) = threads::limit(threads) {
                    writeln!(self.out, "  only {limit} were read:")?;
                }
                let groups = &threads.groups;
                for group in groups.iter().take(SHOWN) {
                    let text = threads::text(group);
                    self.wrapped(2, safe(&text).split(' '))?;
                }
                self.more(groups.len())
            }
            Err(why) => writeln!(self.out, "  unknown: {why}"),
        }
    }

    fn kept(&mut self, r: &ProcessReport, now: BootNs) -> io::Result<()> {
        // The same reason was said of its threads.
        if r.kept.is_err() && r.threads.is_err() {
            return Ok(());
        }
        let at = r.kept.iter().flatten().next().map_or(now, |kept| kept.cause.at_ns);
        let as_of = match now.saturating_sub(at) {
            0..SECOND_NS => String::new(),
            ns => format!(", as of {} ago", human(ns)),
        };
        self.title(&format!("what keeps it{as_of}"))?;
        match &r.kept {
            Ok(all) if all.is_empty() => self.wrapped(2, blocked::NOTHING.split(' ')),
            Ok(all) => all.iter().try_for_each(|kept| self.one_kept(kept)),
            Err(why) => writeln!(self.out, "  unknown: {why}"),
        }
    }

    /// A finding, and below it how it leads to its end.
    pub(super) fn one_kept(&mut self, kept: &Kept) -> io::Result<()> {
        let mut lines = blocked::lines(kept).into_iter();
        let finding = lines.next().unwrap_or_default();
        let style = if kept.is_told() { BAD } else { PLAIN };
        write!(self.out, "{style}")?;
        self.wrapped(2, safe(&finding).split(' '))?;
        write!(self.out, "{style:#}")?;
        for line in lines {
            write!(self.out, "  -")?;
            self.continued(3, 4, safe(&line).split(' '))?;
        }
        Ok(())
    }

    /// How to get at the code behind its leaks.
    fn its_code(&mut self, pid: u32) -> io::Result<()> {
        self.title("its code")?;
        writeln!(self.out, "  where its threads are: tcptrace explain {pid} --stacks")?;
        let origins = format!("tcptrace watch --pid {pid} --origins");
        writeln!(self.out, "  where leaks to come are opened: {origins}")
    }

    /// Where threads are; of which process, where the page is not about it.
    pub(super) fn stacks(
        &mut self,
        stacks: &Result<Stacks, LeftAlone>,
        process: Option<&Holder>,
    ) -> io::Result<()> {
        let of = process.map(|holder| format!(" of {}", safe(&name(holder)))).unwrap_or_default();
        let stacks = match stacks {
            Ok(stacks) => stacks,
            Err(LeftAlone::NotAskedFor) => return Ok(()),
            Err(why) => {
                self.title(&format!("stacks{of}"))?;
                return writeln!(self.out, "  unknown: {}", stacks::refused(*why));
            }
        };
        self.title(&format!("stacks{of} now, the innermost call first"))?;
        if stacks.threads.len() < stacks.of {
            writeln!(self.out, "  only {} of {} were read:", stacks.threads.len(), stacks.of)?;
        }
        let lines = stacks::lines(stacks);
        for line in lines.iter().take(SHOWN) {
            self.wrapped(2, safe(line).split(' '))?;
        }
        self.more(lines.len())?;
        let no_dump = stacks.dump.and_then(Result::err).map(|why| dump::none(why).to_owned());
        let remedies = no_dump.into_iter().chain(stacks::remedies(stacks));
        let remedies: Vec<String> = remedies.map(|r| safe(&r).into_owned()).collect();
        if remedies.is_empty() {
            return Ok(());
        }
        self.list(
            "what is missing in them",
            &remedies.iter().map(String::as_str).collect::<Vec<_>>(),
        )
    }

    /// Says how many leaks of a page's process have no row.
    pub(super) fn say_untold(&mut self) -> io::Result<()> {
        match self.untold.take() {
            Some((pid, leaks @ 1..)) => {
                writeln!(self.out, "and {leaks} more: tcptrace snapshot --pid {pid} lists them")
            }
            _ => Ok(()),
        }
    }

    pub(super) fn explanation(&mut self, e: &Explanation, now: BootNs) -> io::Result<()> {
        self.say_untold()?;
        let cure = cure(e.verdict);
        match &e.about {
            About::Socket(record) => {
                self.socket(record, now)?;
                self.title(e.verdict.name())?;
            }
            About::Sockets(n) => {
                let role = e.role.map_or_else(String::new, |role| format!("{} ", role.name()));
                let (one, many) = (format!("{role}socket"), format!("{role}sockets"));
                self.title(&format!("{} ({})", e.verdict.name(), counted(*n, &one, &many)))?
            }
        }
        self.wrapped(2, cure.means.split(' '))?;
        self.list("look for", &cure.look_for(e.role).collect::<Vec<_>>())?;
        let code = cure.in_code_for(e.language, e.role);
        // Who knows the language needs no other; who does not, needs all.
        let known = code.iter().any(|snippet| Some(snippet.language) == e.language);
        if !code.is_empty() {
            writeln!(self.out, "  {DIM}in code{DIM:#}")?;
        }
        // Not wrapped: it is to be copied.
        for Snippet { language, role, code } in
            code.into_iter().filter(|snippet| !known || Some(snippet.language) == e.language)
        {
            let role = role.filter(|_| e.role.is_none()).map(Role::name);
            let side = role.map_or_else(String::new, |role| format!("{role}: "));
            writeln!(self.out, "  - {DIM}{}{side}{DIM:#}{code}", pad(language.name(), 8))?;
        }
        let news: Vec<&str> =
            cure.no_help.iter().copied().filter(|text| !self.said.contains(text)).collect();
        self.said.extend(cure.no_help);
        self.list("what doesn't help", &news)
    }

    fn socket(&mut self, r: &Record, now: BootNs) -> io::Result<()> {
        let age = r.age(now);
        let since = match age.max_ns {
            _ if age.is_exact() => human(age.min_ns),
            Some(max) if human(max) != human(age.min_ns) => {
                format!("{} to {}", human(age.min_ns), human(max))
            }
            // As rows say it.
            _ => age_text(&age),
        };
        let c = &r.connection;
        self.styled(BOLD, &format!("{},{}", c.local, c.remote))?;
        writeln!(self.out)?;
        self.field("state", &format!("{} for {since}", r.state.name()))?;
        let role = r.role.map_or_else(
            || r.unknown.get("role").map_or("unknown", reasons::words),
            |role| role.name(),
        );
        self.field("role", role)?;
        for line in holders(r) {
            self.field("held by", &safe(&line))?;
        }
        if let Some(l) = &r.listener {
            self.field(
                "listener",
                &format!("{} queue {} of {}, dropped {}", l.local, l.queue, l.limit, l.drops),
            )?;
        }
        let inode = r.evidence.inode.map(|i| format!(", inode {i}")).unwrap_or_default();
        self.field("names", &format!("cookie {}, network namespace {}{inode}", c.cookie, c.netns))?;
        let scanned = match now.saturating_sub(r.seen_ns) {
            0..SECOND_NS => String::new(),
            ns => format!(", as of {} ago", human(ns)),
        };
        self.list(&format!("evidence{scanned}"), &evidence(r, now))?;
        let moments: Vec<String> =
            origins::moments(r, now).iter().map(|line| safe(line).into_owned()).collect();
        self.list("origins", &moments)?;
        if r.verdict.is_none() {
            let why = r.unknown.get("verdict").map_or("unknown", reasons::words);
            self.field("no verdict", why)?;
        }
        if !r.also.is_empty() {
            let also: Vec<&str> = r.also.iter().map(|v| v.name()).collect();
            self.field("holds too", &also.join(", "))?;
        }
        Ok(())
    }

    fn title(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out)?;
        self.styled(BOLD, text)?;
        writeln!(self.out)
    }

    fn field(&mut self, name: &str, text: &str) -> io::Result<()> {
        write!(self.out, "  {DIM}{}{DIM:#}", pad(name, 13))?;
        writeln!(self.out, "{text}")
    }

    fn list(&mut self, title: &str, items: &[impl AsRef<str>]) -> io::Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        writeln!(self.out, "  {DIM}{title}{DIM:#}")?;
        for item in items {
            write!(self.out, "  -")?;
            self.continued(3, 4, item.as_ref().split(' '))?;
        }
        Ok(())
    }

    fn more(&mut self, all: usize) -> io::Result<()> {
        if all > SHOWN { writeln!(self.out, "  and {} more", all - SHOWN) } else { Ok(()) }
    }
}

/// `8512 of 20000 (42%); at this pace they run out in 4m10s to 4m40s`.
fn descriptors(r: &ProcessReport, now: BootNs) -> String {
    match (r.used, r.limit) {
        (Ok(used), Ok(limit)) => {
            let share = used.saturating_mul(100) / limit.max(1);
            let pace = match r.full {
                Ok(full) => {
                    format!("; at this pace they run out in {}", span(full.left(now)))
                }
                Err(_) => String::new(),
            };
            format!("{used} of {limit} ({share}%){pace}")
        }
        (Ok(used), Err(why)) => format!("{used}, limit unknown: {why}"),
        (Err(why), _) => format!("unknown: {why}"),
    }
}

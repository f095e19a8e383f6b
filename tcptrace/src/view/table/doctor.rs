//! The doctor's page: findings, remarks, settings, what was not looked at.

use std::io::{self, Write};

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use crate::{
    engine::{
        counted::counted,
        doctor::{
            Checkup,
            findings::{Diagnosis, Harm},
            settings::SettingSeen,
        },
    },
    prose::{doctor, time::human},
    view::{
        table::{BAD, BOLD, DIM, GOOD, Table, words::pad},
        text::safe,
    },
};

/// Where the text begins that belongs to a word at the left.
const TEXT: usize = 14;
/// Findings of one page; JSON has all.
const FINDINGS: usize = 12;
/// Columns of settings.
const NAME: usize = 34;
const VALUE: usize = 22;

const fn style(harm: Harm) -> Style {
    match harm {
        Harm::High => BAD,
        Harm::Medium | Harm::Low => BOLD,
    }
}

/// A network namespace: its number, and a way into it. It may hold what others chose.
fn place(c: &Checkup, netns: u32) -> String {
    let path = c.places.get(&netns).map_or("", String::as_str);
    format!("network namespace {netns}, {path}")
}

impl<W: Write> Table<W> {
    pub(super) fn checkup(&mut self, c: &Checkup) -> io::Result<()> {
        self.verdict(c)?;
        for d in c.findings.iter().take(FINDINGS) {
            self.diagnosis(d, c)?;
        }
        let more = c.findings.len().saturating_sub(FINDINGS);
        if more > 0 {
            let more = counted(more as u64, "more finding", "more findings");
            writeln!(self.out, "\n{DIM}{more}: --format json has all{DIM:#}")?;
        }
        if !c.remarks.is_empty() {
            self.section("No findings, by themselves")?;
            for remark in &c.remarks {
                self.beside(remark.name(), &doctor::remark(remark, c.apart_ns))?;
            }
        }
        self.settings(c)?;
        if !c.unseen.is_empty() {
            self.section("Not looked at")?;
            for unseen in &c.unseen {
                let text = format!("{}: {}", unseen.what, unseen.why);
                self.wrapped(2, safe(&text).split(' '))?;
            }
        }
        Ok(())
    }

    /// What comes of it all, and of what.
    fn verdict(&mut self, c: &Checkup) -> io::Result<()> {
        let n = |harm| c.findings.iter().filter(|d| d.harm == harm).count();
        let hidden = c.unseen.iter().any(|unseen| unseen.hides);
        let found = match c.findings.len() {
            0 if hidden => {
                "Nothing found in what could be looked at; below is what could not".to_owned()
            }
            0 => "Nothing found that does harm, or is about to".to_owned(),
            all => {
                let levels = Harm::ALL.into_iter().rev().filter(|harm| n(*harm) > 0);
                let levels: Vec<String> =
                    levels.map(|harm| format!("{} {}", n(harm), harm.name())).collect();
                let found = counted(all as u64, "finding", "findings");
                format!("{found}: {}", levels.join(", "))
            }
        };
        let calm = if hidden { BOLD } else { GOOD };
        let worst = c.findings.first().map_or(calm, |d| style(d.harm));
        self.styled(worst, &found)?;
        writeln!(self.out)?;
        let states: Vec<String> =
            c.states.iter().map(|(state, n)| format!("{n} {}", state.name())).collect();
        let sockets =
            if states.is_empty() { "no TCP socket".to_owned() } else { states.join(", ") };
        let text = format!(
            "{} in {}; two looks, {} apart",
            sockets,
            counted(c.places.len() as u64, "network namespace", "network namespaces"),
            human(c.apart_ns)
        );
        self.wrapped(2, text.split(' '))
    }

    fn section(&mut self, title: &str) -> io::Result<()> {
        writeln!(self.out)?;
        self.styled(BOLD, title)?;
        writeln!(self.out)
    }

    /// A word, and beside it text that goes on below itself.
    fn beside(&mut self, word: &str, text: &str) -> io::Result<()> {
        let text = safe(text);
        if word.len() + 3 > TEXT {
            writeln!(self.out, "  {DIM}{word}{DIM:#}")?;
            return self.wrapped(TEXT, text.split(' '));
        }
        write!(self.out, "  {DIM}{}{DIM:#}", pad(word, TEXT - 3))?;
        self.continued(TEXT - 1, TEXT, text.split(' '))
    }

    fn diagnosis(&mut self, d: &Diagnosis, c: &Checkup) -> io::Result<()> {
        writeln!(self.out)?;
        let harm = d.harm.name().to_uppercase();
        self.styled(style(d.harm), &pad(&harm, TEXT - 1))?;
        let netns = match d.netns {
            // Where there is one only, everything is in it.
            Some(netns) if c.places.len() > 1 => format!(" [{}]", place(c, netns)),
            _ => String::new(),
        };
        let headline = doctor::headline(d, c.apart_ns) + &netns;
        self.continued(TEXT - 1, TEXT, safe(&headline).split(' '))?;
        for (n, line) in doctor::evidence(d, c.apart_ns).iter().enumerate() {
            self.beside(if n == 0 { "evidence" } else { "" }, line)?;
        }
        self.beside("it means", doctor::meaning(d))?;
        self.beside("what helps", &doctor::remedy(d))?;
        if let Some(text) = doctor::no_help(d) {
            self.beside("what won't", text)?;
        }
        self.beside("how sure", &doctor::rests_on(d.confidence, d.basis, c.apart_ns))?;
        self.beside("source", doctor::source(&d.ailment))
    }

    /// Those that differ from what the kernel makes of them, or have to do with a finding.
    fn settings(&mut self, c: &Checkup) -> io::Result<()> {
        let shown = |s: &&SettingSeen| c.all_settings || s.matters || s.changed == Some(true);
        let shown: Vec<&SettingSeen> = c.settings.iter().filter(shown).collect();
        let rest = c.settings.len() - shown.len();
        if shown.is_empty() {
            let none = "Settings: none is known to differ from what the kernel makes of it";
            writeln!(self.out, "\n{DIM}{none}; --settings shows all{DIM:#}")?;
            return Ok(());
        }
        self.section("Settings")?;
        let head = format!("  {}{}KERNEL'S OWN", pad("NAME", NAME), pad("NOW", VALUE));
        self.styled(DIM, &head)?;
        writeln!(self.out)?;
        let mut of = None;
        for setting in shown {
            if c.places.len() > 1 && of != Some(setting.netns) {
                of = Some(setting.netns);
                let of = setting.netns.map_or_else(
                    || "of the host".to_owned(),
                    |netns| format!("of {}", safe(&place(c, netns))),
                );
                writeln!(self.out, "  {DIM}{of}{DIM:#}")?;
            }
            self.setting(setting)?;
        }
        if rest > 0 {
            let rest = counted(rest as u64, "other is", "others are");
            let text = format!("{rest} unchanged, or not known; --settings shows all");
            self.wrapped(2, text.split(' '))?;
        }
        Ok(())
    }

    fn setting(&mut self, s: &SettingSeen) -> io::Result<()> {
        let value = match &s.value {
            Ok(value) if value.is_empty() => "empty".into(),
            Ok(value) => safe(value),
            Err(why) => safe(why),
        };
        write!(self.out, "  {}", pad(s.sysctl.name(), NAME))?;
        let mark = if s.changed == Some(true) { BOLD } else { Style::new() };
        self.styled(mark, &value)?;
        // The space before a word is the word's.
        let at = value.width().max(VALUE - 1);
        write!(self.out, "{}", " ".repeat(at - value.width()))?;
        let made = doctor::settings::default(&s.default);
        self.continued(2 + NAME + at, 2 + NAME + VALUE, made.split(' '))?;
        let here = doctor::settings::here(s).map(|here| format!(" Here: {here}."));
        let does = doctor::settings::does(s.sysctl);
        let text = format!("{does}{}", here.unwrap_or_default());
        self.wrapped(6, text.split(' '))?;
        let hurts = format!("hurts: {}", doctor::settings::hurts(s.sysctl));
        self.wrapped(6, hurts.split(' '))
    }
}

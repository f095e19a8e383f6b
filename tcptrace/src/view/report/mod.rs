//! A report on an incident, to be handed over: one page of HTML that needs nothing else, or a few
//! lines of Markdown.

mod chart;
mod charts;
mod code;
mod compared;
mod data;
mod escape;
mod html;
mod markdown;
mod timeline;

pub use self::compared::{Side, compared_html, compared_markdown};
pub use self::html::STYLE;

use super::Clock;
use crate::{
    engine::{
        incident::{
            Incident,
            about::{Mode, Span},
        },
        record::BootNs,
    },
    prose::{
        report::{Times, losses, uncounted},
        time::human,
    },
};

/// An incident, and the clock by which its times are shown.
#[derive(Clone, Copy, Debug)]
pub struct IncidentReport<'a> {
    /// What happened.
    pub incident: &'a Incident,
    /// The clock.
    pub clock: &'a Clock,
}

impl IncidentReport<'_> {
    /// As one page of HTML.
    #[must_use]
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// As Markdown, short enough for a ticket.
    #[must_use]
    pub fn markdown(&self) -> String {
        markdown::page(self)
    }

    /// From when to when; of nothing, a moment.
    fn span(&self) -> Span {
        self.incident.span().unwrap_or(Span { from_ns: 0, to_ns: 0 })
    }

    /// A time of the day that the report was made on, or a day and a time.
    fn tick(&self, at: BootNs) -> String {
        self.clock.stamp(at, self.span().to_ns)
    }

    /// The same, without seconds where the whole is long.
    fn tick_over(&self, at: BootNs, length_ns: u64) -> String {
        const LONG_NS: u64 = 6 * 3_600_000_000_000;
        let text = self.tick(at);
        if length_ns > LONG_NS { text[..text.len() - 3].to_owned() } else { text }
    }

    fn with_times<T>(&self, f: impl FnOnce(&Times<'_>) -> T) -> T {
        f(&Times { long: &|at| self.clock.long(at), hour: &|at| self.clock.hour(at) })
    }

    /// Names and values of what it was made from, and how.
    fn made(&self) -> Vec<(&'static str, String)> {
        let (made, span) = (&self.incident.made, self.span());
        let unknown = || "unknown".to_owned();
        let period = match self.incident.mode {
            Mode::Snapshot => format!("one scan at {}", self.clock.long(span.to_ns)),
            Mode::Watch { .. } => format!(
                "{} to {} ({})",
                self.clock.long(span.from_ns),
                self.clock.long(span.to_ns),
                human(span.length_ns())
            ),
        };
        let connections = match self.incident.connections() {
            Ok(n) => format!("{} whose peer closed first", escape::number(n)),
            Err(why) => format!("unknown: {}", uncounted(why)),
        };
        vec![
            ("Host", made.host.clone().unwrap_or_else(unknown)),
            ("Kernel", made.kernel.clone().unwrap_or_else(unknown)),
            ("Tool", made.tool.clone()),
            ("Command", shell(&made.command)),
            ("Period", period),
            ("Connections", connections),
        ]
    }

    /// What was lost, is not known, or is not told, a line each.
    fn gaps(&self) -> Vec<String> {
        let incident = self.incident;
        let mut lines: Vec<String> =
            losses(incident.lost()).into_iter().map(|(n, what)| format!("{n} {what}.")).collect();
        lines.extend(incident.made.missing.iter().map(|line| format!("{line}.")));
        if incident.left_out() > 0 {
            lines.push(format!(
                "{} counted and not told one by one: those that have ended and stayed \
                 shortest, or came when {} were open already.",
                escape::several(incident.left_out(), "socket is", "sockets are"),
                escape::number(Incident::SOCKETS as u64)
            ));
        }
        let apart = incident.series().apart_ns();
        if incident.series().moments().len() > 1 {
            lines.push(format!(
                "The charts have a moment about every {}: what came and went between two of them is in \
                 the counts only.",
                human(apart)
            ));
        }
        lines
    }

    /// What is not known of sockets that are open, why, and of how many.
    fn unknown(&self) -> Vec<(String, u64)> {
        let mut list: Vec<(String, u64)> = self
            .incident
            .open()
            .unknown
            .iter()
            .map(|((field, why), n)| {
                (format!("{field}: {}", crate::prose::reasons::words(*why)), *n)
            })
            .collect();
        list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        list
    }
}

/// A command line that a shell takes as it was given.
fn shell(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let word = |w: &String| match w.chars().all(plain) && !w.is_empty() {
        true => w.clone(),
        false => format!("'{}'", w.replace('\'', "'\\''")),
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_given_again() {
        let words = ["tcptrace", "watch", "--comm", "a b", "it's", ""].map(str::to_owned);
        assert_eq!(shell(&words), r"tcptrace watch --comm 'a b' 'it'\''s' ''");
    }
}

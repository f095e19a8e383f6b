//! A report for a ticket: what matters, in a few lines of Markdown.

use std::fmt::Write;

use super::{
    IncidentReport, code,
    escape::{markdown as md, number, several},
};
use crate::{
    engine::incident::counting,
    engine::verdict::Verdict,
    prose::report::{answer, called, descriptors, verdicts},
};

/// Processes that are listed.
const PROCESSES: usize = 5;
/// Remote addresses that are listed.
const REMOTES: usize = 5;
/// Lines of a list that is text.
const LINES: usize = 4;
/// A line that quotes what others chose is no longer than this, characters.
const LONG: usize = 300;

/// All of it.
pub fn page(report: &IncidentReport<'_>) -> String {
    let incident = report.incident;
    let answer = report.with_times(|times| answer(incident, times));
    let totals = incident.totals();
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(out, "## {}\n", line(&answer.headline));
    for point in &answer.points {
        let said: Vec<String> = point.said.iter().map(|text| line(text)).collect();
        let _ = writeln!(out, "**{}:** {}\n", point.question, said.join(" "));
        for item in point.list.iter().take(LINES) {
            let _ = writeln!(out, "- {}", line(item));
        }
        if !point.list.is_empty() {
            out.push('\n');
        }
    }
    let _ = writeln!(
        out,
        "{}, {} resolved, {} open; {}, {} open.\n",
        several(totals.stuck, "socket", "sockets"),
        number(totals.resolved),
        number(totals.still_open),
        several(totals.leaks, "leak", "leaks"),
        number(totals.leaks_open)
    );
    processes(report, &mut out);
    code::markdown(report, &mut out);
    let by_verdict = incident.leaks_by_verdict();
    if by_verdict.iter().any(|n| *n > 0) {
        out.push_str("| verdict | leaks |\n|---|--:|\n");
        for (slot, n) in by_verdict.iter().enumerate().filter(|(_, n)| **n > 0) {
            let name = counting::verdict(slot).map_or("unknown", Verdict::name);
            let _ = writeln!(out, "| {name} | {} |", number(*n));
        }
        out.push('\n');
    }
    let remotes = incident.remotes().sorted();
    let listed: Vec<String> =
        remotes.iter().take(REMOTES).map(|(at, n)| format!("{at} ({})", number(*n))).collect();
    if !listed.is_empty() {
        let more = remotes.len().saturating_sub(REMOTES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let _ = writeln!(out, "Remote: {}{more}\n", listed.join(", "));
    }
    let gaps = report.gaps();
    if !gaps.is_empty() {
        out.push_str("Lost, unknown, or not told:\n\n");
        for gap in gaps.iter().take(LINES) {
            let _ = writeln!(out, "- {}", line(gap));
        }
        out.push('\n');
    }
    for (name, value) in report.made() {
        let _ = writeln!(out, "- {name}: {}", md(&cut(&value)));
    }
    out
}

fn processes(report: &IncidentReport<'_>, out: &mut String) {
    let worst: Vec<_> = report.worst().into_iter().filter(|(_, p)| p.leaks() > 0).collect();
    if worst.is_empty() {
        return;
    }
    out.push_str("| process | open | ended | most often | descriptors |\n|---|--:|--:|---|---|\n");
    for (_, p) in worst.iter().take(PROCESSES) {
        let first = verdicts(p).first().and_then(|(verdict, _)| *verdict);
        let left = report.with_times(|times| descriptors(p, times));
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            md(&called(p)),
            number(p.leaks_open),
            number(p.leaks_resolved),
            first.map_or("unknown", Verdict::name),
            line(&left)
        );
    }
    let more = worst.len().saturating_sub(PROCESSES);
    if more > 0 {
        let _ = writeln!(out, "\n{}", several(more as u64, "more process", "more processes"));
    }
    out.push('\n');
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONG) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// A sentence of ours that may quote what others chose.
fn line(text: &str) -> String {
    super::escape::sentence(&cut(text))
}

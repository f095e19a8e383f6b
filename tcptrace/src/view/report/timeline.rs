//! Sockets as bars over time: in which state they were, who held them when, and how they ended.

use std::{
    collections::{BTreeSet, HashSet},
    fmt::Write,
};

use tcptrace_common::state::TcpState;

use super::{
    IncidentReport,
    charts::{COLOURS, of_state},
    escape::{html, number},
};
use crate::{
    engine::{
        incident::{
            process::ProcessStory,
            socket::{Hold, SocketStory},
        },
        record::{BootNs, Role},
        verdict::Verdict,
    },
    prose::{reasons, report::called, time::human},
};

/// Sockets that are drawn.
const SHOWN: usize = 24;
/// Of those: sockets that changed hands, state or verdict.
const TELLING: usize = 7;
/// Sockets that have ended.
const ENDED: usize = 5;
/// Sockets of a verdict and a process that no other has.
const KINDS: usize = 8;
/// Who held a socket, at the most.
const HOLDS: usize = 4;
/// What began before the watch is drawn from here on: so many times as long ago as the watch took.
const BEFORE: u64 = 2;

/// The bars.
pub fn write(report: &IncidentReport<'_>, out: &mut String) {
    let shown = chosen(report.incident.sockets());
    if shown.is_empty() {
        out.push_str("<p>No socket was reported.</p>");
        return;
    }
    let range = range(report, &shown);
    let all = report.incident.sockets().len() as u64 + report.incident.left_out();
    let told = if all > shown.len() as u64 {
        format!(
            "{} of {} sockets: some that several processes held, or that ended, one of \
             each kind, and of the rest the oldest. ",
            shown.len(),
            number(all)
        )
    } else {
        String::new()
    };
    let _ = write!(
        out,
        "<p>{told}The thick bar is the state, pale where it is not certain that it had begun; the \
         thin lines below it are the processes that held the socket, from when they were first \
         seen to.</p><ul class=\"legend\">"
    );
    let states = TcpState::ALL.into_iter();
    for state in states.filter(|s| shown.iter().any(|t| t.stays.iter().any(|b| b.state == *s))) {
        let _ = write!(
            out,
            "<li><svg class=\"swatch\" width=\"12\" height=\"12\" aria-hidden=\"true\"><rect \
             class=\"f{}\" width=\"12\" height=\"12\" rx=\"3\"/></svg>{}</li>",
            of_state(state),
            state.name()
        );
    }
    legend(report, &shown, out);
    let _ = write!(
        out,
        "</ul><div class=\"axis\" aria-hidden=\"true\"><span>{}</span><span>{}</span></div>\
         <ol class=\"timeline\">",
        html(&report.tick_over(range[0], range[1] - range[0])),
        html(&report.tick_over(range[1], range[1] - range[0]))
    );
    for story in shown {
        bar(report, story, range, out);
    }
    out.push_str("</ol>");
}

/// The processes that held what is shown, by the colours of their lines.
fn legend(report: &IncidentReport<'_>, shown: &[&SocketStory], out: &mut String) {
    let held: BTreeSet<u32> =
        shown.iter().flat_map(|s| s.holds.iter().take(HOLDS)).filter_map(|h| h.process).collect();
    let named = |number: &u32| report.incident.processes().get(*number as usize).map(called);
    for (number, name) in held.iter().filter_map(|n| Some((n, named(n)?))).take(COLOURS) {
        let _ = write!(
            out,
            "<li><svg class=\"swatch\" width=\"12\" height=\"12\" aria-hidden=\"true\"><rect \
             class=\"f{}\" y=\"5\" width=\"12\" height=\"3\" rx=\"1\"/></svg>{}</li>",
            *number as usize % COLOURS,
            html(&name)
        );
    }
}

/// Those that tell most, by their beginning.
fn chosen(all: &[SocketStory]) -> Vec<&SocketStory> {
    let mut by_age: Vec<&SocketStory> = all.iter().collect();
    by_age.sort_by_key(|s| s.since().latest_ns);
    let mut kinds = HashSet::new();
    let mut left = [TELLING, ENDED, KINDS];
    // What a socket tells that others do not: the first of these that holds.
    let telling: Vec<Option<usize>> = by_age
        .iter()
        .map(|s| {
            let changed = s.holds.len() > 1 || s.stays.len() > 1 || s.verdicts.len() > 1;
            let new = kinds.insert((s.record.verdict, s.holds.first().map(|h| h.process)));
            let kinds = [changed, s.end.is_some(), new];
            let kind = (0..kinds.len()).find(|n| kinds[*n] && left[*n] > 0)?;
            left[kind] -= 1;
            Some(kind)
        })
        .collect();
    let mut rest = SHOWN.saturating_sub(telling.iter().flatten().count());
    let shown = by_age.into_iter().zip(telling).filter(|(_, telling)| {
        let takes = telling.is_some() || rest > 0;
        rest -= usize::from(telling.is_none() && takes);
        takes
    });
    shown.map(|(story, _)| story).collect()
}

/// From when to when bars are drawn.
fn range(report: &IncidentReport<'_>, shown: &[&SocketStory]) -> [BootNs; 2] {
    let span = report.span();
    let first = shown.iter().map(|s| s.since().latest_ns).min().unwrap_or(span.from_ns);
    let earliest = match span.length_ns() {
        0 => first,
        length => span.from_ns.saturating_sub(length.saturating_mul(BEFORE)),
    };
    let from = first.max(earliest).min(span.from_ns);
    [from, span.to_ns.max(from + 1)]
}

fn bar(report: &IncidentReport<'_>, story: &SocketStory, range: [BootNs; 2], out: &mut String) {
    let c = &story.record.connection;
    let arrow = match story.record.role {
        Some(Role::Server) => "from",
        Some(Role::Client) => "to",
        None => "and",
    };
    let verdict = story.record.verdict.map_or("unknown", Verdict::name);
    let _ = write!(
        out,
        "<li><div class=\"what\"><b>{} <span class=\"dim\">{arrow}</span> {}</b> \
         <span class=\"tag\">{verdict}</span><p>{}</p></div>",
        html(&c.local.to_string()),
        html(&c.remote.to_string()),
        html(&told(report, story))
    );
    let lines = story.holds.len().clamp(1, HOLDS);
    let _ = write!(
        out,
        "<svg class=\"bar\" width=\"100%\" height=\"{}\" aria-hidden=\"true\">\
         <rect class=\"track\" width=\"100%\" height=\"14\" rx=\"3\"/>",
        16 + 5 * lines
    );
    let end = story.end.as_ref().map_or(range[1], |end| end.at_ns);
    for stay in &story.stays {
        let colour = of_state(stay.state);
        let until = stay.until_ns.unwrap_or(end);
        let since = stay.since;
        if since.earliest_ns < since.latest_ns {
            rect(
                out,
                range,
                [since.earliest_ns, since.latest_ns],
                0,
                14,
                &format!("f{colour} pale"),
            );
        }
        rect(out, range, [since.latest_ns, until], 0, 14, &format!("f{colour}"));
    }
    for (n, hold) in story.holds.iter().take(HOLDS).enumerate() {
        let colour = hold.process.map_or(COLOURS, |n| n as usize % COLOURS);
        let until = hold.until_ns.unwrap_or(end);
        rect(out, range, [hold.from_ns, until], 17 + 5 * n, 3, &format!("f{colour}"));
    }
    out.push_str("</svg></li>");
}

fn rect(
    out: &mut String,
    [from, to]: [BootNs; 2],
    [begin, end]: [BootNs; 2],
    y: usize,
    high: usize,
    class: &str,
) {
    let whole = (to - from) as f64 / 100.0;
    let place = |at: BootNs| at.clamp(from, to).saturating_sub(from) as f64 / whole;
    let (x, width) = (place(begin), place(end.max(begin)) - place(begin));
    // Something is never shown as nothing.
    let width = width.max(0.3);
    let x = x.min(100.0 - width);
    let _ = write!(
        out,
        "<rect class=\"{class}\" x=\"{x:.2}%\" y=\"{y}\" width=\"{width:.2}%\" height=\"{high}\" \
         rx=\"{}\"/>",
        if high > 5 { 3 } else { 1 }
    );
}

/// Who held it when, and how it ended, in words.
fn told(report: &IncidentReport<'_>, story: &SocketStory) -> String {
    let since = story.since();
    let age = story.age(report.span().to_ns);
    let length =
        if age.is_exact() { human(age.min_ns) } else { format!("{} or more", human(age.min_ns)) };
    let mut text = format!("since {} ({length})", report.tick(since.latest_ns));
    let holds: Vec<String> =
        story.holds.iter().take(HOLDS).map(|hold| held(report, hold, story)).collect();
    if holds.is_empty() {
        text += "; held by ";
        text += story.record.unknown.get("holders").map_or("nobody", reasons::words);
    } else {
        let _ = write!(text, "; held by {}", holds.join(", "));
    }
    if let Some(more) = story.holds.len().checked_sub(HOLDS).filter(|n| *n > 0) {
        let _ = write!(text, " and {more} more");
    }
    let _ = write!(text, "; {}", ended(report, story));
    text
}

fn held(report: &IncidentReport<'_>, hold: &Hold, story: &SocketStory) -> String {
    let who = who(report.incident.processes(), hold);
    let how = if hold.waits { "listener".to_owned() } else { format!("fd {}", hold.fd) };
    // At its end all let go.
    let end = story.end.as_ref().map(|end| end.at_ns);
    let until = hold.until_ns.filter(|until| Some(*until) != end);
    let until = until.map_or_else(String::new, |at| format!(" until {}", report.tick(at)));
    format!("{who} {how}{until}")
}

/// `java shop.jar[4711]`; it may hold anything.
pub fn who(processes: &[ProcessStory], hold: &Hold) -> String {
    let story = hold.process.and_then(|n| processes.get(n as usize));
    story.map_or_else(|| "a process that is not told apart".to_owned(), called)
}

/// How it ended, and by whom; it may hold anything.
pub fn ended(report: &IncidentReport<'_>, story: &SocketStory) -> String {
    let Some(end) = &story.end else { return "open".to_owned() };
    let at = report.tick(end.at_ns);
    match &end.closed_by {
        Some(by) => format!("closed {at} by {}[{}]", by.comm, by.pid),
        None => format!("ended {at}: {}", reasons::words(end.why)),
    }
}

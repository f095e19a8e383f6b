//! The table's rows: as data for the page's script, and the first of them as HTML.

use std::{collections::HashMap, fmt::Write};

use tcptrace_common::state::TcpState;

use super::{
    IncidentReport,
    escape::{html, json, number},
    timeline::{ended, who},
};
use crate::{
    engine::{
        incident::{
            counting::{self, VERDICTS},
            socket::{Hold, SocketStory},
        },
        record::{BootNs, HolderSource, Role},
        stories::CodeStory,
        verdict::Verdict,
    },
    prose::{origins, reasons, time::human},
};

/// Rows that are there without the script, and on paper.
pub const PLAIN: usize = 50;

/// The columns: heading, and whether they are numbers.
pub const COLUMNS: [(&str, bool); 9] = [
    ("Verdict", false),
    ("State", false),
    ("Since", true),
    ("Age", true),
    ("Held by", false),
    ("Local", false),
    ("Remote", false),
    ("Recv-Q", true),
    ("End", false),
];

/// Texts that are written once, and named by number.
#[derive(Default)]
struct Texts {
    numbers: HashMap<String, usize>,
    list: Vec<String>,
}

impl Texts {
    fn number(&mut self, text: String) -> usize {
        if let Some(number) = self.numbers.get(&text) {
            return *number;
        }
        let number = self.list.len();
        self.list.push(text.clone());
        self.numbers.insert(text, number);
        number
    }
}

/// Rows in the table's first order: leaks that are open, the oldest first; then the rest.
pub fn ordered<'a>(report: &IncidentReport<'a>) -> Vec<&'a SocketStory> {
    let mut list: Vec<&SocketStory> = report.incident.sockets().iter().collect();
    list.sort_by_key(|s| (s.end.is_some(), !s.record.is_leak(), s.since().latest_ns));
    list
}

/// All rows, as JSON. Times are ms since the report's beginning.
pub fn write(report: &IncidentReport<'_>, rows: &[&SocketStory], out: &mut String) {
    let span = report.span();
    let mut texts = Texts::default();
    let mut body = String::with_capacity(rows.len() * 160);
    for (n, story) in rows.iter().enumerate() {
        if n > 0 {
            body.push(',');
        }
        row(report, story, span.from_ns, &mut texts, &mut body);
    }
    let epoch = report.clock.unix_ms(span.from_ns);
    let _ = write!(out, "{{\"epoch\":{epoch},\"end\":{}", ms(span.to_ns, span.from_ns));
    // What is listed may have begun long before the report did.
    let earliest = rows.iter().map(|s| s.since().latest_ns).min().unwrap_or(span.from_ns);
    out.push_str(",\"zones\":[");
    for (n, zone) in report.clock.offsets(earliest, span.to_ns).iter().enumerate() {
        let _ = write!(out, "{}[{},{},", if n > 0 { "," } else { "" }, zone.since_ms, zone.minutes);
        json(&zone.name, out);
        out.push(']');
    }
    out.push_str("],\"states\":[");
    for n in 0..=TcpState::ALL.len() as u8 {
        let name = TcpState::from_number(n).map_or("", TcpState::name);
        let _ = write!(out, "{}\"{name}\"", if n > 0 { "," } else { "" });
    }
    out.push_str("],\"verdicts\":[");
    for n in 0..VERDICTS {
        let name = counting::verdict(n).map_or("unknown", Verdict::name);
        let _ = write!(out, "{}\"{name}\"", if n > 0 { "," } else { "" });
    }
    out.push_str("],\"texts\":[");
    for (n, text) in texts.list.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        json(text, out);
    }
    let _ = write!(out, "],\"rows\":[{body}]}}");
}

fn ms(at: BootNs, from: BootNs) -> i64 {
    (i128::from(at) - i128::from(from)).div_euclid(1_000_000).clamp(
        // What a number of JavaScript holds exactly.
        -(1 << 53),
        1 << 53,
    ) as i64
}

/// `[cookie, netns, local, remote, role, state, verdict, since, earliest, age, end, ended, held by,
/// recv_q, send_q, sent since the FIN, stays, holds, verdicts]`
fn row(
    report: &IncidentReport<'_>,
    story: &SocketStory,
    from: BootNs,
    texts: &mut Texts,
    out: &mut String,
) {
    let (r, since) = (&story.record, story.since());
    let c = &r.connection;
    let local = texts.number(c.local.to_string());
    let held_by = texts.number(held_by(report, story));
    let how = match &story.end {
        None => texts.number("open".to_owned()),
        Some(end) => texts.number(match &end.closed_by {
            Some(by) => format!("closed by {}[{}]", by.comm, by.pid),
            None => format!("ended: {}", reasons::words(end.why)),
        }),
    };
    let role = match r.role {
        Some(Role::Server) => 0,
        Some(Role::Client) => 1,
        None => 2,
    };
    // Cookies count sockets; larger numbers than JavaScript's are text.
    let _ = write!(
        out,
        "[\"{}\",{},{local},\"{}\",{role},{},{},{},{},{},{},{how},{held_by},{},{},{}",
        c.cookie,
        c.netns,
        c.remote,
        r.state as u8,
        counting::slot(r.verdict),
        ms(since.latest_ns, from),
        match since.earliest_ns {
            0 => "null".to_owned(),
            at => ms(at, from).to_string(),
        },
        story.age(report.span().to_ns).min_ns / 1_000_000,
        story.end.as_ref().map_or("null".to_owned(), |end| ms(end.at_ns, from).to_string()),
        or_null(r.evidence.recv_q.map(u64::from)),
        or_null(r.evidence.send_q.map(u64::from)),
        or_null(r.evidence.bytes_sent_since_fin),
    );
    out.push_str(",[");
    // One stay in the row's own state says nothing new.
    for (n, stay) in story.stays.iter().enumerate().filter(|_| story.stays.len() > 1) {
        let comma = if n > 0 { "," } else { "" };
        let until = or_null_at(stay.until_ns, from);
        let begin = ms(stay.since.latest_ns, from);
        let _ = write!(out, "{comma}[{},{begin},{until}]", stay.state as u8);
    }
    out.push_str("],[");
    for (n, hold) in story.holds.iter().enumerate() {
        let comma = if n > 0 { "," } else { "" };
        let process = texts.number(who(report.incident.processes(), hold));
        let fd = if hold.waits { -1 } else { i64::from(hold.fd) };
        let until = or_null_at(hold.until_ns, from);
        let opener = hold.opener.map_or(2, u8::from);
        let seen = ms(hold.from_ns, from);
        let _ = write!(out, "{comma}[{process},{fd},{seen},{until},{opener}]");
    }
    out.push_str("],[");
    for (n, judged) in story.verdicts.iter().enumerate().filter(|_| story.verdicts.len() > 1) {
        let comma = if n > 0 { "," } else { "" };
        let (verdict, at) = (counting::slot(judged.verdict), ms(judged.from_ns, from));
        let _ = write!(out, "{comma}[{verdict},{at}]");
    }
    out.push_str("],[");
    let code = CodeStory::of(r).map(|story| origins::of_one(&story)).unwrap_or_default();
    for (n, line) in code.into_iter().enumerate() {
        let comma = if n > 0 { "," } else { "" };
        let _ = write!(out, "{comma}{}", texts.number(line));
    }
    out.push_str("]]");
}

fn or_null(n: Option<u64>) -> String {
    n.map_or_else(|| "null".to_owned(), |n| n.to_string())
}

fn or_null_at(at: Option<BootNs>, from: BootNs) -> String {
    at.map_or_else(|| "null".to_owned(), |at| ms(at, from).to_string())
}

/// Who holds it, or held it last; it may hold anything.
fn held_by(report: &IncidentReport<'_>, story: &SocketStory) -> String {
    /// More are counted.
    const SHOWN: usize = 3;
    let end = story.end.as_ref().map(|end| end.at_ns);
    let held = story.holds.iter().filter(|hold| hold.until_ns == end);
    let mut names: Vec<String> = Vec::new();
    for hold in held {
        let name = name(report, hold);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    match (names.len(), more) {
        (0, _) => story.record.unknown.get("holders").map_or("nobody", reasons::words).to_owned(),
        (_, 0) => names.join(", "),
        (_, more) => format!("{} and {more} more", names.join(", ")),
    }
}

fn name(report: &IncidentReport<'_>, hold: &Hold) -> String {
    let lead = if hold.waits { "listener " } else { "" };
    format!("{lead}{}", who(report.incident.processes(), hold))
}

/// The first rows, as HTML.
pub fn plain(report: &IncidentReport<'_>, rows: &[&SocketStory], out: &mut String) {
    out.push_str("<table class=\"plain sockets\"><thead><tr>");
    for (name, _) in COLUMNS {
        let _ = write!(out, "<th scope=\"col\">{name}</th>");
    }
    out.push_str("</tr></thead><tbody>");
    for story in rows.iter().take(PLAIN) {
        let (r, since) = (&story.record, story.since());
        let age = story.age(report.span().to_ns);
        let or_more = if age.is_exact() { "" } else { "+" };
        let waits = r.holder_source == HolderSource::Listener;
        let cells = [
            r.verdict.map_or("unknown", Verdict::name).to_owned(),
            r.state.name().to_owned(),
            report.tick(since.latest_ns),
            format!("{}{or_more}", human(age.min_ns)),
            held_by(report, story),
            r.connection.local.to_string(),
            r.connection.remote.to_string(),
            match r.evidence.recv_q {
                Some(n) if !waits => number(n.into()),
                _ => "?".to_owned(),
            },
            ended(report, story),
        ];
        out.push_str("<tr>");
        for cell in cells {
            let _ = write!(out, "<td>{}</td>", html(&cell));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table>");
}

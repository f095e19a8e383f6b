//! The page: one file without a link to anything. Its policy forbids the network, and each script
//! and style but its own two.

use std::fmt::Write;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use super::{
    IncidentReport, charts, code, data,
    escape::{html, number, several},
    timeline,
};
use crate::{
    engine::{
        incident::{Incident, counting, socket::SocketStory},
        report::role_of,
        verdict::Verdict,
    },
    prose::{
        cure::{Snippet, cure},
        forecast::span,
        last_word::rounded,
        report::{Account, answer, called, descriptors, kept, state, threads, verdicts},
        time::human,
        words::evidence,
    },
};

/// How pages look.
pub const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Processes in the list of all of them.
const PROCESSES: usize = 50;
/// Processes whose threads are listed, and groups of those.
const WAITING: usize = 8;
const GROUPS: usize = 8;
/// Reasons in the list of what is not known.
const REASONS: usize = 40;

/// All of it.
pub fn page(report: &IncidentReport<'_>) -> String {
    let answer = report.with_times(|times| answer(report.incident, times));
    let mut out = String::with_capacity(1 << 18);
    begin(&mut out, &title(report));
    header(report, &answer, &mut out);
    out.push_str("<main id=\"main\">");
    section(&mut out, "answer", "The answer", |out| points(&answer, out));
    section(&mut out, "charts", "In numbers", |out| charts::write(report, out));
    section(&mut out, "timeline", "Sockets over time", |out| timeline::write(report, out));
    section(&mut out, "processes", "Processes", |out| processes(report, out));
    if code::is_known(report) {
        section(&mut out, "code", "Where in the code", |out| code::write(report, out));
    }
    section(&mut out, "sockets", "All sockets", |out| table(report, out));
    section(&mut out, "evidence", "The evidence behind each verdict", |out| {
        behind_verdicts(report, out);
    });
    section(&mut out, "gaps", "What was lost, or is not known", |out| gaps(report, out));
    section(&mut out, "made", "How this was made", |out| made(report, out));
    out.push_str("</main>");
    end(&mut out);
    out
}

fn title(report: &IncidentReport<'_>) -> String {
    let host = report.incident.made.host.as_deref();
    let on = host.map_or_else(String::new, |host| format!(" on {host}"));
    format!("Leaked sockets{on}, {}", report.clock.long(report.span().to_ns))
}

/// The document up to its body: what it may do, and how it looks.
pub fn begin(out: &mut String, title: &str) {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"generator\" content=\"tcptrace\">\n<title>{}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">To the answer</a>\n",
        hash(SCRIPT),
        hash(STYLE),
        html(title)
    );
}

/// The rest of it.
pub fn end(out: &mut String) {
    let _ = write!(out, "\n<script>{SCRIPT}</script>\n</body>\n</html>\n");
}

/// A section with its heading.
pub fn section(out: &mut String, id: &str, heading: &str, body: impl FnOnce(&mut String)) {
    let _ = write!(
        out,
        "\n<section id=\"{id}\" aria-labelledby=\"{id}-h\"><h2 id=\"{id}-h\">{}</h2>",
        html(heading)
    );
    body(out);
    out.push_str("</section>");
}

fn header(report: &IncidentReport<'_>, answer: &Account, out: &mut String) {
    let tone = if answer.is_bad { "bad" } else { "good" };
    let _ = write!(
        out,
        "<header class=\"{tone}\"><div class=\"top\"><p class=\"kind\">tcptrace report <b>{}</b></p>\
         <button type=\"button\" id=\"theme\" class=\"tool\" hidden>Dark</button></div><h1>{}</h1>",
        match (answer.is_bad, report.incident.totals().leaks) {
            (true, _) => "leaks are open",
            (false, 0) => "no leaks",
            (false, _) => "no leak is open any more",
        },
        html(&answer.headline)
    );
    let made = report.made();
    let value = |name: &str| made.iter().find(|(n, _)| *n == name).map_or("", |(_, v)| v);
    let _ = write!(
        out,
        "<p class=\"where\">{} <span class=\"dim\">·</span> {}</p>",
        html(value("Host")),
        html(value("Period"))
    );
    figures(report, out);
    out.push_str("</header>");
}

/// What one wants to see at first sight.
fn figures(report: &IncidentReport<'_>, out: &mut String) {
    let totals = report.incident.totals();
    let worst = report.worst().first().map(|(_, p)| *p).filter(|p| p.leaks() > 0);
    let mut list = vec![
        ("Leaks open", number(totals.leaks_open)),
        ("Leaks in all", number(totals.leaks)),
        ("Resolved", number(totals.resolved)),
    ];
    if let Some(p) = worst {
        let at = report.span().to_ns;
        if let Some(oldest) = p.oldest {
            list.push(("Oldest", human(at.saturating_sub(oldest.latest_ns))));
        }
        let gained = report.incident.summary().and_then(|s| s.worst.as_deref()?.per_minute.ok());
        if let Some(n) = gained {
            list.push(("New a minute", number(rounded(n))));
        }
        if let (Some(used), Some(limit)) = (p.in_use(), p.limit) {
            list.push(("Descriptors", format!("{}/{}", number(used), number(limit))));
        }
        if let Ok(full) = p.full {
            list.push(("Run out in", span(full.left(at))));
        }
    }
    out.push_str("<dl class=\"figures\">");
    for (name, value) in list {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", html(&value));
    }
    out.push_str("</dl>");
}

fn points(answer: &Account, out: &mut String) {
    out.push_str("<div class=\"points\">");
    for point in &answer.points {
        let _ = write!(out, "<div class=\"point\"><h3>{}</h3><div>", point.question);
        for text in &point.said {
            let _ = write!(out, "<p>{}</p>", html(text));
        }
        list(&point.list, out);
        out.push_str("</div></div>");
    }
    out.push_str("</div>");
}

fn list(lines: &[String], out: &mut String) {
    if lines.is_empty() {
        return;
    }
    out.push_str("<ul>");
    for line in lines {
        let _ = write!(out, "<li>{}</li>", html(line));
    }
    out.push_str("</ul>");
}

fn processes(report: &IncidentReport<'_>, out: &mut String) {
    let worst = report.worst();
    if worst.is_empty() {
        out.push_str("<p>No process is known to hold any.</p>");
        return;
    }
    out.push_str(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Processes\"><table>\
         <thead><tr><th scope=\"col\">Process</th><th scope=\"col\">Leaks open</th><th \
         scope=\"col\">ended</th><th scope=\"col\">most at once</th><th scope=\"col\" \
         class=\"text\">Verdicts</th><th scope=\"col\" class=\"text\">Descriptors</th></tr></thead><tbody>",
    );
    for (_, p) in worst.iter().take(PROCESSES) {
        let verdicts: Vec<String> = verdicts(p)
            .iter()
            .map(|(v, n)| format!("{} {}", v.map_or("unknown", Verdict::name), number(*n)))
            .collect();
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td class=\"text\">{}\
             </td><td class=\"text\">{}</td></tr>",
            html(&called(p)),
            number(p.leaks_open),
            number(p.leaks_resolved),
            number(p.leaks_most),
            html(&verdicts.join(", ")),
            html(&report.with_times(|times| descriptors(p, times)))
        );
    }
    out.push_str("</tbody></table></div>");
    let more = worst.len().saturating_sub(PROCESSES);
    if more > 0 {
        let more = several(more as u64, "more process is", "more processes are");
        let _ = write!(out, "<p>{more} not listed.</p>");
    }
    for (p, lines) in
        worst.iter().map(|(_, p)| (p, kept(p))).filter(|(_, l)| !l.is_empty()).take(WAITING)
    {
        let _ = write!(out, "<h3 class=\"later\">What {} waited for</h3>", html(&called(p)));
        list(&lines, out);
    }
    let known = worst.iter().map(|(_, p)| (p, threads(p))).filter(|(_, list)| !list.is_empty());
    for (p, lines) in known.take(WAITING) {
        let _ = write!(
            out,
            "<h3 class=\"later\">What the threads of {} waited in</h3>",
            html(&called(p))
        );
        list(&lines[..lines.len().min(GROUPS)], out);
        if let Some(more) = lines.len().checked_sub(GROUPS).filter(|n| *n > 0) {
            let more =
                several(more as u64, "more group of threads is", "more groups of threads are");
            let _ = write!(out, "<p>{more} not listed.</p>");
        }
    }
}

fn table(report: &IncidentReport<'_>, out: &mut String) {
    let rows = data::ordered(report);
    let _ = write!(
        out,
        "<p class=\"printed\">On paper: the first {} of {}.</p><noscript><p>Without scripts: the \
         first {} of {}, and neither sorting nor filtering.</p></noscript>",
        rows.len().min(data::PLAIN),
        number(rows.len() as u64),
        rows.len().min(data::PLAIN),
        number(rows.len() as u64)
    );
    out.push_str(
        "<div id=\"tools\" hidden><label>Filter <input id=\"filter\" type=\"search\" \
         autocomplete=\"off\" spellcheck=\"false\" placeholder=\"words: java 10.0.3. open\">\
         </label><label>Verdict <select id=\"verdict\"><option value=\"\">all</option></select>\
         </label><label>End <select id=\"open\"><option value=\"\">all</option><option \
         value=\"open\">open</option><option value=\"ended\">ended</option></select></label>\
         <output id=\"count\"></output></div><div id=\"grid\" hidden></div><div id=\"detail\" \
         role=\"region\" aria-label=\"The socket that was chosen\" hidden></div>",
    );
    out.push_str(
        "<div class=\"scroll still\" tabindex=\"0\" role=\"region\" aria-label=\"Sockets\">",
    );
    data::plain(report, &rows, out);
    out.push_str("</div><script type=\"application/json\" id=\"data\">");
    data::write(report, &rows, out);
    out.push_str("</script>");
    if report.incident.left_out() > 0 {
        let _ = write!(
            out,
            "<p>{} counted and not listed: the table has {} at the most.</p>",
            several(report.incident.left_out(), "more socket is", "more sockets are"),
            number(Incident::SOCKETS as u64)
        );
    }
}

fn behind_verdicts(report: &IncidentReport<'_>, out: &mut String) {
    let leaks = report.incident.leaks_by_verdict();
    let mut slots: Vec<usize> = (0..counting::VERDICTS).collect();
    slots.sort_by_key(|slot| std::cmp::Reverse(leaks[*slot]));
    let mut any = false;
    for verdict in slots.into_iter().filter_map(counting::verdict) {
        let of = |s: &&SocketStory| s.record.verdict == Some(verdict);
        let Some(oldest) =
            report.incident.sockets().iter().filter(of).min_by_key(|s| s.since().latest_ns)
        else {
            continue;
        };
        any = true;
        let cure = cure(verdict);
        let _ = write!(
            out,
            "<article><h3>{} <span class=\"tag\">{}</span></h3><p>{}</p><p>{}.</p>",
            verdict.name(),
            number(leaks[counting::slot(Some(verdict))]),
            html(cure.means),
            html(&format!("In {}: {}", oldest.record.state.name(), state(oldest.record.state)))
        );
        let c = &oldest.record.connection;
        let _ = write!(
            out,
            "<h4>What the oldest shows</h4><p class=\"dim\">{} and {}, as of {}</p>",
            html(&c.local.to_string()),
            html(&c.remote.to_string()),
            html(&report.clock.long(oldest.record.seen_ns))
        );
        list(&evidence(&oldest.record, oldest.record.seen_ns), out);
        let role = role_of(report.incident.sockets().iter().filter(of).map(|s| &*s.record));
        let look_for: Vec<String> = cure.look_for(role).map(str::to_owned).collect();
        if !look_for.is_empty() {
            out.push_str("<h4>What to look for in the program</h4>");
            list(&look_for, out);
        }
        let language = report
            .incident
            .processes()
            .iter()
            .filter(|p| p.by_verdict[counting::slot(Some(verdict))] > 0)
            .find_map(|p| p.language);
        let code = cure.in_code_for(language, role);
        if !code.is_empty() {
            out.push_str("<details><summary>How the cure is usually written</summary><dl>");
            for Snippet { language, code, .. } in code {
                let _ = write!(
                    out,
                    "<dt>{}</dt><dd><code>{}</code></dd>",
                    html(language.name()),
                    html(code)
                );
            }
            out.push_str("</dl></details>");
        }
        out.push_str("</article>");
    }
    if !any {
        out.push_str("<p>No verdict was given.</p>");
    }
}

fn gaps(report: &IncidentReport<'_>, out: &mut String) {
    let lines = report.gaps();
    if report.incident.lost().total() == 0 {
        out.push_str("<p>Nothing was lost.</p>");
    }
    list(&lines, out);
    let unknown = report.unknown();
    if unknown.is_empty() {
        return;
    }
    out.push_str(
        "<h3>Of sockets that are open</h3><div class=\"scroll\" tabindex=\"0\" role=\"region\" \
         aria-label=\"What is not known\"><table><thead><tr><th scope=\"col\">What is not known, \
         and why</th><th scope=\"col\">Sockets</th></tr></thead><tbody>",
    );
    for (what, n) in unknown.iter().take(REASONS) {
        let _ = write!(
            out,
            "<tr><th scope=\"row\" class=\"text\">{}</th><td>{}</td></tr>",
            html(what),
            number(*n)
        );
    }
    out.push_str("</tbody></table></div>");
}

fn made(report: &IncidentReport<'_>, out: &mut String) {
    out.push_str("<dl class=\"made\">");
    for (name, value) in report.made() {
        let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", html(&value));
    }
    out.push_str("</dl>");
}

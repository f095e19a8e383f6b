//! Two incidents side by side: before a change, and after it.

use std::fmt::Write;

use super::escape::{html, markdown as md, number};
use crate::{
    engine::{
        incident::{
            about::Provenance,
            compare::{Compared, Comparison, Per, Trend},
        },
        verdict::Verdict,
    },
    prose::report::{per, trend, uncounted},
};

/// Processes that are listed.
const LISTED: usize = 100;

/// One of the two, as a reader knows it.
#[derive(Clone, Debug)]
pub struct Side {
    /// What the user called it: a file, as a rule.
    pub name: String,
    /// Where and how it was made.
    pub made: Provenance,
    /// From when to when, in words.
    pub period: String,
}

/// A row of the comparison.
struct Row {
    name: String,
    before: String,
    after: String,
    rates: [String; 2],
    trend: Trend,
}

fn row<K>(name: String, compared: &Compared<K>) -> Row {
    let rate = |rate: Option<f64>| rate.map_or_else(|| "?".to_owned(), |r| format!("{r:.2}"));
    Row {
        name,
        before: number(compared.before),
        after: number(compared.after),
        rates: [rate(compared.rate_before), rate(compared.rate_after)],
        trend: compared.trend,
    }
}

fn verdict_rows(c: &Comparison) -> Vec<Row> {
    let name = |v: Option<Verdict>| v.map_or("unknown", Verdict::name).to_owned();
    c.by_verdict.iter().map(|of| row(name(of.key), of)).collect()
}

fn process_rows(c: &Comparison) -> Vec<Row> {
    c.by_process.iter().take(LISTED).map(|of| row(of.key.clone(), of)).collect()
}

fn headline(c: &Comparison) -> String {
    let new = c.by_process.iter().filter(|p| p.trend == Trend::New).count();
    let worse = c.by_process.iter().filter(|p| p.trend == Trend::Worse).count();
    let all = match c.all.trend {
        Trend::Fixed => "Fixed: there are no leaks any more",
        Trend::Better => "Better, and not fixed: there are fewer leaks",
        Trend::Unchanged if c.all.before + c.all.after == 0 => "No leaks, before and after",
        Trend::Unchanged => {
            "Unchanged: leaks come as fast as before, as far as chance lets one tell"
        }
        Trend::Worse => "Worse: there are more leaks",
        Trend::New => "New: there were no leaks before",
        Trend::Unclear => "Unclear: too little was seen to tell",
    };
    match (new, worse) {
        (0, 0) => format!("{all}."),
        (new, 0) => format!("{all}; of the processes, {new} are new."),
        (0, worse) => format!("{all}; of the processes, {worse} are worse."),
        (new, worse) => format!("{all}; of the processes, {new} are new and {worse} are worse."),
    }
}

fn measure(c: &Comparison) -> String {
    let why = c
        .uncounted
        .map_or_else(String::new, |why| format!(" Not per 1,000 connections: {}.", uncounted(why)));
    let by = per(c.per);
    match c.per {
        Per::Connections => format!("Rates are {by}."),
        Per::Hour => format!("Rates are {by}.{why}"),
    }
}

/// As a page of HTML.
#[must_use]
pub fn compared_html(c: &Comparison, sides: &[Side; 2]) -> String {
    let mut out = String::new();
    let headline = headline(c);
    super::html::begin(&mut out, "Leaked sockets, before and after");
    let bad =
        !matches!(c.all.trend, Trend::Fixed | Trend::Better) && c.all.before + c.all.after > 0;
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "<header class=\"{}\"><div class=\"top\"><p class=\"kind\">tcptrace report: before and \
         after</p><button type=\"button\" id=\"theme\" class=\"tool\" hidden>Dark</button></div>\
         <h1>{}</h1><p class=\"where\">{}</p></header><main id=\"main\">",
        if bad { "bad" } else { "good" },
        html(&headline),
        html(&measure(c))
    );
    for (id, title, rows) in [
        ("all", "All leaks", vec![row("all".to_owned(), &c.all)]),
        ("verdicts", "By verdict", verdict_rows(c)),
        ("processes", "By process", process_rows(c)),
    ] {
        super::html::section(&mut out, id, title, |out| table(out, title, &rows));
    }
    super::html::section(&mut out, "made", "What was compared", |out| {
        out.push_str("<dl class=\"made\">");
        for (name, side) in ["Before", "After"].into_iter().zip(sides) {
            let _ = write!(
                out,
                "<dt>{name}</dt><dd>{}<br>{}<br>{}</dd>",
                html(&side.name),
                html(&side.period),
                html(side.made.host.as_deref().unwrap_or("unknown host"))
            );
        }
        out.push_str("</dl>");
    });
    out.push_str("</main>");
    super::html::end(&mut out);
    out
}

fn table(out: &mut String, title: &str, rows: &[Row]) {
    let _ = write!(
        out,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table><thead><tr>\
         <th scope=\"col\">What</th><th scope=\"col\">Before</th><th scope=\"col\">After</th>\
         <th scope=\"col\">Rate before</th><th scope=\"col\">Rate after</th><th scope=\"col\">\
         </th></tr></thead><tbody>",
        html(title)
    );
    for row in rows {
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td class=\"text\"><b class=\"trend {}\">{}</b> {}</td></tr>",
            html(&row.name),
            row.before,
            row.after,
            row.rates[0],
            row.rates[1],
            row.trend.name(),
            row.trend.name(),
            html(trend(row.trend))
        );
    }
    out.push_str("</tbody></table></div>");
}

/// As Markdown.
#[must_use]
pub fn compared_markdown(c: &Comparison, sides: &[Side; 2]) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "## {}\n\n{}\n", headline(c), measure(c));
    out.push_str("| what | before | after | rate before | rate after | |\n");
    out.push_str("|---|--:|--:|--:|--:|---|\n");
    let all = row("all leaks".to_owned(), &c.all);
    for row in [all].into_iter().chain(verdict_rows(c)).chain(process_rows(c)) {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | **{}** |",
            md(&row.name),
            row.before,
            row.after,
            row.rates[0],
            row.rates[1],
            row.trend.name()
        );
    }
    out.push('\n');
    for (name, side) in ["Before", "After"].into_iter().zip(sides) {
        let host = side.made.host.as_deref().unwrap_or("unknown host");
        let _ = writeln!(out, "- {name}: {}, {}, {}", md(&side.name), side.period, md(host));
    }
    out
}

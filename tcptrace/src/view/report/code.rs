//! Where in their programs' code connections were opened and read: as trees.

use std::{fmt::Write, rc::Rc};

use super::{
    IncidentReport,
    escape::{html, markdown as md, number, sentence},
};
use crate::{
    engine::{
        call_tree::CallTree,
        record::{KnownOrigin, Record},
        stack::Stack,
    },
    prose::{reasons, stacks},
};

/// Calls of a tree that are open at first: what is deeper opens with a click.
const OPEN: usize = 6;
/// Lines of a tree in a ticket, and how deep.
const LINES: usize = 12;
const DEPTH: usize = 4;

/// What the calls that are known answer, in their order.
const QUESTIONS: [&str; 3] = ["Opened in", "Data last read in", "The end of the stream read in"];

/// A tree with its question, and how many leaks it says nothing of, and why.
struct Answered {
    question: &'static str,
    tree: CallTree,
    unknown: Vec<(&'static str, u64)>,
}

fn answered(report: &IncidentReport<'_>) -> Vec<Answered> {
    let records = || report.incident.sockets().iter().map(|s| &s.record).filter(|r| r.is_leak());
    let known = || records().filter(|r| r.origins.is_some());
    if known().next().is_none() {
        return Vec::new();
    }
    let answer = |(n, question): (usize, &'static str)| {
        let of = |r: &Rc<Record>| -> Result<Rc<Stack>, &'static str> {
            let why = || r.unknown.get(KnownOrigin::FIELDS[n]).map_or("unknown", reasons::words);
            let call = r.origins.as_deref().and_then(|known| known.calls()[n]).ok_or_else(why)?;
            call.stack.clone().map_err(reasons::words)
        };
        let (mut there, mut unknown) = (Vec::new(), Vec::<(&'static str, u64)>::new());
        for record in known() {
            match of(record) {
                Ok(stack) => there.push(stack),
                Err(why) => match unknown.iter_mut().find(|(w, _)| *w == why) {
                    Some((_, n)) => *n += 1,
                    None => unknown.push((why, 1)),
                },
            }
        }
        unknown.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        Answered { question, tree: CallTree::new(there.iter()), unknown }
    };
    QUESTIONS.into_iter().enumerate().map(answer).collect()
}

/// Whether there is anything to tell.
pub fn is_known(report: &IncidentReport<'_>) -> bool {
    report.incident.sockets().iter().any(|s| s.record.origins.is_some() && s.record.is_leak())
}

/// Trees that open and close.
pub fn write(report: &IncidentReport<'_>, out: &mut String) {
    for Answered { question, tree, unknown } in answered(report) {
        let _ = write!(out, "<h3>{question}</h3>");
        if !tree.calls.is_empty() {
            out.push_str("<div class=\"calls\">");
            tree.calls.iter().for_each(|call| branch(call, 0, out));
            out.push_str("</div>");
        }
        if !unknown.is_empty() {
            out.push_str("<ul>");
            for (why, n) in unknown {
                let _ = write!(out, "<li>{}: {}</li>", number(n), html(why));
            }
            out.push_str("</ul>");
        }
    }
}

fn branch(tree: &CallTree, depth: usize, out: &mut String) {
    let name = tree.frame.as_ref().map(stacks::frame).unwrap_or_default();
    let head = format!("<b>{}</b> <code>{}</code>", number(tree.count), html(&name));
    if tree.calls.is_empty() {
        let _ = write!(out, "<p>{head}</p>");
        return;
    }
    let open = if depth < OPEN { " open" } else { "" };
    let _ = write!(out, "<details{open}><summary>{head}</summary>");
    tree.calls.iter().for_each(|call| branch(call, depth + 1, out));
    out.push_str("</details>");
}

/// The same in a few lines.
pub fn markdown(report: &IncidentReport<'_>, out: &mut String) {
    for Answered { question, tree, unknown } in answered(report) {
        let _ = writeln!(out, "{question}:\n");
        let mut room = LINES;
        tree.calls.iter().for_each(|call| item(call, 0, &mut room, out));
        for (why, n) in unknown.iter().take(2) {
            let _ = writeln!(out, "- {}: {}", number(*n), sentence(why));
        }
        out.push('\n');
    }
}

fn item(tree: &CallTree, depth: usize, room: &mut usize, out: &mut String) {
    if *room == 0 || depth >= DEPTH {
        return;
    }
    *room -= 1;
    let name = tree.frame.as_ref().map(stacks::frame).unwrap_or_default();
    let _ = writeln!(out, "{}- {} {}", "  ".repeat(depth), number(tree.count), md(&name));
    tree.calls.iter().for_each(|call| item(call, depth + 1, room, out));
}

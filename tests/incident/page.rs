//! The page and the ticket, taken apart: whole, in order, the same whatever programs are called.

use std::{collections::HashSet, sync::LazyLock};

use proptest::prelude::*;
use tcptrace::{
    engine::incident::compare::{Digest, compare},
    view::report::{IncidentReport, Side, compared_html, compared_markdown},
};

use crate::made::{Made, made};

const HOSTILE: [&str; 6] = [
    "</script><img src=x onerror=alert(1)>",
    "a|b`c`\n| d | [x](http://y) ![z](w) <b>",
    "\u{1b}[31m\u{202e}cod\u{2028}\u{0}",
    "\" onload='x' &lt;",
    "]]>--><!--",
    "",
];

fn pages(made: &Made) -> [String; 2] {
    let report = IncidentReport { incident: &made.incident, clock: &made.clock };
    [report.html(), report.markdown()]
}

/// A tag: its name, its attributes, and whether it ends an element.
#[derive(Clone, Debug, PartialEq)]
struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
    ends: bool,
}

/// The tags of a page in their order; panics where elements do not nest.
fn tags(html: &str) -> Vec<Tag> {
    const VOID: [&str; 5] = ["meta", "br", "col", "input", "link"];
    let (mut tags, mut open, mut rest) = (Vec::new(), Vec::new(), html);
    while let Some((_, after)) = rest.split_once('<') {
        let (inside, after) = after.split_once('>').expect("a tag ends");
        rest = after;
        if inside.starts_with('!') {
            continue;
        }
        let (whole, closed) = match inside.strip_suffix('/') {
            Some(inside) => (inside, true),
            None => (inside, false),
        };
        if let Some(name) = whole.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "elements nest");
            tags.push(Tag { name: name.to_owned(), attributes: Vec::new(), ends: true });
            continue;
        }
        let (name, attributes) = whole.split_once(' ').unwrap_or((whole, ""));
        let tag = Tag { name: name.to_owned(), attributes: quoted(attributes), ends: false };
        // What is in these is no markup.
        if ["script", "style"].contains(&name) {
            let end = format!("</{name}>");
            let (_, after) = rest.split_once(end.as_str()).expect("it ends");
            rest = after;
        } else if !closed && !VOID.contains(&name) {
            open.push(name.to_owned());
        }
        tags.push(tag);
    }
    assert!(open.is_empty(), "open at the end: {open:?}");
    tags
}

/// `a="b" c`: all values are quoted.
fn quoted(text: &str) -> Vec<(String, String)> {
    let mut list = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let name_ends = rest.find(['=', ' ']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(name_ends);
        let (value, after) = match after.strip_prefix("=\"") {
            Some(after) => after.split_once('"').expect("a value ends"),
            None => {
                assert!(!after.starts_with('='), "a value is quoted: {text}");
                ("", after)
            }
        };
        list.push((name.to_owned(), value.to_owned()));
        rest = after.trim();
    }
    list
}

/// What a name can't change: the elements in their order, and those attributes that name no text.
fn structure(html: &str) -> Vec<(String, Vec<String>)> {
    let named = |tag: Tag| {
        let names = tag.attributes.into_iter().map(|(name, _)| name).collect();
        (if tag.ends { format!("/{}", tag.name) } else { tag.name }, names)
    };
    tags(html).into_iter().map(named).collect()
}

fn value<'a>(tag: &'a Tag, name: &str) -> Option<&'a str> {
    tag.attributes.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

fn data(html: &str) -> serde_json::Value {
    let (_, after) = html.split_once("id=\"data\">").expect("data");
    let (data, _) = after.split_once("</script>").expect("its end");
    serde_json::from_str(data).expect("JSON")
}

#[test]
fn a_page_is_whole_and_refers_to_nothing_else() {
    for sockets in [0, 1, 60, 700] {
        let [html, _] = pages(&made(sockets, None));
        let tags = tags(&html);
        let mut ids = HashSet::new();
        for id in tags.iter().filter_map(|tag| value(tag, "id")) {
            assert!(ids.insert(id), "#{id} twice");
        }
        let mut level = 0;
        for tag in &tags {
            let refers = ["aria-labelledby", "aria-describedby", "for"];
            let ids_of =
                refers.iter().filter_map(|name| value(tag, name)).flat_map(str::split_whitespace);
            ids_of.for_each(|id| assert!(ids.contains(id), "no #{id}"));
            for (name, text) in &tag.attributes {
                assert!(!name.starts_with("on") && name != "style" && name != "src", "{tag:?}");
                assert!(name != "href" || text.starts_with('#'), "{tag:?}");
            }
            let heading = tag.name.strip_prefix('h').and_then(|n| n.parse::<u32>().ok());
            if let Some(n) = heading.filter(|_| !tag.ends) {
                assert!(n <= level + 1, "heading {n} after {level}");
                level = n;
            }
        }
        let policy =
            tags.iter().find_map(|tag| value(tag, "content").filter(|c| c.contains("src")));
        let policy = policy.expect("a policy");
        assert!(
            policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"),
            "{policy}"
        );
        let data = data(&html);
        let rows = data["rows"].as_array().expect("rows");
        assert_eq!(rows.len() as u64, sockets, "each socket is a row");
        let texts = data["texts"].as_array().expect("texts").len() as u64;
        for row in rows {
            let row = row.as_array().expect("a row");
            assert_eq!(row.len(), 20);
            assert!([2, 11, 12].iter().all(|n| row[*n].as_u64().is_some_and(|n| n < texts)));
        }
    }
}

#[test]
fn no_name_is_markup() {
    let plain = pages(&made(60, Some("crawler")));
    let expected = structure(&plain[0]);
    for name in HOSTILE {
        let [html, markdown] = pages(&made(60, Some(name)));
        assert_eq!(structure(&html), expected, "{name:?}");
        assert!(!html.contains("<img"), "{name:?}");
        harmless(&markdown);
        assert_eq!(markdown.lines().count(), plain[1].lines().count(), "{name:?}: {markdown}");
    }
}

/// Tables have as many cells in each row; what is outside of code is no markup, and no line begins
/// a new thing.
fn harmless(markdown: &str) {
    let mut cells = None;
    for line in markdown.lines() {
        if !line.starts_with('|') {
            cells = None;
        } else {
            let bars = line.matches('|').count();
            assert_eq!(*cells.get_or_insert(bars), bars, "{line}");
        }
        let outside: String = line.split('`').step_by(2).collect();
        assert_eq!(line.replace("\\`", "").matches('`').count() % 2, 0, "{line}");
        assert!(!outside.contains(['<', '>']) && !outside.contains("]("), "{line}");
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
    }
}

#[test]
fn a_ticket_is_short() {
    for sockets in [0, 60, 2_000] {
        let [_, markdown] = pages(&made(sockets, None));
        harmless(&markdown);
        assert!(markdown.len() < 8_000, "{} bytes", markdown.len());
    }
    let [_, markdown] = pages(&made(2_000, None));
    let first = markdown.lines().next().expect("a line");
    assert_eq!(
        first,
        "## java shop-api.jar\\[4711\\] does not close its connections: it holds 1303 of 1903 leaks."
    );
    for needed in ["**Since when:** Since 2026-11-24 12:40:00 UTC", "**How fast:** It gains about"]
    {
        assert!(markdown.contains(needed), "{needed} in {markdown}");
    }
}

#[test]
fn before_and_after() {
    let (before, after) = (made(2_000, Some(HOSTILE[0])), made(40, Some(HOSTILE[1])));
    let compared = compare(&Digest::of(&before.incident), &Digest::of(&after.incident));
    let sides = [&before, &after].map(|made| Side {
        name: HOSTILE[1].to_owned(),
        made: made.incident.made.clone(),
        period: String::new(),
    });
    let html = compared_html(&compared, &sides);
    tags(&html);
    assert!(!html.contains("<img") && html.contains("<h1>Better, and not fixed"), "{html}");
    let markdown = compared_markdown(&compared, &sides);
    harmless(&markdown);
    assert!(markdown.contains("per 1,000 connections"), "{markdown}");
}

/// The structure of a page whose names are plain.
static PLAIN: LazyLock<Vec<(String, Vec<String>)>> =
    LazyLock::new(|| structure(&pages(&made(20, Some("crawler")))[0]));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_a_program_is_called(name in any::<String>()) {
        let [html, markdown] = pages(&made(20, Some(&name)));
        prop_assert_eq!(&structure(&html), &*PLAIN);
        harmless(&markdown);
        data(&html);
    }
}

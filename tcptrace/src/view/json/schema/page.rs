//! docs/json.md.

use std::fmt::Write;

use super::{Field, Kind, Line, lines};

const INTRODUCTION: &str = "\
# JSON

`--format json` prints one object a line. `event` says what the line is. Names and their meaning do
not change; fields may be added. What is unknown is null, and `unknown` says why.

This page and [json.schema.json](json.schema.json) are made of the code by
`cargo xtask json-docs`. Tests hold every line that they see against the same description.

```
sudo tcptrace watch --format json
sudo tcptrace snapshot --format json | jq -r 'select(.event == \"socket\").verdict' | sort | uniq -c
```

Times are RFC 3339 in UTC. Addresses are `10.0.0.1:80` or `[::1]:80`; IPv4 in IPv6 sockets is
written as IPv4. `holders[].pid` is the field `pid` of each object in the list `holders`.
";

/// The page, in Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    // Described once, before the first line that has them.
    let mut common = false;
    for line in lines() {
        if !line.common.is_empty() && !common {
            common = true;
            page.push_str("\n## Records of sockets\nFields of every record of a socket.\n\n");
            table(line.common, &mut page);
        }
        section(line, &mut page);
    }
    page
}

fn section(line: &Line, page: &mut String) {
    let events: Vec<String> = line.events.iter().map(|event| format!("`{event}`")).collect();
    // Writing to memory does not fail.
    let _ = write!(page, "\n## {}, from {}\n", events.join(", "), line.from);
    for row in wrap(line.about) {
        let _ = writeln!(page, "{row}");
    }
    if !line.common.is_empty() {
        page.push_str("It has the fields of [a record](#records-of-sockets)");
        page.push_str(if line.fields.is_empty() { ".\n" } else { ", and:\n" });
    }
    if !line.fields.is_empty() {
        page.push('\n');
        table(line.fields, page);
    }
}

fn table(fields: &[Field], page: &mut String) {
    page.push_str("| field | type | unit | meaning |\n|---|---|---|---|\n");
    rows(fields, "", page);
}

fn rows(fields: &[Field], at: &str, page: &mut String) {
    for field in fields {
        let mut name = format!("{at}{}", field.name);
        let absent = if field.always { "" } else { " It may be absent." };
        let words = words(&field.kind);
        let (kind, unit) = (field.kind.name(), field.kind.unit());
        let _ = writeln!(page, "| `{name}` | {kind} | {unit} | {}{words}{absent} |", field.about);
        let mut kind = &field.kind;
        loop {
            match kind {
                Kind::Maybe(inner) => kind = inner,
                Kind::List(inner) => {
                    name.push_str("[]");
                    kind = inner;
                }
                Kind::Map(inner) => {
                    name.push_str(".*");
                    kind = inner;
                }
                Kind::Object(fields) => {
                    rows(fields, &format!("{name}."), page);
                    break;
                }
                _ => break,
            }
        }
    }
}

fn words(kind: &Kind) -> String {
    match kind {
        Kind::Word(words) => {
            let words: Vec<String> = words().iter().map(|word| format!("`{word}`")).collect();
            format!(" One of {}.", words.join(", "))
        }
        Kind::Maybe(kind) | Kind::List(kind) => words(kind),
        _ => String::new(),
    }
}

/// Lines of at most 100 columns.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + word.chars().count() > 100 {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

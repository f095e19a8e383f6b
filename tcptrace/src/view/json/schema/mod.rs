//! What each JSON line holds, as data: docs/json.md and docs/json.schema.json are made of it, and
//! tests hold every line that they see against it.

mod blocked;
mod close;
mod doctor;
mod evidence;
mod fields;
mod fleet;
mod forecast;
mod left;
mod normal;
mod origins;
mod page;
mod shared;
mod time_wait;

use serde::Serialize;
use serde_json::{Map, Value, json};

pub use self::page::markdown;

/// A kind of line.
struct Line {
    /// What its `event` says.
    events: &'static [&'static str],
    /// Which command writes it.
    from: &'static str,
    /// A sentence.
    about: &'static str,
    /// Fields of every record of a socket, where it is one.
    common: &'static [Field],
    /// Its own.
    fields: &'static [Field],
}

/// All kinds of lines.
fn lines() -> impl Iterator<Item = &'static Line> {
    fields::LINES
        .iter()
        .chain(close::LINES)
        .chain(doctor::LINES)
        .chain(left::LINES)
        .chain(fleet::LINES)
}

/// A field of an object.
struct Field {
    name: &'static str,
    kind: Kind,
    /// A sentence.
    about: &'static str,
    /// Whether it is always there.
    always: bool,
}

const fn field(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, about, always: true }
}

const fn sometimes(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, about, always: false }
}

/// What a value may be.
enum Kind {
    Text,
    /// RFC 3339, UTC, to the microsecond.
    Time,
    /// An address with its port: `10.0.0.1:80`, `[::1]:80`.
    End,
    /// A whole number, with its unit.
    Count(&'static str),
    /// A number with a fraction.
    Milliseconds,
    Flag,
    Word(fn() -> Vec<&'static str>),
    /// Or null.
    Maybe(&'static Kind),
    List(&'static Kind),
    Object(&'static [Field]),
    /// An object whose names are data.
    Map(&'static Kind),
}

impl Kind {
    /// Holds a value against it. `at` is where the value stands.
    fn check(&self, value: &Value, at: &str) -> Result<(), String> {
        let fits = match self {
            Self::Text | Self::Time | Self::End => value.is_string(),
            Self::Count(_) => value.is_u64(),
            Self::Milliseconds => value.is_f64(),
            Self::Flag => value.is_boolean(),
            Self::Word(words) => value.as_str().is_some_and(|word| words().contains(&word)),
            Self::Maybe(kind) => {
                return if value.is_null() { Ok(()) } else { kind.check(value, at) };
            }
            Self::List(kind) => {
                let items = value.as_array().ok_or_else(|| format!("{at}: no list: {value}"))?;
                return items.iter().try_for_each(|item| kind.check(item, &format!("{at}[]")));
            }
            Self::Object(fields) => {
                let object =
                    value.as_object().ok_or_else(|| format!("{at}: no object: {value}"))?;
                return members(object, &[fields], &format!("{at}."));
            }
            Self::Map(kind) => {
                let object =
                    value.as_object().ok_or_else(|| format!("{at}: no object: {value}"))?;
                return object
                    .iter()
                    .try_for_each(|(name, v)| kind.check(v, &format!("{at}.{name}")));
            }
        };
        if fits { Ok(()) } else { Err(format!("{at}: not a {}: {value}", self.name())) }
    }

    /// As JSON Schema calls it.
    fn schema(&self) -> Value {
        match self {
            Self::Text | Self::End => json!({ "type": "string" }),
            Self::Time => json!({ "type": "string", "format": "date-time" }),
            Self::Count(_) => json!({ "type": "integer", "minimum": 0 }),
            Self::Milliseconds => json!({ "type": "number", "minimum": 0 }),
            Self::Flag => json!({ "type": "boolean" }),
            Self::Word(words) => json!({ "enum": words() }),
            Self::Maybe(kind) => json!({ "anyOf": [kind.schema(), { "type": "null" }] }),
            Self::List(kind) => json!({ "type": "array", "items": kind.schema() }),
            Self::Object(fields) => object(&[fields]),
            Self::Map(kind) => json!({ "type": "object", "additionalProperties": kind.schema() }),
        }
    }

    /// For people.
    fn name(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Time => "time".to_owned(),
            Self::End => "address:port".to_owned(),
            Self::Count(_) => "whole number".to_owned(),
            Self::Milliseconds => "number".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Word(_) => "word".to_owned(),
            Self::Maybe(kind) => format!("{} or null", kind.name()),
            Self::List(kind) => format!("list of: {}", kind.name()),
            Self::Object(_) => "object".to_owned(),
            Self::Map(kind) => format!("object, each value: {}", kind.name()),
        }
    }

    fn unit(&self) -> &'static str {
        match self {
            Self::Count(unit) => unit,
            Self::Milliseconds => "ms",
            Self::Maybe(kind) | Self::List(kind) | Self::Map(kind) => kind.unit(),
            _ => "",
        }
    }
}

/// Holds a line against what is said of its event: names, types, and that nothing is missing.
///
/// # Errors
/// Where it differs.
pub fn check(line: &Value) -> Result<(), String> {
    let object = line.as_object().ok_or_else(|| format!("no object: {line}"))?;
    let event = line["event"].as_str().unwrap_or_default();
    let mut found = Err(format!("no such event: {event}"));
    // Some events have several kinds of lines: a summary is one of each command's.
    for kind in lines().filter(|kind| kind.events.contains(&event)) {
        found = members(object, &[kind.common, kind.fields], "");
        if found.is_ok() {
            break;
        }
    }
    found.map_err(|why| format!("{why}\nin {line}"))
}

/// The same of what is about to be written.
///
/// # Errors
/// Where it differs.
pub fn check_value(line: &impl Serialize) -> Result<(), String> {
    check(&serde_json::to_value(line).map_err(|e| format!("no JSON: {e}"))?)
}

fn members(object: &Map<String, Value>, parts: &[&[Field]], at: &str) -> Result<(), String> {
    let known = || parts.iter().copied().flatten();
    for field in known() {
        match object.get(field.name) {
            Some(value) => field.kind.check(value, &format!("{at}{}", field.name))?,
            None if field.always => return Err(format!("{at}{} is missing", field.name)),
            None => {}
        }
    }
    match object.keys().find(|name| !known().any(|field| field.name == name.as_str())) {
        Some(name) => Err(format!("{at}{name} is not described")),
        None => Ok(()),
    }
}

/// A JSON Schema (draft 2020-12) of every line.
#[must_use]
pub fn json_schema() -> String {
    let lines: Vec<Value> = lines()
        .map(|line| {
            let mut schema = object(&[line.common, line.fields]);
            schema["properties"]["event"] = json!({ "enum": line.events });
            schema["description"] = json!(line.about);
            schema
        })
        .collect();
    let whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of tcptrace --format json",
        "anyOf": lines,
    });
    format!("{whole:#}\n")
}

fn object(parts: &[&[Field]]) -> Value {
    let fields = || parts.iter().copied().flatten();
    let properties: Map<String, Value> = fields()
        .map(|field| {
            let mut schema = field.kind.schema();
            schema["description"] = json!(field.about);
            (field.name.to_owned(), schema)
        })
        .collect();
    let required: Vec<&str> = fields().filter(|f| f.always).map(|f| f.name).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        const LOST: &str = r#"{"event":"lost","time":"T","lost":{"ring_full":1,"storage_failed":0,
            "recursion":0,"skipped":0,"unverified":0}}"#;
        let check = |line: &str| check(&serde_json::from_str(line).expect("JSON"));
        assert_eq!(check(LOST), Ok(()));
        for (line, why) in [
            ("[]", "no object"),
            (r#"{"event":"x"}"#, "no such event: x"),
            (&LOST.replace("\"time\":\"T\",", ""), "time is missing"),
            (&LOST.replace("\"T\"", "7"), "time: not a time: 7"),
            (&LOST.replace(":1", ":-1"), "lost.ring_full: not a whole number: -1"),
            (&LOST.replace("\"lost\":{", "\"more\":0,\"lost\":{"), "more is not described"),
            (&LOST.replace("ring_full", "ring"), "lost.ring_full is missing"),
        ] {
            let found = check(line).expect_err(line);
            assert!(found.starts_with(why), "{line}: {found}");
        }
    }

    #[test]
    fn every_field_has_a_sentence_and_one_meaning() {
        fn walk(fields: &[Field], names: &mut Vec<&'static str>) {
            for field in fields {
                assert!(field.about.ends_with('.'), "{}: {}", field.name, field.about);
                assert!(!names.contains(&field.name), "{} twice", field.name);
                names.push(field.name);
                let mut kind = &field.kind;
                while let Kind::Maybe(inner) | Kind::List(inner) | Kind::Map(inner) = kind {
                    kind = inner;
                }
                if let Kind::Object(fields) = kind {
                    walk(fields, &mut Vec::new());
                }
            }
        }
        for line in lines() {
            let mut names = Vec::new();
            walk(line.common, &mut names);
            walk(line.fields, &mut names);
        }
    }
}

//! A file of settings in TOML: tables of keys, each with the line that it stands in. What the keys
//! mean is its reader's business.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFile {
    /// Its tables, in order.
    pub tables: Vec<ConfigTable>,
    /// What stands in none of them.
    pub outside: Vec<ConfigEntry>,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigTable {
    /// Its name.
    pub name: String,
    /// Where it begins.
    pub line: usize,
    /// Its keys, in order.
    pub entries: Vec<ConfigEntry>,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The key.
    pub key: String,
    /// Where it stands, from 1.
    pub line: usize,
    /// The value.
    pub value: ConfigValue,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigValue {
    /// A string.
    Text(String),
    /// An integer, in decimal.
    Whole(String),
    /// `true` or `false`.
    Truth(bool),
    /// An array.
    List(Vec<ConfigValue>),
    /// What no setting is: this.
    Other(&'static str),
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Which, from 1.
    pub line: usize,
    /// What, and what would be right.
    pub text: String,
}

/// Reads a file.
///
/// # Errors
/// All that is no TOML.
pub fn read(text: &str) -> Result<ConfigFile, Vec<ConfigProblem>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let problem = |e: &toml::de::Error| ConfigProblem {
            line: line(text, e.span().unwrap_or_default()),
            text: format!("no TOML: {}", e.message().replace('\n', ", ")),
        };
        let mut problems: Vec<_> = errors.iter().map(problem).collect();
        problems.sort_by_key(|problem| problem.line);
        return Err(problems);
    }
    let mut file = ConfigFile::default();
    for (key, value) in document.get_ref() {
        if let DeValue::Table(table) = value.get_ref() {
            let name = key.get_ref().to_string();
            let mut entries: Vec<_> = table.iter().map(|(k, v)| entry(text, k, v)).collect();
            entries.sort_by_key(|entry| entry.line);
            file.tables.push(ConfigTable { name, line: line(text, key.span()), entries });
        } else {
            file.outside.push(entry(text, key, value));
        }
    }
    file.tables.sort_by_key(|table| table.line);
    file.outside.sort_by_key(|entry| entry.line);
    Ok(file)
}

fn entry(
    text: &str,
    key: &Spanned<std::borrow::Cow<'_, str>>,
    of: &Spanned<DeValue<'_>>,
) -> ConfigEntry {
    let value = value(of.get_ref());
    ConfigEntry { key: key.get_ref().to_string(), line: line(text, key.span()), value }
}

fn value(value: &DeValue<'_>) -> ConfigValue {
    match value {
        DeValue::String(text) => ConfigValue::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => ConfigValue::Whole(number.to_string()),
            Err(_) => ConfigValue::Other("a number of more than 64 bits"),
        },
        DeValue::Boolean(truth) => ConfigValue::Truth(*truth),
        DeValue::Array(list) => {
            ConfigValue::List(list.iter().map(|one| self::value(one.get_ref())).collect())
        }
        DeValue::Float(_) => ConfigValue::Other("a fraction"),
        DeValue::Datetime(_) => ConfigValue::Other("a date"),
        DeValue::Table(_) => ConfigValue::Other("a table"),
    }
}

/// The line in which something begins, from 1.
fn line(text: &str, span: Range<usize>) -> usize {
    let before = text.as_bytes().get(..span.start).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_have_their_lines() {
        let text = "# first\n[watch]\nz = 1\na = [\"x\", 2]\n\n[serve]\nopen = true\n";
        let file = read(text).expect("TOML");
        let lines = |table: &ConfigTable| {
            table.entries.iter().map(|e| (e.key.clone(), e.line)).collect::<Vec<_>>()
        };
        let names: Vec<_> = file.tables.iter().map(|t| (t.name.as_str(), t.line)).collect();
        assert_eq!(names, [("watch", 2), ("serve", 6)]);
        assert_eq!(lines(&file.tables[0]), [("z".to_owned(), 3), ("a".to_owned(), 4)]);
        let list = [ConfigValue::Text("x".to_owned()), ConfigValue::Whole("2".to_owned())];
        assert_eq!(file.tables[0].entries[1].value, ConfigValue::List(list.to_vec()));
        let outside = read("a = 0x10\n[[serve]]\n").expect("TOML").outside;
        assert_eq!(outside[0].value, ConfigValue::Whole("16".to_owned()));
        assert_eq!(outside[1].key, "serve");
    }

    #[test]
    fn all_that_is_wrong_is_told() {
        let problems = read("[watch]\nmin-age = \n[serve]\nopen = maybe\n").expect_err("no TOML");
        assert_eq!(problems.iter().map(|p| p.line).collect::<Vec<_>>(), [2, 4], "{problems:?}");
        let twice = read("[watch]\norigins = true\norigins = true\n").expect_err("twice");
        assert_eq!(twice[0].line, 3, "{twice:?}");
        let deep = format!("[watch]\na = {}", "[".repeat(10_000));
        assert!(read(&deep).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
            if let Err(problems) = read(&text) {
                prop_assert!(!problems.is_empty());
                prop_assert!(problems.iter().all(|p| !p.text.contains('\n')));
            }
        }

        #[test]
        fn nearly_toml_is_read_or_refused(text in "([\\[\\]=\"a-c0-9.#,{} \n]|true|\\[watch\\]\n){0,40}") {
            let _ = read(&text);
        }
    }
}

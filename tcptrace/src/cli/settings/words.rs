//! From a key and its value to arguments.

use clap::{Arg, ArgAction, Command};

use super::{FLAG, commands, keys};
use crate::formats::config_file::{
    ConfigEntry, ConfigFile, ConfigProblem, ConfigTable, ConfigValue,
};

/// What a key of the file comes to on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The key: a flag's long name.
    pub key: String,
    /// Where it stands.
    pub line: usize,
    /// The arguments: none for `false`, one for each of several values.
    pub words: Vec<String>,
}

/// The tables of a file, by their commands' names.
pub type Tables = Vec<(String, Vec<Given>)>;

/// What a file comes to, as far as its keys are flags and its values are of the right kind; and all
/// that is wrong with it.
pub fn of_file(root: &Command, file: &ConfigFile) -> (Tables, Vec<ConfigProblem>) {
    let mut problems = Vec::new();
    let names: Vec<&str> = commands(root).map(Command::get_name).collect();
    let all = names.iter().map(|name| format!("[{name}]")).collect::<Vec<_>>().join(" or ");
    for ConfigEntry { key, line, .. } in &file.outside {
        let text = match names.contains(&key.as_str()) {
            true => format!("{key} is a table: write [{key}] in a line, its keys below"),
            false => format!("{key} stands in no table; write it below {all}"),
        };
        problems.push(ConfigProblem { line: *line, text });
    }
    let mut tables = Vec::new();
    for ConfigTable { name, line, entries } in &file.tables {
        let Some(command) = commands(root).find(|command| command.get_name() == name) else {
            let meant = nearest(name, names.iter().copied());
            let meant = meant.map_or(format!("there are {}", all.replace(" or ", ", ")), |meant| {
                format!("did you mean [{meant}]?")
            });
            problems.push(ConfigProblem {
                line: *line,
                text: format!("[{name}]: no such table; {meant}"),
            });
            continue;
        };
        let mut given = Vec::new();
        for entry in entries {
            match of_entry(command, entry) {
                Ok(words) => given.push(words),
                Err(text) => problems.push(ConfigProblem { line: entry.line, text }),
            }
        }
        tables.push((name.clone(), given));
    }
    problems.sort_by_key(|problem| problem.line);
    (tables, problems)
}

fn of_entry(command: &Command, entry: &ConfigEntry) -> Result<Given, String> {
    let ConfigEntry { key, line, value } = entry;
    if key == FLAG {
        return Err(format!("{key}: only the command line names a file; leave it out"));
    }
    let Some((_, arg)) = keys(command).find(|(long, _)| long == key) else {
        let meant = nearest(&key.replace('_', "-"), keys(command).map(|(long, _)| long));
        let name = command.get_name();
        let meant = match meant {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("its keys are the flags of tcptrace {name} --help"),
        };
        return Err(format!("{key}: no such key in [{name}]; {meant}"));
    };
    let words = words(arg, key, value).map_err(|remedy| format!("{key}: {remedy}"))?;
    Ok(Given { key: key.clone(), line: *line, words })
}

fn words(arg: &Arg, key: &str, value: &ConfigValue) -> Result<Vec<String>, String> {
    let alone = || format!("--{key}");
    let with = |value: &str| format!("--{key}={value}");
    if !arg.get_action().takes_values() {
        return match value {
            ConfigValue::Truth(true) => Ok(vec![alone()]),
            ConfigValue::Truth(false) => Ok(Vec::new()),
            _ => Err("write true or false".to_owned()),
        };
    }
    let called = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name);
    let repeats = matches!(arg.get_action(), ArgAction::Append);
    let lists = repeats || called.ends_with(LIST);
    let may_stand_alone = arg.get_num_args().is_some_and(|n| n.min_values() == 0);
    match value {
        ConfigValue::Text(text) | ConfigValue::Whole(text) => Ok(vec![with(text)]),
        ConfigValue::Truth(true) if may_stand_alone => Ok(vec![alone()]),
        ConfigValue::Truth(false) if may_stand_alone => Ok(Vec::new()),
        ConfigValue::List(list) if lists => {
            let values: Result<Vec<&str>, String> = list.iter().map(one).collect();
            let values = values?;
            match repeats || values.is_empty() {
                true => Ok(values.into_iter().map(with).collect()),
                false => Ok(vec![with(&values.join(","))]),
            }
        }
        ConfigValue::List(_) => Err("it has one value; write no array".to_owned()),
        ConfigValue::Truth(_) => {
            Err("true and false are no values of it; write a string".to_owned())
        }
        ConfigValue::Other(what) => Err(format!("{what} is no value of it; write a string")),
    }
}

/// How the name of a value ends that may be a list.
const LIST: &str = "[,…]";

fn one(value: &ConfigValue) -> Result<&str, String> {
    match value {
        ConfigValue::Text(text) | ConfigValue::Whole(text) => Ok(text),
        _ => Err("write an array of strings or of integers".to_owned()),
    }
}

/// The name that was meant, if one is near enough.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// What clap thinks is near enough, too.
    const NEAR: f64 = 0.7;
    let near = known.map(|known| (strsim::jaro(name, known), known));
    let best = near.filter(|(near, _)| *near > NEAR).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, known)| known)
}

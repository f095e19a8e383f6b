//! A file with every key, as the command line is: `tcptrace config example`.

use clap::{Arg, ArgAction, Command};

use super::{commands, keys};

/// Lines are no longer, characters.
const WIDTH: usize = 98;

/// The file.
#[must_use]
pub fn example(root: &Command) -> String {
    let mut root = root.clone();
    root.build();
    let mut out = String::new();
    let mut say = |line: &str| {
        out.push_str(line);
        out.push('\n');
    };
    let names: Vec<&str> = commands(&root).map(Command::get_name).collect();
    for line in wrapped(&format!(
        "Flags of tcptrace {}, by their long names; both read them with --config FILE, and what is \
         on the command line wins. Each line below is commented out and shows the default, or, where \
         there is none, an example. tcptrace config check FILE says what is wrong with a file; \
         SIGHUP has a running command read it again.",
        names.join(" and ")
    )) {
        say(&line);
    }
    for command in commands(&root) {
        say("");
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        wrapped(&about).iter().for_each(|line| say(line));
        say(&format!("[{}]", command.get_name()));
        for (long, arg) in keys(command) {
            say("");
            let help = arg.get_long_help().or_else(|| arg.get_help());
            let help = help.map(ToString::to_string).unwrap_or_default();
            for part in help.split("\n\n") {
                wrapped(part).iter().for_each(|line| say(line));
            }
            say(&format!("#{long} = {}", value(long, arg)));
        }
    }
    out
}

/// The default, or an example, in TOML.
fn value(key: &str, arg: &Arg) -> String {
    if !arg.get_action().takes_values() {
        return "false".to_owned();
    }
    let default = arg.get_default_values().first().and_then(|value| value.to_str());
    let possible = arg.get_possible_values();
    let called = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name);
    let possible =
        possible.iter().map(clap::builder::PossibleValue::get_name).find(|n| *n != "all");
    let text = default.or(possible).unwrap_or_else(|| of_kind(key, called));
    let value = match text.parse::<i64>() {
        Ok(number) => number.to_string(),
        Err(_) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
    };
    if matches!(arg.get_action(), ArgAction::Append) { format!("[{value}]") } else { value }
}

/// A value by what the help calls it.
fn of_kind(key: &str, called: &str) -> &'static str {
    match key {
        "interval" => return "250ms",
        "cgroup" => return "/sys/fs/cgroup/system.slice/nginx.service",
        _ => {}
    }
    match called.trim_end_matches("[,…]") {
        "DUR" | "DUR|auto" => "10s",
        "FILE" | "PATH" => "/path/to/file",
        "DIR|URL" => "/var/log/pods",
        "N" => "100",
        "KIB" => "1024",
        "PID" => "4711",
        "PORT" => "8080",
        "4|6" => "4",
        "ADDR:PORT" | "ADDR[:PORT]" => "192.0.2.1:8080",
        "NAME|PATH|pid:N" => "pid:1",
        "NAME|ID" => "0123456789ab",
        "URL" => "http://127.0.0.1:4318",
        _ => "name",
    }
}

/// A comment's lines.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, String::from("#")));
        }
        line.push(' ');
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;
    use crate::cli::{Cli, settings::merge};

    fn problems(text: &str) -> Vec<String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("tcptrace.toml");
        std::fs::write(&path, text).expect("a file");
        merge::check(Path::new(&path)).err().unwrap_or_default()
    }

    /// With each line as it would be without its comment, too: a flag with a value of a new kind
    /// wants one in `of_kind`.
    #[test]
    fn every_line_of_it_is_right() {
        let example = example(&Cli::command());
        assert_eq!(problems(&example), Vec::<String>::new());
        let bare = |line: &str| match line.strip_prefix('#') {
            Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{key}\n"),
            _ => format!("{line}\n"),
        };
        let all: String = example.lines().map(bare).collect();
        assert_eq!(problems(&all), Vec::<String>::new());
        assert!(all.lines().filter(|line| line.contains(" = ")).count() > 40, "{all}");
        assert!(example.lines().all(|line| line.chars().count() <= 100));
    }
}

//! The file's arguments and the command line's.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use clap::{
    ArgMatches, Command, CommandFactory,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

use super::{
    FLAG, keys, source,
    words::{self, Given, Tables},
};
use crate::{
    cli::{Cli, usage},
    exit::Failure,
    formats::{config_file, config_file::ConfigProblem},
};

/// A command line that names a file, and what the file says for its command.
#[derive(Clone, Debug)]
pub struct FileSettings {
    /// The file.
    pub path: PathBuf,
    /// The command's name: its table's.
    pub table: String,
    line: Vec<OsString>,
    given: Vec<Given>,
}

impl FileSettings {
    /// Of a command line as it was typed; `None`: it names no file, or is no right one.
    ///
    /// # Errors
    /// The first thing that is wrong with the file, and how many more there are.
    pub fn of(line: &[OsString]) -> Result<Option<Self>, Failure> {
        let flag = format!("--{FLAG}");
        if !line.iter().any(|word| word.as_bytes().starts_with(flag.as_bytes())) {
            return Ok(None);
        }
        // What is wrong with it is said when all of it is read.
        let Ok(matches) = Cli::command().ignore_errors(true).try_get_matches_from(line) else {
            return Ok(None);
        };
        let Some((table, typed)) = matches.subcommand() else { return Ok(None) };
        // Another command's flag of that name.
        let Ok(Some(path)) = typed.try_get_one::<PathBuf>(FLAG) else { return Ok(None) };
        let settings = Self {
            path: path.clone(),
            table: table.to_owned(),
            line: line.to_vec(),
            given: Vec::new(),
        };
        settings.read_again().map(Some)
    }

    /// Of a file's table, without a command line.
    pub fn of_table(path: &Path, table: &str, given: Vec<Given>) -> Self {
        let line = ["tcptrace", table].map(OsString::from).to_vec();
        Self { path: path.to_owned(), table: table.to_owned(), line, given }
    }

    /// The same with what the file says now.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn read_again(&self) -> Result<Self, Failure> {
        let (tables, mut problems) = read(&self.path);
        let own = tables.into_iter().find(|(name, _)| *name == self.table);
        let read = Self { given: own.map(|(_, given)| given).unwrap_or_default(), ..self.clone() };
        problems.extend(read.wrong_values());
        let problems = told(&self.path, problems);
        match problems.first() {
            None => Ok(read),
            Some(first) => {
                let more = match problems.len() - 1 {
                    0 => String::new(),
                    more => {
                        format!("; and {more} more: tcptrace config check {}", self.path.display())
                    }
                };
                Err(Failure::usage(format!("{first}{more}")))
            }
        }
    }

    /// The command line with the file's arguments in it. What is on the command line, or conflicts
    /// with what is, is left out of them: the command line wins.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        self.arguments_of(self.given.iter())
    }

    fn arguments_of<'a>(&self, given: impl Iterator<Item = &'a Given>) -> Vec<OsString> {
        let overruled = self.overruled();
        let given = given.filter(|given| !overruled.contains(&given.key));
        let words = given.flat_map(|given| given.words.iter().map(OsString::from));
        let (command, rest) = self.line.split_at(self.line.len().min(2));
        command.iter().cloned().chain(words).chain(rest.iter().cloned()).collect()
    }

    /// The keys that the command line leaves no room for.
    fn overruled(&self) -> Vec<String> {
        let mut root = Cli::command();
        root.build();
        let matches = root.clone().ignore_errors(true).try_get_matches_from(&self.line);
        let matches = matches.as_ref().ok().and_then(ArgMatches::subcommand);
        let (Some((_, typed)), Some(command)) = (matches, root.find_subcommand(&self.table)) else {
            return Vec::new();
        };
        let is_typed = |arg: &clap::Arg| {
            typed.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
        };
        let typed: Vec<_> = keys(command).filter(|(_, arg)| is_typed(arg)).collect();
        let conflict = |one: &clap::Arg, other: &clap::Arg| {
            command.get_arg_conflicts_with(one).iter().any(|c| c.get_id() == other.get_id())
        };
        keys(command)
            .filter(|(long, arg)| {
                typed
                    .iter()
                    .any(|(other, of)| other == long || conflict(arg, of) || conflict(of, arg))
            })
            .map(|(long, _)| long.to_owned())
            .collect()
    }

    /// The same, but for these keys as `other` has them.
    #[must_use]
    pub fn keeping(&self, keys: &[String], other: &Self) -> Self {
        let kept = other.given.iter().filter(|given| keys.contains(&given.key));
        let new = self.given.iter().filter(|given| !keys.contains(&given.key));
        Self { given: new.chain(kept).cloned().collect(), ..self.clone() }
    }

    /// What a command says of one of its flags (`--token-file FILE: …`), by where the file has it,
    /// if it does.
    #[must_use]
    pub fn placed(&self, failure: Failure) -> Failure {
        let told = &failure.message;
        let overruled = self.overruled();
        let is_its = |given: &&Given| is_flag(told, &given.key) && !overruled.contains(&given.key);
        let Some(Given { line, .. }) = self.given.iter().find(is_its) else { return failure };
        let told = told.strip_prefix("--").unwrap_or(told);
        Failure { message: format!("{}:{line}: {told}", self.path.display()), ..failure }
    }

    /// Where a key stands, if it does.
    pub fn line_of(&self, key: &str) -> Option<usize> {
        self.given.iter().find(|given| given.key == key).map(|given| given.line)
    }

    /// The values that no flag would take, each by itself.
    fn wrong_values(&self) -> Vec<ConfigProblem> {
        let overruled = self.overruled();
        let given = self.given.iter().filter(|given| !overruled.contains(&given.key));
        let wrong = given.filter_map(|given| {
            let words = given.words.iter().map(OsString::from);
            let line = ["tcptrace", &self.table].map(OsString::from).into_iter().chain(words);
            let e = Cli::command().try_get_matches_from(line).err()?;
            // What goes together is asked of all of them.
            let alone = [ErrorKind::MissingRequiredArgument, ErrorKind::ArgumentConflict]
                .contains(&e.kind());
            (!alone || given.words.len() > 1 && e.kind() == ErrorKind::ArgumentConflict)
                .then(|| ConfigProblem { line: given.line, text: said(&given.key, &e) })
        });
        wrong.collect()
    }

    /// What is wrong with the arguments, by whoever gave them: a line of the file, or the command
    /// line.
    #[must_use]
    pub fn blame(&self, e: &clap::Error) -> Failure {
        let named = |kind| match e.get(kind) {
            Some(ContextValue::String(flag)) => vec![flag.clone()],
            Some(ContextValue::Strings(flags)) => flags.clone(),
            _ => Vec::new(),
        };
        let named = [named(ContextKind::InvalidArg), named(ContextKind::PriorArg)].concat();
        let is_named = |given: &&Given| named.iter().any(|flag| is_flag(flag, &given.key));
        // What is missing stands nowhere: then it is who needs it, without whom all is well.
        let needs = |given: &&Given| {
            let others = self.given.iter().filter(|other| other.key != given.key);
            Cli::command().try_get_matches_from(self.arguments_of(others)).is_ok()
        };
        let given = self.given.iter();
        match given.clone().find(is_named).or_else(|| given.clone().find(needs)) {
            Some(Given { key, line, .. }) => {
                Failure::usage(format!("{}:{line}: {}", self.path.display(), said(key, e)))
            }
            None => usage(e),
        }
    }
}

/// What clap says of a key, in one line and by the file's words.
fn said(key: &str, e: &clap::Error) -> String {
    let text = usage(e).message;
    let quoted = format!("'--{key}");
    let text = match text.split_once(&quoted).and_then(|(before, rest)| {
        rest.split_once('\'').map(|(_, after)| format!("{before}{key}{after}"))
    }) {
        Some(text) => text,
        None => text,
    };
    if text.contains(key) { text } else { format!("{key}: {text}") }
}

/// Whether an error's flag (`--min-age <DUR>`) is this key's.
fn is_flag(flag: &str, key: &str) -> bool {
    let name = flag.split([' ', '=', '[', '<', ':']).next().unwrap_or(flag);
    name.strip_prefix("--") == Some(key)
}

/// The tables of a file, and all that is wrong with it but for values. In line 0: with all of it.
fn read(path: &Path) -> (Tables, Vec<ConfigProblem>) {
    match source::read(path) {
        Ok(text) => read_text(&Cli::command(), &text),
        Err(text) => (Vec::new(), vec![ConfigProblem { line: 0, text }]),
    }
}

/// The same of a file's text.
pub fn read_text(root: &Command, text: &str) -> (Tables, Vec<ConfigProblem>) {
    match config_file::read(text) {
        Ok(file) => words::of_file(root, &file),
        Err(problems) => (Vec::new(), problems),
    }
}

/// Problems in their order, a line each.
fn told(path: &Path, mut problems: Vec<ConfigProblem>) -> Vec<String> {
    problems.sort_by_key(|problem| problem.line);
    let told = |ConfigProblem { line, text }: &ConfigProblem| match line {
        0 => format!("{}: {text}", path.display()),
        line => format!("{}:{line}: {text}", path.display()),
    };
    problems.iter().map(told).collect()
}

/// The raw values of all flags that a file may have, by key: what two command lines differ in.
pub fn values(arguments: &[OsString], table: &str) -> Vec<(String, String)> {
    let mut root = Cli::command();
    root.build();
    let Ok(matches) = root.clone().try_get_matches_from(arguments) else { return Vec::new() };
    let (Some((_, given)), Some(command)) = (matches.subcommand(), root.find_subcommand(table))
    else {
        return Vec::new();
    };
    let value = |arg: &clap::Arg| match given.get_raw(arg.get_id().as_str()) {
        Some(values) => values.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(","),
        None => String::new(),
    };
    keys(command).map(|(long, arg)| (long.to_owned(), value(arg))).collect()
}

/// All that is wrong with a file, a line each; where nothing is, its tables as command lines.
pub fn check(path: &Path) -> Result<Vec<FileSettings>, Vec<String>> {
    let (tables, mut problems) = read(path);
    let all: Vec<FileSettings> = tables
        .into_iter()
        .map(|(name, given)| FileSettings::of_table(path, &name, given))
        .collect();
    problems.extend(all.iter().flat_map(FileSettings::wrong_values));
    if problems.is_empty() { Ok(all) } else { Err(told(path, problems)) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proptest::prelude::*;

    use super::*;

    /// The command line that a file and what was typed come to, without the file's name.
    fn merged(text: &str, typed: &[&str]) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let at = dir.path().join("tcptrace.toml");
        std::fs::write(&at, text).expect("a file");
        let config = format!("--config={}", at.display());
        let line = [&["tcptrace", "watch", &config], typed].concat();
        let line: Vec<OsString> = line.iter().map(OsString::from).collect();
        let short = |text: &str| text.replace(&format!("{}", at.display()), "FILE");
        let settings = match FileSettings::of(&line) {
            Ok(settings) => settings.expect("a file is named"),
            Err(failure) => return Err(short(&failure.message)),
        };
        let arguments = settings.arguments();
        match Cli::try_parse_from(&arguments) {
            Ok(_) => {
                let words = arguments.iter().map(|word| word.to_string_lossy().into_owned());
                Ok(words.skip(2).filter(|word| !word.starts_with("--config=")).collect())
            }
            Err(e) => Err(short(&settings.blame(&e).message)),
        }
    }

    fn of_file(rest: &str, typed: &[&str]) -> Result<Vec<String>, String> {
        merged(&format!("[watch]\n{rest}\n"), typed)
    }

    fn words(words: &[&str]) -> Result<Vec<String>, String> {
        Ok(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn keys_become_flags() {
        let file = "min-age = \"10s\"\norigins = true\neach = false\ncount = 5\npid = [1, 2]\n\
                    state = [\"close_wait\", \"close\"]\ncomm = [\"a\", \"b\"]\nfail-on-leak = true";
        let flags = ["--min-age=10s", "--origins", "--count=5", "--pid=1", "--pid=2"];
        let more = ["--state=close_wait,close", "--comm=a", "--comm=b", "--fail-on-leak"];
        assert_eq!(of_file(file, &[]), words(&[&flags[..], &more].concat()));
        assert_eq!(of_file("fail-on-leak = \"any\"", &[]), words(&["--fail-on-leak=any"]));
        assert_eq!(of_file("fail-on-leak = false\npid = []", &[]), words(&[]));
        assert_eq!(merged("", &[]), words(&[]));
        assert_eq!(merged("[serve]\nopen = true\n", &[]), words(&[]), "another's table");
    }

    #[test]
    fn the_command_line_wins() {
        let typed = ["--min-age", "1s"];
        assert_eq!(
            of_file("min-age = \"10s\"\norigins = true", &typed),
            words(&["--origins", "--min-age", "1s"])
        );
        assert_eq!(of_file("min-age = \"5 parsecs\"", &typed), words(&typed));
        assert_eq!(of_file("pid = [1, 2]", &["-p", "3"]), words(&["-p", "3"]), "all of a list");
        // What goes together with nothing that was typed.
        assert_eq!(of_file("group-by = \"holder\"", &["--each"]), words(&["--each"]));
        assert_eq!(of_file("each = true", &["--group-by=holder"]), words(&["--group-by=holder"]));
        // What is needed may stand on either side.
        assert_eq!(of_file("pid = 1", &["--children"]), words(&["--pid=1", "--children"]));
        assert_eq!(of_file("children = true", &["-p1"]), words(&["--children", "-p1"]));
    }

    #[test]
    fn what_is_wrong_is_said_by_its_line() {
        for (file, told) in [
            ("mn-age = \"1s\"", "FILE:2: mn-age: no such key in [watch]; did you mean min-age?"),
            ("min_age = \"1s\"", "FILE:2: min_age: no such key in [watch]; did you mean min-age?"),
            ("config = \"x\"", "FILE:2: config: only the command line names a file; leave it out"),
            ("origins = \"yes\"", "FILE:2: origins: write true or false"),
            ("\n\nmin-age = 1.5", "FILE:4: min-age: a fraction is no value of it; write a string"),
            ("min-age = [\"1s\"]", "FILE:2: min-age: it has one value; write no array"),
            (
                "min-age = \"5 parsecs\"",
                "FILE:2: invalid value '5 parsecs' for min-age: write a duration such as 500ms, \
                 10s, 5m or 1d, or auto",
            ),
            (
                "children = true",
                "FILE:2: children: the following required arguments were not provided: --pid <PID[,…]>",
            ),
            (
                "group-by = \"holder\"\neach = true",
                "FILE:2: the argument group-by cannot be used with '--each'",
            ),
            ("[serve]\nopn = true", "FILE:3: opn: no such key in [serve]; did you mean open?"),
            ("[serv]", "FILE:2: [serv]: no such table; did you mean [serve]?"),
        ] {
            assert_eq!(of_file(file, &[]), Err(told.to_owned()), "{file}");
        }
        let outside = merged("min-age = \"1s\"\n", &[]).expect_err("no table");
        assert_eq!(
            outside,
            "FILE:1: min-age stands in no table; write it below [watch] or [serve]"
        );
        let many = of_file("a = 1\nb = 2\nc = 3", &[]).expect_err("three");
        assert!(many.ends_with("; and 2 more: tcptrace config check FILE"), "{many}");
        // What was typed is blamed for itself.
        let typed = of_file("min-age = \"1s\"", &["--count", "x"]).expect_err("no number");
        assert!(typed.starts_with("invalid value 'x' for '--count <N>'"), "{typed}");
    }

    proptest! {
        /// A value goes through the flag's parser as if it was typed.
        #[test]
        fn a_value_is_what_it_is_when_typed(value in "[ -~]{1,12}", key in 0usize..200) {
            let mut root = Cli::command();
            root.build();
            let command = root.find_subcommand("watch").expect("a command");
            let all: Vec<_> = keys(command).collect();
            let (long, arg) = all[key % all.len()];
            prop_assume!(arg.get_action().takes_values());
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            let file = of_file(&format!("{long} = \"{escaped}\""), &[]);
            let typed = Cli::try_parse_from(["tcptrace", "watch", &format!("--{long}={value}")]);
            prop_assert_eq!(file.is_ok(), typed.is_ok(), "{:?}", file);
        }
    }
}

//! The documents are true: what they name exists, commands parse, both languages say the same.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use clap::{CommandFactory, Parser, error::ErrorKind};
use tcptrace::{
    cli::{self, Cli},
    view::json::schema,
};

/// A front door, not a manual.
const README_LINES: usize = 150;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Files of a directory with this ending, by their paths from the root.
fn files(dir: &str, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(dir)).unwrap_or_else(|e| panic!("{dir}: {e}"));
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let mut paths: Vec<String> = names
        .map(|name| name.expect("a name in UTF-8"))
        .filter(|name| name.ends_with(ending))
        .map(|name| if dir == "." { name } else { format!("{dir}/{name}") })
        .collect();
    paths.sort();
    paths
}

/// All documents but the changelog, which tells of what was.
fn documents() -> Vec<String> {
    let mut all = files(".", ".md");
    all.retain(|path| path != "CHANGELOG.md");
    all.extend(files("docs", ".md"));
    all
}

/// Lines outside and inside of blocks of code. Blocks of `text` are neither: they are screens.
fn split(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut prose, mut code, mut inside, mut screen) = (Vec::new(), Vec::new(), false, false);
    for line in text.lines() {
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            inside = !inside;
            screen = inside && kind == "text";
        } else if inside {
            if !screen {
                code.push(line);
            }
        } else {
            prose.push(line);
        }
    }
    assert!(!inside, "a block of code has no end");
    (prose, code)
}

/// What stands between backticks in a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Where links and pictures lead to, but not to other hosts.
fn links(text: &str) -> Vec<String> {
    let prose = split(text).0.join("\n");
    prose
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.to_owned())
        .filter(|target| !target.contains("://"))
        .collect()
}

/// A heading as GitHub makes an anchor of it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn has_top() -> bool {
    Cli::command().find_subcommand("top").is_some()
}

/// The command line that a line of a document is, if it is one of tcptrace.
fn command(line: &str) -> Option<Vec<String>> {
    let line = line
        .trim()
        .trim_start_matches("$ ")
        .trim_start_matches("ExecStart=")
        .trim_start_matches("ExecReload=");
    let line = line.trim_start_matches("sudo ").trim_start_matches("/usr/bin/");
    if !line.starts_with("tcptrace ") {
        return None;
    }
    let line = line.split(" | ").next()?.split(" > ").next()?.split(" #").next()?;
    let words = line.split_whitespace().map(|word| match word {
        "PID" => "4711",
        "cookie:N" => "cookie:1",
        "LOCAL,REMOTE" => "127.0.0.1:80,127.0.0.1:81",
        word => word,
    });
    Some(words.map(|word| word.trim_matches('\'').to_owned()).collect())
}

#[test]
fn the_readme_is_short() {
    for path in ["README.md", "README.zh-CN.md"] {
        let lines = read(path).lines().count();
        assert!(lines <= README_LINES, "{path}: {lines} lines, more than {README_LINES}");
    }
}

#[test]
fn links_lead_somewhere() {
    let mut seen = 0;
    for path in documents() {
        let here = root().join(&path);
        for link in links(&read(&path)) {
            // The repository's own pages at its host.
            if link.starts_with("../../") {
                continue;
            }
            let (file, wanted) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if file.is_empty() { here.clone() } else { here.with_file_name("").join(file) };
            // Its page and its picture come with the command.
            if file.contains("top.") && !has_top() {
                continue;
            }
            assert!(target.exists(), "{path}: {link} leads nowhere");
            if !wanted.is_empty() {
                let there = fs::read_to_string(&target).unwrap_or_else(|e| panic!("{link}: {e}"));
                let mut headings = there.lines().filter(|line| line.starts_with('#'));
                assert!(
                    headings.any(|line| anchor(line.trim_start_matches('#')) == wanted),
                    "{path}: {link}: no such heading"
                );
            }
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen} links: were they all found?");
}

#[test]
fn commands_parse() {
    let mut seen = 0;
    let units = files("xtask/src/dist", ".service");
    for path in documents().into_iter().chain(units) {
        let text = read(&path);
        let (prose, code) = split(&text);
        let inline = prose.iter().flat_map(|line| quoted(line));
        let lines = prose.iter().copied().filter(|line| line.starts_with("Exec"));
        for line in inline.chain(lines).chain(code) {
            let Some(words) = command(line) else { continue };
            if words[1] == "top" && !has_top() {
                continue;
            }
            match Cli::try_parse_from(&words) {
                Ok(_) => {}
                Err(e)
                    if [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion].contains(&e.kind()) => {}
                Err(e) => panic!("{path}: {line}\n{e}"),
            }
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen} commands: were they all found?");
}

#[test]
fn commands_of_xtask_exist() {
    let known = read("xtask/src/main.rs");
    for path in documents().into_iter().chain(files(".github/workflows", ".yml")) {
        for rest in read(&path).split("cargo xtask ").skip(1) {
            let word: String =
                rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            let known = word.is_empty() || known.contains(&format!("[\"{word}\""));
            assert!(known, "{path}: no command 'cargo xtask {word}'");
        }
    }
}

#[test]
fn every_page_is_in_the_index_and_in_the_readme() {
    let (index, readme) = (links(&read("docs/README.md")), links(&read("README.md")));
    let without_anchor = |link: &String| link.split('#').next().unwrap_or_default().to_owned();
    let index: BTreeSet<String> = index.iter().map(without_anchor).collect();
    for page in files("docs", ".md") {
        let name = page.trim_start_matches("docs/");
        if name != "README.md" {
            assert!(index.contains(name), "docs/README.md does not name {name}");
            assert!(readme.contains(&page), "README.md does not name {page}");
        }
    }
}

/// Blocks of code without their comments, which are translated.
fn commands(text: &str) -> Vec<String> {
    let bare = |line: &&str| line.split(" #").next().unwrap_or_default().trim_end().to_owned();
    split(text).1.iter().map(bare).collect()
}

/// The first column of each table's rows, below its head.
fn first_columns(text: &str) -> Vec<Vec<String>> {
    let mut tables: Vec<Vec<String>> = Vec::new();
    let mut before = false;
    for line in split(text).0 {
        let row = line.starts_with('|');
        if row && !before {
            tables.push(Vec::new());
        }
        before = row;
        if let (true, Some(table)) = (row, tables.last_mut()) {
            table.push(line.split('|').nth(1).unwrap_or_default().trim().to_owned());
        }
    }
    tables.iter().map(|table| table[2..].to_vec()).collect()
}

#[test]
fn both_languages_say_the_same() {
    let (english, chinese) = (read("README.md"), read("README.zh-CN.md"));
    assert_eq!(commands(&english), commands(&chinese));
    assert_eq!(first_columns(&english), first_columns(&chinese));
    let targets = |text: &str| {
        let mut all = links(text);
        all.retain(|link| !link.starts_with("README"));
        all.sort();
        all
    };
    assert_eq!(targets(&english), targets(&chinese));
    assert!(english.contains("](README.zh-CN.md)") && chinese.contains("](README.md)"));
    let headings = |text: &str| split(text).0.iter().filter(|line| line.starts_with('#')).count();
    assert_eq!(headings(&english), headings(&chinese));
}

/// The page of measurements says what kernel they were made on; nothing else is of one machine.
#[test]
fn nothing_tells_of_the_machine_it_was_made_on() {
    let mut paths = documents();
    paths.extend(files("docs", ".svg"));
    paths.retain(|path| path != "docs/performance.md");
    for path in paths {
        let text = read(&path);
        for private in ["/root/", "/home/", "process_api", "-fc-"] {
            assert!(!text.contains(private), "{path}: {private}");
        }
    }
}

#[test]
fn workflows_are_pinned_and_may_little() {
    let mut seen = 0;
    for path in files(".github/workflows", ".yml") {
        let text = read(&path);
        assert!(text.contains("\npermissions:\n  contents: read\n"), "{path}: permissions");
        for line in text.lines() {
            let Some((_, action)) = line.split_once("uses: ") else { continue };
            let (_, version) = action.split_once('@').unwrap_or_default();
            let commit = version.split(' ').next().unwrap_or_default();
            let pinned = commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit());
            assert!(pinned && version.contains(" # v"), "{path}: {action} is not pinned");
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen} actions: were they all found?");
}

/// `TCPTRACE_DOCS=write`, as `cargo xtask json-docs` sets it, writes them.
#[test]
fn the_pages_made_of_the_code_are_as_it_is() {
    let pages =
        [("docs/json.md", schema::markdown()), ("docs/json.schema.json", schema::json_schema())];
    for (path, made) in pages.into_iter().chain([("docs/tcptrace.toml", cli::config_example())]) {
        if std::env::var_os("TCPTRACE_DOCS").is_some_and(|how| how == "write") {
            fs::write(root().join(path), &made).unwrap_or_else(|e| panic!("{path}: {e}"));
        }
        assert!(read(path) == made, "{path} is not what the code says: cargo xtask json-docs");
    }
}

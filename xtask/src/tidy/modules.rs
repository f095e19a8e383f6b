//! Modules as a whole: no circle among them, no two types of one name, and a table that names them
//! all.
//!
//! A circle is one among the files of one folder of `tcptrace/src`, from the paths that they name.
//! Two things are not an edge: that a `mod.rs` declares its modules, and what it passes on with
//! `pub use` (a path through it leads to the file where the item is). Nor is what a file of a
//! folder further down names of the `mod.rs` above it: `engine/watch/scans.rs` goes on with the
//! type that `engine/watch/mod.rs` begins, and the two are one module in several files. All else
//! is an edge. `cli` is left out: its `mod.rs` is the list of commands, and each uses what they
//! share.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::Path,
};

use anyhow::Result;

use super::{Breaches, layers::LAYERS, source::Source};

/// Folders among whose files there is no circle.
const NO_CIRCLE: &[&str] = &["engine", "formats", "prose", "source", "view"];

/// Types that may share a name, and why.
const SAME_NAME: &[(&str, &str)] =
    &[("Args", "what clap reads for one command, always written with its module: watch::Args")];

type Graph = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

/// Names each circle among the files of a folder.
pub fn circles(sources: &[Source], breaches: &mut Breaches) {
    let graph = graph(sources);
    let mut found = BTreeSet::new();
    for (from, targets) in &graph {
        for to in targets {
            if let Some(back) = way(&graph, to, from) {
                found.insert(from_the_first(back));
            }
        }
    }
    for circle in found {
        let mut names: Vec<String> = circle.iter().map(|m| m.join("::")).collect();
        names.push(names[0].clone());
        breaches.add("tcptrace/src", 0, format!("a circle of modules: {}", names.join(" → ")));
    }
}

/// Who names whom, within folders.
fn graph(sources: &[Source]) -> Graph {
    let files: BTreeMap<&[String], &Source> = sources
        .iter()
        .filter(|s| s.krate == "tcptrace")
        .filter(|s| s.module.first().is_some_and(|m| NO_CIRCLE.contains(&m.as_str())))
        .map(|s| (&s.module[..], s))
        .collect();
    let mut graph = Graph::new();
    for (module, source) in &files {
        let targets = graph.entry(module.to_vec()).or_default();
        for named in &source.names.paths {
            if let Some(target) = target(&files, &named.path)
                && target != *module
                && target[0] == module[0]
                && !(target.len() > 1 && module.starts_with(target))
            {
                targets.insert(target.to_vec());
            }
        }
    }
    graph
}

/// The file in which the item of a path is.
fn target<'a>(files: &BTreeMap<&'a [String], &'a Source>, path: &[String]) -> Option<&'a [String]> {
    let mut path = path.to_vec();
    // Re-exports of re-exports; a circle of them would not compile.
    for _ in 0..8 {
        if path[0] != "crate" {
            return None;
        }
        let within = &path[1..];
        let (module, source) =
            (1..=within.len()).rev().find_map(|n| files.get_key_value(&within[..n]))?;
        let rest = &within[module.len()..];
        match rest.first().and_then(|name| source.names.reexports.get(name)) {
            Some(from) => path = [&from.path[..], &rest[1..]].concat(),
            None => return Some(module),
        }
    }
    None
}

/// The shortest way, both ends included.
fn way(graph: &Graph, from: &Vec<String>, to: &Vec<String>) -> Option<Vec<Vec<String>>> {
    let mut before: BTreeMap<&Vec<String>, Option<&Vec<String>>> = [(from, None)].into();
    let mut next = VecDeque::from([from]);
    while let Some(at) = next.pop_front() {
        if at == to {
            let mut all = vec![at.clone()];
            let mut step = before[at];
            while let Some(module) = step {
                all.push(module.clone());
                step = before[module];
            }
            all.reverse();
            return Some(all);
        }
        for target in graph.get(at).into_iter().flatten() {
            if !before.contains_key(target) {
                before.insert(target, Some(at));
                next.push_back(target);
            }
        }
    }
    None
}

/// One circle has one spelling.
fn from_the_first(mut circle: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let first = (0..circle.len()).min_by_key(|n| &circle[*n]).unwrap_or(0);
    circle.rotate_left(first);
    circle
}

/// Names each public type that has another's name.
pub fn types(sources: &[Source], breaches: &mut Breaches) {
    let mut all: BTreeMap<&str, Vec<(&str, usize)>> = BTreeMap::new();
    for source in sources.iter().filter(|s| ["tcptrace", "tcptrace-common"].contains(&&s.krate[..]))
    {
        for (name, line) in &source.names.types {
            all.entry(name).or_default().push((&source.file, *line));
        }
    }
    for (name, places) in all {
        if places.len() > 1 && !SAME_NAME.iter().any(|(allowed, _)| *allowed == name) {
            for (file, line) in &places[1..] {
                let (first, at) = places[0];
                breaches.add(file, *line, format!("a second type {name}: see {first}:{at}"));
            }
        }
    }
}

/// Holds the table of `tcptrace/src/lib.rs` against the folders and the rule of the layers.
pub fn table(root: &Path, modules: &BTreeSet<String>, breaches: &mut Breaches) -> Result<()> {
    let folders: BTreeSet<&str> = modules
        .iter()
        .map(String::as_str)
        .filter(|m| root.join("tcptrace/src").join(m).is_dir())
        .collect();
    check_table(&fs::read_to_string(root.join("tcptrace/src/lib.rs"))?, &folders, breaches);
    Ok(())
}

fn check_table(text: &str, folders: &BTreeSet<&str>, breaches: &mut Breaches) {
    const LIB: &str = "tcptrace/src/lib.rs";
    let mut rows = BTreeSet::new();
    for (n, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["//!", name, _, uses, ""] = cells[..] else { continue };
        let Some(name) = name.strip_prefix("[`").and_then(|n| n.strip_suffix("`]")) else {
            continue;
        };
        rows.insert(name);
        if !folders.contains(name) {
            breaches.add(LIB, n + 1, format!("the table has {name}, which is no folder"));
        }
        let place = format!("tcptrace/src/{name}/");
        let Some(layer) = LAYERS.iter().find(|l| l.place == place) else { continue };
        let said: BTreeSet<&str> =
            uses.split(", ").filter(|u| !u.is_empty() && *u != "common").collect();
        let checked: BTreeSet<&str> = layer.own.iter().copied().filter(|o| *o != name).collect();
        if said != checked && uses != "all" {
            breaches.add(
                LIB,
                n + 1,
                format!("the table says that {name} may use {said:?}, but {checked:?} is checked"),
            );
        }
    }
    for folder in folders.iter().filter(|f| !rows.contains(**f)) {
        breaches.add(LIB, 0, format!("the table lacks {folder}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> Vec<Source> {
        files
            .iter()
            .map(|(f, text)| Source::of(&format!("tcptrace/src/{f}"), text).expect("Rust"))
            .collect()
    }

    fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
        let mut breaches = Breaches::default();
        circles(&sources(files), &mut breaches);
        breaches.0
    }

    #[test]
    fn circles_are_named() {
        let said = circles_of(&[
            ("engine/a.rs", "use super::b::B;"),
            ("engine/b.rs", "fn f() { crate::engine::c::d::f() }"),
            ("engine/c/d.rs", "use super::super::{x::X, a};"),
            ("engine/x.rs", "use super::a;"),
            ("view/a.rs", "use crate::engine::a;"),
        ]);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].ends_with("engine::a → engine::b → engine::c::d → engine::a"), "{said:?}");
        assert!(said[1].contains("engine::x"), "{said:?}");
    }

    #[test]
    fn no_circle_where_there_is_none() {
        let said = circles_of(&[
            ("engine/mod.rs", "pub mod a; pub mod b; pub use self::a::A;"),
            // Through the re-export to a, not to mod.rs.
            ("engine/b.rs", "use crate::engine::A;"),
            ("engine/a.rs", "#[cfg(test)] mod tests { use crate::engine::b; }"),
            ("view/a.rs", "use crate::engine::b;"),
        ]);
        assert_eq!(said, [""; 0]);
    }

    #[test]
    fn a_type_may_go_on_in_the_files_below() {
        let watch = ("engine/watch/mod.rs", "mod scans; use self::scans::Plan; pub struct Watch;");
        let scans = "use super::Watch; pub struct Plan; impl Watch {}";
        assert_eq!(circles_of(&[watch, ("engine/watch/scans.rs", scans)]), [""; 0]);
        // By way of another file it is a circle all the same.
        let around = format!("{scans} use crate::engine::b;");
        let b = ("engine/b.rs", "use crate::engine::watch::Watch;");
        assert_eq!(circles_of(&[watch, b, ("engine/watch/scans.rs", &around)]).len(), 1);
        // A layer's own mod.rs is a list.
        let top = [("engine/mod.rs", "use self::a::A;"), ("engine/a.rs", "use super::B;")];
        assert_eq!(circles_of(&top).len(), 1);
    }

    #[test]
    fn a_reexport_hides_no_circle() {
        let said = circles_of(&[
            ("engine/mod.rs", "pub use self::a::A;"),
            ("engine/b.rs", "use crate::engine::A;"),
            ("engine/a.rs", "use super::b;"),
        ]);
        assert_eq!(said.len(), 1, "{said:?}");
    }

    #[test]
    fn types_have_names_of_their_own() {
        let mut breaches = Breaches::default();
        let files = [
            ("engine/a.rs", "pub struct Event; struct Private; pub enum Other {}"),
            ("view/b.rs", "pub trait Event {} struct Private; pub(crate) struct Other;"),
            ("view/c.rs", "#[cfg(test)] mod tests { pub struct Event; }"),
        ];
        types(&sources(&files), &mut breaches);
        assert_eq!(
            breaches.0,
            ["tcptrace/src/view/b.rs:1: a second type Event: see tcptrace/src/engine/a.rs:1"]
        );
    }

    #[test]
    fn the_table_names_the_folders() {
        let said = |table: &str, folders: &[&str]| {
            let mut breaches = Breaches::default();
            check_table(table, &folders.iter().copied().collect(), &mut breaches);
            breaches.0
        };
        let view = "//! | [`view`] | tables | engine, prose, formats |\n";
        assert_eq!(said(view, &["view"]), [""; 0]);
        assert_eq!(said(view, &["view", "prose"]).len(), 1);
        assert_eq!(said(view, &[]).len(), 1);
        assert_eq!(said("//! | [`view`] | tables | engine, source |\n", &["view"]).len(), 1);
        assert_eq!(said("//! | [`cli`] | commands | all |\n", &["cli"]), [""; 0]);
    }
}

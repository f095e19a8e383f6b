//! A source file as the rules see it.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result};

use super::paths::{self, Names};

/// A Rust file of the repository, parsed.
pub struct Source {
    /// From the repository's root.
    pub file: String,
    /// The crate's folder: `tcptrace`.
    pub krate: String,
    /// Its place in the crate: `["engine", "check"]` for `engine/check/mod.rs`.
    pub module: Vec<String>,
    /// Modules at the crate's top.
    pub modules: BTreeSet<String>,
    /// What it names and declares.
    pub names: Names,
}

/// The module that a file below `src` is.
fn module(below: &str) -> Vec<String> {
    let path = below.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "lib" | "main" | "mod" => Vec::new(),
        path => path.split('/').map(str::to_owned).collect(),
    }
}

/// Whether a file holds the tests of the module above it, and nothing else: the rules leave tests
/// out wherever they are.
fn is_tests(root: &Path, file: &str) -> bool {
    let Some(above) = file.strip_suffix("/tests.rs") else { return false };
    [format!("{above}.rs"), format!("{above}/mod.rs")]
        .iter()
        .any(|parent| fs::read_to_string(root.join(parent)).is_ok_and(|text| declares_tests(&text)))
}

fn declares_tests(text: &str) -> bool {
    ["", "pub(crate) "]
        .iter()
        .any(|seen| text.contains(&format!("#[cfg(test)]\n{seen}mod tests;\n")))
}

impl Source {
    /// Parses what lies in a `src` folder; nothing for other files, for tests, or for what has just
    /// gone.
    pub fn read(
        root: &Path,
        file: &str,
        modules: &BTreeSet<String>,
        crates: &BTreeSet<String>,
    ) -> Result<Option<Self>> {
        let Some((krate, below)) = file.split_once("/src/") else { return Ok(None) };
        let Ok(text) = fs::read_to_string(root.join(file)) else { return Ok(None) };
        if is_tests(root, file) {
            return Ok(None);
        }
        let module = module(below);
        let names = paths::names(&text, &module, crates).with_context(|| file.to_owned())?;
        let (file, krate) = (file.to_owned(), krate.to_owned());
        Ok(Some(Self { file, krate, module, modules: modules.clone(), names }))
    }

    /// A file with this text, for tests of the rules.
    #[cfg(test)]
    pub fn of(file: &str, text: &str) -> Result<Self> {
        let words = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<BTreeSet<_>>();
        let (krate, below) = file.split_once("/src/").context("a file below src")?;
        let module = module(below);
        let crates = words(&[
            "alloc",
            "aya",
            "aya_ebpf",
            "clap",
            "core",
            "csv",
            "libc",
            "rustix",
            "std",
            "tcptrace_common",
            "tokio",
            "zerocopy",
        ]);
        let names = paths::names(text, &module, &crates)?;
        let modules = words(&[
            "cli", "confine", "engine", "exit", "formats", "prose", "source", "view", "state",
        ]);
        Ok(Self { file: file.to_owned(), krate: krate.to_owned(), module, modules, names })
    }
}

/// The modules at a crate's top.
pub fn modules(krate: &str, files: &[&str]) -> BTreeSet<String> {
    let below = format!("{krate}/src/");
    let files = files.iter().filter_map(|f| f.strip_prefix(&below));
    files.filter_map(|f| module(f).first().cloned()).collect()
}

/// The names that mean another crate: what the workspace depends on, and what comes with Rust.
pub fn crates(manifests: &[String]) -> BTreeSet<String> {
    let mut all: BTreeSet<String> =
        ["std", "core", "alloc", "proc_macro", "test"].map(str::to_owned).into();
    for text in manifests {
        let mut wanted = false;
        for line in text.lines() {
            if let Some(section) = line.strip_prefix('[') {
                wanted = section.trim_end_matches(']').ends_with("dependencies");
            } else if let Some((name, _)) = line.split_once('=')
                && wanted
                && !name.starts_with([' ', '#'])
            {
                all.insert(name.trim().trim_end_matches(".workspace").replace('-', "_"));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_modules() {
        assert_eq!(module("lib.rs"), [""; 0]);
        assert_eq!(module("engine/mod.rs"), ["engine"]);
        assert_eq!(module("engine/check/call.rs"), ["engine", "check", "call"]);
        assert_eq!(module("exit.rs"), ["exit"]);
    }

    #[test]
    fn only_what_is_built_for_tests_is_tests() {
        assert!(declares_tests("mod a;\n#[cfg(test)]\nmod tests;\n\nuse std::io;\n"));
        assert!(!declares_tests("mod tests;\n") && !declares_tests("#[cfg(test)]\nmod other;\n"));
    }

    #[test]
    fn dependencies_are_crates() {
        let text = "[package]\nname = \"x\"\n[dependencies]\naya-ebpf = \"1\"\n# a = 1\n\
                    libc.workspace = true\n[lints]\nworkspace = true\n[dev-dependencies]\nq = { }\n";
        let all = crates(&[text.to_owned()]);
        for name in ["std", "aya_ebpf", "libc", "q"] {
            assert!(all.contains(name), "{name}");
        }
        assert!(!all.contains("workspace") && !all.contains("name"));
    }
}

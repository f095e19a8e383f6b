//! The rules that ARCHITECTURE.md gives, checked: who may use whom, what is allowed at the top,
//! how long a file may get.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::cargo::root;

/// Which words a folder's files must not hold: the dependency rule.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "tcptrace/src/engine",
        &[
            "aya",
            "tokio",
            "clap",
            "std::fs",
            "std::time::Instant",
            "SystemTime",
            "println!",
            "rustix",
            "procfs",
            "crate::source::live::bpf",
            "crate::source",
            "crate::source::live",
            "crate::view",
            "crate::cli",
            "crate::pipeline",
        ],
    ),
    (
        "tcptrace/src/bpf",
        &[
            "tokio",
            "clap",
            "crate::engine",
            "crate::source",
            "crate::source::live",
            "crate::view",
            "crate::cli",
            "crate::pipeline",
        ],
    ),
    (
        "tcptrace/src/source",
        &["clap", "crate::source::live", "crate::view", "crate::cli", "crate::pipeline"],
    ),
    (
        "tcptrace/src/enrich",
        &[
            "aya",
            "tokio",
            "clap",
            "crate::source::live::bpf",
            "crate::source",
            "crate::view",
            "crate::cli",
            "crate::pipeline",
        ],
    ),
    (
        "tcptrace/src/sink",
        &[
            "aya",
            "tokio",
            "clap",
            "crate::source::live::bpf",
            "crate::source",
            "crate::source::live",
            "crate::cli",
            "crate::pipeline",
        ],
    ),
    ("tcptrace/src/pipeline", &["clap", "crate::cli"]),
    ("tcptrace-common/src", &["aya", "std::"]),
    ("tcptrace-ebpf/src", &["std::"]),
];

/// What may lie at the top.
const TOP: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-GPL2",
    "LICENSE-MIT",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "docs",
    "rustfmt.toml",
    "rust-toolchain.toml",
    "tcptrace",
    "tcptrace-common",
    "tcptrace-ebpf",
    "tests",
    "xtask",
];

/// Beyond this a file holds more than one concept.
const LINES: usize = 450;

/// Checks all rules and names every breach.
pub fn run() -> Result<()> {
    let root = root();
    let listed = Command::new("git")
        .current_dir(&root)
        .args(["ls-files", "-co", "--exclude-standard"])
        .output()
        .context("git")?;
    let files = String::from_utf8(listed.stdout)?;
    let mut breaches = Vec::new();
    for file in files.lines() {
        let top = file.split('/').next().unwrap_or(file);
        if !top.starts_with('.') && !TOP.contains(&top) {
            breaches.push(format!("{file}: {top} has no place at the top"));
        }
        if file.ends_with(".rs") {
            check_source(&root, file, &mut breaches)?;
        }
    }
    for manifest in ["tcptrace", "tcptrace-common", "tcptrace-ebpf", "xtask"] {
        let text = fs::read_to_string(root.join(manifest).join("Cargo.toml"))?;
        if !text.contains("[lints]\nworkspace = true") {
            breaches.push(format!("{manifest}/Cargo.toml: does not take the workspace's lints"));
        }
    }
    if breaches.is_empty() {
        return Ok(());
    }
    bail!("{} breaches:\n{}", breaches.len(), breaches.join("\n"))
}

fn check_source(root: &Path, file: &str, breaches: &mut Vec<String>) -> Result<()> {
    let Ok(text) = fs::read_to_string(root.join(file)) else { return Ok(()) };
    let lines = text.lines().count();
    if lines > LINES {
        breaches.push(format!("{file}: {lines} lines, more than {LINES}"));
    }
    for (_, words) in FORBIDDEN.iter().filter(|(folder, _)| file.starts_with(&format!("{folder}/")))
    {
        for (n, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or(line);
            if let Some(word) = words.iter().find(|w| uses(code, w)) {
                breaches.push(format!("{file}:{}: uses {word}", n + 1));
            }
        }
    }
    Ok(())
}

/// Whether code names a crate or path; a word within a longer one is another word.
fn uses(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !inside(code[..at].chars().next_back()) && !inside(code[at + word.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_whole() {
        assert!(uses("use aya::Ebpf;", "aya"));
        assert!(!uses("let playa = 1;", "aya"));
        assert!(!uses("aya_ebpf::x", "aya"));
        assert!(uses("    crate::source::live::bpf::loader", "crate::source::live::bpf"));
    }
}

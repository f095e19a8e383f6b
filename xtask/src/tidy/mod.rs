//! The rules that ARCHITECTURE.md gives, checked: who may use whom, how modules hang together, what
//! is allowed at the top, how long and wide a file may get.

mod layers;
mod modules;
mod paths;
mod source;
mod text;

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};

use self::source::Source;
use crate::cargo::root;

/// What is wrong, one line each.
#[derive(Debug, Default)]
struct Breaches(Vec<String>);

impl Breaches {
    /// `line` counts from 1; 0 is the file as a whole.
    fn add(&mut self, file: &str, line: usize, what: String) {
        self.0.push(match line {
            0 => format!("{file}: {what}"),
            line => format!("{file}:{line}: {what}"),
        });
    }
}

/// Checks all rules and names every breach.
pub fn run() -> Result<()> {
    let root = root();
    let listed = Command::new("git")
        .current_dir(&root)
        .args(["ls-files", "-co", "--exclude-standard"])
        .output()
        .context("git")?;
    let files = String::from_utf8(listed.stdout)?;
    // What git still lists may be gone.
    let files: Vec<&str> = files.lines().filter(|f| root.join(f).exists()).collect();
    let mut breaches = Breaches::default();
    let mut manifests = vec![fs::read_to_string(root.join("Cargo.toml"))?];
    for krate in ["tcptrace", "tcptrace-common", "tcptrace-ebpf", "xtask"] {
        let text = fs::read_to_string(root.join(krate).join("Cargo.toml"))?;
        if !text.contains("[lints]\nworkspace = true") {
            let file = format!("{krate}/Cargo.toml");
            breaches.add(&file, 0, "does not take the workspace's lints".to_owned());
        }
        manifests.push(text);
    }
    let crates = source::crates(&manifests);
    let mut sources = Vec::new();
    for file in &files {
        text::place(file, &mut breaches);
        if file.ends_with(".rs") {
            text::rust(file, &fs::read_to_string(root.join(file))?, &mut breaches);
            let krate = file.split('/').next().unwrap_or(file);
            let modules = source::modules(krate, &files);
            sources.extend(Source::read(&root, file, &modules, &crates)?);
        } else if file.ends_with(".md") {
            text::markdown(file, &fs::read_to_string(root.join(file))?, &mut breaches);
        }
    }
    for source in &sources {
        layers::check(source, &mut breaches);
    }
    modules::circles(&sources, &mut breaches);
    modules::types(&sources, &mut breaches);
    modules::table(&root, &source::modules("tcptrace", &files), &mut breaches)?;
    if breaches.0.is_empty() {
        return Ok(());
    }
    bail!("{} breaches:\n{}", breaches.0.len(), breaches.0.join("\n"))
}

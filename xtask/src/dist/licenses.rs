//! The licences of what is linked in: each text once, with the crates that it is of.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail};

use super::linked::Linked;

const NAMES: [&str; 5] = ["LICEN", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// Of the crates that tcptrace and its kernel programs depend on for a target.
pub fn texts(linked: &Linked) -> Result<String> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // What lies in the workspace has no source; its licences are the package's own.
    for package in linked.packages.iter().filter(|package| !package["source"].is_null()) {
        let word = |key: &str| package[key].as_str().unwrap_or_default();
        let title = format!("{} {} ({})", word("name"), word("version"), word("license"));
        let found = files(Path::new(word("manifest_path")))?;
        if found.is_empty() {
            texts.entry(String::new()).or_default().push(title);
            continue;
        }
        for text in found {
            texts.entry(text).or_default().push(title.clone());
        }
    }
    if texts.is_empty() {
        bail!("cargo metadata lists no dependencies");
    }
    let line = "-".repeat(80);
    Ok(texts
        .iter()
        .map(|(text, titles)| format!("{}\n\n{}\n{line}\n", titles.join("\n"), text.trim_end()))
        .collect())
}

fn files(manifest: &Path) -> Result<Vec<String>> {
    let dir = manifest.parent().context("a crate's directory")?;
    let entries = fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    let mut paths: Vec<_> =
        entries.iter().map(fs::DirEntry::path).filter(|path| path.is_file()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        NAMES.iter().any(|prefix| name.starts_with(prefix))
    });
    paths.sort();
    paths.iter().map(|path| Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())).collect()
}

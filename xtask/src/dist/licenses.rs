//! The licences of what is linked in: each text once, with the crates that it is of.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo::cargo;

const NAMES: [&str; 5] = ["LICEN", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// Of the crates that tcptrace and its kernel programs depend on for a target.
pub fn texts(triple: &str) -> Result<String> {
    let mut command = cargo()?;
    command.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", triple]);
    let output = command.output().context("cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let nodes = list(&metadata["resolve"]["nodes"]);
    let nodes: HashMap<&str, &Value> =
        nodes.iter().filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let packages = list(&metadata["packages"]);
    let named = |name: &str| {
        packages.iter().find(|package| package["name"] == name).and_then(|p| p["id"].as_str())
    };

    let mut linked = BTreeSet::new();
    let mut next: Vec<&str> = ["tcptrace", "tcptrace-ebpf"].into_iter().filter_map(named).collect();
    while let Some(id) = next.pop() {
        let Some(node) = nodes.get(id).filter(|_| linked.insert(id)) else { continue };
        let dependencies = node["deps"].as_array().into_iter().flatten();
        // Kind null: neither for building nor for testing.
        let normal = dependencies.filter(|d| {
            d["dep_kinds"].as_array().into_iter().flatten().any(|k| k["kind"].is_null())
        });
        next.extend(normal.filter_map(|dependency| dependency["pkg"].as_str()));
    }

    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // What lies in the workspace has no source; its licences are the package's own.
    for package in packages.iter().filter(|p| {
        !p["source"].is_null() && p["id"].as_str().is_some_and(|id| linked.contains(id))
    }) {
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

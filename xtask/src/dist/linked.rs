//! What is linked in: the crates that tcptrace and its kernel programs depend on for a target, as
//! Cargo.lock has them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cargo::cargo;

/// The two that it begins with.
pub const OWN: [&str; 2] = ["tcptrace", "tcptrace-ebpf"];

/// The crates, and who depends on whom.
pub struct Linked {
    /// As `cargo metadata` describes them, in its order.
    pub packages: Vec<Value>,
    /// By ids.
    pub needs: BTreeMap<String, BTreeSet<String>>,
}

/// For a target.
pub fn linked(triple: &str) -> Result<Linked> {
    let mut command = cargo()?;
    command.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", triple]);
    let output = command.output().context("cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let nodes = list(&metadata["resolve"]["nodes"]);
    let nodes: HashMap<&str, &Value> =
        nodes.iter().filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let mut packages = list(&metadata["packages"]);
    let named = |name: &str| {
        let package = packages.iter().find(|package| package["name"] == name)?;
        Some(package["id"].as_str()?.to_owned())
    };

    let mut needs = BTreeMap::new();
    let mut next: Vec<String> = OWN.into_iter().filter_map(named).collect();
    while let Some(id) = next.pop() {
        let Some(node) = nodes.get(&*id).filter(|_| !needs.contains_key(&id)) else { continue };
        let dependencies = node["deps"].as_array().into_iter().flatten();
        // Kind null: neither for building nor for testing.
        let normal = dependencies.filter(|d| {
            d["dep_kinds"].as_array().into_iter().flatten().any(|k| k["kind"].is_null())
        });
        let normal: BTreeSet<String> =
            normal.filter_map(|d| Some(d["pkg"].as_str()?.to_owned())).collect();
        next.extend(normal.iter().cloned());
        needs.insert(id, normal);
    }
    packages.retain(|package| package["id"].as_str().is_some_and(|id| needs.contains_key(id)));
    ensure!(packages.len() > OWN.len(), "cargo metadata lists no dependencies");
    Ok(Linked { packages, needs })
}

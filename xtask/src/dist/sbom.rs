//! The list of what is linked in (SBOM), in CycloneDX's JSON: from Cargo.lock, so that the same
//! sources give the same bytes. No serial number for that reason; the time is the commit's.

use std::{collections::HashMap, fs, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::linked::{Linked, OWN};
use crate::cargo::root;

/// Its name beside the binary.
pub const NAME: &str = "tcptrace.cdx.json";

/// Of what is linked in; `epoch`: s since 1970.
pub fn text(linked: &Linked, epoch: &str) -> Result<String> {
    let sums = checksums()?;
    let [own, kernel] = OWN;
    let word = |package: &Value, key: &str| package[key].as_str().unwrap_or_default().to_owned();
    // Ids hold directories of this machine.
    let title = |package: &Value| format!("{}@{}", word(package, "name"), word(package, "version"));
    let titles: HashMap<String, String> =
        linked.packages.iter().map(|p| (word(p, "id"), title(p))).collect();
    let described = |package: &Value| {
        let kind = if package["name"] == own { "application" } else { "library" };
        let mut component = json!({
            "type": kind,
            "bom-ref": title(package),
            "name": package["name"],
            "version": package["version"],
            "purl": format!("pkg:cargo/{}", title(package)),
            // As crates wrote it before SPDX's expressions.
            "licenses": [{"expression": word(package, "license").replace('/', " OR ")}],
        });
        if let Some(sum) = sums.get(&title(package)) {
            component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
        }
        component
    };
    let application = linked.packages.iter().find(|p| p["name"] == own).context("tcptrace")?;
    let mut others: Vec<&Value> = linked.packages.iter().filter(|p| p["name"] != own).collect();
    others.sort_by_key(|package| title(package));
    let mut needs: Vec<(String, Vec<&String>)> = Vec::new();
    for (id, of) in &linked.needs {
        let mut of: Vec<&String> = of.iter().filter_map(|id| titles.get(id)).collect();
        // The kernel programs are in the binary as bytes: its build script makes them.
        let programs = linked.packages.iter().find(|p| p["name"] == kernel).map(&title);
        let programs = programs.as_ref().and_then(|t| titles.values().find(|title| *title == t));
        let id = titles.get(id).context("an id")?;
        if *id == title(application) {
            of.extend(programs);
        }
        of.sort();
        needs.push((id.clone(), of));
    }
    needs.sort();
    let bom = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"timestamp": timestamp(epoch)?, "component": described(application)},
        "components": others.into_iter().map(described).collect::<Vec<_>>(),
        "dependencies": needs.iter().map(|(id, of)| json!({"ref": id, "dependsOn": of}))
            .collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&bom)? + "\n")
}

/// RFC 3339.
fn timestamp(epoch: &str) -> Result<String> {
    let mut date = Command::new("date");
    let output = date.args(["-u", "-d", &format!("@{epoch}"), "+%Y-%m-%dT%H:%M:%SZ"]).output()?;
    ensure!(output.status.success(), "no time: {epoch}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// What Cargo.lock says of each `name@version`.
fn checksums() -> Result<HashMap<String, String>> {
    let text = fs::read_to_string(root().join("Cargo.lock"))?;
    let of = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.strip_prefix(" = \"")?.strip_suffix('"')?.to_owned())
    };
    let known = text.split("[[package]]").filter_map(|package| {
        let title = format!("{}@{}", of(package, "name")?, of(package, "version")?);
        Some((title, of(package, "checksum")?))
    });
    Ok(known.collect())
}

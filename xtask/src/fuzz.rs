//! The fuzz targets, each for a while.

use std::{
    fs::{self, File},
    path::Path,
};

use anyhow::{Context, Result, bail};

use crate::{
    cargo::{cargo, root},
    setup,
};

/// How long each target runs where nothing else is said.
const SECONDS: u32 = 600;

/// What one target came to.
struct Outcome {
    /// Runs, runs a second, and the control flow edges that they reached.
    numbers: String,
    /// What it found: a panic, a hang, too much memory.
    finding: Option<String>,
}

/// Runs all targets, or those named: `[TARGET]... [--seconds N]`.
pub fn run(args: &[&str]) -> Result<()> {
    let (named, seconds) = match args {
        [named @ .., "--seconds", n] => {
            (named, n.parse().with_context(|| format!("--seconds {n}"))?)
        }
        named => (named, SECONDS),
    };
    let targets = targets()?;
    if let Some(unknown) = named.iter().find(|n| !targets.iter().any(|t| t == *n)) {
        bail!("no fuzz target is called {unknown}; there are {}", targets.join(", "));
    }
    // The compiler is for libFuzzer's C++.
    setup::packages(&[("c++", "g++", "gcc-c++")])?;
    setup::cargo_fuzz()?;
    lock()?;
    let mut found = 0;
    for target in targets.iter().filter(|t| named.is_empty() || named.contains(&t.as_str())) {
        let Outcome { numbers, finding } = fuzz(target, seconds)?;
        found += usize::from(finding.is_some());
        eprintln!("{target:<10}  {numbers}  {}", finding.as_deref().unwrap_or("no finding"));
    }
    if found > 0 {
        bail!("{found} of the targets found something");
    }
    Ok(())
}

/// Their names: those of the files.
fn targets() -> Result<Vec<String>> {
    let entries = fs::read_dir(root().join("tests/fuzz/fuzz_targets"))?;
    let stem = |path: &Path| path.file_stem().map(|s| s.to_string_lossy().into_owned());
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| stem(&entry.path())).collect();
    names.sort();
    Ok(names)
}

/// One lock file holds the versions; the targets' own adds what only they need.
fn lock() -> Result<()> {
    let (workspace, targets) = (root().join("Cargo.lock"), root().join("tests/fuzz/Cargo.lock"));
    let modified = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    if modified(&targets) < modified(&workspace) {
        fs::copy(workspace, targets)?;
    }
    Ok(())
}

/// One target for `seconds`. New inputs go below target/fuzz, the committed corpus is only read.
fn fuzz(target: &str, seconds: u32) -> Result<Outcome> {
    let out = root().join("target/fuzz");
    let (corpus, artifacts) = (out.join("corpus").join(target), out.join("artifacts").join(target));
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    let log = out.join(format!("{target}.log"));
    let mut command = cargo()?;
    // rustup's proxy takes the toolchain from here, whatever toolchain xtask itself was started
    // with.
    command.env("RUSTUP_TOOLCHAIN", setup::nightly()?);
    command.args(["fuzz", "run", "--fuzz-dir", "tests/fuzz", "--target-dir"]).arg(&out).arg(target);
    command.arg(&corpus).arg(root().join("tests/fuzz/corpus").join(target));
    // No input is larger than 16 KiB: one that takes a quarter of a GiB, or ten seconds, is a
    // finding.
    command.args([
        "--",
        "-max_len=16384",
        "-malloc_limit_mb=256",
        "-timeout=10",
        "-print_final_stats=1",
    ]);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()));
    let status = command.stderr(File::create(&log)?).status().context("running cargo fuzz")?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let numbers = numbers(&text);
    if numbers.is_none()
        && !status.success()
        && !text.contains("ERROR: libFuzzer")
        && !text.contains("ERROR: AddressSanitizer")
    {
        bail!("cargo fuzz run {target} failed; see {}", log.display());
    }
    let finding = (!status.success())
        .then(|| format!("FINDING in {}, see {}", artifacts.display(), log.display()));
    Ok(Outcome { numbers: numbers.unwrap_or_default(), finding })
}

/// From libFuzzer's last words.
fn numbers(log: &str) -> Option<String> {
    let stat = |name: &str| {
        log.lines().find_map(|l| l.strip_prefix("stat::")?.strip_prefix(name)?.strip_prefix(':'))
    };
    let (runs, rate) =
        (stat("number_of_executed_units")?.trim(), stat("average_exec_per_sec")?.trim());
    let edges =
        log.lines().rev().find_map(|l| l.split_once(" cov: ")?.1.split_whitespace().next())?;
    Some(format!("{runs:>10} runs {rate:>7}/s {edges:>6} edges"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words() {
        let log = "#2\tINITED cov: 120 ft: 121 corp: 1/1b exec/s: 0 rss: 40Mb\n#9\tDONE   cov: \
                   130 ft: 140 corp: 2/9b\nstat::number_of_executed_units: \
                   9\nstat::average_exec_per_sec:     3\n";
        assert_eq!(numbers(log).as_deref(), Some("         9 runs       3/s    130 edges"));
        assert_eq!(numbers("error: could not compile"), None);
    }
}

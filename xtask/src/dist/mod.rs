//! What is handed out: a static binary, the list of what is in it, its manual pages and shell
//! completions, a Debian package.
//! The same sources and toolchain give the same bytes, wherever they lie.

mod check;
mod deb;
mod licenses;
mod linked;
pub mod sbom;
mod service;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    cargo::{cargo, check as succeed, root},
    setup,
};

/// A target, and what Debian calls its architecture.
struct Target {
    triple: &'static str,
    debian: &'static str,
}

const TARGETS: [Target; 2] = [
    Target { triple: "x86_64-unknown-linux-musl", debian: "amd64" },
    Target { triple: "aarch64-unknown-linux-musl", debian: "arm64" },
];

/// `dist`, `dist --target TRIPLE`, `dist check`.
pub fn run(words: &[&str]) -> Result<()> {
    let [usual, _] = &TARGETS;
    match words {
        [] => build(usual).map(drop),
        ["check"] => check::run(&build(usual)?),
        ["--target", triple] => {
            let known = TARGETS.iter().find(|target| target.triple == *triple);
            build(
                known.with_context(|| {
                    format!("no such target: {triple}; there are {}", triples())
                })?,
            )
            .map(drop)
        }
        _ => bail!("cargo xtask dist [check | --target TRIPLE]"),
    }
}

fn triples() -> String {
    TARGETS.map(|target| target.triple).join(", ")
}

/// What was made, and where.
struct Dist {
    dir: PathBuf,
    package: PathBuf,
    epoch: String,
}

fn build(target: &Target) -> Result<Dist> {
    setup::packages(&[("dpkg-deb", "dpkg", "dpkg"), ("gzip", "gzip", "gzip")])?;
    let epoch = epoch()?;
    let dir = root().join("target/dist").join(target.debian);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    let built = binary(target)?;
    fs::copy(&built, dir.join("tcptrace")).with_context(|| built.display().to_string())?;
    let mut pages = cargo()?;
    pages
        .args(["run", "--locked", "--quiet", "--package", "tcptrace", "--example", "pages", "--"])
        .arg(&dir);
    succeed(pages.env("SOURCE_DATE_EPOCH", &epoch))?;
    let linked = linked::linked(target.triple)?;
    fs::write(dir.join(sbom::NAME), sbom::text(&linked, &epoch)?)?;
    fs::write(dir.join("third-party-licenses"), licenses::texts(&linked)?)?;
    let package = deb::make(&dir, target, &epoch)?;
    let sums = sums("sha256sum", &dir)?;
    fs::write(dir.join("SHA256SUMS"), &sums)?;
    eprint!("{}:\n{sums}", dir.display());
    Ok(Dist { dir, package, epoch })
}

/// The binary that is handed out for this architecture.
pub fn shipped() -> Result<PathBuf> {
    let [usual, _] = &TARGETS;
    binary(usual)
}

/// What the image is made of, for this architecture, put into `context`: the binary, and the list
/// of what is in it.
pub fn for_image(context: &Path) -> Result<()> {
    let [usual, _] = &TARGETS;
    let dir = context.join(usual.debian);
    fs::create_dir_all(&dir)?;
    let built = binary(usual)?;
    fs::copy(&built, dir.join("tcptrace")).with_context(|| built.display().to_string())?;
    fs::write(dir.join(sbom::NAME), listed()?)?;
    Ok(())
}

/// The list of what is in the binary for this architecture.
pub fn listed() -> Result<String> {
    let [usual, _] = &TARGETS;
    sbom::text(&linked::linked(usual.triple)?, &epoch()?)
}

/// Statically linked. The linker is rustc's own, as libc and its start-up code are: what compiler
/// is installed does not show in the bytes, nor do the directories of this machine.
fn binary(target: &Target) -> Result<PathBuf> {
    setup::target(target.triple)?;
    let (root, home) = (root(), env::home_dir().context("no home directory")?);
    let registry = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let flags = [remap(&root, "/build"), remap(&registry, "/cargo")].join("\x1f");
    let mut command = cargo()?;
    command.args([
        "build",
        "--release",
        "--locked",
        "--quiet",
        "--package",
        "tcptrace",
        "--bin",
        "tcptrace",
    ]);
    command.args([
        "--target",
        target.triple,
        "--config",
        &format!("target.{}.linker='rust-lld'", target.triple),
    ]);
    command.env("CARGO_ENCODED_RUSTFLAGS", flags).arg("--target-dir").arg(root.join("target"));
    eprintln!("building tcptrace for {}", target.triple);
    succeed(&mut command)?;
    Ok(root.join("target").join(target.triple).join("release/tcptrace"))
}

/// Seconds since 1970 of all that has a time: the commit's, or as given (SOURCE_DATE_EPOCH).
pub fn epoch() -> Result<String> {
    if let Ok(given) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(given);
    }
    let log = Command::new("git")
        .current_dir(root())
        .args(["log", "-1", "--format=%ct"])
        .output()
        .context("git")?;
    if !log.status.success() {
        bail!("no git commit to take the time from: set SOURCE_DATE_EPOCH");
    }
    Ok(String::from_utf8(log.stdout)?.trim().to_owned())
}

/// What sha256sum or md5sum says of all files below a directory, sorted by name.
fn sums(program: &str, dir: &Path) -> Result<String> {
    let mut files = Vec::new();
    walk(dir, &mut files)?;
    let mut names =
        files.iter().map(|file| file.strip_prefix(dir)).collect::<Result<Vec<_>, _>>()?;
    names.sort();
    let output =
        Command::new(program).current_dir(dir).args(names).output().context(program.to_owned())?;
    Ok(String::from_utf8(output.stdout)?)
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), found)?
        } else {
            found.push(entry.path())
        }
    }
    Ok(())
}

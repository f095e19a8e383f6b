//! Where leaks come from, in each language: what the tests need, and the call.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    cargo::{cargo, check, root},
    setup::{self, Needed, quiet},
};

/// Installs what can be had, runs all tests, or those whose names hold `name`. A test that lacks
/// something says so, and is counted.
pub fn run(name: Option<&str>) -> Result<()> {
    let cache = root().join("target/origins");
    packages();
    if let Err(e) = python(&cache) {
        eprintln!("without Python: {e:#}");
    }
    let mut command = cargo()?;
    command
        .args(["test", "--locked", "--package", "tcptrace", "--test", "origins", "--"])
        .args(name);
    check(command.env("TCPTRACE_ORIGINS", cache))
}

fn packages() {
    let wanted: [Needed; 6] = [
        ("cc", "gcc", "gcc"),
        ("go", "golang-go", "golang"),
        ("javac", "default-jdk-headless", "java-latest-openjdk-devel"),
        ("node", "nodejs", "nodejs"),
        ("socat", "socat", "socat"),
        ("python3", "python3-venv", "python3"),
    ];
    for one in wanted {
        if let Err(e) = setup::packages(&[one]) {
            eprintln!("without {}: {e:#}", one.0);
        }
    }
}

/// A virtual environment with gunicorn, of a Python that has `-X perf` where there is one.
fn python(cache: &Path) -> Result<()> {
    let pinned = root().join("tests/origins/requirements.txt");
    let (venv, done) = (cache.join("venv"), cache.join("requirements.txt"));
    let wanted = fs::read(&pinned).with_context(|| pinned.display().to_string())?;
    let installed = fs::read(&done).is_ok_and(|installed| installed == wanted);
    if installed && venv.join("bin/python").exists() {
        return Ok(());
    }
    fs::create_dir_all(cache)?;
    let found = found().or_else(|| by_uv(cache));
    if found.is_none() {
        eprintln!("no Python with -X perf (3.12 or newer): the tests of that are skipped");
    }
    let python = found.unwrap_or_else(|| PathBuf::from("python3"));
    eprintln!("installing Python packages into {}", venv.display());
    let mut make = Command::new(&python);
    make.args(["-m", "venv", "--clear"]).arg(&venv);
    // Debian's python3 comes without what venv needs, and no program says that it is there.
    if !quiet(&mut make) {
        setup::packages(&[("python3-venv", "python3-venv", "python3")])?;
        if !quiet(&mut make) {
            bail!("{make:?} fails");
        }
    }
    check(pip(&venv).arg("--requirement").arg(&pinned))?;
    fs::write(done, wanted)?;
    Ok(())
}

/// An installed Python that has `-X perf`.
fn found() -> Option<PathBuf> {
    let names = ["python3.13", "python3.14", "python3.12", "python3"];
    let here = names.into_iter().filter_map(setup::which);
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    let versions = root.and_then(|root| fs::read_dir(root.join("versions")).ok());
    let mut managed: Vec<PathBuf> =
        versions.into_iter().flatten().flatten().map(|d| d.path().join("bin/python3")).collect();
    // 3.13 before 3.12; 3.9 has no -X perf.
    managed.sort();
    here.chain(managed.into_iter().rev()).find(|python| has_perf(python))
}

fn has_perf(python: &Path) -> bool {
    let asks = "import sys; sys.exit(not sys.is_stack_trampoline_active())";
    let mut command = Command::new(python);
    command.args(["-X", "perf", "-c", asks]).stdin(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// One that uv downloads.
fn by_uv(cache: &Path) -> Option<PathBuf> {
    let (venv, pythons) = (cache.join("uv"), cache.join("pythons"));
    if !quiet(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))
        || !quiet(pip(&venv).arg("uv"))
    {
        return None;
    }
    let uv = || {
        let mut uv = Command::new(venv.join("bin/uv"));
        uv.env("UV_PYTHON_INSTALL_DIR", &pythons).arg("python");
        uv
    };
    if !quiet(uv().args(["install", "3.13"])) {
        return None;
    }
    let at = uv().args(["find", "--managed-python", "3.13"]).output().ok()?;
    let at = PathBuf::from(String::from_utf8(at.stdout).ok()?.trim());
    has_perf(&at).then_some(at)
}

fn pip(venv: &Path) -> Command {
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip
}

//! The production stories: the software that tells them, and the call.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    cargo::{cargo, check, root},
    setup,
};

/// Everything installed, runs all stories, or those whose names hold `name`.
pub fn run(name: Option<&str>) -> Result<()> {
    let cache = root().join("target/stories");
    packages()?;
    python(&cache)?;
    let mut command = cargo()?;
    command
        .args(["test", "--locked", "--package", "tcptrace", "--test", "stories", "--"])
        .args(name);
    command.env("TCPTRACE_STORIES", cache).env("PATH", path()?);
    check(&mut command)
}

/// PATH, with the directories of system programs that users' PATHs leave out.
fn path() -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    Ok(std::env::join_paths(std::env::split_paths(&path).chain(system))?)
}

fn packages() -> Result<()> {
    let wanted = [
        ("nginx", "nginx-light", "nginx"),
        ("php", "php-cli", "php-cli"),
        ("node", "nodejs", "nodejs"),
        ("mosquitto", "mosquitto", "mosquitto"),
        ("python3", "python3-venv", "python3"),
    ];
    if wanted.iter().all(|(program, _, _)| setup::which(program).is_some()) {
        return Ok(());
    }
    let _held = HeldServices::new();
    setup::packages(&wanted)?;
    eprintln!(
        "the services of nginx and mosquitto were not started; against a start at boot: systemctl \
         disable NAME"
    );
    Ok(())
}

/// A virtual environment with the pinned packages of PyPI.
fn python(cache: &Path) -> Result<()> {
    let pinned = root().join("tests/stories/requirements.txt");
    let (venv, done) = (cache.join("venv"), cache.join("requirements.txt"));
    let wanted = fs::read(&pinned).with_context(|| pinned.display().to_string())?;
    if venv.join("bin/python").exists()
        && fs::read(&done).is_ok_and(|installed| installed == wanted)
    {
        return Ok(());
    }
    eprintln!("installing Python packages into {}", venv.display());
    fs::create_dir_all(cache)?;
    let make = || {
        let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).output();
        made.is_ok_and(|made| made.status.success())
    };
    // Debian's python3 comes without what venv needs, and no program says that it is there.
    if !make() {
        setup::packages(&[("python3-venv", "python3-venv", "python3")])?;
        if !make() {
            bail!("python3 -m venv {} fails", venv.display());
        }
    }
    let mut install = Command::new(venv.join("bin/python"));
    install
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&pinned);
    check(&mut install)?;
    fs::write(done, wanted)?;
    Ok(())
}

/// As long as this lives, packages that are installed do not start their services (Debian's
/// policy-rc.d). Where the host has a policy already, that one holds.
struct HeldServices(Option<&'static Path>);

impl HeldServices {
    fn new() -> Self {
        let policy = Path::new("/usr/sbin/policy-rc.d");
        // Should it be left behind, it denies nothing any more once this process is gone.
        let text = format!(
            "#!/bin/sh\n# Made by cargo xtask stories for the time of an installation.\n[ -e \
             /proc/{} ] && exit 101\nexit 0\n",
            std::process::id()
        );
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(policy);
        match file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes())) {
            Ok(()) => Self(Some(policy)),
            Err(e) => {
                if e.kind() != ErrorKind::AlreadyExists {
                    eprintln!(
                        "services may be started by their packages: {}: {e}",
                        policy.display()
                    );
                }
                Self(None)
            }
        }
    }
}

impl Drop for HeldServices {
    fn drop(&mut self) {
        if let Some(policy) = self.0 {
            let _ = fs::remove_file(policy);
        }
    }
}

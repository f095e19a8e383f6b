//! What is handed out for fleets, held against the real things: Prometheus, Alertmanager, container
//! runtimes, the schemas of what is in `deploy/`.

pub mod alerts;
mod ask;
pub mod containers;
mod dashboard;
mod host;
pub mod manifests;
pub mod otlp;
pub mod pictures;
mod rights;
pub mod scale;
pub mod seccomp;
mod site;
pub mod soak;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::cargo::root;

/// Whatever is waited for comes within this.
const DEADLINE: Duration = Duration::from_secs(90);
const PROMETHEUS: &str = "127.0.0.1:9090";
const ALERTMANAGER: &str = "127.0.0.1:9093";
const TOKEN: &str = "of-the-scraper";

fn say(text: &str) {
    eprintln!("== {text}");
}

/// `target/fleet`, empty at the start; what is in it at the end can be looked at.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Result<Self> {
        let path = root().join("target/fleet");
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// A process that ends with us.
struct Started(Child);

impl Started {
    fn new(command: &mut Command, log: &Path) -> Result<Self> {
        let out = fs::File::create(log)?;
        let child = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn();
        Ok(Self(child.with_context(|| format!("{command:?}"))?))
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.end();
    }
}

fn wait(what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + DEADLINE;
    loop {
        let said = is_so();
        if matches!(said, Ok(true)) {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{what}: {said:?}; see target/fleet");
        thread::sleep(Duration::from_millis(100));
    }
}

//! A cgroup that lives as long as its guard.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use super::actor::Actor;

/// A cgroup v2, with another below it, named `below`.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes both; `name` comes after a name of our own.
    pub fn new(name: impl AsRef<OsStr>) -> io::Result<Self> {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let v2 = roots.into_iter().find(|r| r.join("cgroup.procs").exists());
        let v2 = v2.ok_or_else(|| io::Error::other("no cgroup v2 is mounted"))?;
        let mut own = OsStr::new(&format!("tcptrace-test-{}-", std::process::id())).to_owned();
        own.push(name);
        let made = Self(v2.join(own));
        fs::create_dir_all(made.0.join("below"))?;
        Ok(made)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Moves an actor into it, or into the one `below`.
    pub fn take(&self, below: &str, actor: &Actor) -> io::Result<()> {
        fs::write(self.0.join(below).join("cgroup.procs"), actor.pid().to_string())
    }

    /// Makes another below it, and moves an actor there.
    pub fn take_into(&self, name: &str, actor: &Actor) -> io::Result<()> {
        fs::create_dir(self.0.join(name))?;
        self.take(name, actor)
    }

    /// Moves it out, one level up.
    pub fn leave(&self, actor: &Actor) -> io::Result<()> {
        let above = self.0.parent().unwrap_or(&self.0);
        fs::write(above.join("cgroup.procs"), actor.pid().to_string())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for below in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(below.path());
        }
        let _ = fs::remove_dir(&self.0);
    }
}

//! The file in which a runtime names the code it makes while it runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// `/tmp/perf-PID.map`, removed with this value.
pub struct PerfMap(PathBuf);

impl PerfMap {
    /// That of a process, which has written it or will.
    pub fn of(pid: u64) -> Self {
        Self(Path::new("/tmp").join(format!("perf-{pid}.map")))
    }

    /// What is in it.
    pub fn text(&self) -> String {
        let bytes = fs::read(&self.0).unwrap_or_else(|e| panic!("{}: {e}", self.0.display()));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Has a Java virtual machine write it.
    pub fn asked_of_java(pid: u64) -> Self {
        let asked = Command::new("jcmd").args([&pid.to_string(), "Compiler.perfmap"]).output();
        let asked = asked.expect("jcmd is here");
        let said = String::from_utf8_lossy(&asked.stdout);
        assert!(asked.status.success(), "{said}");
        Self::of(pid)
    }
}

impl Drop for PerfMap {
    fn drop(&mut self) {
        // A program that never called a function of its own has written none.
        let _ = fs::remove_file(&self.0);
    }
}

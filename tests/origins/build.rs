//! The programs of `tests/origins`, built below the target folder, once for each text and command.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// A file of `tests/origins`.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/origins").join(name)
}

/// What a C compiler makes of a source: `orders.c` becomes `orders`, in a folder of its own.
pub fn c(name: &str, flags: &[&str]) -> PathBuf {
    built(name, |out| {
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-Wall", "-Wextra", "-pthread", "-Wl,--build-id"]).args(flags);
        cc.arg("-o").arg(out).arg(source(name));
        cc
    })
}

/// What rustc makes of one in a release that has line tables.
pub fn rust(name: &str) -> PathBuf {
    built(name, |out| {
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition", "2024", "-C", "opt-level=3", "-C", "debuginfo=line-tables-only"]);
        rustc.arg("-o").arg(out).arg(source(name));
        rustc
    })
}

/// Builds a source by the command that `make` gives for an output, where that is not there yet.
/// The output is called as the source is, without what tells the language.
pub fn built(name: &str, make: impl Fn(&Path) -> Command) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let text = fs::read(source(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut hasher = DefaultHasher::new();
    (text, format!("{:?}", make(Path::new(stem)))).hash(&mut hasher);
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("origins");
    let folder = cache.join(format!("{name}-{:016x}", hasher.finish()));
    let out = folder.join(stem);
    if out.exists() {
        return out;
    }
    // Tests that want the same one at once each build it; the first to be ready is taken.
    let id = COUNT.fetch_add(1, Ordering::Relaxed);
    let making = cache.join(format!("{name}-{}-{id}", std::process::id()));
    fs::create_dir_all(&making).expect("a folder below target");
    let mut command = make(&making.join(stem));
    let done = command.stdin(Stdio::null()).output();
    let done = done.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {errors}");
    if fs::rename(&making, &folder).is_err() {
        fs::remove_dir_all(&making).expect("a folder of our own");
    }
    assert!(out.exists(), "{command:?} made no {}", out.display());
    out
}

/// Whether a program can be called, with an argument that makes it say something and end.
pub fn has(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).output().is_ok_and(|done| done.status.success())
}

//! What building and testing need, pinned.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// Builds the kernel programs: `-Z build-std` needs a nightly. This one's LLVM is what the pinned
/// bpf-linker reads.
const NIGHTLY: &str = "nightly-2026-05-20";
/// The last line that brings its own LLVM: 0.11 wants one installed.
const BPF_LINKER: &str = "0.10.4";
/// Builds with the oldest Rust that tcptrace builds with.
const CARGO_DENY: &str = "0.18.9";
const CARGO_FUZZ: &str = "0.13.2";

/// Everything that building needs. Returns nothing where all is there already.
pub fn all() -> Result<()> {
    let nightly = nightly()?;
    bpf_linker()?;
    eprintln!("ready: {nightly} with rust-src, bpf-linker {BPF_LINKER}");
    Ok(())
}

/// The nightly to build the kernel programs with, rust-src included: the pinned one, or where that
/// can't be had, the installed one.
pub fn nightly() -> Result<String> {
    if has_rust_src(NIGHTLY) {
        return Ok(NIGHTLY.to_owned());
    }
    if which("rustup").is_none() {
        bail!("rustup is needed to build the kernel programs; it is at https://rustup.rs");
    }
    eprintln!("installing {NIGHTLY} with rust-src");
    let install =
        ["toolchain", "install", NIGHTLY, "--profile", "minimal", "--component", "rust-src"];
    if quiet(Command::new("rustup").args(install)) && has_rust_src(NIGHTLY) {
        return Ok(NIGHTLY.to_owned());
    }
    let _ = quiet(Command::new("rustup").args([
        "component",
        "add",
        "rust-src",
        "--toolchain",
        "nightly",
    ]));
    if has_rust_src("nightly") {
        eprintln!(
            "{NIGHTLY} can't be downloaded here: the installed nightly builds the kernel programs \
             instead"
        );
        return Ok("nightly".to_owned());
    }
    bail!(
        "no nightly with rust-src could be downloaded; install it: rustup toolchain install \
         {NIGHTLY} --component rust-src"
    )
}

/// The lints for the kernel programs, on their toolchain.
pub fn clippy(toolchain: &str) -> Result<()> {
    let there = || {
        let mut command = Command::new("rustup");
        command
            .args(["run", toolchain, "cargo-clippy", "--version"])
            .output()
            .is_ok_and(|o| o.status.success())
    };
    let add = || {
        quiet(Command::new("rustup").args(["component", "add", "clippy", "--toolchain", toolchain]))
    };
    if !there() && !add() {
        bail!(
            "clippy is needed for {toolchain}: rustup component add clippy --toolchain {toolchain}"
        );
    }
    Ok(())
}

/// The standard library for another target.
pub fn target(name: &str) -> Result<()> {
    let installed = Command::new("rustup").args(["target", "list", "--installed"]).output();
    let there = installed
        .is_ok_and(|list| String::from_utf8_lossy(&list.stdout).lines().any(|line| line == name));
    if !there && !quiet(Command::new("rustup").args(["target", "add", name])) {
        bail!("needed: rustup target add {name}");
    }
    Ok(())
}

fn has_rust_src(toolchain: &str) -> bool {
    let mut command = Command::new("rustup");
    command.args(["run", toolchain, "rustc", "--print", "sysroot"]).stderr(Stdio::null());
    let Ok(output) = command.output() else { return false };
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    output.status.success() && sysroot.join("lib/rustlib/src/rust/library/core").is_dir()
}

/// The linker of BPF objects, in the pinned version.
pub fn bpf_linker() -> Result<()> {
    tool("bpf-linker", BPF_LINKER)
}

/// Looks at licences, sources and advisories of dependencies, in the pinned version.
pub fn cargo_deny() -> Result<()> {
    tool("cargo-deny", CARGO_DENY)
}

/// Runs the fuzz targets, in the pinned version.
pub fn cargo_fuzz() -> Result<()> {
    tool("cargo-fuzz", CARGO_FUZZ)
}

fn tool(name: &str, pinned: &str) -> Result<()> {
    let version = Command::new(name).arg("--version").output();
    if version.is_ok_and(|v| String::from_utf8_lossy(&v.stdout).contains(pinned)) {
        return Ok(());
    }
    eprintln!("installing {name} {pinned} (a minute or two)");
    let mut install = Command::new("cargo");
    install.args(["install", name, "--version", pinned, "--locked", "--quiet", "--force"]);
    // The caller's toolchain and flags are the workspace's business, not this tool's.
    for name in ["RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        install.env_remove(name);
    }
    let done = install.status().context("running cargo install")?;
    if !done.success() {
        bail!(
            "{name} could not be built; install it: cargo install {name} --version {pinned} \
             --locked"
        );
    }
    Ok(())
}

/// A released toolchain.
pub fn toolchain(version: &str) -> Result<()> {
    let asked = Command::new("rustup").args(["run", version, "rustc", "--version"]).output();
    let there = asked.is_ok_and(|answer| answer.status.success());
    if !there
        && !quiet(Command::new("rustup").args([
            "toolchain",
            "install",
            version,
            "--profile",
            "minimal",
        ]))
    {
        bail!("needed: rustup toolchain install {version}");
    }
    Ok(())
}

/// A program, and the packages of Debian and Fedora that have it.
pub type Needed = (&'static str, &'static str, &'static str);

/// Socket statistics, to compare with.
pub const SS: Needed = ("ss", "iproute2", "iproute");

/// Makes programs available that a test or benchmark needs, from Debian's or Fedora's packages.
pub fn packages(wanted: &[Needed]) -> Result<()> {
    let missing: Vec<_> =
        wanted.iter().filter(|(program, _, _)| which(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let debian: Vec<&str> = missing.iter().map(|(_, debian, _)| *debian).collect();
    let fedora: Vec<&str> = missing.iter().map(|(_, _, fedora)| *fedora).collect();
    let root = rustix::process::geteuid().is_root();
    let done = root
        && if which("apt-get").is_some() {
            eprintln!("installing {}", debian.join(" "));
            let install = |update: bool| {
                let mut command = Command::new("apt-get");
                command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
                if update {
                    command.arg("update")
                } else {
                    command.args(["install", "-y", "--no-install-recommends"]).args(&debian)
                };
                quiet(&mut command)
            };
            install(false) || install(true) && install(false)
        } else {
            which("dnf").is_some()
                && quiet(Command::new("dnf").args(["install", "-y", "-q"]).args(&fedora))
        };
    if !done {
        bail!(
            "needed: {} (Debian) or {} (Fedora); install them as root",
            debian.join(" "),
            fedora.join(" ")
        );
    }
    Ok(())
}

/// Where a program is: PATH, and the directories of system programs that users' PATHs leave out.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(program)).find(|p| p.is_file())
}

/// Runs a command to its success; what it complains of is shown.
pub fn quiet(command: &mut Command) -> bool {
    let output = command.stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            false
        }
        Err(e) => {
            eprintln!("{command:?}: {e}");
            false
        }
    }
}

//! Everything that CI runs.

use anyhow::{Result, bail};

use crate::{
    cargo::{cargo, check},
    setup::{self, SS},
    tidy,
};

/// Formatting, clippy for both sides, tidy, and every test. Root is needed: live tests load eBPF,
/// and a machine that can't do that fails here.
pub fn run() -> Result<()> {
    setup::packages(&[("setpriv", "util-linux", "util-linux"), ("tmux", "tmux", "tmux"), SS])?;
    step("formatting");
    check(cargo()?.args(["fmt", "--all", "--check"]))?;
    step("tidy");
    tidy::run()?;
    step("clippy");
    check(cargo()?.args([
        "clippy",
        "--locked",
        "--all-targets",
        "--quiet",
        "--",
        "--deny",
        "warnings",
    ]))?;
    let mut kernel = cargo()?;
    let nightly = setup::nightly()?;
    setup::clippy(&nightly)?;
    let toolchain = format!("+{nightly}");
    // The kernel programs' lints, on the toolchain and target that build them.
    kernel.arg(toolchain).args([
        "clippy",
        "--locked",
        "--package",
        "tcptrace-ebpf",
        "--target",
        "bpfel-unknown-none",
    ]);
    kernel.args([
        "-Z",
        "build-std=core",
        "--quiet",
        "--target-dir",
        "target/clippy-ebpf",
        "--",
        "--deny",
        "warnings",
    ]);
    check(kernel.env("CARGO_ENCODED_RUSTFLAGS", "--cfg=bpf_target_arch=\"x86_64\""))?;
    step("documentation");
    check(
        cargo()?
            .args(["doc", "--locked", "--no-deps", "--quiet"])
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )?;
    step("unit, property and command-line tests");
    check(cargo()?.args([
        "test", "--locked", "--quiet", "--lib", "--bins", "--test", "cli", "--test", "docs",
        "--test", "fuzz", "--test", "top", "--test", "replay", "--test", "incident", "--test",
        "memory",
    ]))?;
    step("the slot protocol in all interleavings");
    check(cargo()?.args([
        "test",
        "--locked",
        "--quiet",
        "--package",
        "tcptrace-common",
        "--test",
        "slot",
    ]))?;
    step("the core against a simulated kernel");
    check(cargo()?.args([
        "test",
        "--locked",
        "--quiet",
        "--package",
        "tcptrace",
        "--test",
        "sim",
    ]))?;
    step("live tests");
    check(cargo()?.args(["test", "--locked", "--package", "tcptrace", "--test", "live"]))?;
    step("the kernel programs' log");
    let mut log = cargo()?;
    log.args(["test", "--locked", "--package", "tcptrace", "--features", "kernel-log"]);
    check(log.args(["--test", "live", "--", "kernel_log"]))
}

/// The pages on JSON, made of the code.
pub fn json_docs() -> Result<()> {
    let mut command = cargo()?;
    command.args(["test", "--locked", "--quiet", "--package", "tcptrace", "--test", "docs"]);
    check(command.args(["--", "json"]).env("TCPTRACE_DOCS", "write"))
}

/// The chaos of the live tests, for an hour.
pub fn soak() -> Result<()> {
    setup::packages(&[SS])?;
    let mut command = cargo()?;
    command.args(["test", "--locked", "--package", "tcptrace", "--test", "live", "--", "chaos"]);
    check(command.env("TCPTRACE_CHAOS", "3600"))
}

/// The core against a simulated kernel: `--seeds N [--from SEED]`.
pub fn sim(words: &[&str]) -> Result<()> {
    let number = |word: &str| word.parse::<u64>().is_ok();
    let (seeds, from) = match words {
        ["--seeds", seeds] if number(seeds) => (seeds, &"0"),
        ["--seeds", seeds, "--from", from] if number(seeds) && number(from) => (seeds, from),
        _ => bail!("cargo xtask sim --seeds N [--from SEED]"),
    };
    let mut command = cargo()?;
    command.args(["test", "--release", "--locked", "--quiet", "--package", "tcptrace"]);
    command.args(["--test", "sim"]);
    check(command.env("TCPTRACE_SEEDS", seeds).env("TCPTRACE_FROM", from))
}

fn step(name: &str) {
    eprintln!("== {name}");
}

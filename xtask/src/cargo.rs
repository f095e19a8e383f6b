//! Calls of cargo, with what the kernel programs' build needs.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::setup;

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// cargo in the workspace, everything set up.
pub fn cargo() -> Result<Command> {
    let nightly = setup::nightly()?;
    setup::bpf_linker()?;
    let mut command = Command::new("cargo");
    command.current_dir(root()).env("TCPTRACE_NIGHTLY", nightly);
    // What rustup found for xtask itself must not reach the nightly that it calls.
    command.env_remove("CARGO_BUILD_TARGET");
    Ok(command)
}

/// Runs a command, to its success.
pub fn check(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("running {shown}"))?;
    if !status.success() {
        bail!("failed ({status}): {shown}");
    }
    Ok(())
}

/// Builds the release binary, with features if there are any, and returns where it is.
pub fn build_release(features: &[&str]) -> Result<PathBuf> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let binary = target.join("release/tcptrace");
    if !binary.exists() {
        eprintln!("building tcptrace: a minute or two the first time");
    }
    let mut command = cargo()?;
    command.args(["build", "--release", "--locked", "--quiet"]);
    command.args(["--package", "tcptrace", "--bin", "tcptrace"]);
    check(command.args(["--features", &features.join(",")]))?;
    Ok(binary)
}

/// Builds tcptrace and becomes it, as root. `--kernel-log` first: the kernel programs say on stderr
/// what they do on rare paths.
pub fn run(args: &[&str]) -> Result<()> {
    let (features, args): (&[&str], _) = match args {
        ["--kernel-log", rest @ ..] => (&["kernel-log"], rest),
        args => (&[], args),
    };
    let binary = build_release(features)?;
    let args = args.strip_prefix(&["--"]).unwrap_or(args);
    let mut command = as_root(&binary);
    let error = command.args(args).exec();
    bail!("{}: {error}", binary.display())
}

/// A command for a program, through sudo where we are not root.
pub fn as_root(program: &Path) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

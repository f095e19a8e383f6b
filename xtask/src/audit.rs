//! What others may change under us: dependencies, and the oldest Rust.

use anyhow::{Result, bail};

use crate::{
    cargo::{cargo, check},
    setup,
};

/// cargo-deny, then a check with the version that Cargo.toml promises.
pub fn run() -> Result<()> {
    setup::cargo_deny()?;
    let deny =
        |words: &[&str]| -> Result<()> { check(cargo()?.args(["deny", "--locked"]).args(words)) };
    deny(&["check", "bans", "licenses", "sources"])?;
    if deny(&["fetch", "db"]).is_ok() {
        deny(&["check", "--disable-fetch", "advisories"])?;
    } else if std::env::var_os("CI").is_some() {
        bail!("the advisory database could not be fetched");
    } else {
        eprintln!(
            "NOT CHECKED: advisories; their database (github.com/RustSec/advisory-db) can't be \
             reached from here"
        );
    }
    let oldest = concat!(env!("CARGO_PKG_RUST_VERSION"), ".0");
    setup::toolchain(oldest)?;
    let toolchain = format!("+{oldest}");
    check(cargo()?.args([
        &toolchain,
        "check",
        "--locked",
        "--all-targets",
        "--quiet",
        "--target-dir",
        "target/oldest",
    ]))
}

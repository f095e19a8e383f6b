//! The service where systemd runs: a Debian with the package, booted in QEMU.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use anyhow::{Result, bail};
use serde_json::Value;

use super::check::Bare;
use crate::{
    cargo::{check, root},
    setup, vm,
};

const KERNEL: &str = "6.12";
const SCRIPT: &str = include_str!("service.sh");
const UNIT: &str = "[Unit]\nAfter=tcptrace.service\n[Service]\nExecStart=/try\n[Install]\\
                    nWantedBy=multi-user.target\n";

/// It must start as its unit says, and name a leaking perl.
pub fn run(bare: &Bare, package: &Path) -> Result<()> {
    setup::packages(&[("cpio", "cpio", "cpio")])?;
    let dir = root().join("target/dist/booted");
    let init = dir.join("init");
    let machine = Bare(dir.clone());
    if !init.is_symlink() {
        let _ = fs::remove_dir_all(&dir);
        check(Command::new("cp").arg("--archive").arg(&bare.0).arg(&dir))?;
        machine.run("apt-get", &["update", "-qq"])?;
        machine
            .run("apt-get", &["install", "-qq", "-y", "--no-install-recommends", "systemd-sysv"])?;
        machine.run("apt-get", &["clean"])?;
        symlink("/lib/systemd/systemd", init)?;
    }
    fs::copy(package, dir.join("tcptrace.deb"))?;
    machine.run("dpkg", &["--install", "/tcptrace.deb"])?;
    machine.run("systemd-analyze", &["verify", "--man=no", "tcptrace.service"])?;
    fs::write(dir.join("try"), SCRIPT)?;
    fs::set_permissions(dir.join("try"), fs::Permissions::from_mode(0o755))?;
    fs::write(dir.join("etc/systemd/system/try.service"), UNIT)?;
    machine.run("systemctl", &["--quiet", "enable", "tcptrace", "try"])?;
    let (image, log) = (dir.with_extension("cpio"), dir.with_extension("log"));
    let pack =
        "find . -path ./var/lib/apt/lists -prune -o -print0 | cpio --quiet -0 -o -H newc > \"$0\"";
    check(Command::new("sh").current_dir(&dir).args(["-c", pack]).arg(&image))?;
    let lines = vm::boot(KERNEL, &image, &log)?;
    fs::remove_file(image)?;
    let events = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let named = |event: &Value| event["event"] == "stuck" && event["holders"][0]["comm"] == "perl";
    if !events.into_iter().any(|event| named(&event)) {
        bail!("the service did not name the leak; the machine's console is in {}", log.display());
    }
    Ok(())
}

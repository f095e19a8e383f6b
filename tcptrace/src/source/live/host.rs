//! What the host has mounted and built in. Each answer may be absent, with its reason.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::formats::mounts;

/// Where a file system of this type is mounted here, if it is.
///
/// # Errors
/// Why that can't be told.
pub fn mounted(fs_type: &str) -> Result<Option<PathBuf>, String> {
    let bytes =
        fs::read("/proc/self/mountinfo").map_err(|e| format!("/proc/self/mountinfo: {e}"))?;
    Ok(mounts::parse(&bytes).into_iter().find(|m| m.fs_type == fs_type).map(|m| m.at))
}

/// The file that shows the lockdown mode.
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// What it says; `None`: this kernel has no lockdown.
///
/// # Errors
/// Why that can't be told.
pub fn lockdown() -> Result<Option<String>, String> {
    match fs::read_to_string(LOCKDOWN) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => match mounted("securityfs")? {
            Some(_) => Ok(None),
            None => Err(format!("{LOCKDOWN}: securityfs is not mounted here")),
        },
        Err(e) => Err(format!("{LOCKDOWN}: {e}")),
    }
}

/// A number below `/proc/sys`.
///
/// # Errors
/// Why it can't be told.
pub fn sysctl(name: &str) -> Result<u32, String> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    text.trim().parse().map_err(|_| format!("{path}: no number"))
}

/// Whether MPTCP is switched on; `None`: the kernel was built without it.
///
/// # Errors
/// Why that can't be told.
pub fn mptcp() -> Result<Option<bool>, String> {
    match sysctl("net.mptcp.enabled") {
        Ok(enabled) => Ok(Some(enabled != 0)),
        // The neighbours are there, so nothing hides it.
        Err(_)
            if Path::new("/proc/sys/net/ipv4").exists()
                && !Path::new("/proc/sys/net/mptcp").exists() =>
        {
            Ok(None)
        }
        Err(why) => Err(why),
    }
}

//! What this host allows, asked before anything is loaded, so that a refusal is one clear line.

use std::{fs, io, path::Path};

use rustix::thread::{CapabilitySet, capabilities};

/// Where the kernel shows its BTF.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Why tracing can't start here. Each is one line with its remedy.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A capability is missing.
    #[error("{} needed to load kernel programs; run as root (sudo tcptrace …) or grant CAP_BPF and CAP_PERFMON", missing.join(" and "))]
    Capability {
        /// The missing ones.
        missing: Vec<&'static str>,
    },
    /// No BTF.
    #[error("{KERNEL_BTF}: {0}; tracing needs a kernel built with CONFIG_DEBUG_INFO_BTF")]
    NoBtf(io::Error),
    /// BTF without what we need.
    #[error("{KERNEL_BTF}: {0}; tracing needs Linux 5.12 or later")]
    Btf(#[from] super::btf::BtfError),
    /// The kernel is too old.
    #[error(
        "kernel {release} is too old; tracing needs Linux 5.12 or later (socket storage and cookies in tracing programs)"
    )]
    TooOld {
        /// Its release string.
        release: String,
    },
    /// The kernel said no.
    #[error("{what}: {detail}")]
    Kernel {
        /// What we asked of it.
        what: String,
        /// Its answer, in one line.
        detail: String,
    },
}

/// Checks rights and kernel.
///
/// # Errors
/// The first [`Refusal`] that applies.
pub fn check() -> Result<(), Refusal> {
    let missing = missing_capabilities(effective());
    if !missing.is_empty() {
        return Err(Refusal::Capability { missing });
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if too_old(&release) {
        return Err(Refusal::TooOld { release: release.trim().to_owned() });
    }
    if !Path::new(KERNEL_BTF).exists() {
        return Err(Refusal::NoBtf(io::Error::from(io::ErrorKind::NotFound)));
    }
    Ok(())
}

/// The effective capabilities of this thread; none where they can't be read.
#[must_use]
pub fn effective() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}

/// CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON (capabilities(7)). CAP_NET_ADMIN is not needed
/// to load what we load.
fn missing_capabilities(have: CapabilitySet) -> Vec<&'static str> {
    let admin = have.contains(CapabilitySet::SYS_ADMIN);
    [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::PERFMON, "CAP_PERFMON")]
        .into_iter()
        .filter(|(cap, _)| !admin && !have.contains(*cap))
        .map(|(_, name)| name)
        .collect()
}

/// Before 5.12 tracing programs have neither socket storage nor cookies.
fn too_old(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version != (0, 0) && version < (5, 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert!(too_old("5.10.0-33-amd64\n"));
        assert!(too_old("4.19"));
        assert!(!too_old("5.12.0"));
        assert!(!too_old("6.18.44-fc-v595"));
        assert!(!too_old("unreadable"), "when in doubt, let the kernel decide");
    }

    #[test]
    fn admin_stands_for_both() {
        assert_eq!(missing_capabilities(CapabilitySet::SYS_ADMIN), Vec::<&str>::new());
        assert_eq!(missing_capabilities(CapabilitySet::BPF), ["CAP_PERFMON"]);
        assert_eq!(missing_capabilities(CapabilitySet::empty()), ["CAP_BPF", "CAP_PERFMON"]);
    }
}

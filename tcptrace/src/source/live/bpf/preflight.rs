//! What this host allows, asked before anything is loaded, so that a refusal is one clear line.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::thread::{CapabilitySet, capabilities};

use crate::{
    formats::{btf, btf::BtfError},
    source::live::bpf::{probe, probe::Attempt, sys},
};

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
    /// The capabilities are those of a user namespace, and the kernel refuses `bpf()`.
    #[error(
        "the capabilities here count in a user namespace only, and loading kernel programs takes \
         the host's; run as the host's root"
    )]
    UserNamespace,
    /// A seccomp filter stands before `bpf()`.
    #[error(
        "a seccomp filter refuses bpf(); let it through (docker run --security-opt \
         seccomp=PROFILE, systemd SystemCallFilter=bpf)"
    )]
    Seccomp,
    /// No BTF.
    #[error(
        "{}: {error}; tracing needs this kernel's BTF: --btf PATH with a copy of it, or a kernel built with CONFIG_DEBUG_INFO_BTF", path.display()
    )]
    NoBtf {
        /// Where it was looked for.
        path: PathBuf,
        /// What reading it answered.
        error: io::Error,
    },
    /// BTF without what we need.
    #[error("{}: {error}; tracing needs {}", path.display(), better_than(path))]
    Btf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: BtfError,
    },
    /// BTF of another kernel, or of another build of this one.
    #[error("{}: not this kernel's BTF, which is {kernel} bytes long; give a copy of its /sys/kernel/btf/vmlinux", path.display())]
    OtherBtf {
        /// The file.
        path: PathBuf,
        /// Length of the kernel's own, bytes.
        kernel: u32,
    },
    /// The kernel is too old.
    #[error(
        "kernel {release} is too old; tracing needs Linux 5.12 or later (socket storage and \
         cookies in tracing programs)"
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

/// What would do in place of BTF that lacks something.
fn better_than(path: &Path) -> &'static str {
    if path == Path::new(KERNEL_BTF) {
        "Linux 5.12 or later"
    } else {
        "a copy of this kernel's own /sys/kernel/btf/vmlinux, and Linux 5.12 or later"
    }
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
    let release = release().unwrap_or_default();
    if too_old(&release) {
        return Err(Refusal::TooOld { release });
    }
    // Asking costs a process: only where the answer may be no.
    let filtered = probe::seccomp_mode().is_some_and(|mode| mode != 0);
    let contained = probe::in_initial_user_namespace() == Some(false);
    if filtered || contained {
        match (probe::map(), probe::beyond()) {
            (Ok(Attempt::Killed(_)), _) => return Err(Refusal::Seccomp),
            // The kernel itself gives the two different answers.
            (Ok(Attempt::Refused(one)), Ok(Attempt::Refused(other)))
                if filtered && !contained && one == other =>
            {
                return Err(Refusal::Seccomp);
            }
            (Ok(Attempt::Refused(libc::EPERM)), _) if contained => {
                return Err(Refusal::UserNamespace);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads BTF and finds in it what is needed.
///
/// # Errors
/// [`Refusal::NoBtf`], [`Refusal::Btf`].
pub fn read_btf(path: &Path) -> Result<btf::Needed, Refusal> {
    let bytes = fs::read(path).map_err(|error| Refusal::NoBtf { path: path.to_owned(), error })?;
    btf::needed(&bytes).map_err(|error| Refusal::Btf { path: path.to_owned(), error })
}

/// Whether a file is the running kernel's own BTF, as far as its length tells: type ids of another
/// would attach to something else. Who may not ask the kernel is believed. Calls `bpf()`.
///
/// # Errors
/// [`Refusal::OtherBtf`].
pub fn is_this_kernels(path: &Path) -> Result<(), Refusal> {
    let length = || fs::metadata(path).map(|meta| meta.len());
    match (path != Path::new(KERNEL_BTF)).then(|| (sys::kernel_btf_size(), length())) {
        Some((Ok(kernel), Ok(length))) if u64::from(kernel) != length => {
            Err(Refusal::OtherBtf { path: path.to_owned(), kernel })
        }
        _ => Ok(()),
    }
}

/// The kernel's release string; `None` where it does not show.
#[must_use]
pub fn release() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned())
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
#[must_use]
pub fn too_old(release: &str) -> bool {
    is_before(release, (5, 12))
}

/// Whether the kernel may run a program on a tracepoint while it runs already on that CPU, for an
/// interrupt. 6.1 and later do not, nor does an older one that has taken the change over. That
/// change gave all kinds of programs the function that counts what was not run, by which it shows
/// ("bpf: Prevent bpf program recursion for raw tracepoint probes").
#[must_use]
pub fn may_nest() -> bool {
    is_before(&release().unwrap_or_default(), (6, 1))
        && !fs::read_to_string("/proc/kallsyms").is_ok_and(|symbols| counts_misses(&symbols))
}

fn counts_misses(symbols: &str) -> bool {
    let name =
        |line: &str| line.split_ascii_whitespace().nth(2) == Some("bpf_prog_inc_misses_counter");
    symbols.lines().any(name)
}

/// Whether a kernel is older than a version. One whose version can't be read is not.
fn is_before(release: &str, than: (u32, u32)) -> bool {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version != (0, 0) && version < than
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
    fn who_keeps_programs_from_nesting() {
        assert!(is_before("5.15.0-130-generic", (6, 1)) && !is_before("6.1.0-13-amd64", (6, 1)));
        assert!(counts_misses("0000000000000000 T bpf_prog_inc_misses_counter\n"));
        assert!(!counts_misses("0000000000000000 t inc_misses_counter\n"), "trampolines' alone");
    }

    #[test]
    fn admin_stands_for_both() {
        assert_eq!(missing_capabilities(CapabilitySet::SYS_ADMIN), Vec::<&str>::new());
        assert_eq!(missing_capabilities(CapabilitySet::BPF), ["CAP_PERFMON"]);
        assert_eq!(missing_capabilities(CapabilitySet::empty()), ["CAP_BPF", "CAP_PERFMON"]);
    }

    #[test]
    fn what_is_no_btf_is_refused_with_its_path() {
        let line =
            |path: &str| read_btf(Path::new(path)).map(drop).expect_err("no BTF").to_string();
        assert!(line("/proc/self/status").starts_with("/proc/self/status: not BTF: "));
        assert!(
            line("/nowhere").starts_with("/nowhere: No such file")
                && line("/nowhere").contains("--btf")
        );
    }
}

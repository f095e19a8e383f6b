//! What a host offers, and what is lost without it: a finding for each thing that tcptrace uses or
//! that people take it to use.

pub mod call;

/// A thing that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// The kernel's version.
    Kernel,
    /// The machine's architecture.
    Architecture,
    /// The kernel's description of its types.
    Btf,
    /// The system call `bpf()`.
    BpfSyscall,
    /// Filters of system calls.
    Seccomp,
    /// CAP_BPF.
    CapBpf,
    /// CAP_PERFMON.
    CapPerfmon,
    /// CAP_SYS_ADMIN.
    CapSysAdmin,
    /// CAP_SYS_PTRACE.
    CapSysPtrace,
    /// CAP_DAC_READ_SEARCH.
    CapDacReadSearch,
    /// Kernel lockdown (kernel_lockdown(7)).
    Lockdown,
    /// `kernel.unprivileged_bpf_disabled`.
    UnprivilegedBpf,
    /// The tracing file system.
    Tracefs,
    /// The cgroup v2 mount.
    CgroupV2,
    /// The pid namespace.
    PidNamespace,
    /// Network namespaces.
    NetworkNamespaces,
    /// sock_diag(7).
    SockDiag,
    /// MPTCP.
    Mptcp,
    /// The two ways to close connections.
    Close,
    /// The programs of `watch`.
    WatchPrograms,
    /// The program of `snapshot` and `explain`.
    SnapshotProgram,
    /// The programs of `--origins`.
    OriginPrograms,
}

impl Item {
    /// Its name in all formats.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Architecture => "architecture",
            Self::Btf => "btf",
            Self::BpfSyscall => "bpf-syscall",
            Self::Seccomp => "seccomp",
            Self::CapBpf => "CAP_BPF",
            Self::CapPerfmon => "CAP_PERFMON",
            Self::CapSysAdmin => "CAP_SYS_ADMIN",
            Self::CapSysPtrace => "CAP_SYS_PTRACE",
            Self::CapDacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::Lockdown => "lockdown",
            Self::UnprivilegedBpf => "unprivileged-bpf",
            Self::Tracefs => "tracefs",
            Self::CgroupV2 => "cgroup-v2",
            Self::PidNamespace => "pid-namespace",
            Self::NetworkNamespaces => "network-namespaces",
            Self::SockDiag => "sock-diag",
            Self::Mptcp => "mptcp",
            Self::Close => "close",
            Self::WatchPrograms => "watch-programs",
            Self::SnapshotProgram => "snapshot-program",
            Self::OriginPrograms => "origin-programs",
        }
    }

    /// It is itself the trial of kernel programs.
    #[must_use]
    pub const fn is_trial(self) -> bool {
        matches!(self, Self::WatchPrograms | Self::SnapshotProgram | Self::OriginPrograms)
    }

    /// Without it watch does not start.
    #[must_use]
    pub const fn is_required(self) -> bool {
        matches!(
            self,
            Self::Kernel
                | Self::Btf
                | Self::BpfSyscall
                | Self::Seccomp
                | Self::CapBpf
                | Self::CapPerfmon
                | Self::Lockdown
                | Self::WatchPrograms
        )
    }
}

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The thing.
    pub item: Item,
    /// Whether it is as it should be; `None`: not known, and `found` says why.
    pub ok: Option<bool>,
    /// What is there. May quote names that others chose.
    pub found: String,
    /// What to do, where it is not as it should be.
    pub remedy: Remedy,
}

/// What to do about something. The words are in [`crate::prose`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// What helps against this thing's absence in general.
    Usual(Item),
    /// Root of another user namespace is not enough.
    HostUserNamespace,
    /// The file given is not this kernel's.
    OwnBtf,
    /// The file that tells is not mounted.
    MountSecurityfs,
    /// Root, or both rights that `bpf()` takes.
    BpfRights,
    /// A security module's denial.
    AuditLog,
    /// The kernel may have said why.
    KernelLog,
}

/// A finding in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// As it should be.
    Ok,
    /// watch goes on, and sees less.
    Limited,
    /// watch does not start.
    Missing,
    /// Could not be looked at.
    Unknown,
}

impl Mark {
    /// As output spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }
}

impl Finding {
    /// A finding with the item's own remedy.
    pub fn new(item: Item, ok: impl Into<Option<bool>>, found: impl Into<String>) -> Self {
        Self { item, ok: ok.into(), found: found.into(), remedy: Remedy::Usual(item) }
    }

    /// The same with a remedy for just this case.
    #[must_use]
    pub fn remedy(self, remedy: Remedy) -> Self {
        Self { remedy, ..self }
    }

    /// In a word.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        match self.ok {
            Some(true) => Mark::Ok,
            Some(false) if self.item.is_required() => Mark::Missing,
            Some(false) => Mark::Limited,
            None => Mark::Unknown,
        }
    }
}

/// What works here in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offers {
    /// `watch` would start: its programs did.
    pub watch: bool,
    /// Why not, in the line that `watch` would say.
    pub why: Option<String>,
    /// `snapshot` sees sockets.
    pub snapshot: bool,
    /// `explain` sees sockets.
    pub explain: bool,
    /// How many findings there are of each kind.
    pub counts: [(Mark, u64); 4],
}

impl Offers {
    /// From all findings. That the programs were loaded counts, not what speaks for it.
    #[must_use]
    pub fn of(findings: &[Finding]) -> Self {
        let find = |item| findings.iter().find(|f| f.item == item);
        let works = |item| find(item).is_some_and(|f| f.ok == Some(true));
        let (watch, look) = (works(Item::WatchPrograms), works(Item::SockDiag));
        let why = find(Item::WatchPrograms).filter(|_| !watch).map(|f| f.found.clone());
        let counts = [Mark::Ok, Mark::Limited, Mark::Missing, Mark::Unknown]
            .map(|mark| (mark, findings.iter().filter(|f| f.mark() == mark).count() as u64));
        Self { watch, why, snapshot: look, explain: look, counts }
    }
}

/// The mode that `/sys/kernel/security/lockdown` marks: `none [integrity] confidentiality`.
#[must_use]
pub fn lockdown_mode(text: &str) -> Option<&str> {
    text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

/// Kernel lockdown, from what its file says.
#[must_use]
pub fn lockdown(text: &str) -> Finding {
    match lockdown_mode(text) {
        Some(mode @ ("none" | "integrity")) => Finding::new(Item::Lockdown, true, mode),
        Some(mode @ "confidentiality") => Finding::new(Item::Lockdown, false, mode),
        _ => Finding::new(
            Item::Lockdown,
            None,
            format!("a mode that this version does not know: {}", text.trim()),
        ),
    }
}

/// `kernel.unprivileged_bpf_disabled`, in words.
#[must_use]
pub fn unprivileged_bpf(value: u32) -> Finding {
    let says = match value {
        0 => "0: some kinds of programs without any right, none of them ours",
        1 => "1: only with CAP_BPF, until the next boot",
        2 => "2: only with CAP_BPF, until changed",
        _ => {
            return Finding::new(
                Item::UnprivilegedBpf,
                None,
                format!("{value}: not a value that this version knows"),
            );
        }
    };
    Finding::new(Item::UnprivilegedBpf, true, says)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_not_missing() {
        assert_eq!(unprivileged_bpf(7).mark(), Mark::Unknown);
        assert_eq!(lockdown("").mark(), Mark::Unknown);
        assert_eq!(lockdown("none integrity").mark(), Mark::Unknown);
    }

    #[test]
    fn lockdown_modes() {
        assert_eq!(lockdown("[none] integrity confidentiality\n").mark(), Mark::Ok);
        assert_eq!(lockdown("none [integrity] confidentiality\n").found, "integrity");
        assert_eq!(lockdown("none integrity [confidentiality]\n").mark(), Mark::Missing);
    }

    #[test]
    fn the_trial_decides() {
        let finding = |item, ok| Finding::new(item, Some(ok), "why");
        let (trial, diag) = (Item::WatchPrograms, Item::SockDiag);
        let all = [finding(trial, true), finding(diag, true), finding(Item::CgroupV2, false)];
        let offers = Offers::of(&all);
        assert!(offers.watch && offers.snapshot && offers.explain && offers.why.is_none());
        assert_eq!(offers.counts.map(|(_, n)| n), [2, 1, 0, 0]);
        let offers = Offers::of(&[
            finding(trial, false),
            finding(Item::CapBpf, false),
            finding(diag, false),
        ]);
        assert_eq!(
            (offers.watch, offers.why.as_deref(), offers.snapshot),
            (false, Some("why"), false)
        );
        assert_eq!(offers.counts.map(|(_, n)| n), [0, 1, 2, 0]);
        assert!(!Offers::of(&[]).watch, "nothing tried is nothing shown");
    }
}

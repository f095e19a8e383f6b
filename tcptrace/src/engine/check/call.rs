//! Who refused `bpf()`: told apart as far as it can be.

use std::io;

use crate::engine::check::{Finding, Item, Remedy};

/// What came of calling `bpf()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// It did what was asked.
    Done,
    /// It answered with this error number.
    Refused(i32),
    /// The caller was killed for it by this signal.
    Killed(i32),
}

/// What tells the reasons apart for which `bpf()` is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BpfFacts {
    /// A small array map was asked for; `None`: could not be tried.
    pub map: Option<Called>,
    /// The same with an attribute beyond all bounds, which the kernel itself refuses with E2BIG,
    /// before security modules are asked and, given CAP_BPF, before any right.
    pub beyond: Option<Called>,
    /// CAP_BPF, or CAP_SYS_ADMIN for it, counts here.
    pub capable: bool,
    /// Capabilities here are those of a user namespace below the host's.
    pub contained: bool,
    /// The seccomp mode (`/proc/PID/status`): 0 none, 1 strict, 2 filter.
    pub seccomp: Option<u32>,
    /// `kernel.unprivileged_bpf_disabled`: there wherever the kernel has `bpf()`.
    pub unprivileged_disabled: Option<u32>,
}

/// The seccomp mode with a filter (uapi/linux/seccomp.h).
const FILTER: u32 = 2;
const EPERM: i32 = 1;
const E2BIG: i32 = 7;
const ENOSYS: i32 = 38;

/// Who refused `bpf()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuser {
    /// A seccomp filter.
    Seccomp,
    /// The kernel, for want of CAP_BPF.
    Rights,
    /// A seccomp filter, or the kernel for want of CAP_BPF.
    SeccompOrRights,
    /// A security module: SELinux, AppArmor, a BPF LSM.
    SecurityModule,
    /// There is no such call.
    NoSuchCall,
    /// Something else.
    Other,
}

impl BpfFacts {
    /// Who refused, where the call was refused.
    #[must_use]
    pub fn refuser(&self) -> Option<Refuser> {
        let filtered = self.seccomp == Some(FILTER);
        match self.map? {
            Called::Done => None,
            Called::Killed(_) => Some(Refuser::Seccomp),
            // The kernel has the call, so it was not the kernel that said it has not.
            Called::Refused(ENOSYS) if filtered && self.unprivileged_disabled.is_some() => {
                Some(Refuser::Seccomp)
            }
            Called::Refused(ENOSYS) => Some(Refuser::NoSuchCall),
            Called::Refused(EPERM) => Some(match (self.beyond, self.capable) {
                (Some(Called::Refused(E2BIG)), true) => Refuser::SecurityModule,
                (Some(Called::Refused(E2BIG)), false) => Refuser::Rights,
                (_, true) if filtered => Refuser::Seccomp,
                (_, false) if filtered => Refuser::SeccompOrRights,
                (_, false) => Refuser::Rights,
                (_, true) => Refuser::SecurityModule,
            }),
            // A filter may answer with any error; the kernel answers both calls differently.
            Called::Refused(errno)
                if filtered && self.beyond == Some(Called::Refused(errno)) && self.capable =>
            {
                Some(Refuser::Seccomp)
            }
            Called::Refused(_) => Some(Refuser::Other),
        }
    }

    /// The call itself.
    #[must_use]
    pub fn syscall(&self) -> Finding {
        let answer = match self.map {
            None => {
                return Finding::new(
                    Item::BpfSyscall,
                    None,
                    "could not be tried: no process to try it in",
                );
            }
            Some(Called::Done) => {
                return Finding::new(Item::BpfSyscall, true, "allowed: a small map could be made");
            }
            Some(Called::Killed(signal)) => format!("the caller is killed by signal {signal}"),
            Some(Called::Refused(errno)) => io::Error::from_raw_os_error(errno).to_string(),
        };
        let disabled =
            self.unprivileged_disabled.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        let (by, remedy) = match self.refuser() {
            Some(Refuser::Seccomp) => {
                ("by a seccomp filter".to_owned(), Remedy::Usual(Item::Seccomp))
            }
            Some(Refuser::Rights) if self.contained => (
                "in a user namespace, whose CAP_BPF does not count".to_owned(),
                Remedy::HostUserNamespace,
            ),
            Some(Refuser::Rights) => (
                format!("without CAP_BPF, with kernel.unprivileged_bpf_disabled {disabled}"),
                Remedy::BpfRights,
            ),
            Some(Refuser::SeccompOrRights) => (
                "by a seccomp filter, or without CAP_BPF by the kernel: both would say so"
                    .to_owned(),
                Remedy::BpfRights,
            ),
            Some(Refuser::SecurityModule) => (
                "by a security module (SELinux, AppArmor, a BPF LSM): the rights are there, and \
                 no filter"
                    .to_owned(),
                Remedy::AuditLog,
            ),
            Some(Refuser::NoSuchCall) => {
                ("the kernel has no bpf()".to_owned(), Remedy::Usual(Item::BpfSyscall))
            }
            Some(Refuser::Other) | None => {
                ("for a reason of its own".to_owned(), Remedy::KernelLog)
            }
        };
        Finding::new(Item::BpfSyscall, false, format!("refused {by}: {answer}")).remedy(remedy)
    }

    /// Filters of system calls.
    #[must_use]
    pub fn filter(&self) -> Finding {
        let finding = |ok: Option<bool>, found: &str| Finding::new(Item::Seccomp, ok, found);
        match (self.seccomp, self.refuser()) {
            (None, _) => finding(None, "/proc/self/status does not say"),
            (Some(0), _) => finding(Some(true), "no filter"),
            (Some(_), Some(Refuser::Seccomp)) => {
                finding(Some(false), "a filter that refuses bpf()")
            }
            (Some(_), Some(Refuser::SeccompOrRights)) => finding(
                None,
                "a filter; without CAP_BPF it can't be told whether it lets bpf() through",
            ),
            (Some(_), _) if self.map.is_none() => {
                finding(None, "a filter; bpf() could not be tried")
            }
            (Some(_), _) => finding(Some(true), "a filter that lets bpf() through"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::check::Mark;

    const FINE: BpfFacts = BpfFacts {
        map: Some(Called::Done),
        beyond: Some(Called::Refused(E2BIG)),
        capable: true,
        contained: false,
        seccomp: Some(0),
        unprivileged_disabled: Some(2),
    };

    #[test]
    fn who_refused_bpf() {
        let no = Some(Called::Refused(EPERM));
        let filtered = BpfFacts { map: no, beyond: no, seccomp: Some(2), ..FINE };
        let cases = [
            (FINE, None),
            (BpfFacts { map: None, ..FINE }, None),
            (BpfFacts { seccomp: Some(2), ..FINE }, None),
            (filtered, Some(Refuser::Seccomp)),
            (BpfFacts { capable: false, ..filtered }, Some(Refuser::SeccompOrRights)),
            (BpfFacts { beyond: FINE.beyond, ..filtered }, Some(Refuser::SecurityModule)),
            (BpfFacts { beyond: FINE.beyond, capable: false, ..filtered }, Some(Refuser::Rights)),
            (BpfFacts { seccomp: Some(0), capable: false, ..filtered }, Some(Refuser::Rights)),
            (BpfFacts { seccomp: Some(0), ..filtered }, Some(Refuser::SecurityModule)),
            (BpfFacts { map: Some(Called::Killed(31)), ..filtered }, Some(Refuser::Seccomp)),
            (BpfFacts { map: Some(Called::Refused(ENOSYS)), ..filtered }, Some(Refuser::Seccomp)),
            (BpfFacts { map: Some(Called::Refused(ENOSYS)), ..FINE }, Some(Refuser::NoSuchCall)),
            (
                BpfFacts {
                    map: Some(Called::Refused(ENOSYS)),
                    unprivileged_disabled: None,
                    ..filtered
                },
                Some(Refuser::NoSuchCall),
            ),
            (
                BpfFacts {
                    map: Some(Called::Refused(13)),
                    beyond: Some(Called::Refused(13)),
                    ..filtered
                },
                Some(Refuser::Seccomp),
            ),
            (BpfFacts { map: Some(Called::Refused(12)), ..FINE }, Some(Refuser::Other)),
        ];
        for (facts, refuser) in cases {
            assert_eq!(facts.refuser(), refuser, "{facts:?}");
            assert_eq!(facts.syscall().ok == Some(false), refuser.is_some(), "{facts:?}");
            assert_eq!(
                facts.filter().ok == Some(false),
                refuser == Some(Refuser::Seccomp),
                "{facts:?}"
            );
        }
    }

    #[test]
    fn who_is_contained_is_not_told_to_ask_for_a_capability() {
        let no = Some(Called::Refused(EPERM));
        let finding = BpfFacts { map: no, capable: false, contained: true, ..FINE }.syscall();
        assert!(
            finding.found.contains("user namespace") && finding.remedy == Remedy::HostUserNamespace,
            "{finding:?}"
        );
    }

    #[test]
    fn unknown_is_not_missing() {
        assert_eq!(BpfFacts { map: None, ..FINE }.syscall().mark(), Mark::Unknown);
        assert_eq!(BpfFacts { seccomp: None, ..FINE }.filter().mark(), Mark::Unknown);
    }
}

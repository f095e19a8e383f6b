//! What filters of system calls are made of.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction,
    SeccompCmpArgLen::{Dword, Qword},
    SeccompCmpOp::{self, Eq, MaskedEq},
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// Calls and the arguments that they are for; no rule: any arguments.
pub(super) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// What every thread makes: read and write what is open, wait, remember, tell the time, end.
pub(super) const EVERYBODY: &[i64] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The same by their older names, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
pub(super) const EVERYBODY_HERE: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const EVERYBODY_HERE: &[i64] = &[];

/// Those, and `more` calls, whatever their arguments.
pub(super) fn calls<'a>(more: impl IntoIterator<Item = &'a i64>) -> Result<Rules, BackendError> {
    let all = EVERYBODY.iter().chain(EVERYBODY_HERE).chain(more);
    let mut rules: Rules = all.map(|call| (*call, Vec::new())).collect();
    // No memory that can be run is made.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![argument(2, MaskedEq(libc::PROT_EXEC as u64), 0)?]);
    }
    // abort() signals itself, nobody else.
    rules.insert(libc::SYS_tgkill, vec![first(u64::from(std::process::id()))?]);
    Ok(rules)
}

/// send() on a socket that is connected: without an address.
pub(super) fn sends() -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(4, Qword, Eq, 0)?])
}

pub(super) fn program(
    rules: Rules,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    // Calls by the numbers of another architecture are fatal in any case.
    let here = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, otherwise, listed, here)?.try_into()
}

/// Flags of open() in this argument that neither make, nor empty, nor write. (musl's O_ACCMODE
/// holds O_PATH too, which does nothing of the kind.)
pub(super) fn reading(index: u8) -> Result<SeccompRule, BackendError> {
    argument(
        index,
        MaskedEq((libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u64),
        0,
    )
}

pub(super) fn first(value: u64) -> Result<SeccompRule, BackendError> {
    argument(0, Eq, value)
}

pub(super) fn second(value: u64) -> Result<SeccompRule, BackendError> {
    argument(1, Eq, value)
}

/// A rule about the lower half of one argument: the kernel takes these for `int`s, or has no bits
/// above.
pub(super) fn argument(
    index: u8,
    op: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(index, Dword, op, value)?])
}

//! The system calls of the thread that answers requests.

use seccompiler::{Error, SeccompAction, SeccompCmpOp::MaskedEq, apply_filter};

use super::{
    rules::{Rules, argument, argument_wide, first, program, second},
    seccomp::REFUSAL,
};

/// From here on this thread makes only the calls of one that answers requests: it opens no file,
/// and knows no socket but those that come in. To be called after
/// [`super::seccomp::confine`]. There is no way
/// back.
///
/// # Errors
/// What the kernel answers.
pub fn confine() -> Result<(), Error> {
    let mut rules: Rules = HTTP.iter().chain(HTTP_HERE).map(|call| (*call, Vec::new())).collect();
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![argument(2, MaskedEq(libc::PROT_EXEC as u64), 0)?]);
    }
    rules.insert(libc::SYS_sendto, vec![argument_wide(4, 0)?]);
    rules.insert(libc::SYS_fcntl, vec![second(libc::F_GETFD as u64)?]);
    rules.insert(libc::SYS_tgkill, vec![first(u64::from(std::process::id()))?]);
    apply_filter(&program(rules, REFUSAL, SeccompAction::Allow)?)
}

/// Accept, read, write, wait, and remember.
const HTTP: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_shutdown,
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
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigaction,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The same by their older names.
#[cfg(target_arch = "x86_64")]
const HTTP_HERE: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const HTTP_HERE: &[i64] = &[];

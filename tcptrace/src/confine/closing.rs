//! The system calls of the process that closes connections for a watch: it has the rights that the
//! watch gave up, and takes its orders from it.

use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpOp::Eq, apply_filter_all_threads,
};

use super::{
    rules::{Rules, argument, calls, program, reading},
    seccomp::{FATAL, LOOKS, LOOKS_HERE, REFUSAL, TCGETS, TIOCGWINSZ},
};

/// Besides what a watch makes: into a network namespace, on a thread for that; a copy of a
/// descriptor, what it is, and its end; questions to sock_diag.
const CLOSES: &[i64] = &[
    libc::SYS_setns,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_prctl,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_connect,
    libc::SYS_sendto,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getpeername,
    libc::SYS_shutdown,
    libc::SYS_getuid,
    libc::SYS_fcntl,
];

/// From here on this process, all threads of it, makes only the calls that closing takes. There is
/// no way back.
///
/// # Errors
/// What the kernel answers; one built without CONFIG_SECCOMP_FILTER has no such thing.
pub fn confine() -> Result<(), Error> {
    apply_filter_all_threads(&fatal()?)?;
    apply_filter_all_threads(&allowed()?)
}

fn fatal() -> Result<BpfProgram, BackendError> {
    let fatal = FATAL.iter().chain([&libc::SYS_bpf]).filter(|call| !CLOSES.contains(call));
    let rules: Rules = fatal.map(|call| (*call, Vec::new())).collect();
    program(rules, SeccompAction::Allow, SeccompAction::KillProcess)
}

fn allowed() -> Result<BpfProgram, BackendError> {
    let mut rules = calls(LOOKS.iter().chain(LOOKS_HERE).chain(CLOSES))?;
    rules.insert(libc::SYS_openat, vec![reading(2)?]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, vec![reading(1)?]);
    // sock_diag's, and TCP's to try a right on.
    let families = [libc::AF_NETLINK, libc::AF_INET].map(|family| argument(0, Eq, family as u64));
    rules.insert(libc::SYS_socket, families.into_iter().collect::<Result<_, _>>()?);
    // Whether a terminal is written to.
    rules.insert(libc::SYS_ioctl, vec![argument(1, Eq, TCGETS)?, argument(1, Eq, TIOCGWINSZ)?]);
    program(rules, REFUSAL, SeccompAction::Allow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::live::bpf::probe::{Attempt, in_a_child};

    /// What comes of a call with these arguments under the filters.
    fn confined(number: libc::c_long, arguments: [i64; 3]) -> Attempt {
        let filters = [fatal(), allowed()].map(|filter| filter.expect("compiles"));
        let call = || match filters.iter().try_for_each(|f| apply_filter_all_threads(f)) {
            // SAFETY: of a child process that then ends; descriptors and pointers are bad ones.
            Ok(()) => unsafe {
                libc::syscall(number, arguments[0], arguments[1], arguments[2], 0, 0, 0)
            },
            Err(_) => -1,
        };
        in_a_child(call).expect("a child")
    }

    #[test]
    fn it_closes_and_does_nothing_else() {
        if confined(libc::SYS_getpid, [0; 3]) != Attempt::Done {
            return crate::skipped("this kernel lets no filter in");
        }
        for (number, arguments) in [
            (libc::SYS_setns, [-1, i64::from(libc::CLONE_NEWNET), 0]),
            (libc::SYS_pidfd_getfd, [-1, 0, 0]),
            (libc::SYS_shutdown, [-1, 2, 0]),
        ] {
            let answer = confined(number, arguments);
            assert_eq!(answer, Attempt::Refused(libc::EBADF), "{number}: the kernel's own answer");
        }
        let refused = match REFUSAL {
            SeccompAction::KillProcess => Attempt::Killed(libc::SIGSYS),
            _ => Attempt::Refused(libc::EPERM),
        };
        let path = c"/nonexistent/x".as_ptr() as i64;
        let raw = i64::from(libc::SOCK_RAW);
        for (number, arguments) in [
            (libc::SYS_openat, [-1, path, i64::from(libc::O_WRONLY | libc::O_CREAT)]),
            (libc::SYS_socket, [i64::from(libc::AF_PACKET), raw, 0]),
            (libc::SYS_socket, [i64::from(libc::AF_UNIX), raw, 0]),
            (libc::SYS_kill, [1 << 30, 0, 0]),
            (libc::SYS_bind, [-1, 0, 0]),
            (libc::SYS_sendmsg, [-1, 0, 0]),
        ] {
            assert_eq!(confined(number, arguments), refused, "{number}");
        }
        for number in [libc::SYS_execve, libc::SYS_ptrace, libc::SYS_mount, libc::SYS_bpf] {
            assert_eq!(confined(number, [-1; 3]), Attempt::Killed(libc::SIGSYS), "{number}");
        }
    }
}

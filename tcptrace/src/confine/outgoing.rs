//! The system calls of a thread that sends to a collector, or asks the kubelet: connections that go
//! out, and what resolving a name takes.

use seccompiler::{BackendError, Error, SeccompAction, SeccompCmpOp::Eq, apply_filter};

use super::{
    rules::{Rules, argument, calls, program, reading, second},
    seccomp::{FIONBIO, LOOKS, LOOKS_HERE, REFUSAL, TCGETS, TIOCGWINSZ},
};

/// Of sockets that go out. `bind` and the plural forms are the C library's, for its questions to
/// name servers.
const OUTGOING: &[i64] = &[
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmsg,
    libc::SYS_uname,
];

/// TCP, and UDP to name servers.
#[cfg(not(target_env = "gnu"))]
const FAMILIES: &[i32] = &[libc::AF_INET, libc::AF_INET6];
/// glibc asks, too, which addresses there are, and its own daemons for names.
#[cfg(target_env = "gnu")]
const FAMILIES: &[i32] = &[libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_UNIX];

/// How many bytes wait (asm-generic/ioctls.h).
const FIONREAD: u64 = 0x541b;

/// Adds what connections that go out take.
pub(super) fn add(rules: &mut Rules) -> Result<(), BackendError> {
    rules.extend(OUTGOING.iter().map(|call| (*call, Vec::new())));
    let families = FAMILIES.iter().map(|family| argument(0, Eq, family.unsigned_abs().into()));
    rules.insert(libc::SYS_socket, families.collect::<Result<_, _>>()?);
    for (call, values) in [
        (libc::SYS_ioctl, &[FIONREAD, FIONBIO][..]),
        (libc::SYS_fcntl, &[libc::F_GETFL as u64, libc::F_SETFL as u64]),
    ] {
        let more = values.iter().map(|value| second(*value)).collect::<Result<Vec<_>, _>>()?;
        rules.entry(call).or_default().extend(more);
    }
    Ok(())
}

/// From here on this thread makes only the calls of one that asks others: it accepts nobody, and
/// opens files to read only, as names are resolved by `/etc/hosts` and `/etc/resolv.conf`, and
/// tokens read. To be called after [`super::seccomp::confine`] with
/// [`super::seccomp::Profile::Outgoing`]. There is no way back.
///
/// # Errors
/// What the kernel answers.
pub fn confine() -> Result<(), Error> {
    let mut rules = calls(LOOKS.iter().chain(LOOKS_HERE))?;
    add(&mut rules)?;
    rules.insert(libc::SYS_openat, vec![reading(2)?]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, vec![reading(1)?]);
    // musl marks what it opened a second time; debug builds ask whether what they close is open.
    let marks = [libc::F_GETFD, libc::F_SETFD].map(|command| second(command as u64));
    let marks = marks.into_iter().collect::<Result<Vec<_>, _>>()?;
    rules.entry(libc::SYS_fcntl).or_default().extend(marks);
    // Whether stderr, which it says things on, is a terminal, as glibc asks that and as musl does.
    rules.entry(libc::SYS_ioctl).or_default().extend([second(TCGETS)?, second(TIOCGWINSZ)?]);
    apply_filter(&program(rules, REFUSAL, SeccompAction::Allow)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::live::bpf::probe::{Attempt, in_a_child};

    /// What comes of a call with these arguments under the filter.
    fn confined(number: libc::c_long, arguments: [i64; 3]) -> Attempt {
        let call = || match confine() {
            // SAFETY: of a child process that then ends; descriptors and pointers are bad ones.
            Ok(()) => unsafe {
                libc::syscall(number, arguments[0], arguments[1], arguments[2], 0, 0, 0)
            },
            Err(_) => -1,
        };
        in_a_child(call).expect("a child")
    }

    #[test]
    fn it_asks_others_and_does_nothing_else() {
        if confined(libc::SYS_gettid, [0; 3]) != Attempt::Done {
            return crate::skipped("this kernel lets no filter in");
        }
        let path = c"/nonexistent/x".as_ptr() as i64;
        for (number, arguments, error) in [
            (libc::SYS_connect, [-1, 0, 0], libc::EBADF),
            (libc::SYS_ioctl, [-1, TCGETS as i64, 0], libc::EBADF),
            (libc::SYS_ioctl, [-1, TIOCGWINSZ as i64, 0], libc::EBADF),
            (libc::SYS_setsockopt, [-1, 0, 0], libc::EBADF),
            (libc::SYS_sendto, [-1, 0, 0], libc::EBADF),
            (libc::SYS_openat, [-1, path, i64::from(libc::O_RDONLY)], libc::ENOENT),
        ] {
            let answer = confined(number, arguments);
            assert_eq!(answer, Attempt::Refused(error), "{number}: the kernel's own answer");
        }
        for family in FAMILIES {
            let made = confined(libc::SYS_socket, [i64::from(*family), libc::SOCK_DGRAM.into(), 0]);
            assert_eq!(made, Attempt::Done, "{family}");
        }
        let refused = match REFUSAL {
            SeccompAction::KillProcess => Attempt::Killed(libc::SIGSYS),
            _ => Attempt::Refused(libc::EPERM),
        };
        for (number, arguments) in [
            (libc::SYS_openat, [-1, path, i64::from(libc::O_WRONLY | libc::O_CREAT)]),
            (libc::SYS_socket, [i64::from(libc::AF_PACKET), i64::from(libc::SOCK_RAW), 0]),
            (libc::SYS_listen, [-1, 1, 0]),
            (libc::SYS_accept4, [-1, 0, 0]),
            (libc::SYS_kill, [1 << 30, 0, 0]),
            (libc::SYS_bpf, [0, 0, 0]),
            (libc::SYS_setns, [-1, 0, 0]),
            (libc::SYS_execve, [path, 0, 0]),
        ] {
            assert_eq!(confined(number, arguments), refused, "{number}");
        }
    }
}

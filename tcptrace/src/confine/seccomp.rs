//! The system calls that a running watch may make (seccomp(2)). It runs for weeks, keeps a few
//! capabilities, and reads what others chose.

use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpOp::Eq, apply_filter_all_threads,
};

use super::rules::{Rules, argument, calls, first, program, reading, second, sends};

/// What is not listed fails, so that a call nobody thought of costs a detail and not the watch.
/// With debug assertions it ends the watch: so tests find it.
pub(super) const REFUSAL: SeccompAction = if cfg!(debug_assertions) {
    SeccompAction::KillProcess
} else {
    SeccompAction::Errno(libc::EPERM as u32)
};

/// Look at files and directories.
pub(super) const LOOKS: &[i64] = &[
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_getdents64,
];

/// The same by their older names, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
pub(super) const LOOKS_HERE: &[i64] =
    &[libc::SYS_stat, libc::SYS_lstat, libc::SYS_readlink, libc::SYS_access];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const LOOKS_HERE: &[i64] = &[];

/// No defect of ours makes one of these: whoever does, has taken over.
pub(super) const FATAL: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
];

/// Commands of `bpf()` (uapi/linux/bpf.h).
const BPF_MAP_LOOKUP_ELEM: u64 = 1;
const BPF_MAP_UPDATE_ELEM: u64 = 2;
const BPF_PROG_LOAD: u64 = 5;
const BPF_RAW_TRACEPOINT_OPEN: u64 = 17;
const BPF_ITER_CREATE: u64 = 33;

/// Requests of ioctl(), which C libraries type differently (asm-generic/ioctls.h).
pub(super) const TCGETS: u64 = 0x5401;
pub(super) const TIOCGWINSZ: u64 = 0x5413;
pub(super) const FIONBIO: u64 = 0x5421;

/// Setting a terminal's modes: at once, after what was written, and with what was typed thrown away
/// (asm-generic/ioctls.h). The newer ones carry the size of their structure (44 bytes).
const TERMINAL: [u64; 5] = [0x5402, 0x5403, 0x5404, TCGETS2, TCSETS2];
const TCGETS2: u64 = 0x802c_542a;
const TCSETS2: u64 = 0x402c_542b;

/// Whose calls are let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Of a watch that writes lines.
    Watch,
    /// Of one that also writes into a file.
    Record {
        /// The descriptor of the directory that more files are made in, if any are.
        directory: Option<i32>,
    },
    /// Of one that has started a command: it waits for it and sends signals on to it.
    Run {
        /// Its pid.
        command: u32,
    },
    /// Of one that draws on a terminal, too, and leaves it as it was.
    Screen,
    /// Of one that answers requests, too, on a socket that listens already.
    Serve,
    /// Of one that also sends to a collector, or asks the kubelet. A thread each does; but filters
    /// are only ever added, so what it may, all may that take no stricter one.
    Outgoing,
}

/// From here on this process, all threads of it, makes only the calls of a running watch: all has
/// been loaded, every namespace entered. There is no way back.
///
/// # Errors
/// What the kernel answers; one built without CONFIG_SECCOMP_FILTER has no such thing.
pub fn confine(profile: Profile) -> Result<(), Error> {
    // Both are asked for each call, and the stricter answer counts.
    apply_filter_all_threads(&fatal()?)?;
    apply_filter_all_threads(&allowed(profile, REFUSAL)?)
}

fn fatal() -> Result<BpfProgram, BackendError> {
    let mut rules: Rules = FATAL.iter().map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_bpf, vec![first(BPF_PROG_LOAD)?]);
    program(rules, SeccompAction::Allow, SeccompAction::KillProcess)
}

fn allowed(profile: Profile, refusal: SeccompAction) -> Result<BpfProgram, BackendError> {
    let mut rules = calls(LOOKS.iter().chain(LOOKS_HERE))?;
    let commands =
        [BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_ITER_CREATE, BPF_RAW_TRACEPOINT_OPEN];
    rules.insert(libc::SYS_bpf, commands.into_iter().map(first).collect::<Result<_, _>>()?);
    rules.insert(libc::SYS_openat, vec![reading(2)?]);
    if let Profile::Run { command } = profile {
        rules.insert(libc::SYS_wait4, Vec::new());
        rules.insert(libc::SYS_kill, vec![first(u64::from(command))?]);
    }
    if matches!(profile, Profile::Serve | Profile::Outgoing) {
        rules.insert(libc::SYS_accept4, Vec::new());
        rules.insert(libc::SYS_shutdown, Vec::new());
        // For the filters of the threads that answer and ask: filters are only ever added.
        let no_more = [libc::PR_SET_NO_NEW_PRIVS, libc::PR_SET_SECCOMP].map(|n| n as u64);
        rules.insert(libc::SYS_prctl, no_more.into_iter().map(first).collect::<Result<_, _>>()?);
        rules.insert(libc::SYS_seccomp, vec![first(libc::SECCOMP_SET_MODE_FILTER.into())?]);
    }
    if matches!(profile, Profile::Record { .. } | Profile::Run { .. }) {
        rules.insert(libc::SYS_fdatasync, Vec::new());
        rules.insert(libc::SYS_ftruncate, Vec::new());
        if let Profile::Record { directory: Some(directory) } = profile {
            // Paths that begin with a slash are out of it, but not out of what is written here.
            let there = || argument(0, Eq, u64::from(directory.unsigned_abs()));
            rules.entry(libc::SYS_openat).or_default().push(there()?);
            rules.insert(libc::SYS_unlinkat, vec![there()?]);
        }
    }
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, vec![reading(1)?]);
    let terminal: &[u64] = if profile == Profile::Screen { &TERMINAL } else { &[] };
    let requests = [TCGETS, TIOCGWINSZ, FIONBIO].iter().chain(terminal).copied();
    rules.insert(libc::SYS_ioctl, requests.map(second).collect::<Result<_, _>>()?);
    // musl marks what it opened a second time.
    let commands = [libc::F_GETFD as u64, libc::F_SETFD as u64, libc::F_GETFL as u64];
    rules.insert(libc::SYS_fcntl, commands.into_iter().map(second).collect::<Result<_, _>>()?);
    // The runtime's own socket pair wakes it after a signal: connected, so without an address.
    rules.insert(libc::SYS_sendto, vec![sends()?]);
    if profile == Profile::Outgoing {
        super::outgoing::add(&mut rules)?;
    }
    program(rules, refusal, SeccompAction::Allow)
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::{
        super::rules::{EVERYBODY, EVERYBODY_HERE},
        *,
    };
    use crate::source::live::bpf::probe::{Attempt, in_a_child};

    /// A call by its number and arguments.
    type Call = (i64, [i64; 6]);

    const EPERM: Attempt = Attempt::Refused(libc::EPERM);
    const KILLED: Attempt = Attempt::Killed(libc::SIGSYS);

    const NOWHERE: &CStr = c"/nonexistent/nonexistent";

    fn make((number, [a, b, c, d, e, f]): Call) -> libc::c_long {
        // SAFETY: what it does, it does to a child process that then ends; pointers are bad ones,
        // or to what lives until then.
        unsafe { libc::syscall(number, a, b, c, d, e, f) }
    }

    /// With the rest of the arguments 0.
    fn call<const N: usize>(number: libc::c_long, arguments: [i64; N]) -> Call {
        (number, std::array::from_fn(|n| arguments.get(n).copied().unwrap_or(0)))
    }

    /// What comes of a call here, and under the filters of a release build.
    fn free_and_confined(call: impl Fn() -> libc::c_long) -> (Attempt, Attempt) {
        free_and_confined_as(Profile::Watch, call)
    }

    fn free_and_confined_as(
        profile: Profile,
        call: impl Fn() -> libc::c_long,
    ) -> (Attempt, Attempt) {
        let filters = [fatal(), allowed(profile, SeccompAction::Errno(libc::EPERM as u32))]
            .map(|f| f.expect("compiles"));
        let free = in_a_child(&call).expect("a child");
        let confined =
            in_a_child(|| match filters.iter().try_for_each(|f| apply_filter_all_threads(f)) {
                Ok(()) => call(),
                Err(_) => -1,
            });
        (free, confined.expect("a child"))
    }

    /// Without filters in the kernel there is nothing to test.
    fn no_filters() -> bool {
        let (_, confined) = free_and_confined(|| make(call(libc::SYS_getpid, [])));
        let none = confined != Attempt::Done;
        if none {
            crate::skipped(&format!("this kernel lets no filter in: {confined:?}"));
        }
        none
    }

    #[test]
    fn what_a_watch_needs_is_let_through() {
        if no_filters() {
            return;
        }
        // Arguments that no call takes: what matters is that the kernel answers, and not the
        // filter. All but the return from a signal: without one it goes to a place that
        // nobody knows.
        let any = EVERYBODY.iter().chain(EVERYBODY_HERE).chain(LOOKS).chain(LOOKS_HERE);
        let any = any.filter(|number| **number != libc::SYS_rt_sigreturn);
        let any = any.map(|number| (*number, [-1; 6]));
        let own = i64::from(std::process::id());
        let nowhere = NOWHERE.as_ptr() as i64;
        let flags = i64::from(libc::O_RDONLY | libc::O_CLOEXEC | libc::O_DIRECTORY | libc::O_PATH);
        let memory = i64::from(libc::PROT_READ | libc::PROT_WRITE);
        let anonymous = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let particular = [
            call(libc::SYS_openat, [-1, nowhere, flags]),
            call(libc::SYS_mmap, [0, 4096, memory, anonymous, -1, 0]),
            call(libc::SYS_mprotect, [0, 0, memory]),
            call(libc::SYS_ioctl, [-1, TCGETS as i64]),
            call(libc::SYS_ioctl, [-1, TIOCGWINSZ as i64]),
            call(libc::SYS_fcntl, [-1, i64::from(libc::F_GETFD)]),
            call(libc::SYS_fcntl, [-1, i64::from(libc::F_SETFD)]),
            call(libc::SYS_sendto, [-1, nowhere, 1]),
            call(libc::SYS_tgkill, [own, own, 0]),
        ];
        for (number, arguments) in any.chain(particular) {
            let (free, confined) = free_and_confined(|| make((number, arguments)));
            assert_eq!(free, confined, "call {number} {arguments:?}");
            assert_ne!(confined, EPERM, "call {number} {arguments:?}");
        }
        // Of these the kernel may say EPERM itself, to who has no rights.
        for command in
            [BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_ITER_CREATE, BPF_RAW_TRACEPOINT_OPEN]
        {
            let (free, confined) =
                free_and_confined(|| make(call(libc::SYS_bpf, [command as i64, -1, 8])));
            assert_eq!(free, confined, "bpf() {command}");
        }
    }

    #[test]
    fn what_it_does_not_need_is_refused() {
        if no_filters() {
            return;
        }
        let nowhere = NOWHERE.as_ptr() as i64;
        let open =
            |flags: libc::c_int| call(libc::SYS_openat, [-1, nowhere, i64::from(flags), 0o600]);
        let code = i64::from(libc::PROT_READ | libc::PROT_EXEC);
        let anonymous = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let refused = [
            open(libc::O_WRONLY),
            open(libc::O_RDWR),
            open(libc::O_RDONLY | libc::O_CREAT),
            open(libc::O_RDONLY | libc::O_TRUNC),
            call(libc::SYS_openat2, [-1, nowhere]),
            call(libc::SYS_unlinkat, [-1, nowhere]),
            call(libc::SYS_mkdirat, [-1, nowhere]),
            call(libc::SYS_renameat2, [-1, nowhere, -1, nowhere]),
            call(libc::SYS_linkat, [-1, nowhere, -1, nowhere]),
            call(libc::SYS_fchmodat, [-1, nowhere, 0o777]),
            call(libc::SYS_fchownat, [-1, nowhere, -1, -1]),
            call(libc::SYS_truncate, [nowhere, 0]),
            call(libc::SYS_socket, [i64::from(libc::AF_INET), i64::from(libc::SOCK_STREAM)]),
            call(libc::SYS_socket, [i64::from(libc::AF_NETLINK), i64::from(libc::SOCK_RAW)]),
            call(libc::SYS_connect, [-1]),
            call(libc::SYS_bind, [-1]),
            call(libc::SYS_sendto, [-1, nowhere, 1, 0, nowhere, 16]),
            call(libc::SYS_sendmsg, [-1]),
            call(libc::SYS_kill, [0, 0]),
            call(libc::SYS_tgkill, [1 << 30, 1 << 30, 0]),
            call(libc::SYS_pidfd_open, [-1]),
            call(libc::SYS_clone, [i64::from(libc::CLONE_SIGHAND)]),
            call(libc::SYS_clone3, []),
            call(libc::SYS_mmap, [0, 4096, code, anonymous, -1]),
            call(libc::SYS_mprotect, [0, 0, code]),
            call(libc::SYS_memfd_create, []),
            call(libc::SYS_ioctl, [-1, libc::TIOCSTI as i64]),
            call(libc::SYS_fcntl, [-1, i64::from(libc::F_SETFL)]),
            call(libc::SYS_prctl, [i64::from(libc::PR_GET_DUMPABLE)]),
            call(libc::SYS_setresuid, [-1, -1, -1]),
            call(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE as i64]),
        ];
        for (number, arguments) in refused {
            let (free, confined) = free_and_confined(|| make((number, arguments)));
            assert_eq!(confined, EPERM, "call {number} {arguments:?}");
            assert_ne!(
                free, EPERM,
                "call {number} {arguments:?}: shows nothing, the kernel says the same"
            );
        }
        // Making maps and pinning them: the kernel says the same to who has no rights.
        for command in [0, 6] {
            let (_, confined) = free_and_confined(|| make(call(libc::SYS_bpf, [command, -1, 8])));
            assert_eq!(confined, EPERM, "bpf() {command}");
        }
    }

    #[test]
    fn a_terminals_modes_are_set_by_a_screen_only() {
        if no_filters() {
            return;
        }
        for request in TERMINAL {
            let set = || make(call(libc::SYS_ioctl, [-1, request.cast_signed()]));
            assert_eq!(free_and_confined_as(Profile::Watch, set).1, EPERM, "{request:#x}");
            let (free, confined) = free_and_confined_as(Profile::Screen, set);
            assert_eq!(free, confined, "{request:#x}");
            assert_ne!(confined, EPERM, "{request:#x}");
        }
        let type_in = || make(call(libc::SYS_ioctl, [-1, libc::TIOCSTI as i64]));
        assert_eq!(free_and_confined_as(Profile::Screen, type_in).1, EPERM, "typing for others");
    }

    #[test]
    fn an_attack_ends_it() {
        if no_filters() {
            return;
        }
        let load = call(libc::SYS_bpf, [BPF_PROG_LOAD as i64, -1, 8]);
        for (number, arguments) in FATAL.iter().map(|number| (*number, [-1; 6])).chain([load]) {
            let (free, confined) = free_and_confined(|| make((number, arguments)));
            assert_eq!(confined, KILLED, "call {number}");
            assert_ne!(free, KILLED, "call {number}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn calls_by_other_numbers() {
        if no_filters() {
            return;
        }
        // x32 (asm/unistd.h: __X32_SYSCALL_BIT).
        let (_, x32) = free_and_confined(|| make(call(libc::SYS_getpid | 0x4000_0000, [])));
        assert_eq!(x32, EPERM);
        // i386, where getpid is 20.
        let (free, i386) = free_and_confined(|| {
            let mut answer = 20i64;
            // SAFETY: getpid has no arguments; the kernel keeps all registers but eax.
            unsafe {
                std::arch::asm!("int 0x80", inout("rax") answer, out("r8") _, out("r9") _, out("r10") _, out("r11") _)
            };
            answer
        });
        match free {
            Attempt::Done => assert_eq!(i386, KILLED),
            _ => crate::skipped("this kernel has no calls of i386"),
        }
    }
}

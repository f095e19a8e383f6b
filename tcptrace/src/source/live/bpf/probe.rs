//! Whether `bpf()` may be called here, tried in a process of its own: a seccomp filter may kill the
//! caller.

use std::{fs, io};

use crate::formats::lines;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
/// More than a page: refused as too big before anything else is looked at.
const BEYOND: usize = 1 << 20;

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It did what was asked.
    Done,
    /// It answered with this error number.
    Refused(i32),
    /// The caller was killed by this signal.
    Killed(i32),
}

/// `union bpf_attr`, the beginning of the member for BPF_MAP_CREATE.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// Makes a small map, which goes with the process that made it.
///
/// # Errors
/// Why it could not be tried.
pub fn map() -> io::Result<Attempt> {
    in_a_child(|| create_map(size_of::<MapCreate>()))
}

/// The same with an attribute beyond all bounds: the kernel refuses it with E2BIG, a filter as it
/// refuses all.
///
/// # Errors
/// Why it could not be tried.
pub fn beyond() -> io::Result<Attempt> {
    in_a_child(|| create_map(BEYOND))
}

/// The seccomp mode of this thread; `None` where it does not show.
#[must_use]
pub fn seccomp_mode() -> Option<u32> {
    lines::number(&fs::read_to_string("/proc/thread-self/status").ok()?, "Seccomp")
}

/// Whether our capabilities count outside our user namespace; `None` where it does not show.
#[must_use]
pub fn in_initial_user_namespace() -> Option<bool> {
    // PROC_USER_INIT_INO (include/linux/proc_ns.h).
    const INITIAL: &str = "user:[4026531837]";
    fs::read_link("/proc/self/ns/user").ok().map(|link| link.as_os_str() == INITIAL)
}

/// BPF_MAP_CREATE, with an attribute said to be of this size.
fn create_map(size: usize) -> libc::c_long {
    let attr = MapCreate {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        map_flags: 0,
    };
    // SAFETY: the kernel reads `attr` where `size` is its own, and refuses before reading where it
    // is not.
    unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_CREATE, &raw const attr, size) }
}

/// What comes of a system call, made in a child process; `call` does nothing else.
///
/// # Errors
/// Why it could not be tried.
pub(crate) fn in_a_child(call: impl FnOnce() -> libc::c_long) -> io::Result<Attempt> {
    // SAFETY: the child makes nothing but system calls, which are async-signal-safe, and does not
    // return.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: no pointers; being killed is to leave no core behind.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
        let answer = call();
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
        // SAFETY: ends the child without running what the parent registered for its own end.
        unsafe { libc::_exit(if answer >= 0 { 0 } else { errno }) };
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut status = 0;
    // SAFETY: `status` is ours and outlives the call.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } < 0 {
        let e = io::Error::last_os_error();
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(e);
        }
    }
    Ok(match (libc::WIFSIGNALED(status), libc::WEXITSTATUS(status)) {
        (true, _) => Attempt::Killed(libc::WTERMSIG(status)),
        (false, 0) => Attempt::Done,
        (false, errno) => Attempt::Refused(errno),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_big_is_refused_as_such_or_for_want_of_rights() {
        let Attempt::Refused(errno) = beyond().expect("a child") else {
            panic!("it can't be done")
        };
        assert!([libc::E2BIG, libc::EPERM].contains(&errno), "{errno}");
    }
}

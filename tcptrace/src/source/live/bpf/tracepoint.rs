//! Attaching to the kernel's named tracepoints, as perf events (perf_event_open(2)).
//!
//! Their numbers are in tracefs, which need not be mounted anywhere: then it is mounted where
//! nobody sees it, for as long as it takes to read one.

use std::{
    fs,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags, openat},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

use super::sys;

/// A program that runs at a tracepoint, until this is dropped.
#[derive(Debug)]
pub struct Attached {
    _link: OwnedFd,
    _event: OwnedFd,
}

/// Where tracefs is, usually; the second is where kernels before 4.1 had it.
const USUAL: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// What is said where it is nowhere, and may not be mounted.
const NOT_PERMITTED: &str = "tracefs isn't mounted where it can be read, and mounting it takes \
                             CAP_SYS_ADMIN: run as root (sudo tcptrace …), or mount -t tracefs \
                             none /sys/kernel/tracing; without --origins it isn't needed";

/// Runs a program of tracepoints at this one: `syscalls/sys_exit_accept4`.
///
/// # Errors
/// What the kernel answers; where it has no such tracepoint, `NotFound`.
pub fn attach(program: BorrowedFd<'_>, name: &str) -> io::Result<Attached> {
    let event = open(number(name)?)?;
    let link = sys::link_event(program, event.as_fd())?;
    Ok(Attached { _link: link, _event: event })
}

/// A tracepoint's number.
fn number(name: &str) -> io::Result<u64> {
    let file = format!("events/{name}/id");
    let mounted = USUAL.iter().find_map(|at| fs::read_to_string(format!("{at}/{file}")).ok());
    let text = match mounted {
        Some(text) => text,
        None => unmounted(&file).map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => io::Error::new(e.kind(), NOT_PERMITTED),
            _ => e,
        })?,
    };
    text.trim().parse().map_err(|_| io::Error::other(format!("{file} in tracefs is no number")))
}

/// A file of a tracefs that is mounted nowhere.
fn unmounted(path: &str) -> io::Result<String> {
    let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let root = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let file = openat(&root, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    fs::File::from(file).take(64).read_to_string(&mut text)?;
    Ok(text)
}

/// `struct perf_event_attr` to its first version's end (uapi/linux/perf_event.h).
#[repr(C)]
#[derive(Default)]
struct EventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    bp_addr: u64,
}

const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_FLAG_FD_CLOEXEC: libc::c_long = 8;

/// A tracepoint as an event, of all processes. A program hangs on the tracepoint itself, so the CPU
/// that is given says nothing.
fn open(number: u64) -> io::Result<OwnedFd> {
    let attr = EventAttr {
        kind: PERF_TYPE_TRACEPOINT,
        size: size_of::<EventAttr>() as u32,
        config: number,
        sample_period: 1,
        ..EventAttr::default()
    };
    let (any_process, cpu, no_group) = (-1, 0, -1);
    // SAFETY: the kernel's layout, of the size that it says.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            any_process,
            cpu,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_with_and_without_a_mount() {
        let name = "syscalls/sys_exit_accept4";
        let found = number(name).expect("tracefs");
        let unmounted = unmounted(&format!("events/{name}/id")).expect("tracefs of our own");
        assert_eq!(unmounted.trim(), found.to_string());
        let none = number("syscalls/no_such_thing").expect_err("there is none");
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }
}

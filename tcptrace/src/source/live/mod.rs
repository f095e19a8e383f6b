//! The running host: the kernel programs, sock_diag, network namespaces, and what only `/proc`
//! knows of processes. Each answer may be absent.

pub mod addresses;
pub mod agent;
pub mod blocked;
pub mod bpf;
pub mod cgroupfs;
pub mod check;
pub mod close;
pub mod descendants;
pub mod doctor;
pub mod header;
pub mod holders;
pub mod host;
pub mod journal;
pub mod jvm;
pub mod limits;
pub mod lookup;
pub mod memory;
pub mod netns;
pub mod netstat;
pub mod origins;
pub mod pods;
pub mod process;
pub mod python;
pub mod remote;
pub mod report;
pub mod ring;
pub mod scanner;
pub mod snapshot;
pub mod sock_diag;
pub mod stacks;
pub mod symbols;
pub mod threads;
pub mod time_wait;
pub mod tracing;
pub mod usage;
pub mod waiter;

use std::{fs, io, path::Path, time::Duration};

use rustix::time::{ClockId, clock_gettime};

use crate::engine::record::BootNs;

/// The boot clock (`CLOCK_BOOTTIME`), ns.
#[must_use]
pub fn boot_now() -> BootNs {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// CPU time that this thread has used.
pub fn cpu_time() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap_or(0))
}

/// A file's text. What is no UTF-8 in it is replaced: names may hold any bytes, and the kernel cuts
/// long ones within a letter.
fn text(path: &str) -> io::Result<String> {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The entries of a directory that are numbers: all, or an error.
fn numbers(dir: &str) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(numbers)
}

/// Whether a file below `/proc/PID` can't be read because the process has ended or the descriptor
/// is closed: then there is nothing that could be missing.
fn is_gone(e: &io::Error, pid: u32) -> bool {
    match e.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => true,
        // The kernel's answer for links of a process that has ended meanwhile, too.
        Some(libc::EACCES) => !Path::new(&format!("/proc/{pid}")).exists(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rustix::thread::{gettid, set_name};

    use super::*;

    #[test]
    fn what_went_hides_nothing() {
        let error = io::Error::from_raw_os_error;
        let ours = std::process::id();
        // Above PID_MAX_LIMIT (include/linux/threads.h).
        let gone = 1 << 30;
        for (errno, pid, is) in [
            (libc::ENOENT, ours, true),
            (libc::ESRCH, ours, true),
            (libc::EACCES, ours, false),
            (libc::EACCES, gone, true),
            (libc::EPERM, ours, false),
            (libc::EMFILE, gone, false),
        ] {
            assert_eq!(is_gone(&error(errno), pid), is, "{}", error(errno));
        }
    }

    #[test]
    fn a_name_that_is_no_utf8_does_not_hide_the_rest() {
        // Cyrillic, as the kernel cuts it after 15 bytes.
        let name = c"\xd0\xbe\xd0\xb1\xd1\x80\xd0\xb0\xd0\xb1\xd0\xbe\xd1\x82\xd1";
        let named = std::thread::spawn(move || {
            set_name(name).expect("a name");
            let file =
                |file: &str| text(&format!("/proc/self/task/{}/{file}", gettid())).expect("text");
            (file("status"), file("stat"))
        });
        let (status, stat) = named.join().expect("a thread");
        assert!(
            status.starts_with("Name:\tобработ\u{fffd}\n") && status.contains("\nPid:"),
            "{status}"
        );
        let stat = crate::formats::stat::Stat::parse(&stat).expect("fields");
        assert_eq!((&*stat.comm, stat.state), ("обработ\u{fffd}", 'R'));
    }
}

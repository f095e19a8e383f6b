//! How many descriptors a process and the host have in use, and how many they may have. Each
//! answer may be absent, with its reason.

use std::{fs, io};

/// A number, or why it isn't known.
pub type Number = Result<u64, &'static str>;

/// DescriptorLimits of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorLimits {
    /// Open now (entries of `/proc/PID/fd`); tables of single threads are not in it.
    pub used: Number,
    /// The soft limit (RLIMIT_NOFILE): beyond it open(), accept() and socket() fail with EMFILE.
    /// [`UNLIMITED`] where there is none.
    pub soft: Number,
    /// Up to this the process itself may raise the soft limit.
    pub hard: Number,
}

/// RLIM_INFINITY. For descriptors the kernel refuses it (`fs.nr_open` is above every limit), but
/// the file's format has it.
pub const UNLIMITED: u64 = u64::MAX;

/// Open files of the whole host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostFiles {
    /// Open files: several descriptors, of several processes, may share one.
    pub used: Number,
    /// `fs.file-max`: beyond it open() fails with ENFILE.
    pub limit: Number,
}

const GONE: &str = "the process is gone";
const REFUSED: &str = "not permitted: needs CAP_SYS_PTRACE";
const GARBLED: &str = "the file has an unknown format";

/// Of the process that has this pid now.
#[must_use]
pub fn of_process(pid: u32) -> DescriptorLimits {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).map_err(|e| absent(&e));
    let limits = text.and_then(|t| open_files(&t).ok_or(GARBLED));
    DescriptorLimits { used: used(pid), soft: limits.map(|l| l.soft), hard: limits.map(|l| l.hard) }
}

/// Of the host.
#[must_use]
pub fn of_host() -> HostFiles {
    let text = fs::read_to_string("/proc/sys/fs/file-nr")
        .map_err(|_| "/proc/sys/fs/file-nr can't be read");
    let numbers = text.and_then(|t| file_nr(&t).ok_or(GARBLED));
    HostFiles { used: numbers.map(|n| n.used), limit: numbers.map(|n| n.limit) }
}

fn used(pid: u32) -> Number {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).map_err(|e| absent(&e))?;
    let mut n = 0;
    for entry in entries {
        // Half a count is none.
        entry.map_err(|e| absent(&e))?;
        n += 1;
    }
    // Our own list is read through a descriptor that is in it.
    Ok(if pid == std::process::id() { n - 1 } else { n })
}

fn absent(e: &io::Error) -> &'static str {
    match e.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => REFUSED,
        Some(libc::ENOENT | libc::ESRCH) => GONE,
        _ => "its files below /proc can't be read",
    }
}

/// How many descriptors a process may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// As of now.
    pub soft: u64,
    /// What it may raise that to.
    pub hard: u64,
}

/// From `/proc/PID/limits`: a name with blanks, two numbers (soft and hard), a unit.
#[must_use]
pub fn open_files(text: &str) -> Option<Limit> {
    let mut words = text.lines().find_map(|l| l.strip_prefix("Max open files"))?.split_whitespace();
    let mut number = || match words.next()? {
        "unlimited" => Some(UNLIMITED),
        word => word.parse().ok(),
    };
    Some(Limit { soft: number()?, hard: number()? })
}

/// Open files of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileNr {
    /// In use.
    pub used: u64,
    /// `fs.file-max`.
    pub limit: u64,
}

/// From `/proc/sys/fs/file-nr`: allocated, allocated but unused (always 0 since 2.6), and the
/// limit.
#[must_use]
pub fn file_nr(text: &str) -> Option<FileNr> {
    let numbers: Vec<u64> =
        text.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    match numbers[..] {
        [allocated, unused, limit] => {
            Some(FileNr { used: allocated.saturating_sub(unused), limit })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        process::{Command, Stdio},
    };

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn limits_as_the_kernel_writes_them() {
        let text = concat!(
            "Limit                     Soft Limit           Hard Limit           Units     \n",
            "Max cpu time              unlimited            unlimited            seconds   \n",
            "Max open files            1024                 524288               files     \n",
        );
        assert_eq!(open_files(text), Some(Limit { soft: 1024, hard: 524_288 }));
        assert_eq!(
            open_files("Max open files  unlimited  unlimited  files"),
            Some(Limit { soft: UNLIMITED, hard: UNLIMITED })
        );
        assert_eq!(open_files("Max open files  1024"), None);
        assert_eq!(open_files("Max locked memory 1 1 bytes"), None);
        assert_eq!(file_nr("375\t0\t2466193\n"), Some(FileNr { used: 375, limit: 2_466_193 }));
        assert_eq!(file_nr("375\t0\n"), None);
        assert_eq!(file_nr("a\t0\t1\n"), None);
    }

    #[test]
    fn of_a_child_that_opens_one_more() {
        let script = "exec 9<&-; echo; read x; exec 9</dev/null; echo; read x";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell is there");
        let mut input = child.stdin.take().expect("a pipe");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut at_rest = || {
            lines.next().expect("it says so").expect("a line");
            of_process(child.id())
        };
        let before = at_rest();
        input.write_all(b"\n").expect("it reads");
        let after = at_rest();
        drop(input);
        child.wait().expect("it ended");
        assert_eq!(after.used, before.used.map(|n| n + 1));
        assert!(before.soft.expect("a limit") <= before.hard.expect("a limit"), "{before:?}");
        let gone = DescriptorLimits { used: Err(GONE), soft: Err(GONE), hard: Err(GONE) };
        assert_eq!(of_process(child.id()), gone);
    }

    #[test]
    fn only_what_is_gone_is_said_to_be() {
        let why = |errno| absent(&io::Error::from_raw_os_error(errno));
        assert_eq!([libc::ENOENT, libc::ESRCH].map(why), [GONE; 2]);
        assert_eq!([libc::EACCES, libc::EPERM].map(why), [REFUSED; 2]);
        assert!(why(libc::EMFILE).contains("can't be read"));
    }

    #[test]
    fn of_this_host() {
        let host = of_host();
        let (used, limit) = (host.used.expect("file-nr"), host.limit.expect("file-nr"));
        assert!(0 < used && used <= limit, "{host:?}");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(Max open files )?[0-9a-z \\n]*") {
            let _ = (open_files(&text), file_nr(&text));
        }
    }
}

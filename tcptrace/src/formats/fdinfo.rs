//! What `/proc/PID/fdinfo/FD` says of a descriptor (proc_pid_fdinfo(5)), and `/proc/locks` of file
//! locks (proc_locks(5)).

use super::lines;

/// The descriptors that an epoll instance has: the numbers that they had when they were added.
pub fn epoll_set(text: &str) -> impl Iterator<Item = u32> {
    text.lines()
        .filter_map(|line| line.strip_prefix("tfd:")?.split_whitespace().next()?.parse().ok())
}

/// Whether what it is can be read and written, by the flags that it was opened with.
#[must_use]
pub fn access(text: &str) -> Option<Access> {
    // O_ACCMODE, in octal as all flags there.
    Some(match u32::from_str_radix(lines::value(text, "flags")?, 8).ok()? & 3 {
        0 => Access { reads: true, writes: false },
        1 => Access { reads: false, writes: true },
        _ => Access { reads: true, writes: true },
    })
}

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// It can be read.
    pub reads: bool,
    /// It can be written.
    pub writes: bool,
}

/// The process that has the file lock which a process waits for, by `/proc/locks`; `None`: it waits
/// for none, or who has it is not told (locks of open file descriptions have no process).
#[must_use]
pub fn lock_holder(text: &str, waiter: u32) -> Option<u32> {
    let mut holder = None;
    for line in text.lines() {
        let mut words = line.split_whitespace().skip(1).peekable();
        let waits = words.next_if_eq(&"->").is_some();
        // The kind, whether it is enforced, and what for; then the pid.
        let pid = words.nth(3).and_then(|word| word.parse().ok());
        if !waits {
            holder = pid;
        } else if pid == Some(waiter) {
            return holder;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_an_epoll_instance_has() {
        let text = "pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t1057\ntfd:        4 events:       19 \
                    data: 4  pos:0 ino:39 sdev:8\ntfd:       12 events: 80000019 data: c\n";
        assert_eq!(epoll_set(text).collect::<Vec<_>>(), [4, 12]);
        assert_eq!(access(text), Some(Access { reads: true, writes: true }));
        assert_eq!(access("flags:\t0100001\n"), Some(Access { reads: false, writes: true }));
        assert_eq!(access("pos:\t0\n"), None);
    }

    #[test]
    fn who_has_a_file_lock() {
        let text = "1: FLOCK  ADVISORY  WRITE 700 08:01:99 0 EOF\n\
                    1: -> FLOCK  ADVISORY  WRITE 701 08:01:99 0 EOF\n\
                    1: -> FLOCK  ADVISORY  WRITE 702 08:01:99 0 EOF\n\
                    2: OFDLCK ADVISORY  READ -1 08:01:98 0 EOF\n\
                    2: -> POSIX  ADVISORY  WRITE 703 08:01:98 0 EOF\n";
        assert_eq!(lock_holder(text, 702), Some(700));
        assert_eq!(lock_holder(text, 703), None, "nobody's process");
        assert_eq!(lock_holder(text, 700), None, "it has it");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "((tfd:|flags:|[0-9]: (-> )?)?\\PC*\n)*") {
            let _ = (epoll_set(&text).count(), access(&text), lock_holder(&text, 1));
        }
    }
}

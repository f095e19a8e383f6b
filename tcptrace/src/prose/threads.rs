//! What the threads of a process wait for, in words.

use crate::formats::threads::{ThreadGroup, Threads, Waits, Whereabouts};

/// `the first 2000 of 100000 threads`, where that is not all.
#[must_use]
pub fn limit(threads: &Threads) -> Option<String> {
    let Threads { read, of, .. } = threads;
    (read < of).then(|| format!("the first {read} of {of} threads"))
}

/// `8 of 10 threads: recvfrom on socket fd 7: waits for data from the peer`
#[must_use]
pub fn text(group: &ThreadGroup) -> String {
    /// More numbers than these say nothing more.
    const SHOWN: usize = 4;
    let place = match group.place {
        Whereabouts::Call(name) => name.to_owned(),
        Whereabouts::Numbered(n) => format!("system call {n}"),
        Whereabouts::Running => "running".to_owned(),
        Whereabouts::Stopped => "stopped".to_owned(),
        Whereabouts::Ended => "ended".to_owned(),
        Whereabouts::Outside => "in the kernel, in no system call".to_owned(),
        Whereabouts::Unknown(reason) => format!("unknown ({reason})"),
    };
    let mut text = match group.of {
        1 => format!("the only thread: {place}"),
        of => format!("{} of {of} threads: {place}", group.tids.len()),
    };
    if !group.fds.is_empty() {
        let fds: Vec<String> = group.fds.keys().take(SHOWN).map(u32::to_string).collect();
        let more = if group.fds.len() > SHOWN { ", …" } else { "" };
        let kind = group.on.map_or_else(String::new, |k| format!("{} ", k.name()));
        text += &format!(" on {kind}fd {}{more}", fds.join(", "));
    }
    if let Some(for_what) = group.waits {
        text += ": ";
        text += waits(for_what);
    }
    text
}

const fn waits(for_what: Waits) -> &'static str {
    match for_what {
        Waits::Continue => {
            "a signal (SIGSTOP, SIGTSTP) or a debugger stopped it; SIGCONT lets it go on"
        }
        Waits::Page => "waits for a page of its memory, often from disk or swap",
        Waits::PeerSends => "waits for data from the peer",
        Waits::PipeFills => "waits for the writing end of a pipe",
        Waits::File => "waits for the disk, or the file system behind the file",
        Waits::Device => "waits for a terminal or another device",
        Waits::Woken => "waits to be woken by another thread",
        Waits::Timer => "waits for a timer",
        Waits::PeerTakes => "waits for the peer to take data: the send buffer is full",
        Waits::PipeDrains => "waits for the reading end of a pipe: the pipe is full",
        Waits::Connections => "waits for connections",
        Waits::PeerAnswers => "waits for the peer to answer",
        Waits::Linger => "waits in close(): SO_LINGER holds it until the peer has taken all data",
        Waits::Events => "waits for events",
        Waits::Descriptors => {
            "waits for one or more descriptors; a socket read with a timeout looks the same"
        }
        Waits::Queued => "waits for I/O that it queued",
        Waits::Futex => "waits for a lock, for another thread, or for a time to pass",
        Waits::Sleep => "sleeps for a time that it chose",
        Waits::Child => "waits for a child process",
        Waits::Signal => "waits for a signal",
        Waits::Interrupted => {
            "goes on with a call that was interrupted: a sleep, a poll or a futex"
        }
        Waits::Disk => "waits for the disk",
        Waits::Lock => "waits for a file lock",
        Waits::Process => "waits for another process, by a semaphore or a message queue",
    }
}

#[cfg(test)]
mod tests {
    use syscalls::Sysno;

    use super::*;
    use crate::formats::{
        descriptor::{Descriptor, Kind},
        threads::{Call, Thread, group},
    };

    fn thread(tid: u32, state: char, call: Call) -> Thread {
        Thread { tid, comm: "worker".into(), state, wchan: None, call }
    }

    fn within(call: Sysno, first: u64) -> Call {
        Call::In { number: call.id().unsigned_abs().into(), first, second: 0 }
    }

    fn described(_: u32, fd: u32) -> Option<Descriptor> {
        let target = match fd {
            0..5 => "socket:[7]",
            5 => "/var/log/app.log",
            6 => "anon_inode:[eventpoll]",
            _ => return None,
        };
        Some(Descriptor { kind: Kind::of_link(target), target: target.into() })
    }

    fn texts(threads: &[Thread]) -> Vec<String> {
        group(threads, described).iter().map(text).collect()
    }

    #[test]
    fn the_largest_group_first() {
        let threads = [
            thread(10, 'S', within(Sysno::epoll_pwait, 6)),
            thread(13, 'S', within(Sysno::recvfrom, 3)),
            thread(11, 'S', within(Sysno::recvfrom, 1)),
            thread(12, 'S', within(Sysno::recvfrom, 2)),
            thread(14, 'S', within(Sysno::futex, 0x7f00)),
            thread(15, 'S', within(Sysno::futex, 0x8f00)),
        ];
        assert_eq!(
            texts(&threads),
            [
                "3 of 6 threads: recvfrom on socket fd 1, 2, 3: waits for data from the peer",
                "2 of 6 threads: futex: waits for a lock, for another thread, or for a time to \
                 pass",
                "1 of 6 threads: epoll_pwait on epoll fd 6: waits for events",
            ]
        );
        assert_eq!(group(&threads, described)[0].tids, [11, 12, 13]);
    }

    #[test]
    fn each_place_in_words() {
        for (state, call, text) in [
            ('R', Call::Running, "running"),
            (
                'D',
                Call::Outside,
                "in the kernel, in no system call: waits for a page of its memory, often from \
                 disk or swap",
            ),
            (
                'T',
                within(Sysno::read, 1),
                "stopped: a signal (SIGSTOP, SIGTSTP) or a debugger stopped it; SIGCONT lets it \
                 go on",
            ),
            ('Z', Call::Running, "ended"),
            ('S', within(Sysno::accept4, 2), "accept4 on listener fd 2: waits for connections"),
            (
                'D',
                within(Sysno::read, 5),
                "read on file fd 5: waits for the disk, or the file system behind the file",
            ),
            ('S', within(Sysno::read, 99), "read on fd 99"),
            ('S', within(Sysno::fcntl, 5), "fcntl on file fd 5"),
            ('S', Call::In { number: 99_999, first: 0, second: 0 }, "system call 99999"),
            ('S', Call::Unknown("not permitted"), "unknown (not permitted)"),
        ] {
            assert_eq!(texts(&[thread(1, state, call)]), [format!("the only thread: {text}")]);
        }
        let lock =
            Call::In { number: Sysno::fcntl.id().unsigned_abs().into(), first: 5, second: 7 };
        assert_eq!(
            texts(&[thread(1, 'S', lock)]),
            ["the only thread: fcntl on file fd 5: waits for a file lock"]
        );
    }
}

//! What the threads of a process wait in: from `/proc/PID/task/TID/{stat,wchan,syscall}` (proc(5))
//! to groups of threads in the same place.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
};

use syscalls::Sysno;

use crate::formats::{
    calls::takes_descriptor,
    descriptor::{Descriptor, Kind},
};

/// A thread, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Thread id.
    pub tid: u32,
    /// Thread name; may hold anything.
    pub comm: Rc<str>,
    /// The letter that `/proc/PID/stat` has: R, S, D, T, t, Z, X, I, P.
    pub state: char,
    /// The kernel function it sleeps in; `None`: it runs, or the kernel does not tell us.
    pub wchan: Option<Rc<str>>,
    /// The system call it is in.
    pub call: Call,
}

/// What `/proc/PID/syscall` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It runs or could run: the kernel does not say where.
    Running,
    /// It waits in the kernel and not for a system call: for a page, or for a debugger.
    Outside,
    /// It waits in a system call.
    In {
        /// The call's number on this architecture.
        number: u64,
        /// Its first argument.
        first: u64,
        /// Its second argument.
        second: u64,
    },
    /// Not known, and why.
    Unknown(&'static str),
}

impl Call {
    /// Parses the file's text: `running`, `-1 SP PC`, or the number, six arguments, SP and PC.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        const GARBLED: Call = Call::Unknown("/proc/PID/syscall has an unknown format");
        let mut words = text.split_whitespace();
        let number = match words.next() {
            Some("running") => return Self::Running,
            Some("-1") => return Self::Outside,
            Some(word) => word.parse().ok(),
            None => None,
        };
        let mut argument = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
        match (number, argument(), argument()) {
            (Some(number), Some(first), Some(second)) => Self::In { number, first, second },
            _ => GARBLED,
        }
    }
}

/// What `/proc/PID/wchan` says; `0` stands for running and for not allowed to know.
#[must_use]
pub fn wchan(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|t| !t.is_empty() && *t != "0")
}

/// Where a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Whereabouts {
    /// In this system call.
    Call(&'static str),
    /// In a system call that has no name here.
    Numbered(u64),
    /// On a CPU, or waiting for one.
    Running,
    /// Stopped by a signal or a debugger.
    Stopped,
    /// Over.
    Ended,
    /// In the kernel for another reason: a page fault.
    Outside,
    /// Not known, and why.
    Unknown(&'static str),
}

/// What is known of a process's threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threads {
    /// Those that were read, by where they are, the largest group first.
    pub groups: Vec<ThreadGroup>,
    /// How many were read: the first ones.
    pub read: usize,
    /// How many the process has.
    pub of: usize,
}

impl Threads {
    /// `the first 2000 of 100000 threads`, where that is not all.
    #[must_use]
    pub fn limit(&self) -> Option<String> {
        let Self { read, of, .. } = self;
        (read < of).then(|| format!("the first {read} of {of} threads"))
    }
}

/// Threads in the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadGroup {
    /// Where they are.
    pub place: Whereabouts,
    /// The kernel function they sleep in, where known.
    pub wchan: Option<Rc<str>>,
    /// What kind of descriptor they wait on, where the call has one.
    pub on: Option<Kind>,
    /// What they wait for, in words; `None`: the call says nothing general.
    pub means: Option<&'static str>,
    /// Their ids, in order.
    pub tids: Vec<u32>,
    /// Their names.
    pub comms: BTreeSet<Rc<str>>,
    /// The descriptors, by number; threads with tables of their own may mean others by it.
    pub fds: BTreeMap<u32, Option<Descriptor>>,
    /// How many threads of the process were read.
    pub of: usize,
}

impl ThreadGroup {
    /// `8 of 10 threads: recvfrom on socket fd 7: waits for data from the peer`
    #[must_use]
    pub fn text(&self) -> String {
        /// More numbers than these say nothing more.
        const SHOWN: usize = 4;
        let place = match self.place {
            Whereabouts::Call(name) => name.to_owned(),
            Whereabouts::Numbered(n) => format!("system call {n}"),
            Whereabouts::Running => "running".to_owned(),
            Whereabouts::Stopped => "stopped".to_owned(),
            Whereabouts::Ended => "ended".to_owned(),
            Whereabouts::Outside => "in the kernel, in no system call".to_owned(),
            Whereabouts::Unknown(reason) => format!("unknown ({reason})"),
        };
        let mut text = format!("{} of {} threads: {place}", self.tids.len(), self.of);
        if !self.fds.is_empty() {
            let fds: Vec<String> = self.fds.keys().take(SHOWN).map(u32::to_string).collect();
            let more = if self.fds.len() > SHOWN { ", …" } else { "" };
            let kind = self.on.map_or_else(String::new, |k| format!("{} ", k.name()));
            text += &format!(" on {kind}fd {}{more}", fds.join(", "));
        }
        if let Some(means) = self.means {
            text += ": ";
            text += means;
        }
        text
    }
}

/// What threads of one group have in common.
type Key = (Whereabouts, Option<Rc<str>>, Option<Kind>, Option<&'static str>);

/// Groups threads by system call, kernel function and kind of descriptor; the largest group first.
/// `describe` says what a thread's descriptor is: (tid, fd).
pub fn group(
    threads: &[Thread],
    describe: impl Fn(u32, u32) -> Option<Descriptor>,
) -> Vec<ThreadGroup> {
    let mut groups: HashMap<Key, ThreadGroup> = HashMap::new();
    for thread in threads {
        let place = place(thread);
        let fd = match (place, thread.call) {
            (Whereabouts::Call(name), Call::In { first, .. }) if takes_descriptor(name) => {
                u32::try_from(first).ok()
            }
            _ => None,
        };
        let descriptor = fd.and_then(|fd| describe(thread.tid, fd));
        let on = descriptor.as_ref().map(|d| match place {
            // Only listeners are accepted from, whatever their protocol.
            Whereabouts::Call("accept" | "accept4") if d.kind == Kind::Socket => Kind::Listener,
            _ => d.kind,
        });
        let second = if let Call::In { second, .. } = thread.call { second } else { 0 };
        let means = means(place, second, on);
        let found =
            groups.entry((place, thread.wchan.clone(), on, means)).or_insert_with(|| ThreadGroup {
                place,
                wchan: thread.wchan.clone(),
                on,
                means,
                tids: Vec::new(),
                comms: BTreeSet::new(),
                fds: BTreeMap::new(),
                of: threads.len(),
            });
        found.tids.push(thread.tid);
        found.comms.insert(Rc::clone(&thread.comm));
        if let Some(fd) = fd {
            found.fds.insert(fd, descriptor);
        }
    }
    let mut groups: Vec<ThreadGroup> = groups.into_values().collect();
    for found in &mut groups {
        found.tids.sort_unstable();
    }
    groups.sort_by(|a, b| b.tids.len().cmp(&a.tids.len()).then_with(|| a.tids.cmp(&b.tids)));
    groups
}

fn place(thread: &Thread) -> Whereabouts {
    match (thread.state, thread.call) {
        // It may have been stopped within a call; what it waits for is to be continued.
        ('T' | 't', _) => Whereabouts::Stopped,
        ('Z' | 'X', _) => Whereabouts::Ended,
        (_, Call::Running) => Whereabouts::Running,
        (_, Call::Outside) => Whereabouts::Outside,
        (_, Call::In { number, .. }) => {
            let known = usize::try_from(number).ok().and_then(Sysno::new);
            known.map_or(Whereabouts::Numbered(number), |call| Whereabouts::Call(call.name()))
        }
        (_, Call::Unknown(reason)) => Whereabouts::Unknown(reason),
    }
}

/// What a thread in this place waits for. The kernel knows the call and not its purpose: this
/// claims no more.
fn means(place: Whereabouts, second: u64, on: Option<Kind>) -> Option<&'static str> {
    /// `F_SETLKW` and `F_OFD_SETLKW` (uapi/asm-generic/fcntl.h).
    const LOCKS: [u64; 2] = [7, 38];
    let call = match place {
        Whereabouts::Call(call) => call,
        Whereabouts::Stopped => {
            return Some(
                "a signal (SIGSTOP, SIGTSTP) or a debugger stopped it; SIGCONT lets it go on",
            );
        }
        Whereabouts::Outside => {
            return Some("waits for a page of its memory, often from disk or swap");
        }
        _ => return None,
    };
    Some(match call {
        "read" | "pread64" | "readv" | "preadv" | "preadv2" | "recv" | "recvfrom" | "recvmsg"
        | "recvmmsg" => match on? {
            Kind::Listener | Kind::Socket => "waits for data from the peer",
            Kind::Pipe => "waits for the writing end of a pipe",
            Kind::File => "waits for the disk, or the file system behind the file",
            Kind::Device => "waits for a terminal or another device",
            Kind::Event => "waits to be woken by another thread",
            Kind::Timer => "waits for a timer",
            Kind::Epoll | Kind::Ring | Kind::Other => return None,
        },
        "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" | "send" | "sendto"
        | "sendmsg" | "sendmmsg" | "sendfile" => match on? {
            Kind::Listener | Kind::Socket => {
                "waits for the peer to take data: the send buffer is full"
            }
            Kind::Pipe => "waits for the reading end of a pipe: the pipe is full",
            Kind::File => "waits for the disk, or the file system behind the file",
            Kind::Device => "waits for a terminal or another device",
            _ => return None,
        },
        "accept" | "accept4" => "waits for connections",
        "connect" => "waits for the peer to answer",
        "close" if on == Some(Kind::Socket) => {
            "waits in close(): SO_LINGER holds it until the peer has taken all data"
        }
        "epoll_wait" | "epoll_pwait" | "epoll_pwait2" | "epoll_wait_old" => "waits for events",
        "poll" | "ppoll" | "select" | "pselect6" => {
            "waits for one or more descriptors; a socket read with a timeout looks the same"
        }
        "io_uring_enter" | "io_getevents" | "io_pgetevents" => "waits for I/O that it queued",
        "futex" | "futex_wait" | "futex_waitv" => {
            "waits for a lock, for another thread, or for a time to pass"
        }
        "nanosleep" | "clock_nanosleep" => "sleeps for a time that it chose",
        "wait4" | "waitid" | "waitpid" => "waits for a child process",
        "pause" | "rt_sigsuspend" | "rt_sigtimedwait" => "waits for a signal",
        "restart_syscall" => "goes on with a call that was interrupted: a sleep, a poll or a futex",
        "fsync" | "fdatasync" | "sync" | "syncfs" | "msync" | "sync_file_range" => {
            "waits for the disk"
        }
        "flock" => "waits for a file lock",
        "fcntl" if LOCKS.contains(&second) => "waits for a file lock",
        "semop" | "semtimedop" | "msgrcv" | "msgsnd" | "mq_timedreceive" | "mq_timedsend" => {
            "waits for another process, by a semaphore or a message queue"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        group(threads, described).iter().map(ThreadGroup::text).collect()
    }

    #[test]
    fn calls_as_the_kernel_writes_them() {
        assert_eq!(Call::parse("running\n"), Call::Running);
        assert_eq!(Call::parse("-1 0x7ffc1c4ab1b8 0x7f29e60de2ad\n"), Call::Outside);
        let read = "0 0x3 0x7f29e5f62000 0x20000 0x7f29e5ff5b60 0xffffffff 0x0 0x7ffdd357a2a8 \
                    0x7f29e60de2ad\n";
        assert_eq!(Call::parse(read), Call::In { number: 0, first: 3, second: 0x7f29_e5f6_2000 });
        for garbled in ["", "\n", "7", "7 0x1", "x 0x1 0x2", "7 1 2", "-2 0x1 0x2"] {
            assert!(matches!(Call::parse(garbled), Call::Unknown(_)), "{garbled:?}");
        }
    }

    #[test]
    fn states_and_kernel_functions() {
        assert_eq!(wchan("futex_wait_queue"), Some("futex_wait_queue"));
        assert_eq!(wchan("0"), None);
        assert_eq!(wchan(""), None);
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
            assert_eq!(texts(&[thread(1, state, call)]), [format!("1 of 1 threads: {text}")]);
        }
        let lock =
            Call::In { number: Sysno::fcntl.id().unsigned_abs().into(), first: 5, second: 7 };
        assert_eq!(
            texts(&[thread(1, 'S', lock)]),
            ["1 of 1 threads: fcntl on file fd 5: waits for a file lock"]
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*", numbers in "-?[0-9]{1,21}( 0x[0-9a-f]{0,17}){0,9}") {
            let _ = (Call::parse(&text), Call::parse(&numbers), wchan(&text));
        }

        #[test]
        fn every_thread_is_in_one_group(calls in proptest::collection::vec((0u64..500, 0u64..12, "[RSDTZI]"), 0..40)) {
            let threads: Vec<Thread> = (1..).zip(&calls).map(|(tid, (number, first, state))| {
                let call = Call::In { number: *number, first: *first, second: 0 };
                thread(tid, state.chars().next().unwrap_or('S'), call)
            }).collect();
            let groups = group(&threads, described);
            let mut tids: Vec<u32> = groups.iter().flat_map(|g| g.tids.clone()).collect();
            tids.sort_unstable();
            prop_assert_eq!(tids, threads.iter().map(|t| t.tid).collect::<Vec<_>>());
            prop_assert!(groups.is_sorted_by(|a, b| a.tids.len() >= b.tids.len()));
        }
    }
}

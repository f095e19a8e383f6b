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

/// What a thread waits for, as far as its call tells. The words are in `prose`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Waits {
    /// To be continued: a signal or a debugger stopped it.
    Continue,
    /// A page of its memory.
    Page,
    /// Data from the peer.
    PeerSends,
    /// The writing end of a pipe.
    PipeFills,
    /// The disk, or the file system behind a file.
    File,
    /// A terminal or another device.
    Device,
    /// An eventfd: another thread.
    Woken,
    /// A timer.
    Timer,
    /// The peer is to take data.
    PeerTakes,
    /// The reading end of a pipe.
    PipeDrains,
    /// Connections to accept.
    Connections,
    /// The peer is to answer.
    PeerAnswers,
    /// close() with SO_LINGER.
    Linger,
    /// Events of many descriptors.
    Events,
    /// One or more descriptors, or a time.
    Descriptors,
    /// Input or output that it queued.
    Queued,
    /// A lock, another thread, a time.
    Futex,
    /// A time that it chose.
    Sleep,
    /// A child process.
    Child,
    /// A signal.
    Signal,
    /// A call that was interrupted goes on.
    Interrupted,
    /// The disk.
    Disk,
    /// A file lock.
    Lock,
    /// A semaphore or a message queue.
    Process,
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

/// Threads in the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadGroup {
    /// Where they are.
    pub place: Whereabouts,
    /// The kernel function they sleep in, where known.
    pub wchan: Option<Rc<str>>,
    /// What kind of descriptor they wait on, where the call has one.
    pub on: Option<Kind>,
    /// What they wait for; `None`: the call says nothing general.
    pub waits: Option<Waits>,
    /// Their ids, in order.
    pub tids: Vec<u32>,
    /// Their names.
    pub comms: BTreeSet<Rc<str>>,
    /// The descriptors, by number; threads with tables of their own may mean others by it.
    pub fds: BTreeMap<u32, Option<Descriptor>>,
    /// How many threads of the process were read.
    pub of: usize,
}

/// What threads of one group have in common.
type Key = (Whereabouts, Option<Rc<str>>, Option<Kind>, Option<Waits>);

/// What this architecture calls a system call with this number.
#[must_use]
pub fn call_name(number: u64) -> Option<&'static str> {
    usize::try_from(number).ok().and_then(Sysno::new).map(|call| call.name())
}

/// The number that a system call has on this architecture.
#[must_use]
pub fn call_number(name: &str) -> Option<u64> {
    name.parse().ok().map(|call: Sysno| call.id() as u64)
}

impl Thread {
    /// The descriptor that its call was made on.
    #[must_use]
    pub fn descriptor(&self) -> Option<u32> {
        match (place(self), self.call) {
            (Whereabouts::Call(name), Call::In { first, .. }) if takes_descriptor(name) => {
                u32::try_from(first).ok()
            }
            _ => None,
        }
    }
}

/// Groups threads by system call, kernel function and kind of descriptor; the largest group first.
/// `describe` says what a thread's descriptor is: (tid, fd).
pub fn group(
    threads: &[Thread],
    describe: impl Fn(u32, u32) -> Option<Descriptor>,
) -> Vec<ThreadGroup> {
    let mut groups: HashMap<Key, ThreadGroup> = HashMap::new();
    for thread in threads {
        let place = place(thread);
        let fd = thread.descriptor();
        let descriptor = fd.and_then(|fd| describe(thread.tid, fd));
        let on = descriptor.as_ref().map(|d| match place {
            // Only listeners are accepted from, whatever their protocol.
            Whereabouts::Call("accept" | "accept4") if d.kind == Kind::Socket => Kind::Listener,
            _ => d.kind,
        });
        let second = if let Call::In { second, .. } = thread.call { second } else { 0 };
        let waits = waits(place, second, on);
        let found =
            groups.entry((place, thread.wchan.clone(), on, waits)).or_insert_with(|| ThreadGroup {
                place,
                wchan: thread.wchan.clone(),
                on,
                waits,
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
fn waits(place: Whereabouts, second: u64, on: Option<Kind>) -> Option<Waits> {
    /// `F_SETLKW` and `F_OFD_SETLKW` (uapi/asm-generic/fcntl.h).
    const LOCKS: [u64; 2] = [7, 38];
    let call = match place {
        Whereabouts::Call(call) => call,
        Whereabouts::Stopped => {
            return Some(Waits::Continue);
        }
        Whereabouts::Outside => {
            return Some(Waits::Page);
        }
        _ => return None,
    };
    Some(match call {
        "read" | "pread64" | "readv" | "preadv" | "preadv2" | "recv" | "recvfrom" | "recvmsg"
        | "recvmmsg" => match on? {
            Kind::Listener | Kind::Socket => Waits::PeerSends,
            Kind::Pipe => Waits::PipeFills,
            Kind::File => Waits::File,
            Kind::Device => Waits::Device,
            Kind::Event => Waits::Woken,
            Kind::Timer => Waits::Timer,
            Kind::Epoll | Kind::Ring | Kind::Other => return None,
        },
        "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" | "send" | "sendto"
        | "sendmsg" | "sendmmsg" | "sendfile" => match on? {
            Kind::Listener | Kind::Socket => Waits::PeerTakes,
            Kind::Pipe => Waits::PipeDrains,
            Kind::File => Waits::File,
            Kind::Device => Waits::Device,
            _ => return None,
        },
        "accept" | "accept4" => Waits::Connections,
        "connect" => Waits::PeerAnswers,
        "close" if on == Some(Kind::Socket) => Waits::Linger,
        "epoll_wait" | "epoll_pwait" | "epoll_pwait2" | "epoll_wait_old" => Waits::Events,
        "poll" | "ppoll" | "select" | "pselect6" => Waits::Descriptors,
        "io_uring_enter" | "io_getevents" | "io_pgetevents" => Waits::Queued,
        "futex" | "futex_wait" | "futex_waitv" => Waits::Futex,
        "nanosleep" | "clock_nanosleep" => Waits::Sleep,
        "wait4" | "waitid" | "waitpid" => Waits::Child,
        "pause" | "rt_sigsuspend" | "rt_sigtimedwait" => Waits::Signal,
        "restart_syscall" => Waits::Interrupted,
        "fsync" | "fdatasync" | "sync" | "syncfs" | "msync" | "sync_file_range" => Waits::Disk,
        "flock" => Waits::Lock,
        "fcntl" if LOCKS.contains(&second) => Waits::Lock,
        "semop" | "semtimedop" | "msgrcv" | "msgsnd" | "mq_timedreceive" | "mq_timedsend" => {
            Waits::Process
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

    fn described(_: u32, fd: u32) -> Option<Descriptor> {
        let target = match fd {
            0..5 => "socket:[7]",
            5 => "/var/log/app.log",
            6 => "anon_inode:[eventpoll]",
            _ => return None,
        };
        Some(Descriptor { kind: Kind::of_link(target), target: target.into() })
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

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text in "\\PC*",
            numbers in "-?[0-9]{1,21}( 0x[0-9a-f]{0,17}){0,9}",
        ) {
            let _ = (Call::parse(&text), Call::parse(&numbers), wchan(&text));
        }

        #[test]
        fn every_thread_is_in_one_group(
            calls in proptest::collection::vec((0u64..500, 0u64..12, "[RSDTZI]"), 0..40),
        ) {
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

//! What the threads of a process waited in when one of its leaks was reported first, as a fact.

use std::{collections::HashMap, str::FromStr};

use serde::{Deserialize, Serialize};

use super::record::{BootNs, ProcessId};
use crate::formats::{
    descriptor::{Descriptor, Kind},
    threads::{Call, Thread, ThreadGroup, Threads, call_name, call_number, group},
};

/// The threads of a process at one moment. Text may hold anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Its pid.
    pub pid: u32,
    /// When it started, ns of the boot clock.
    pub start_ns: BootNs,
    /// How many threads it had.
    pub of: u64,
    /// Those that were read: the first ones.
    pub threads: Vec<WaitingThread>,
    /// Why nothing is known of them.
    pub unknown: Option<String>,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingThread {
    /// Thread id.
    pub tid: u32,
    /// Its name.
    pub comm: String,
    /// The letter that `/proc/PID/stat` has.
    pub state: char,
    /// The kernel function it slept in.
    pub wchan: Option<String>,
    /// What it was in.
    pub call: WaitsIn,
    /// What the descriptor was that the call was made on.
    pub on: Option<On>,
}

/// What a thread was in; see [`Call`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitsIn {
    /// It ran or could run.
    Running,
    /// It waited in the kernel, and not for a call.
    Outside,
    /// In this system call: by its name, since numbers differ between architectures.
    In {
        /// The name.
        name: String,
        /// The first argument.
        first: u64,
        /// The second.
        second: u64,
    },
    /// In a call that had no name there.
    Numbered(u64),
    /// Not known, and why.
    Unknown(String),
}

/// A descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct On {
    /// What it is: [`Kind::name`].
    pub kind: String,
    /// What its link in `/proc/PID/fd` pointed at.
    pub target: String,
}

/// Reasons that live reading gives, and one for all that newer versions give.
const REASONS: [&str; 8] = [
    "a 32-bit program's call",
    "this kernel has no /proc/PID/syscall",
    "not permitted: needs CAP_SYS_PTRACE",
    "the process is gone",
    "its files below /proc can't be read",
    "reading them took too long",
    "/proc/PID/syscall has an unknown format",
    "the recording says it in words that this tcptrace does not know",
];

fn reason(text: &str) -> &'static str {
    let last = REASONS[REASONS.len() - 1];
    REASONS.into_iter().find(|reason| *reason == text).unwrap_or(last)
}

impl Waiting {
    /// From what was read of a process's threads, of which there were `of`; `describe` says what a
    /// thread's descriptor is: (tid, fd).
    pub fn new(
        id: ProcessId,
        read: Result<(Vec<Thread>, usize), &'static str>,
        describe: impl Fn(u32, u32) -> Option<Descriptor>,
    ) -> Self {
        let of_process = Self { pid: id.pid, start_ns: id.start_ns, ..Self::default() };
        match read {
            Err(why) => Self { unknown: Some(why.to_owned()), ..of_process },
            Ok((threads, of)) => {
                let threads =
                    threads.iter().map(|thread| WaitingThread::new(thread, &describe)).collect();
                Self { of: of as u64, threads, ..of_process }
            }
        }
    }

    /// The threads in groups, as of a live process.
    ///
    /// # Errors
    /// Why nothing is known of them.
    pub fn groups(&self) -> Result<Threads, &'static str> {
        if let Some(why) = &self.unknown {
            return Err(reason(why));
        }
        let threads: Vec<Thread> = self.threads.iter().map(WaitingThread::thread).collect();
        let on: HashMap<u32, &On> =
            self.threads.iter().filter_map(|w| Some((w.tid, w.on.as_ref()?))).collect();
        let describe = |tid, _| on.get(&tid).map(|on| on.descriptor());
        let groups = group(&threads, describe);
        let of = usize::try_from(self.of).unwrap_or(usize::MAX);
        Ok(Threads { groups, read: threads.len(), of })
    }

    /// The threads one by one, each as a group of its own, in the order in which they were read.
    pub fn one_by_one(&self) -> impl Iterator<Item = (&WaitingThread, ThreadGroup)> {
        self.threads.iter().filter_map(|waiting| {
            let describe = |_, _| waiting.on.as_ref().map(On::descriptor);
            Some((waiting, group(&[waiting.thread()], describe).pop()?))
        })
    }

    /// Whether there were more threads than were read.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.of > self.threads.len() as u64
    }

    /// Why nothing is known of what they wait in, where that is so: of none of them.
    #[must_use]
    pub fn why_unknown(&self) -> Option<&'static str> {
        let why = |thread: &WaitingThread| match &thread.call {
            WaitsIn::Unknown(why) => Some(reason(why)),
            _ => None,
        };
        let of_all = || self.threads.iter().map(why).reduce(|all, why| all.and(why)).flatten();
        self.unknown.as_deref().map(reason).or_else(of_all)
    }
}

impl WaitingThread {
    fn new(thread: &Thread, describe: impl Fn(u32, u32) -> Option<Descriptor>) -> Self {
        let call = match thread.call {
            Call::Running => WaitsIn::Running,
            Call::Outside => WaitsIn::Outside,
            Call::Unknown(why) => WaitsIn::Unknown(why.to_owned()),
            Call::In { number, first, second } => match call_name(number) {
                Some(name) => WaitsIn::In { name: name.to_owned(), first, second },
                None => WaitsIn::Numbered(number),
            },
        };
        let descriptor = thread.descriptor().and_then(|fd| describe(thread.tid, fd));
        Self {
            tid: thread.tid,
            comm: thread.comm.to_string(),
            state: thread.state,
            wchan: thread.wchan.as_deref().map(str::to_owned),
            call,
            on: descriptor
                .map(|d| On { kind: d.kind.name().to_owned(), target: d.target.to_string() }),
        }
    }

    fn thread(&self) -> Thread {
        let call = match &self.call {
            WaitsIn::Running => Call::Running,
            WaitsIn::Outside => Call::Outside,
            WaitsIn::Unknown(why) => Call::Unknown(reason(why)),
            WaitsIn::Numbered(number) => Call::In { number: *number, first: 0, second: 0 },
            WaitsIn::In { name, first, second } => match call_number(name) {
                Some(number) => Call::In { number, first: *first, second: *second },
                None => Call::Unknown("a call that this architecture does not have"),
            },
        };
        let wchan = self.wchan.as_deref().map(Into::into);
        Thread { tid: self.tid, comm: self.comm.as_str().into(), state: self.state, wchan, call }
    }
}

impl On {
    fn descriptor(&self) -> Descriptor {
        let kind = Kind::from_str(&self.kind).unwrap_or(Kind::Other);
        Descriptor { kind, target: self.target.as_str().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_what_is_grouped_later() {
        let thread = |tid, state, text: &str| Thread {
            tid,
            comm: format!("t{tid}").into(),
            state,
            wchan: Some("do_wait".into()),
            call: Call::parse(text),
        };
        let epoll = call_number("epoll_pwait").expect("it is everywhere");
        let read = call_number("read").expect("it is everywhere");
        let threads = vec![
            thread(1, 'R', "running"),
            thread(2, 'S', &format!("{epoll} 0x6 0x0 0x0 0x0 0x0 0x0 0x1 0x2")),
            thread(3, 'S', &format!("{read} 0x5 0x0 0x0 0x0 0x0 0x0 0x1 0x2")),
            thread(4, 'D', "-1 0x1 0x2"),
            thread(5, 'S', "99999 0x5 0x0 0x0 0x0 0x0 0x0 0x1 0x2"),
            thread(6, 'S', "what?"),
        ];
        let describe = |_, fd| {
            let kind = if fd == 6 { Kind::Epoll } else { Kind::Socket };
            Some(Descriptor { kind, target: format!("socket:[{fd}]").into() })
        };
        let id = ProcessId { pid: 7, start_ns: 8 };
        let waiting = Waiting::new(id, Ok((threads.clone(), 9)), describe);
        assert_eq!((waiting.pid, waiting.start_ns), (7, 8));
        let groups = waiting.groups().expect("known");
        assert_eq!(groups.groups, group(&threads, describe));
        assert_eq!((groups.read, groups.of), (6, 9));

        assert_eq!(waiting.why_unknown(), None);
        for why in REASONS {
            let unknown = Waiting::new(id, Err(why), describe);
            assert_eq!(unknown.groups(), Err(why));
            assert_eq!(unknown.why_unknown(), Some(why));
            let refused = Thread { call: Call::Unknown(why), ..threads[0].clone() };
            let refused = Waiting::new(id, Ok((vec![refused.clone(), refused], 2)), describe);
            assert_eq!(refused.why_unknown(), Some(why));
        }
        let newer = Waiting { unknown: Some("\x1b[1m".to_owned()), ..Waiting::default() };
        assert_eq!(newer.groups(), Err(REASONS[7]));
    }
}

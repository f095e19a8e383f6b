//! The lists that threads gave to poll(), select() and epoll_wait(), and the words of the locks
//! that they wait for: a few bytes of a process's memory each. What was read counts only if the
//! thread is in the same call afterwards.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::Read,
    os::unix::fs::FileExt,
};

use super::{
    super::{text, threads::DescriptorTable},
    is_call,
};
use crate::{
    engine::{
        blocked::reading::{ReadEntry, ReadList, ReadLock},
        waiting::{On, Waiting, WaitsIn},
    },
    formats::{
        arguments::{Arguments, LOCK, LockWords, POLLFD, Watched, polled, selected},
        fdinfo::epoll_set,
    },
};

/// Threads of a process whose lists are read.
const THREADS: usize = 64;
/// Descriptors of one list that are told.
const ENTRIES: usize = 4;
/// Descriptors that select() and we take at most (FD_SETSIZE).
const LONGEST: u64 = 1_024;
/// Of the description of an epoll instance no more is read, bytes: some 15,000 descriptors.
const DESCRIPTION: u64 = 1 << 20;

const POLL: [&str; 2] = ["poll", "ppoll"];
const SELECT: [&str; 2] = ["select", "pselect6"];
const EPOLL: [&str; 3] = ["epoll_wait", "epoll_pwait", "epoll_pwait2"];

fn in_call<'a>(waiting: &'a Waiting, calls: &'a [&str]) -> impl Iterator<Item = (u32, u64)> + 'a {
    waiting.threads.iter().filter_map(|thread| match &thread.call {
        WaitsIn::In { name, first, .. } if calls.contains(&&**name) && thread.state != 'T' => {
            Some((thread.tid, *first))
        }
        _ => None,
    })
}

/// What the threads that wait for several descriptors gave to their calls. `listening`: the
/// process's listeners, by descriptor.
#[must_use]
pub fn lists(
    waiting: &Waiting,
    table: &DescriptorTable,
    listening: &BTreeMap<u32, u64>,
) -> Vec<ReadList> {
    let describe = |tid, watched: &Watched| {
        let on = table.describe(tid, watched.fd);
        let on = on.map(|d| On { kind: d.kind.name().to_owned(), target: d.target.to_string() });
        ReadEntry { fd: watched.fd, on, reads: watched.reads, writes: watched.writes }
    };
    let list = |tid, of: u64, all: &[Watched]| ReadList {
        tid,
        entries: all.iter().take(ENTRIES).map(|watched| describe(tid, watched)).collect(),
        of,
        // Where not all was read, there may be one.
        listener: all.iter().any(|watched| listening.contains_key(&watched.fd))
            || of > all.len() as u64 && !listening.is_empty(),
    };
    let pid = waiting.pid;
    let epolls = in_call(waiting, &EPOLL).take(THREADS);
    let of_epoll = |(tid, fd)| epoll_list(pid, fd).map(|(of, all)| list(tid, of, &all));
    let mut lists: Vec<ReadList> = epolls.filter_map(of_epoll).collect();
    let calls = [POLL, SELECT].concat();
    let mut waits = in_call(waiting, &calls).take(THREADS).peekable();
    if waits.peek().is_none() {
        return lists;
    }
    let Ok(memory) = File::open(format!("/proc/{pid}/mem")) else { return lists };
    let of_call = |(tid, _)| {
        let (of, all) = during(pid, tid, |call| list_of(&memory, call))?;
        Some(list(tid, of, &all))
    };
    lists.extend(waits.filter_map(of_call));
    lists
}

/// The locks that name an owner among the process's threads.
#[must_use]
pub fn locks(waiting: &Waiting) -> Vec<ReadLock> {
    let mut waits = in_call(waiting, &["futex"]).take(THREADS).peekable();
    if waits.peek().is_none() {
        return Vec::new();
    }
    let pid = waiting.pid;
    let Ok(memory) = File::open(format!("/proc/{pid}/mem")) else { return Vec::new() };
    let tids: HashSet<u32> = waiting.threads.iter().map(|thread| thread.tid).collect();
    let lock = |(tid, _)| {
        let owner = during(pid, tid, |call| {
            let words = LockWords::of(call).filter(|_| is_call(call.number, &["futex"]))?;
            let mut bytes = [0; LOCK];
            memory.read_exact_at(&mut bytes, call.values[0]).ok()?;
            words.owner(&bytes)
        })?;
        // Any number may be there: it is an owner only if a thread has it, and another one.
        (owner != tid && tids.contains(&owner)).then_some(ReadLock { tid, owner })
    };
    waits.filter_map(lock).collect()
}

/// What is read while the thread is in one call.
fn during<T>(pid: u32, tid: u32, read: impl FnOnce(&Arguments) -> Option<T>) -> Option<T> {
    let path = format!("/proc/{pid}/task/{tid}/syscall");
    let before = text(&path).ok()?;
    let found = read(&Arguments::parse(&before)?)?;
    (text(&path).ok()? == before).then_some(found)
}

/// How many descriptors the call was given, and those that could be read.
fn list_of(memory: &File, call: &Arguments) -> Option<(u64, Vec<Watched>)> {
    let [first, second, third, ..] = call.values;
    let read = |address: u64, length: usize| {
        let mut bytes = vec![0; length];
        if address != 0 {
            memory.read_exact_at(&mut bytes, address).ok()?;
        }
        Some(bytes)
    };
    if is_call(call.number, &POLL) {
        // nfds is an unsigned int.
        let of = second & 0xffff_ffff;
        let all = polled(&read(first, of.min(LONGEST) as usize * POLLFD)?);
        // Entries with a negative number are not waited for.
        return Some((if of <= LONGEST { all.len() as u64 } else { of }, all));
    }
    let length = ((first & 0xffff_ffff).min(LONGEST) as usize).div_ceil(64) * 8;
    let all = selected(&read(second, length)?, &read(third, length)?);
    is_call(call.number, &SELECT).then_some((all.len() as u64, all))
}

/// How many descriptors an epoll instance has, and those that could be read.
fn epoll_list(pid: u32, fd: u64) -> Option<(u64, Vec<Watched>)> {
    let mut description = String::new();
    let file = File::open(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    file.take(DESCRIPTION).read_to_string(&mut description).ok()?;
    let all: Vec<Watched> =
        epoll_set(&description).map(|fd| Watched { fd, reads: true, writes: false }).collect();
    let cut = u64::from(description.len() as u64 == DESCRIPTION);
    Some((all.len() as u64 + cut, all))
}

#[cfg(test)]
mod tests {
    use std::{
        os::fd::AsRawFd,
        sync::mpsc,
        thread,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::source::live::{process, threads};

    /// What our own threads wait for, once it is so.
    fn until<T>(found: impl Fn(&Waiting) -> Option<T>) -> Option<T> {
        let ours = process::find(std::process::id()).expect("we are there");
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            let waiting = threads::waiting(ours);
            if waiting.threads.iter().any(|t| matches!(t.call, WaitsIn::Unknown(_))) {
                crate::skipped("/proc/PID/syscall is not to be read here");
                return None;
            }
            if let Some(found) = found(&waiting) {
                return Some(found);
            }
        }
        panic!("not within 30 s");
    }

    #[test]
    fn a_thread_that_polls_one_descriptor() {
        let (reads, writes) = std::io::pipe().expect("a pipe");
        let fd = reads.as_raw_fd();
        let polling = thread::spawn(move || {
            let mut list = [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }];
            // SAFETY: one request, as the count says, that outlives the call.
            let n = unsafe { libc::poll(list.as_mut_ptr(), 1, 60_000) };
            drop(reads);
            n
        });
        let table = DescriptorTable::new(std::process::id());
        let found = until(|waiting| {
            let all = lists(waiting, &table, &BTreeMap::new());
            all.into_iter().find(|list| list.entries.iter().any(|e| e.fd == fd.unsigned_abs()))
        });
        if let Some(list) = found {
            let entry = &list.entries[0];
            assert_eq!((list.of, entry.reads, entry.writes), (1, true, false));
            assert_eq!(entry.on.as_ref().expect("it is open").kind, "pipe");
        }
        drop(writes);
        assert_eq!(polling.join().expect("it ends"), 1);
    }

    /// A glibc mutex keeps its owner; other libraries' do not, and then nothing is claimed.
    #[cfg(target_env = "gnu")]
    #[test]
    fn a_mutex_names_its_owner() {
        struct Shared(std::cell::UnsafeCell<libc::pthread_mutex_t>);
        // SAFETY: it is only used through the functions that are made for that.
        unsafe impl Sync for Shared {}
        static MUTEX: Shared = Shared(std::cell::UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
        let (let_go, wait) = mpsc::channel::<()>();
        let (say, owner) = mpsc::channel();
        let owns = thread::spawn(move || {
            // SAFETY: a static mutex, unlocked by the thread that has it.
            unsafe { libc::pthread_mutex_lock(MUTEX.0.get()) };
            let _ = say.send(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
            let _ = wait.recv();
            // SAFETY: as above.
            unsafe { libc::pthread_mutex_unlock(MUTEX.0.get()) };
        });
        let owner = owner.recv().expect("it has it");
        let waits = thread::spawn(|| {
            // SAFETY: as above.
            unsafe {
                libc::pthread_mutex_lock(MUTEX.0.get());
                libc::pthread_mutex_unlock(MUTEX.0.get());
            }
        });
        let found = until(|waiting| locks(waiting).into_iter().find(|lock| lock.owner == owner));
        drop(let_go);
        owns.join().and_then(|()| waits.join()).expect("both end");
        assert!(found.is_none_or(|lock| lock.tid != owner));
    }
}

//! A process's threads and what they wait in, from `/proc/PID/task` (proc(5)).

use std::{
    cell::OnceCell,
    collections::HashSet,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    iter,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    engine::{
        record::{ProcessId, same_start},
        waiting::Waiting,
    },
    formats::{
        descriptor::{Descriptor, Kind, socket_inode},
        net_lines::NetLine,
        stat::Stat,
        threads::{Call, Thread, Threads, group, wchan},
    },
    source::live::{is_gone, numbers, process, text},
};

/// More threads than this say nothing more.
const MOST: usize = 2_000;
/// Reading takes no longer than this: some files below `/proc/PID` wait for the process itself.
const LONGEST: Duration = Duration::from_secs(2);

/// The process's threads in groups, the largest first: so many of them as can be read soon.
///
/// # Errors
/// Why nothing is known of them.
pub fn groups(pid: u32) -> Result<Threads, &'static str> {
    let (threads, of) = read(pid, MOST, LONGEST)?;
    let descriptors = DescriptorTable::new(pid);
    let groups = group(&threads, |tid, fd| descriptors.describe(tid, fd));
    Ok(Threads { groups, read: threads.len(), of })
}

/// What was read of a process's threads.
enum Found {
    /// So many there are.
    Listed(usize),
    One(Texts),
}

/// What `/proc/PID/task/TID` says.
struct Texts {
    tid: u32,
    stat: String,
    syscall: io::Result<String>,
    wchan: String,
    /// It may be in a call of another table.
    foreign: bool,
}

/// The process's first threads, `most` at most and what can be read of them in `longest`, and how
/// many there are. Those that end meanwhile are left out, and not counted.
///
/// # Errors
/// Why nothing is known of them.
pub fn read(
    pid: u32,
    most: usize,
    longest: Duration,
) -> Result<(Vec<Thread>, usize), &'static str> {
    const SLOW: &str = "reading them took too long";
    let deadline = Instant::now() + longest;
    let (tell, told) = mpsc::channel();
    // On a thread of its own, which is left behind where a read does not come back.
    thread::Builder::new()
        .spawn(move || tell_all(pid, most, |found| tell.send(found).is_ok()))
        .map_err(|_| "no thread could be started to read them")?;
    let mut found = Collected::of(pid);
    loop {
        match told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(one) => found.add(one)?,
            Err(RecvTimeoutError::Disconnected) => return found.all(),
            Err(RecvTimeoutError::Timeout) if found.threads.is_empty() => return Err(SLOW),
            Err(RecvTimeoutError::Timeout) => return found.all(),
        }
    }
}

/// The same on this thread: a read that does not come back holds it.
///
/// # Errors
/// As for [`read`].
pub fn read_here(
    pid: u32,
    most: usize,
    longest: Duration,
) -> Result<(Vec<Thread>, usize), &'static str> {
    let deadline = Instant::now() + longest;
    let mut found = Collected::of(pid);
    let mut failed = None;
    tell_all(pid, most, |one| {
        failed = found.add(one).err();
        failed.is_none() && Instant::now() < deadline
    });
    failed.map_or_else(|| found.all(), Err)
}

/// What its threads wait in, as a fact; read on this thread.
#[must_use]
pub fn waiting(id: ProcessId) -> Waiting {
    waiting_first(id, MOST, LONGEST)
}

/// The same of its first threads, `most` at most and what can be read of them in `longest`.
#[must_use]
pub fn waiting_first(id: ProcessId, most: usize, longest: Duration) -> Waiting {
    let read = match process::find(id.pid) {
        Some(now) if same_start(now.start_ns, id.start_ns) => read_here(id.pid, most, longest),
        _ => Err("the process is gone"),
    };
    let descriptors = DescriptorTable::new(id.pid);
    Waiting::new(id, read, |tid, fd| descriptors.describe(tid, fd))
}

/// Threads, as they are told of.
struct Collected {
    pid: u32,
    threads: Vec<Thread>,
    of: Option<usize>,
    ended: usize,
}

impl Collected {
    fn of(pid: u32) -> Self {
        Self { pid, threads: Vec::new(), of: None, ended: 0 }
    }

    fn add(&mut self, found: io::Result<Found>) -> Result<(), &'static str> {
        match found {
            Ok(Found::Listed(n)) => self.of = Some(n),
            Ok(Found::One(texts)) => match parse(texts) {
                Some(thread) => self.threads.push(thread),
                None => self.ended += 1,
            },
            Err(e) if is_gone(&e, self.pid) => self.ended += 1,
            Err(e) => return Err(absent(&e)),
        }
        Ok(())
    }

    fn all(self) -> Result<(Vec<Thread>, usize), &'static str> {
        match self.of {
            Some(of) if !self.threads.is_empty() => {
                Ok((self.threads, of.saturating_sub(self.ended)))
            }
            _ => Err("the process is gone"),
        }
    }
}

/// Reads the threads one after the other, as long as somebody listens.
fn tell_all(pid: u32, most: usize, mut tell: impl FnMut(io::Result<Found>) -> bool) {
    let list = || {
        let tids = numbers(&format!("/proc/{pid}/task"))?;
        // Numbers of a 32-bit program's calls are another table's; it would be named wrongly.
        Ok((tids, is_32_bit(pid) && size_of::<usize>() == 8))
    };
    let (tids, foreign) = match list() {
        Ok(list) => list,
        // Nobody listens any more where it can't be told: it took too long.
        Err(e) => {
            tell(Err(e));
            return;
        }
    };
    let one = |tid| {
        let text = |file: &str| text(&format!("/proc/{pid}/task/{tid}/{file}"));
        let (stat, syscall) = (text("stat")?, text("syscall"));
        let wchan = text("wchan").unwrap_or_default();
        Ok(Found::One(Texts { tid, stat, syscall, wchan, foreign }))
    };
    let listed = Ok(Found::Listed(tids.len()));
    for found in iter::once(listed).chain(tids.into_iter().take(most).map(one)) {
        if !tell(found) {
            return;
        }
    }
}

fn parse(Texts { tid, stat, syscall, wchan: place, foreign }: Texts) -> Option<Thread> {
    let Stat { comm, state, .. } = Stat::parse(&stat)?;
    let call = match syscall {
        Ok(text) => match Call::parse(&text) {
            Call::In { .. } if foreign => Call::Unknown("a 32-bit program's call"),
            call => call,
        },
        // The file is there wherever the kernel can write it; and the thread was, just now.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Call::Unknown("this kernel has no /proc/PID/syscall")
        }
        Err(e) => Call::Unknown(absent(&e)),
    };
    Some(Thread { tid, comm, state, wchan: wchan(&place).map(Into::into), call })
}

fn absent(e: &io::Error) -> &'static str {
    match e.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => "not permitted: needs CAP_SYS_PTRACE",
        Some(libc::ENOENT | libc::ESRCH) => "the process is gone",
        _ => "its files below /proc can't be read",
    }
}

/// By its executable's ELF class (elf(5)).
fn is_32_bit(pid: u32) -> bool {
    const ELFCLASS32: u8 = 1;
    let mut ident = [0; 5];
    let read = File::open(format!("/proc/{pid}/exe")).and_then(|mut f| f.read_exact(&mut ident));
    read.is_ok() && ident == [0x7f, b'E', b'L', b'F', ELFCLASS32]
}

/// What a process's descriptors are.
#[derive(Debug)]
pub struct DescriptorTable {
    pid: u32,
    /// Inode numbers, once a socket is asked for.
    listeners: OnceCell<HashSet<u64>>,
}

impl DescriptorTable {
    /// Of this process.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self { pid, listeners: OnceCell::new() }
    }

    /// What `fd` is for this thread; `None` where it is closed or not to be seen.
    #[must_use]
    pub fn describe(&self, tid: u32, fd: u32) -> Option<Descriptor> {
        let target = fs::read_link(format!("/proc/{}/task/{tid}/fd/{fd}", self.pid)).ok()?;
        let target = target.to_string_lossy();
        let kind = match Kind::of_link(&target) {
            Kind::Socket if self.listens(&target) => Kind::Listener,
            kind => kind,
        };
        Some(Descriptor { kind, target: target.into() })
    }

    fn listens(&self, target: &str) -> bool {
        let read = || listeners(self.pid).map(|line| line.inode).collect();
        socket_inode(target).is_some_and(|inode| self.listeners.get_or_init(read).contains(&inode))
    }
}

/// The listeners of a process's network namespace: in each file the kernel writes them before all
/// other sockets (`tcp_seq_start`, net/ipv4/tcp_ipv4.c), of which there may be very many.
pub(super) fn listeners(pid: u32) -> impl Iterator<Item = NetLine> {
    ["tcp", "tcp6"].into_iter().flat_map(move |file| {
        let file = File::open(format!("/proc/{pid}/net/{file}")).ok();
        let lines = file.into_iter().flat_map(|file| BufReader::new(file).lines().skip(1));
        lines.map_while(Result::ok).map_while(|line| listener(&line))
    })
}

/// A listener's line.
#[must_use]
pub fn listener(line: &str) -> Option<NetLine> {
    NetLine::parse(line).filter(NetLine::is_listener)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsRawFd};

    use super::*;
    use crate::formats::threads::{ThreadGroup, Waits, Whereabouts};

    #[test]
    fn lines_of_listeners() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 70091 1 0 100 0 0 10 0";
        assert_eq!(listener(line).map(|line| line.inode), Some(70091));
        assert!(listener(&line.replace("0A", "01")).is_none());
        assert!(listener("").is_none());
    }

    #[test]
    fn a_thread_in_accept_waits_for_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let fd = listener.as_raw_fd().unsigned_abs();
        let to = listener.local_addr().expect("an address");
        let (done, ended) = mpsc::channel();
        thread::spawn(move || done.send(listener.accept().is_ok()));
        let mine = |g: &&ThreadGroup| {
            g.fds.contains_key(&fd) && matches!(g.place, Whereabouts::Call("accept" | "accept4"))
        };
        // Until it has come that far; the test's own deadline is the runner's.
        let found = loop {
            let groups = groups(std::process::id()).expect("our own threads").groups;
            if groups.iter().any(|g| matches!(g.place, Whereabouts::Unknown(_))) {
                return crate::skipped("/proc/PID/syscall is not to be read here");
            }
            if let Some(found) = groups.iter().find(mine) {
                break found.clone();
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(found.on, Some(Kind::Listener));
        assert_eq!(found.waits, Some(Waits::Connections));
        let described = DescriptorTable::new(std::process::id())
            .describe(found.tids[0], fd)
            .expect("it is open");
        assert_eq!(described.kind, Kind::Listener, "as /proc/net/tcp has it");
        drop(std::net::TcpStream::connect(to));
        assert!(ended.recv().expect("it ends"));
    }

    #[test]
    fn a_process_that_is_gone() {
        // Above PID_MAX_LIMIT (include/linux/threads.h).
        assert_eq!(read(1 << 30, MOST, LONGEST), Err("the process is gone"));
    }

    #[test]
    fn no_more_than_so_many_and_not_for_longer() {
        let (end, wait) = mpsc::channel::<()>();
        let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
        for _ in 0..5 {
            let wait = std::sync::Arc::clone(&wait);
            thread::spawn(move || drop(wait.lock().map(|wait| wait.recv())));
        }
        let pid = std::process::id();
        let (threads, of) = read(pid, 3, LONGEST).expect("our own threads");
        assert!(threads.len() == 3 && of >= 6, "3 of {of}");
        let (threads, of) = read(pid, MOST, LONGEST).expect("our own threads");
        assert!(threads.len() >= 6 && threads.len() <= of, "{} of {of}", threads.len());
        assert_eq!(read(pid, MOST, Duration::ZERO), Err("reading them took too long"));
        drop(end);
    }
}

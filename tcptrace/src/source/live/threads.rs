//! A process's threads and what they wait in, from `/proc/PID/task` (proc(5)).

use std::{
    cell::OnceCell,
    collections::HashSet,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
};

use crate::{
    formats::{
        descriptor::{Descriptor, Kind, socket_inode},
        stat::Stat,
        threads::{Call, Group, Thread, group, wchan},
    },
    source::live::{numbers, text},
};

/// The process's threads in groups, the largest first.
///
/// # Errors
/// Why nothing is known of them.
pub fn groups(pid: u32) -> Result<Vec<Group>, &'static str> {
    let threads = read(pid)?;
    let descriptors = Descriptors::new(pid);
    Ok(group(&threads, |tid, fd| descriptors.describe(tid, fd)))
}

/// The process's threads. Those that end meanwhile are left out.
///
/// # Errors
/// Why nothing is known of them.
pub fn read(pid: u32) -> Result<Vec<Thread>, &'static str> {
    let tids = numbers(&format!("/proc/{pid}/task")).map_err(|e| absent(&e))?;
    // Numbers of a 32-bit program's calls are another table's; it would be named wrongly.
    let foreign = is_32_bit(pid) && size_of::<usize>() == 8;
    let threads: Vec<Thread> =
        tids.into_iter().filter_map(|tid| thread(pid, tid, foreign)).collect();
    if threads.is_empty() { Err("the process is gone") } else { Ok(threads) }
}

fn thread(pid: u32, tid: u32, foreign: bool) -> Option<Thread> {
    let text = |file: &str| text(&format!("/proc/{pid}/task/{tid}/{file}"));
    let Stat { comm, state, .. } = Stat::parse(&text("stat").ok()?)?;
    let call = match text("syscall") {
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
    let place = text("wchan").unwrap_or_default();
    Some(Thread { tid, comm, state, wchan: wchan(&place).map(Into::into), call })
}

fn absent(e: &io::Error) -> &'static str {
    match e.kind() {
        io::ErrorKind::PermissionDenied => "not permitted: needs CAP_SYS_PTRACE",
        _ => "the process is gone",
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
pub struct Descriptors {
    pid: u32,
    /// Inode numbers, once a socket is asked for.
    listeners: OnceCell<HashSet<u64>>,
}

impl Descriptors {
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
        let read = || ["tcp", "tcp6"].into_iter().flat_map(|f| listeners(self.pid, f)).collect();
        socket_inode(target).is_some_and(|inode| self.listeners.get_or_init(read).contains(&inode))
    }
}

/// The listeners in `/proc/PID/net/tcp`: the kernel writes them before all other sockets
/// (`tcp_seq_start`, net/ipv4/tcp_ipv4.c), of which there may be very many.
fn listeners(pid: u32, file: &str) -> Vec<u64> {
    let Ok(file) = File::open(format!("/proc/{pid}/net/{file}")) else { return Vec::new() };
    let lines = BufReader::new(file).lines().skip(1).map_while(Result::ok);
    lines.map_while(|l| listener(&l)).collect()
}

/// The inode number in a listener's line: the fields are sl, local, remote, st, queues, timer,
/// retransmissions, uid, timeout, inode.
#[must_use]
pub fn listener(line: &str) -> Option<u64> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_whitespace();
    fields.nth(3).filter(|st| *st == LISTEN)?;
    fields.nth(5)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsRawFd, sync::mpsc, thread, time::Duration};

    use super::*;
    use crate::formats::threads::Place;

    #[test]
    fn lines_of_listeners() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 70091 1 0 100 0 0 10 0";
        assert_eq!(listener(line), Some(70091));
        assert_eq!(listener(&line.replace("0A", "01")), None);
        assert_eq!(listener(""), None);
    }

    #[test]
    fn a_thread_in_accept_waits_for_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let fd = listener.as_raw_fd().unsigned_abs();
        let to = listener.local_addr().expect("an address");
        let (done, ended) = mpsc::channel();
        thread::spawn(move || done.send(listener.accept().is_ok()));
        let mine = |g: &&Group| {
            g.fds.contains_key(&fd) && matches!(g.place, Place::Call("accept" | "accept4"))
        };
        // Until it has come that far; the test's own deadline is the runner's.
        let found = loop {
            let groups = groups(std::process::id()).expect("our own threads");
            if groups.iter().any(|g| matches!(g.place, Place::Unknown(_))) {
                eprintln!("SKIPPED: /proc/PID/syscall is not to be read here");
                return;
            }
            if let Some(found) = groups.iter().find(mine) {
                break found.clone();
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(found.on, Some(Kind::Listener));
        assert_eq!(found.means, Some("waits for connections"));
        let described =
            Descriptors::new(std::process::id()).describe(found.tids[0], fd).expect("it is open");
        assert_eq!(described.kind, Kind::Listener, "as /proc/net/tcp has it");
        drop(std::net::TcpStream::connect(to));
        assert!(ended.recv().expect("it ends"));
    }

    #[test]
    fn a_process_that_is_gone() {
        // Above PID_MAX_LIMIT (include/linux/threads.h).
        assert_eq!(read(1 << 30), Err("the process is gone"));
    }
}

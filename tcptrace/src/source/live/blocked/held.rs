//! Who has a descriptor for a socket or a pipe: all descriptors of the host, once.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    time::Instant,
};

use super::super::{numbers, process, threads};
use crate::{engine::blocked::reading::HeldBy, formats::descriptor::socket_inode};

/// Holders of one thing that are told.
pub const MOST: usize = 16;
/// More descriptors than these are not looked through: 16 bytes each.
const DESCRIPTORS: usize = 1 << 20;

/// Descriptors for sockets and pipes, in order.
#[derive(Debug)]
pub struct Held {
    entries: Vec<Entry>,
    /// All tables were gone through.
    whole: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// The inode number, and whether it is a pipe's in the lowest bit.
    key: u64,
    pid: u32,
    fd: u32,
}

fn key(target: &str) -> Option<u64> {
    let pipe = || target.strip_prefix("pipe:[")?.strip_suffix(']')?.parse::<u64>().ok();
    match socket_inode(target) {
        Some(inode) => Some(inode << 1),
        None => pipe().map(|inode| inode << 1 | 1),
    }
}

impl Held {
    /// Reads the descriptor tables of all processes, as far as that may be, until the deadline.
    #[must_use]
    pub fn read(deadline: Instant) -> Self {
        let (mut entries, mut whole) = (Vec::new(), true);
        for pid in numbers("/proc").unwrap_or_default() {
            for fd in numbers(&format!("/proc/{pid}/fd")).unwrap_or_default() {
                let link = fs::read_link(format!("/proc/{pid}/fd/{fd}"));
                let key = link.ok().and_then(|link| key(link.to_str()?));
                entries.extend(key.map(|key| Entry { key, pid, fd }));
            }
            if Instant::now() > deadline || entries.len() > DESCRIPTORS {
                whole = false;
                break;
            }
        }
        entries.sort_unstable();
        Self { entries, whole }
    }

    /// Who has a descriptor for this, and still has it.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn of(&self, target: &str) -> Result<Vec<HeldBy>, &'static str> {
        let Some(key) = key(target) else { return Ok(Vec::new()) };
        let from = self.entries.partition_point(|entry| entry.key < key);
        let all = self.entries[from..].iter().take_while(|entry| entry.key == key);
        let still = |entry: &&Entry| {
            let link = fs::read_link(format!("/proc/{}/fd/{}", entry.pid, entry.fd));
            link.is_ok_and(|link| link.as_os_str() == target)
        };
        let held = all.filter(still).filter_map(|entry| {
            let start_ns = process::find(entry.pid)?.start_ns;
            Some(HeldBy { pid: entry.pid, start_ns, fd: entry.fd })
        });
        let held: Vec<HeldBy> = held.take(MOST).collect();
        match held.is_empty() && !self.whole {
            true => Err("there are too many descriptors to look for who has it"),
            false => Ok(held),
        }
    }
}

/// The listeners that a process has: their inode numbers, by descriptor.
#[must_use]
pub fn listeners(pid: u32) -> BTreeMap<u32, u64> {
    let all: HashSet<u64> = threads::listeners(pid).map(|line| line.inode).collect();
    if all.is_empty() {
        return BTreeMap::new();
    }
    let inode = |fd: u32| {
        let link = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
        Some((fd, socket_inode(link.to_str()?).filter(|inode| all.contains(inode))?))
    };
    let fds = numbers(&format!("/proc/{pid}/fd")).unwrap_or_default();
    fds.into_iter().filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use std::{os::fd::AsRawFd, time::Duration};

    use super::*;

    #[test]
    fn both_ends_of_a_pipe_and_a_listener() {
        let (reads, writes) = std::io::pipe().expect("a pipe");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listens");
        let (pid, fd) = (std::process::id(), reads.as_raw_fd().unsigned_abs());
        let link = fs::read_link(format!("/proc/self/fd/{fd}")).expect("a link");
        let held = Held::read(Instant::now() + Duration::from_secs(30));
        let of = held.of(link.to_str().expect("text")).expect("all were read");
        let fds: Vec<u32> = of.iter().filter(|h| h.pid == pid).map(|h| h.fd).collect();
        assert_eq!(
            fds,
            [fd.min(writes.as_raw_fd().unsigned_abs()), fd.max(writes.as_raw_fd().unsigned_abs())]
        );
        drop((reads, writes));
        let of = held.of(link.to_str().expect("text"));
        assert_eq!(of, Ok(Vec::new()), "it is closed");
        let cut = Held { entries: Vec::new(), whole: false };
        assert!(cut.of("pipe:[1]").is_err(), "nobody is not what that shows");
        assert!(listeners(pid).contains_key(&listener.as_raw_fd().unsigned_abs()));
        assert_eq!(key("anon_inode:[eventfd]"), None);
    }
}

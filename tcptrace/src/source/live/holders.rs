//! Who holds what where the kernel's list of descriptors can't be used: `/proc`.

use std::{collections::HashMap, fs};

use tcptrace_common::event::{Holding, KIND_HOLDING, Socket};

use crate::{
    formats::descriptor::socket_inode,
    source::live::{is_gone, numbers, process},
};

/// Who holds what, as `/proc` shows it.
#[derive(Debug)]
pub struct ByProc {
    /// As the kernel's iterator would list them, one process after the other.
    pub holders: Vec<Holding>,
    /// Every process of the host was asked.
    pub all_seen: bool,
}

/// Reads `/proc/PID/fd`, for the given sockets and listeners, by inode number. Descriptor tables of
/// single threads are read only for sockets that no process holds.
#[must_use]
pub fn by_proc(suspects: &[Socket], listeners: &[Socket]) -> ByProc {
    let wanted: HashMap<u64, u64> = suspects
        .iter()
        .chain(listeners)
        .filter(|s| s.inode != 0)
        .map(|s| (s.inode.into(), s.cookie))
        .collect();
    let mut tables = Tables { wanted, found: Vec::new(), held: HashMap::new(), hidden: false };
    let pids = numbers("/proc");
    tables.hidden = pids.is_err();
    let pids = pids.unwrap_or_default();
    for pid in &pids {
        tables.read(&format!("/proc/{pid}/fd"), *pid, *pid);
    }
    if tables.wanted.values().any(|cookie| !tables.held.contains_key(cookie)) {
        for pid in &pids {
            let tids = tables.list(&format!("/proc/{pid}/task"), *pid);
            for tid in tids.into_iter().filter(|tid| tid != pid) {
                tables.read(&format!("/proc/{pid}/task/{tid}/fd"), *pid, tid);
            }
        }
    }
    // In this order: a confined watch may not ask for its rights, and comes here in a pid namespace
    // of its own only.
    let all_seen = !tables.hidden && kernel_names_processes() && !process::some_hidden();
    ByProc { holders: tables.found, all_seen }
}

/// Descriptor tables read so far.
struct Tables {
    /// Cookies by inode number.
    wanted: HashMap<u64, u64>,
    found: Vec<Holding>,
    /// The processes found to hold a socket, by its cookie.
    held: HashMap<u64, Vec<u32>>,
    /// Some could not be read.
    hidden: bool,
}

impl Tables {
    /// The numbers in a directory of the process's.
    fn list(&mut self, dir: &str, pid: u32) -> Vec<u32> {
        numbers(dir).unwrap_or_else(|e| {
            self.hidden |= !is_gone(&e, pid);
            Vec::new()
        })
    }

    fn read(&mut self, table: &str, pid: u32, tid: u32) {
        let mut holder = None;
        for fd in self.list(table, pid) {
            let link = match fs::read_link(format!("{table}/{fd}")) {
                Ok(link) => link,
                Err(e) => {
                    self.hidden |= !is_gone(&e, pid);
                    continue;
                }
            };
            let Some(cookie) =
                link.to_str().and_then(socket_inode).and_then(|inode| self.wanted.get(&inode))
            else {
                continue;
            };
            let held = self.held.entry(*cookie).or_default();
            // A thread's table is its process's, unless it has one of its own.
            if tid == pid || !held.contains(&pid) {
                held.push(pid);
                let holder: &Holding = holder.get_or_insert_with(|| holder_of(pid, tid));
                self.found.push(Holding { fd, cookie: *cookie, ..*holder });
            }
        }
    }
}

/// A descriptor of a process, or of a thread with a table of its own; which, and for what, is to be
/// filled in.
fn holder_of(pid: u32, tid: u32) -> Holding {
    let (name, ppid, start_ns) = match process::stat_and_start(pid) {
        Some((stat, start_ns)) => (stat.comm, stat.ppid, start_ns),
        None => ("?".into(), 0, 0),
    };
    let mut comm = [0; 16];
    let length = name.len().min(comm.len() - 1);
    comm[..length].copy_from_slice(&name.as_bytes()[..length]);
    let (kind, fd, cookie, cgroup, max_backlog) = (KIND_HOLDING, 0, 0, 0, 0);
    Holding { kind, fd, cookie, start_ns, cgroup, pid, tid, ppid, max_backlog, comm }
}

/// Whether the kernel's list of descriptors can be used here.
#[must_use]
pub fn kernel_names_processes() -> bool {
    process::in_initial_pid_namespace()
}

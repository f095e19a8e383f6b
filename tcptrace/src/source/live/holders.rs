//! From the kernel's list of descriptors to holders with their cgroups; `/proc` where the kernel's
//! list can't be used.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs,
};

use tcptrace_common::event::{Holder as Raw, KIND_HOLDER, Queued, Socket};

use crate::{
    engine::{
        decode::comm,
        holdings::Holdings,
        record::{BootNs, Holder, ProcessId},
    },
    formats::descriptor::socket_inode,
    source::live::{
        is_gone, numbers, process,
        process::{Facts, Processes},
    },
};

/// Holders by socket cookie.
pub type ByCookie = HashMap<u64, Vec<Holder>>;

/// Holders as the kernel's `task_file` pass listed them.
#[must_use]
pub fn from_kernel(
    sockets: &[Socket],
    queued: &[Queued],
    holders: &[Raw],
    processes: &Processes,
) -> Holdings {
    Holdings::new(sockets, queued, by_cookie(holders, processes), true)
}

/// The same by cookie.
#[must_use]
pub fn by_cookie(holders: &[Raw], processes: &Processes) -> ByCookie {
    let mut by_cookie = ByCookie::with_capacity(holders.len());
    // The pass lists one process after the other.
    let mut last: Option<(&Raw, Holder)> = None;
    for raw in holders {
        let known = last.take().filter(|(last, _)| is_same_process(last, raw));
        let (_, holder) = last.insert(known.unwrap_or_else(|| (raw, of(raw, processes))));
        let tid = (raw.tid != raw.pid).then_some(raw.tid);
        let holder = Holder { fd: raw.fd, tid, ..holder.clone() };
        match by_cookie.entry(raw.cookie) {
            // Room for one: hardly any has a second.
            Entry::Vacant(free) => {
                free.insert(vec![holder]);
            }
            Entry::Occupied(mut held) => held.get_mut().push(holder),
        }
    }
    by_cookie
}

fn is_same_process(a: &Raw, b: &Raw) -> bool {
    (a.pid, a.start_ns, a.ppid, a.comm) == (b.pid, b.start_ns, b.ppid, b.comm)
}

/// The process of a descriptor.
fn of(raw: &Raw, processes: &Processes) -> Holder {
    let process = ProcessId { pid: raw.pid, start_ns: raw.start_ns };
    let Facts { cgroups, inner_pid } = processes.facts(process);
    Holder {
        process,
        tid: None,
        ppid: raw.ppid,
        fd: 0,
        comm: comm(&raw.comm),
        cgroups,
        inner_pid,
        opener: None,
    }
}

/// Holders as `/proc/PID/fd` shows them, for the given sockets and listeners, by inode number.
/// Descriptor tables of single threads are read only for sockets that no process holds.
#[must_use]
pub fn from_proc(
    suspects: &[Socket],
    listeners: &[Socket],
    queued: &[Queued],
    processes: &Processes,
) -> Holdings {
    let wanted: HashMap<u64, u64> = suspects
        .iter()
        .chain(listeners)
        .filter(|s| s.inode != 0)
        .map(|s| (s.inode, s.cookie))
        .collect();
    let mut tables = Tables { wanted, by_cookie: ByCookie::new(), hidden: false };
    let pids = numbers("/proc");
    tables.hidden = pids.is_err();
    let pids = pids.unwrap_or_default();
    for pid in &pids {
        tables.read(&format!("/proc/{pid}/fd"), *pid, None, processes);
    }
    if tables.wanted.values().any(|cookie| !tables.by_cookie.contains_key(cookie)) {
        for pid in &pids {
            let tids = tables.list(&format!("/proc/{pid}/task"), *pid);
            for tid in tids.into_iter().filter(|tid| tid != pid) {
                tables.read(&format!("/proc/{pid}/task/{tid}/fd"), *pid, Some(tid), processes);
            }
        }
    }
    // In this order: a confined watch may not ask for its rights, and comes here in a pid namespace
    // of its own only.
    let all_seen = !tables.hidden && kernel_names_processes() && !process::some_hidden();
    Holdings::new(listeners, queued, tables.by_cookie, all_seen)
}

/// The same as records, as the kernel's iterator would list them.
#[must_use]
pub fn listed_by_proc(
    suspects: &[Socket],
    listeners: &[Socket],
    processes: &Processes,
) -> Vec<Raw> {
    let holdings = from_proc(suspects, listeners, &[], processes);
    let raw = |(cookie, h): (u64, &Holder)| {
        let mut comm = [0; 16];
        let name = h.comm.as_bytes();
        let length = name.len().min(comm.len() - 1);
        comm[..length].copy_from_slice(&name[..length]);
        Raw {
            kind: KIND_HOLDER,
            fd: h.fd,
            cookie,
            start_ns: h.process.start_ns,
            cgroup: 0,
            pid: h.process.pid,
            tid: h.tid.unwrap_or(h.process.pid),
            ppid: h.ppid,
            max_backlog: 0,
            comm,
        }
    };
    let held = holdings.by_cookie.iter().flat_map(|(c, held)| held.iter().map(|h| (*c, h)));
    held.map(raw).collect()
}

/// Descriptor tables read so far.
struct Tables {
    /// Cookies by inode number.
    wanted: HashMap<u64, u64>,
    by_cookie: ByCookie,
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

    fn read(&mut self, table: &str, pid: u32, tid: Option<u32>, processes: &Processes) {
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
            let holder: &Holder =
                holder.get_or_insert_with(|| processes.caller(pid, None, BootNs::MAX));
            let held = self.by_cookie.entry(*cookie).or_default();
            // A thread's table is its process's, unless it has one of its own.
            if tid.is_none() || held.iter().all(|h| h.process != holder.process) {
                held.push(Holder { fd, tid, ..holder.clone() });
            }
        }
    }
}

/// Whether [`from_kernel`] can be used here.
#[must_use]
pub fn kernel_names_processes() -> bool {
    process::in_initial_pid_namespace()
}

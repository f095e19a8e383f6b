//! From the kernel's list of descriptors to holders with their cgroups; `/proc` where the kernel's
//! list can't be used.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use procfs::process::{FDTarget, all_processes};
use tcptrace_common::event::{Holder as Raw, Queued, Socket};

use super::process::{self, Facts, Processes};
use crate::engine::{
    assemble::Holdings,
    decode::comm,
    event::{Holder, ProcessId},
};

/// Holders as the kernel's `task_file` pass listed them.
#[must_use]
pub fn from_kernel(sockets: &[Socket], queued: &[Queued], holders: &[Raw], processes: &Processes) -> Holdings {
    let mut by_cookie: HashMap<u64, Vec<Holder>> = HashMap::new();
    let mut comms: HashMap<[u8; 16], Rc<str>> = HashMap::new();
    for raw in holders {
        let process = ProcessId { pid: raw.pid, start_ns: raw.start_ns };
        let comm = comms.entry(raw.comm).or_insert_with(|| comm(&raw.comm));
        let Facts { cgroups, inner_pid } = processes.facts(process);
        by_cookie.entry(raw.cookie).or_default().push(Holder {
            process,
            tid: (raw.tid != raw.pid).then_some(raw.tid),
            ppid: raw.ppid,
            fd: raw.fd,
            comm: Rc::clone(comm),
            cgroups,
            inner_pid,
            opener: None,
        });
    }
    Holdings::new(sockets, queued, by_cookie, true)
}

/// Holders as `/proc/PID/fd` shows them, for the given sockets and listeners, by inode number.
/// Descriptor tables of single threads are not visible there.
#[must_use]
pub fn from_proc(suspects: &[Socket], listeners: &[Socket], queued: &[Queued], processes: &Processes) -> Holdings {
    let wanted: HashMap<u64, u64> =
        suspects.iter().chain(listeners).filter(|s| s.inode != 0).map(|s| (s.inode, s.cookie)).collect();
    let mut by_cookie: HashMap<u64, Vec<Holder>> = HashMap::new();
    for p in all_processes().into_iter().flatten().flatten() {
        let Ok(fds) = p.fd() else { continue };
        let mut holder = None;
        for fd in fds.flatten() {
            let FDTarget::Socket(inode) = fd.target else { continue };
            let Some(cookie) = wanted.get(&inode) else { continue };
            let pid = p.pid.unsigned_abs();
            let holder: &Holder = holder.get_or_insert_with(|| processes.caller(pid, &"?".into()));
            by_cookie.entry(*cookie).or_default().push(Holder { fd: fd.fd.unsigned_abs(), ..holder.clone() });
        }
    }
    Holdings::new(listeners, queued, by_cookie, false)
}

/// The pids that have a descriptor for any of these listeners' ports, by namespace and port.
#[must_use]
pub fn listening(
    sockets: &[Socket],
    holders: &[Raw],
    wanted: impl Fn(&Holder) -> bool,
    processes: &Processes,
) -> HashSet<(u32, u16)> {
    let holdings = from_kernel(&[], &[], holders, processes);
    let listeners = sockets.iter().filter(|s| holdings.by_cookie.get(&s.cookie).is_some_and(|h| h.iter().any(&wanted)));
    listeners.map(|s| (s.tuple.netns, s.tuple.lport)).collect()
}

/// Whether [`from_kernel`] can be used here.
#[must_use]
pub fn kernel_names_processes() -> bool {
    process::in_initial_pid_namespace()
}

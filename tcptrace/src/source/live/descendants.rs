//! Processes that a process has started, and the listeners that they hold.

use std::{
    collections::{HashMap, HashSet},
    fs,
};

use super::{numbers, process, threads};
use crate::{
    engine::left::{LastHolder, LeftListener},
    engine::record::ProcessId,
    formats::{descriptor::socket_inode, net_lines::NetLine},
};

/// The listeners of all that descend from a process and have not ended. Those of whoever may not
/// be looked into are missing.
#[must_use]
pub fn listeners(root: u32) -> Vec<LeftListener> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for holder in descendants(root) {
        let pid = holder.process.pid;
        let lines: HashMap<u64, NetLine> =
            threads::listeners(pid).map(|line| (line.inode, line)).collect();
        for fd in numbers(&format!("/proc/{pid}/fd")).unwrap_or_default() {
            let link = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default();
            let Some(inode) = link.to_str().and_then(socket_inode) else { continue };
            // What several processes hold is one listener.
            if let Some(line) = lines.get(&inode).filter(|_| seen.insert(inode)) {
                found.push(LeftListener { holder: holder.clone(), fd, local: line.local });
            }
        }
    }
    found
}

/// All that descend from it and run, in the order of their pids.
fn descendants(root: u32) -> Vec<LastHolder> {
    let all = numbers("/proc").unwrap_or_default();
    let stats: HashMap<u32, _> =
        all.into_iter().filter_map(|pid| Some((pid, process::stat_and_start(pid)?))).collect();
    let descends = |mut pid: u32| {
        // A pid may be another's by now: so many steps, and no circle.
        for _ in 0..stats.len() {
            match stats.get(&pid).map(|(stat, _)| stat.ppid) {
                Some(parent) if parent == root => return true,
                Some(parent) if parent > 1 => pid = parent,
                _ => return false,
            }
        }
        false
    };
    let mut found: Vec<LastHolder> = stats
        .iter()
        .filter(|(pid, (stat, _))| stat.state != 'Z' && descends(**pid))
        .map(|(pid, (stat, start_ns))| LastHolder {
            process: ProcessId { pid: *pid, start_ns: *start_ns },
            comm: stat.comm.clone(),
        })
        .collect();
    found.sort_unstable_by_key(|named| named.process.pid);
    found
}

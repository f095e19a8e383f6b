//! What the core is told of processes and cgroups: when they are named for the first time, and
//! again when what is known is ten seconds old.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use tcptrace_common::event::Holding;

use super::{boot_now, cgroupfs::CgroupIds, limits, process, text, usage};
use crate::engine::{
    fact::{Fact, Process},
    processes::Processes,
    record::ProcessId,
};

/// What is known of a process is asked again after this time: its descriptors grow with its leaks.
const FRESH: Duration = Duration::from_secs(10);
/// More than these are not remembered, and said again.
const KEPT: usize = 10_000;
/// Of a command line no more than this is said, bytes.
const COMMAND: usize = 4_096;
/// No process has more ancestors; pids that are used again in the middle could make a ring.
const ANCESTORS: usize = 64;

/// Remembers what was said.
#[derive(Debug, Default)]
pub struct Lookup {
    /// By pid: when, and when the process started.
    said: HashMap<u32, (Instant, u64)>,
    cgroup_ids: CgroupIds,
    said_cgroups: HashSet<u64>,
}

impl Lookup {
    /// Tells of a process and its ancestors, where that is news. One that is gone is not told of.
    pub fn process(&mut self, id: ProcessId, facts: &mut Vec<Fact>) {
        let mut next = id;
        for _ in 0..ANCESTORS {
            if self.is_said(next) {
                return;
            }
            let Some(process) = read(next) else { return };
            if self.said.len() >= KEPT {
                self.said.clear();
            }
            self.said.insert(process.pid, (Instant::now(), process.start_ns));
            next = ProcessId { pid: process.ppid, start_ns: 0 };
            facts.push(Fact::Process(Box::new(process)));
            if next.pid == 0 {
                return;
            }
        }
    }

    /// The same for a task that made a call: its pid may have been used again since it was said.
    pub fn caller(&mut self, pid: u32, facts: &mut Vec<Fact>) {
        let Some(now) = process::find(pid) else { return };
        if self.said.get(&pid).is_some_and(|(_, start_ns)| *start_ns != now.start_ns) {
            self.said.remove(&pid);
        }
        self.process(now, facts);
    }

    fn is_said(&self, id: ProcessId) -> bool {
        self.said.get(&id.pid).is_some_and(|(when, start_ns)| {
            when.elapsed() < FRESH && id.is_same(ProcessId { start_ns: *start_ns, ..id })
        })
    }

    /// Tells where a cgroup v2 is, where that is news and can be found. 0 is none.
    pub fn cgroup(&mut self, id: u64, facts: &mut Vec<Fact>) {
        if id == 0 || self.said_cgroups.contains(&id) {
            return;
        }
        if let Some(path) = self.cgroup_ids.path(id) {
            if self.said_cgroups.len() >= KEPT {
                self.said_cgroups.clear();
            }
            self.said_cgroups.insert(id);
            facts.push(Fact::Cgroup { id, path: path.to_string() });
        }
    }
}

/// Processes as far as they were named, for who takes no facts.
#[derive(Debug, Default)]
pub struct Known {
    lookup: Lookup,
    processes: Processes,
}

impl Known {
    /// All that are known.
    #[must_use]
    pub fn processes(&self) -> &Processes {
        &self.processes
    }

    /// The same, those of these descriptors among them.
    pub fn of(&mut self, holders: &[Holding]) -> &Processes {
        let mut last = None;
        for Holding { pid, start_ns, .. } in holders {
            let id = ProcessId { pid: *pid, start_ns: *start_ns };
            if last.replace(id) != Some(id) {
                self.learn(id);
            }
        }
        &self.processes
    }

    /// Asks for a process and its ancestors.
    pub fn learn(&mut self, id: ProcessId) {
        let mut facts = Vec::new();
        self.lookup.process(id, &mut facts);
        let now = boot_now();
        for fact in facts {
            if let Fact::Process(process) = fact {
                self.processes.learn(now, &process);
            }
        }
    }
}

/// What `/proc` says of the process, if it is still the one that has the pid.
fn read(id: ProcessId) -> Option<Process> {
    let pid = id.pid;
    let (stat, start_ns) = process::stat_and_start(pid)?;
    if !id.is_same(ProcessId { pid, start_ns }) {
        return None;
    }
    let file = |name: &str| text(&format!("/proc/{pid}/{name}")).ok();
    let mut command = file("cmdline").unwrap_or_default();
    command.truncate(command.floor_char_boundary(COMMAND));
    Some(Process {
        pid,
        start_ns,
        ppid: stat.ppid,
        comm: stat.comm.to_string(),
        command: process::words(&command),
        cgroups: file("cgroup"),
        inner_pid: file("status").and_then(|text| process::inner_pid(&text)),
        descriptors: usage::descriptors(pid),
        descriptor_limit: file("limits").and_then(|text| limits::open_files(&text)).map(|l| l.soft),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_once_with_its_ancestors() {
        let own = process::find(std::process::id()).expect("it runs");
        let (mut lookup, mut facts) = (Lookup::default(), Vec::new());
        lookup.process(own, &mut facts);
        let pids = |facts: &[Fact]| -> Vec<u32> {
            facts
                .iter()
                .filter_map(|f| if let Fact::Process(p) = f { Some(p.pid) } else { None })
                .collect()
        };
        assert_eq!(pids(&facts)[0], own.pid);
        let last = pids(&facts).last().copied();
        assert!(facts.len() > 1 && last == Some(1), "all its ancestors: {facts:?}");
        facts.clear();
        lookup.process(own, &mut facts);
        lookup.caller(own.pid, &mut facts);
        assert_eq!(facts, [], "it is said");
        lookup.process(ProcessId { start_ns: own.start_ns + 5_000_000_000, ..own }, &mut facts);
        assert_eq!(facts, [], "another process, gone since");
    }
}

//! What is known of processes, from the facts about them.

use std::{collections::HashMap, rc::Rc};

use super::{
    fact::Process,
    name::name,
    record::{BootNs, Holder, ProcessId},
};
use crate::formats::cgroup::Cgroups;

/// More processes than this are looked through for those that are gone; and again when there are
/// twice as many as were left.
const KEPT: usize = 16_384;
/// A source says again what it still asks about: what is older is over.
const FRESH_NS: u64 = 180_000_000_000;

/// Processes by pid: of each pid the one that has it now, or had it last.
#[derive(Debug, Default)]
pub struct Processes {
    known: HashMap<u32, Known>,
    /// Those that were left when they were looked through last.
    left: usize,
}

#[derive(Debug)]
struct Known {
    learnt_ns: BootNs,
    process: Process,
    comm: Rc<str>,
    name: Option<Rc<str>>,
    cgroups: Option<Rc<Cgroups>>,
}

/// What a holder's process adds to its descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// What people call it, where that is more than its command name.
    pub name: Option<Rc<str>>,
    /// Its cgroups; `None`: it was gone before anybody could ask.
    pub cgroups: Option<Rc<Cgroups>>,
    /// Its pid in the pid namespace it runs in, where that is not ours.
    pub inner_pid: Option<u32>,
}

impl Processes {
    /// Takes in what became known of a process at `now`.
    pub fn learn(&mut self, now: BootNs, process: &Process) {
        if self.known.len() >= KEPT.max(2 * self.left) && !self.known.contains_key(&process.pid) {
            self.known.retain(|_, known| now.saturating_sub(known.learnt_ns) < FRESH_NS);
            self.left = self.known.len();
        }
        let cgroups = process.cgroups.as_deref().map(|text| Rc::new(Cgroups::parse(text)));
        let comm = process.comm.as_str().into();
        let name = name(&process.comm, &process.command).map(Rc::from);
        let known = Known { learnt_ns: now, process: process.clone(), comm, name, cgroups };
        self.known.insert(process.pid, known);
    }

    /// The process, where it is still the one that has the pid.
    #[must_use]
    pub fn get(&self, id: ProcessId) -> Option<&Process> {
        self.at(id).map(|known| &known.process)
    }

    /// All, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Process> {
        self.known.values().map(|known| &known.process)
    }

    fn at(&self, id: ProcessId) -> Option<&Known> {
        let known = self.known.get(&id.pid)?;
        let start_ns = known.process.start_ns;
        id.is_same(ProcessId { start_ns, ..id }).then_some(known)
    }

    /// What is known of a holder's process.
    #[must_use]
    pub fn context(&self, id: ProcessId) -> Context {
        self.at(id).map_or_else(Context::default, |known| Context {
            name: known.name.clone(),
            cgroups: known.cgroups.clone(),
            inner_pid: known.process.inner_pid,
        })
    }

    /// What people call a process, where it is known.
    #[must_use]
    pub fn called(&self, id: ProcessId) -> Option<Rc<str>> {
        self.at(id).map(|known| known.name.clone().unwrap_or_else(|| Rc::clone(&known.comm)))
    }

    /// A holder known by its pid alone, without a descriptor: the task that made a call at that
    /// time, and its name then, where that is known. Who has the pid now and began later is another
    /// process.
    #[must_use]
    pub fn caller(&self, pid: u32, comm: Option<&Rc<str>>, at: BootNs) -> Holder {
        let known = self.known.get(&pid).filter(|known| known.process.start_ns <= at);
        let comm = comm.cloned().or_else(|| known.map(|k| Rc::clone(&k.comm)));
        Holder {
            process: ProcessId { pid, start_ns: known.map_or(0, |k| k.process.start_ns) },
            tid: None,
            ppid: known.map_or(0, |k| k.process.ppid),
            fd: None,
            comm: comm.unwrap_or_else(|| "?".into()),
            name: known.and_then(|k| k.name.clone()),
            cgroups: known.and_then(|k| k.cgroups.clone()),
            inner_pid: known.and_then(|k| k.process.inner_pid),
            opener: None,
        }
    }

    /// Whether `pid` is a child of one of `roots`, or a child's child, and so on.
    #[must_use]
    pub fn descends(&self, pid: u32, roots: &[ProcessId]) -> bool {
        let mut at = pid;
        // Deeper chains don't exist; pids reused in the middle of the walk could make a ring.
        for _ in 0..256 {
            let Some(parent) = self.known.get(&at).map(|k| k.process.ppid) else { return false };
            let is = |root: &ProcessId| {
                root.pid == parent && (root.start_ns == 0 || self.at(*root).is_some())
            };
            if roots.iter().any(is) {
                return true;
            }
            if parent <= 1 {
                return false;
            }
            at = parent;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, ppid: u32, start_ns: BootNs) -> Process {
        Process { pid, ppid, start_ns, comm: format!("p{pid}"), ..Process::default() }
    }

    #[test]
    fn a_pid_that_another_process_has_now() {
        let mut processes = Processes::default();
        processes.learn(1, &process(7, 1, 5_000_000_000));
        let id = |start_ns| ProcessId { pid: 7, start_ns };
        assert!(processes.get(id(5_010_000_000)).is_some() && processes.get(id(0)).is_some());
        assert!(processes.get(id(4_000_000_000)).is_none());
        let then = "then".into();
        let gone = processes.caller(7, Some(&then), 4_999_999_999);
        assert_eq!((gone.process.start_ns, gone.ppid, &*gone.comm), (0, 0, "then"));
        assert_eq!(&*processes.caller(7, None, 6_000_000_000).comm, "p7");
        assert_eq!(&*processes.caller(8, None, 6_000_000_000).comm, "?");
    }

    #[test]
    fn descent() {
        let mut processes = Processes::default();
        for (pid, ppid) in [(5, 1), (6, 5), (7, 6), (8, 9), (9, 8)] {
            processes.learn(1, &process(pid, ppid, u64::from(pid) * 1_000_000_000));
        }
        let root = |pid, start_ns| [ProcessId { pid, start_ns }];
        assert!(processes.descends(7, &root(5, 5_000_000_000)));
        assert!(!processes.descends(7, &root(5, 1_000_000_000)), "an earlier process of that pid");
        assert!(!processes.descends(5, &root(6, 0)) && !processes.descends(99, &root(5, 0)));
        assert!(!processes.descends(8, &root(5, 0)), "a ring ends");
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut processes = Processes::default();
        for pid in 0..2 * KEPT as u32 {
            processes.learn(u64::from(pid) * FRESH_NS, &process(pid, 1, 1));
        }
        assert!(processes.known.len() <= KEPT);
    }
}

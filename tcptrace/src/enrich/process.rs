//! Processes: their cgroups, parents and starts, from `/proc` (proc(5)).

use std::{
    cell::RefCell,
    collections::HashMap,
    fs,
    rc::Rc,
    time::{Duration, Instant},
};

use procfs::process::{Process, Stat};

use crate::engine::{
    cgroup::Cgroups,
    event::{Holder, ProcessId},
};

/// What a process is in may change, rarely: asked for again after this.
const FRESH: Duration = Duration::from_secs(60);
/// More entries than this are not worth keeping.
const KEPT: usize = 10_000;

/// Remembers what it asked, for a while.
#[derive(Debug, Default)]
pub struct Processes {
    cgroups: RefCell<HashMap<ProcessId, Answer>>,
}

/// When a process's cgroups were asked for, and what came back.
type Answer = (Instant, Option<Rc<Cgroups>>);

impl Processes {
    /// The process's cgroups; `None` where it is gone.
    #[must_use]
    pub fn cgroups(&self, id: ProcessId) -> Option<Rc<Cgroups>> {
        let now = Instant::now();
        let mut cache = self.cgroups.borrow_mut();
        if let Some((asked, cgroups)) = cache.get(&id)
            && now.duration_since(*asked) < FRESH
        {
            return cgroups.clone();
        }
        if cache.len() >= KEPT {
            cache.clear();
        }
        let text = fs::read_to_string(format!("/proc/{}/cgroup", id.pid)).ok();
        let cgroups = text.map(|t| Rc::new(Cgroups::parse(&t)));
        cache.insert(id, (now, cgroups.clone()));
        cgroups
    }

    /// A holder known by its pid alone, without a descriptor: the task that made a call.
    #[must_use]
    pub fn caller(&self, pid: u32, comm: &Rc<str>) -> Holder {
        let stat = stat(pid);
        let process = ProcessId { pid, start_ns: stat.as_ref().map_or(0, start_ns) };
        let ppid = stat.as_ref().map_or(0, |s| s.ppid.unsigned_abs());
        let comm = stat.map_or_else(|| Rc::clone(comm), |s| s.comm.into());
        Holder { process, tid: None, ppid, fd: 0, comm, cgroups: self.cgroups(process), opener: None }
    }
}

fn stat(pid: u32) -> Option<Stat> {
    Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok()
}

/// ns of the boot clock, to 10 ms.
fn start_ns(stat: &Stat) -> u64 {
    stat.starttime.saturating_mul(1_000_000_000 / procfs::ticks_per_second())
}

/// The process that has this pid now.
#[must_use]
pub fn find(pid: u32) -> Option<ProcessId> {
    stat(pid).map(|s| ProcessId { pid, start_ns: start_ns(&s) })
}

/// Whether `pid` is a child of one of `roots`, or a child's child, and so on.
#[must_use]
pub fn descends(pid: u32, roots: &[ProcessId]) -> bool {
    let mut at = pid;
    // Deeper chains don't exist; pids reused in the middle of the walk could make a ring.
    for _ in 0..256 {
        let Some(parent) = stat(at).map(|s| s.ppid.unsigned_abs()) else { return false };
        if roots.iter().any(|r| r.pid == parent) {
            return true;
        }
        if parent <= 1 {
            return false;
        }
        at = parent;
    }
    false
}

/// Whether any process runs in a container whose id begins so.
#[must_use]
pub fn container_exists(id: &str) -> bool {
    procfs::process::all_processes().into_iter().flatten().flatten().any(|p| {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", p.pid)).unwrap_or_default();
        Cgroups::parse(&text).container().is_some_and(|c| c.id.starts_with(id))
    })
}

/// Whether pids here are the kernel's own. In a container they are not: then the kernel's iterator
/// can't be used to name processes.
#[must_use]
pub fn in_initial_pid_namespace() -> bool {
    // PROC_PID_INIT_INO (include/linux/proc_ns.h).
    const INITIAL: &str = "pid:[4026531836]";
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == INITIAL)
}

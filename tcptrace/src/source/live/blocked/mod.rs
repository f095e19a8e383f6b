//! Reads what processes wait for, and on from process to process: bounded in processes, in threads
//! and in time. Nothing is concluded here: where to read on is what the core says.

mod held;
mod lists;
mod sockets;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use self::{held::Held, sockets::Sockets};
use super::{boot_now, netns::Netns, numbers, process, sock_diag::SockDiag, text, threads};
use crate::{
    engine::{
        blocked::{
            chain::{LONGEST, leads_to},
            reading::{HeldBy, ReadObject, ReadProcess, ReadWhat, Reading},
        },
        name::name,
        record::ProcessId,
        waiting::{Waiting, WaitingThread, WaitsIn},
    },
    formats::{descriptor::socket_inode, fdinfo, lines, threads::call_number},
};

/// Processes of one reading.
const PROCESSES: usize = 64;
/// Threads of a process that was led to.
const THREADS: usize = 256;
/// Descriptors of one process that are followed.
const TARGETS: usize = 256;
/// A reading takes no longer than this.
pub const READING: Duration = Duration::from_secs(2);
/// Whoever waits for a reading waits no longer: a file below `/proc` may not come back.
const PATIENCE: Duration = Duration::from_secs(4);

/// Reads what processes wait for.
#[derive(Debug)]
pub struct Explorer {
    sockets: Sockets,
    held: Option<Held>,
}

impl Explorer {
    /// One that asks the kernel about each network namespace, as far as it may enter them.
    #[must_use]
    pub fn everywhere() -> Self {
        Self { sockets: Sockets::everywhere(), held: None }
    }

    /// One that can ask about one network namespace only, and reads files about the others.
    #[must_use]
    pub fn here(own: Option<SockDiag>) -> Self {
        Self { sockets: Sockets::here(own), held: None }
    }

    /// Forgets who has which descriptors.
    pub fn forget(&mut self) {
        self.held = None;
        self.sockets.forget();
    }

    /// What these processes wait for, whose threads were read just now.
    #[must_use]
    pub fn read(&mut self, asked: Vec<Waiting>, longest: Duration) -> Reading {
        let deadline = Instant::now() + longest;
        let mut reading = Reading { at_ns: boot_now(), ..Reading::default() };
        let mut met: HashSet<u32> = asked.iter().map(|waiting| waiting.pid).collect();
        let mut next: Vec<Waiting> = asked;
        next.truncate(PROCESSES);
        reading.asked = next.len() as u64;
        for level in 0..=LONGEST {
            let from = reading.processes.len();
            for waiting in next.drain(..) {
                let process = self.process(waiting, level == 0);
                reading.processes.push(process);
            }
            for at in from..reading.processes.len() {
                self.objects(&mut reading, at, deadline);
            }
            let mut leads: Vec<HeldBy> = Vec::new();
            for process in &reading.processes[from..] {
                leads.extend(leads_to(&reading, process, level == 0));
            }
            leads.retain(|held| met.insert(held.pid));
            let room = PROCESSES.saturating_sub(reading.processes.len());
            if leads.is_empty() {
                break;
            }
            if Instant::now() > deadline {
                reading.cut = Some("reading it took too long".to_owned());
                break;
            }
            if leads.len() > room {
                reading.cut = Some(format!("no more than {PROCESSES} processes are read"));
                leads.truncate(room);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            next.extend(leads.iter().map(|held| threads::waiting_first(held.id(), THREADS, left)));
        }
        self.sockets.rest();
        reading
    }

    fn process(&mut self, waiting: Waiting, asked: bool) -> ReadProcess {
        let pid = waiting.pid;
        let comm = process::find_with_name(pid).map(|(_, comm)| comm.to_string());
        let comm = comm.unwrap_or_else(|| "?".to_owned());
        let command = process::command(pid);
        let listening = if asked { held::listeners(pid) } else { BTreeMap::new() };
        let table = threads::DescriptorTable::new(pid);
        ReadProcess {
            name: name(&comm, &command),
            lists: lists::lists(&waiting, &table, &listening),
            locks: lists::locks(&waiting),
            file_lock_holder: file_lock_holder(&waiting),
            children: children(&waiting),
            listeners: listening.into_values().collect::<BTreeSet<u64>>().into_iter().collect(),
            comm,
            waiting,
        }
    }

    /// Learns what a process's threads wait on.
    fn objects(&mut self, reading: &mut Reading, at: usize, deadline: Instant) {
        let process = &reading.processes[at];
        let pid = process.waiting.pid;
        let on = process.waiting.threads.iter().filter_map(|thread| thread.on.as_ref());
        let alone = process.lists.iter().filter(|list| list.of == 1).flat_map(|l| &l.entries);
        let on = on.chain(alone.filter_map(|entry| entry.on.as_ref()));
        let mut targets: BTreeSet<&str> = on.map(|on| on.target.as_str()).collect();
        targets.retain(|target| reading.object(target).is_none());
        let targets: Vec<String> = targets.into_iter().take(TARGETS).map(str::to_owned).collect();
        let inodes: Vec<u64> = targets.iter().filter_map(|target| socket_inode(target)).collect();
        let mut sockets = self.sockets.find(pid, &inodes, deadline);
        for target in targets {
            let what = if let Some(inode) = socket_inode(&target) {
                let found = sockets.remove(&inode);
                let found = found.unwrap_or_else(|| {
                    sockets::FoundSocket::unknown(
                        "it is no socket of TCP, UDP or unix, or it was closed meanwhile",
                    )
                });
                found.what(|inode| self.holders(&format!("socket:[{inode}]"), deadline))
            } else if target.starts_with("pipe:[") {
                self.pipe(&target, deadline)
            } else {
                continue;
            };
            reading.objects.push(ReadObject { target, what });
        }
    }

    /// Who has a descriptor for this.
    fn holders(&mut self, target: &str, deadline: Instant) -> Result<Vec<HeldBy>, &'static str> {
        self.held.get_or_insert_with(|| Held::read(deadline)).of(target)
    }

    fn pipe(&mut self, target: &str, deadline: Instant) -> ReadWhat {
        let (mut writers, mut readers) = (Vec::new(), Vec::new());
        let all = match self.holders(target, deadline) {
            Ok(all) => all,
            Err(why) => return ReadWhat::Unknown(why.to_owned()),
        };
        for held in all {
            let info = text(&format!("/proc/{}/fdinfo/{}", held.pid, held.fd));
            let Some(access) = info.ok().and_then(|info| fdinfo::access(&info)) else { continue };
            if access.writes {
                writers.push(held);
            }
            if access.reads {
                readers.push(held);
            }
        }
        // A process is there once, however many descriptors it has.
        writers.dedup_by_key(|held| held.pid);
        readers.dedup_by_key(|held| held.pid);
        ReadWhat::Pipe { writers, readers }
    }
}

/// A way to ask about the network namespace that we are in; `None`: the kernel has none.
#[must_use]
pub fn ask_here() -> Option<SockDiag> {
    SockDiag::open(netns_of(std::process::id())?, boot_now).ok()
}

/// What these processes wait for, read on a thread of its own, which is left behind where a read
/// does not come back.
///
/// # Errors
/// Why nothing is known.
pub fn read(processes: Vec<ProcessId>) -> Result<Reading, &'static str> {
    let (tell, told) = mpsc::channel();
    let work = move || {
        let asked = processes.into_iter().take(PROCESSES).map(threads::waiting).collect();
        let _ = tell.send(Explorer::everywhere().read(asked, READING));
    };
    thread::Builder::new().spawn(work).map_err(|_| "no thread could be started to read them")?;
    told.recv_timeout(PATIENCE).map_err(|_| "reading what they wait for took too long")
}

fn is_in(waiting: &Waiting, calls: &[&str]) -> bool {
    waiting
        .threads
        .iter()
        .any(|thread| matches!(&thread.call, WaitsIn::In { name, .. } if calls.contains(&&**name)))
}

fn held_by(pid: u32) -> Option<HeldBy> {
    process::find(pid).map(|id| HeldBy { pid, start_ns: id.start_ns, fd: 0 })
}

fn file_lock_holder(waiting: &Waiting) -> Option<HeldBy> {
    if !is_in(waiting, &["flock", "fcntl"]) {
        return None;
    }
    held_by(fdinfo::lock_holder(&text("/proc/locks").ok()?, waiting.pid)?)
}

/// The children that a thread waits for, as far as the kernel lists them (CONFIG_PROC_CHILDREN):
/// the one that its call names, or all.
fn children(waiting: &Waiting) -> Vec<HeldBy> {
    let named: Vec<Named> = waiting.threads.iter().filter_map(|t| named(waiting, t)).collect();
    if named.is_empty() {
        return Vec::new();
    }
    let of = |tid: &u32| text(&format!("/proc/{}/task/{tid}/children", waiting.pid)).ok();
    let tids = numbers(&format!("/proc/{}/task", waiting.pid)).unwrap_or_default();
    let lists: Vec<String> = tids.iter().take(THREADS).filter_map(of).collect();
    let pids = lists.iter().flat_map(|list| list.split_whitespace()).filter_map(|w| w.parse().ok());
    let is_named = |pid: &u32| named.iter().any(|named| named.is(*pid));
    pids.filter(is_named).take(held::MOST).filter_map(held_by).collect()
}

/// Whom a call waits for (wait(2)).
enum Named {
    Any,
    /// By its pid in the caller's pid namespace.
    Inside(u32),
    /// By its pid in ours.
    Here(u32),
}

impl Named {
    fn is(&self, pid: u32) -> bool {
        match self {
            Self::Any => true,
            Self::Here(named) => *named == pid,
            Self::Inside(named) => {
                let status = text(&format!("/proc/{pid}/status")).unwrap_or_default();
                *named == pid || process::pids(&status).any(|pid| pid == *named)
            }
        }
    }
}

/// Whom a thread's call waits for, where it is such a call. Process groups are not told apart.
fn named(waiting: &Waiting, thread: &WaitingThread) -> Option<Named> {
    /// `idtype_t` (uapi/linux/wait.h).
    const P_PID: u64 = 1;
    const P_PIDFD: u64 = 3;
    let WaitsIn::In { name, first, second } = &thread.call else { return None };
    match &**name {
        // A pid_t: the upper half of the register may hold anything.
        "wait4" | "waitpid" => match *first as i32 {
            pid @ 1.. => Some(Named::Inside(pid.unsigned_abs())),
            _ => Some(Named::Any),
        },
        "waitid" => match (*first as i32 as u64, *second as u32) {
            (P_PID, pid) => Some(Named::Inside(pid)),
            (P_PIDFD, fd) => {
                let info = text(&format!("/proc/{}/fdinfo/{fd}", waiting.pid)).ok();
                let pid = info.and_then(|info| lines::number(&info, "Pid"));
                Some(pid.map_or(Named::Any, Named::Here))
            }
            _ => Some(Named::Any),
        },
        _ => None,
    }
}

/// The network namespace that a process is in.
fn netns_of(pid: u32) -> Option<u32> {
    Netns::of(Path::new(&format!("/proc/{pid}/ns/net"))).ok().map(|netns| netns.inode)
}

/// Whether a thread's call is this one, by its number here.
fn is_call(number: u64, names: &[&str]) -> bool {
    names.iter().any(|name| call_number(name) == Some(number))
}

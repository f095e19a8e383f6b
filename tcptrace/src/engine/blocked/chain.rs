//! What threads wait for, followed to its end: from a group of threads to what they wait on, to the
//! process at its other end, and on to what that waits for.

use std::{collections::BTreeSet, net::SocketAddr, rc::Rc};

use super::{
    awaited::{Awaited, Takes},
    reading::{HeldBy, OtherEnd, ReadProcess, Reading},
};
use crate::engine::record::ProcessId;

/// Longer chains are cut.
pub const LONGEST: usize = 8;

/// A process in a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// The process.
    pub id: ProcessId,
    /// What people call it; may hold anything.
    pub called: Rc<str>,
}

impl Party {
    /// The process that was read.
    #[must_use]
    pub fn of(process: &ReadProcess) -> Self {
        Self { id: process.id(), called: process.called().into() }
    }
}

/// Threads of one process that wait for the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Their process.
    pub process: Party,
    /// Their ids.
    pub tids: Vec<u32>,
    /// How many threads of the process were read, those that are over left out.
    pub of: usize,
    /// Whether the process has more that were not read.
    pub more: bool,
    /// The system call that they are in, where it is one.
    pub call: Option<Rc<str>>,
    /// The descriptor that they wait on, where it is one.
    pub fd: Option<u32>,
    /// What they wait for; of several the first one's.
    pub awaited: Awaited,
    /// How many peers they wait for, where those are of TCP.
    pub peers: usize,
    /// It is certain that this, and nothing else, leads on from the link before.
    pub sure: bool,
}

impl Link {
    /// Whether all threads of its process wait so.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.tids.len() == self.of && !self.more
    }
}

/// How a chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainEnd {
    /// With a peer that is not on this host.
    Remote,
    /// With what the last link waits for: a time, a disk, a lock that nobody is known to have.
    Itself,
    /// With a process whose threads wait for events, connections or work: nothing keeps it.
    Idle(Party),
    /// With a process that runs.
    Runs(Party),
    /// Where it comes back to an earlier link.
    Cycle {
        /// The number of that link.
        to: usize,
        /// All threads that could break it wait so: none of them will go on by itself.
        whole: bool,
    },
    /// With somebody who is not known, and why.
    Unknown(String),
    /// It goes on, further than it is followed.
    Long,
}

/// Threads of a process that wait for the same.
#[derive(Clone, Debug)]
pub struct Waiters {
    /// Their ids.
    pub tids: Vec<u32>,
    /// How many threads of the process were read, those that are over left out.
    pub of: usize,
    /// What they wait for; of the first one.
    pub awaited: Awaited,
    remotes: BTreeSet<SocketAddr>,
    call: Option<Rc<str>>,
    fd: Option<u32>,
}

/// The threads of a process by what they wait for: those that wait for somebody else first, then
/// the most.
#[must_use]
pub fn waiters(reading: &Reading, process: &ReadProcess) -> Vec<Waiters> {
    let mut all: Vec<Waiters> = Vec::new();
    for (thread, group) in process.waiting.one_by_one() {
        let awaited = Awaited::of(reading, process, thread, &group);
        match all.iter_mut().find(|waiters| waiters.awaited.is_like(&awaited)) {
            Some(waiters) => {
                waiters.tids.push(thread.tid);
                waiters.remotes.extend(awaited.remote());
            }
            None => {
                let call = super::call(&group);
                let list = process.lists.iter().find(|list| list.tid == thread.tid);
                let entry = list.filter(|list| list.of == 1).and_then(|list| list.entries.first());
                let fd = group.fds.keys().next().copied().or(entry.map(|entry| entry.fd));
                let remotes = awaited.remote().into_iter().collect();
                all.push(Waiters { tids: vec![thread.tid], of: 0, awaited, remotes, call, fd });
            }
        }
    }
    let of = all.iter().filter(|w| w.awaited != Awaited::Over).map(|w| w.tids.len()).sum();
    all.iter_mut().for_each(|w| w.of = of);
    all.sort_by_key(|w| std::cmp::Reverse((w.awaited.weight(), w.tids.len())));
    all
}

/// Follows what these threads of the process wait for.
#[must_use]
pub fn follow(reading: &Reading, process: &ReadProcess, first: &Waiters) -> (Vec<Link>, ChainEnd) {
    let mut links = vec![link(process, first, true)];
    let mut at = process;
    loop {
        let Some(last) = links.last() else { return (links, ChainEnd::Itself) };
        let (process, waiters, sure) = match next(reading, at, last) {
            Step::End(end) => return (links, end),
            Step::To { process, waiters, sure } => (process, waiters, sure),
        };
        let again = links.iter().position(|link| {
            link.process.id == process.id() && waiters.tids.iter().any(|t| link.tids.contains(t))
        });
        if let Some(to) = again {
            // Who has a lock is one thread: no other can give it back.
            let exact = |link: &Link| matches!(link.awaited, Awaited::Mutex { .. });
            let stays = |link: &Link| link.sure && (exact(link) || link.is_all());
            let whole = sure && links[to..].iter().all(stays);
            return (links, ChainEnd::Cycle { to, whole });
        }
        if links.len() == LONGEST {
            return (links, ChainEnd::Long);
        }
        links.push(link(process, &waiters, sure));
        at = process;
    }
}

/// The processes that have what threads of this one wait for, those with most threads first: where
/// to read on. Of one that was asked about, by all its groups of threads; of others, by the first.
#[must_use]
pub fn leads_to(reading: &Reading, process: &ReadProcess, asked: bool) -> Vec<HeldBy> {
    let all = waiters(reading, process);
    let groups =
        all.iter().filter(|w| w.awaited.weight() > 0).take(if asked { LONGEST } else { 1 });
    groups.flat_map(|waiters| waiters.awaited.held()).copied().collect()
}

fn link(process: &ReadProcess, waiters: &Waiters, sure: bool) -> Link {
    Link {
        process: Party::of(process),
        tids: waiters.tids.clone(),
        of: waiters.of,
        more: process.waiting.has_more(),
        call: waiters.call.clone(),
        fd: waiters.fd,
        awaited: waiters.awaited.clone(),
        peers: waiters.remotes.len(),
        sure,
    }
}

enum Step<'a> {
    End(ChainEnd),
    To { process: &'a ReadProcess, waiters: Waiters, sure: bool },
}

/// Where what a link waits for leads.
fn next<'a>(reading: &'a Reading, process: &'a ReadProcess, last: &Link) -> Step<'a> {
    let unknown = |why: &str| Step::End(ChainEnd::Unknown(why.to_owned()));
    match &last.awaited {
        Awaited::Tcp(_, end) => at_other_end(reading, &end.other, last),
        Awaited::Unix { other, .. } => at_other_end(reading, other, last),
        Awaited::Pipe { held, .. } if held.is_empty() => {
            unknown("no process that can be seen has the other end")
        }
        Awaited::Pipe { held, .. } => with(reading, held, last),
        Awaited::FileLock { holder: Some(holder), .. } => {
            with(reading, std::slice::from_ref(holder), last)
        }
        Awaited::FileLock { holder: None, .. } => {
            unknown("the kernel does not say who has the lock")
        }
        // One of several may end at any moment: none of them is what it waits for.
        Awaited::Child(children) if children.len() != 1 => Step::End(ChainEnd::Itself),
        Awaited::Child(child) => with(reading, child, last),
        Awaited::Mutex { owner } => {
            match waiters(reading, process).into_iter().find(|w| w.tids.contains(owner)) {
                None => unknown("the thread that has the lock was not read"),
                Some(found) if found.awaited.weight() == 0 => Step::End(standing(process, &found)),
                // Of those that wait as the owner does, the owner only.
                Some(found) => {
                    let waiters = Waiters { tids: vec![*owner], ..found };
                    Step::To { process, waiters, sure: true }
                }
            }
        }
        // Who waits for a lock waits for a thread that has it: for one of the others, if it is one.
        Awaited::Futex { .. } => {
            match waiters(reading, process).into_iter().find(|w| w.awaited.weight() == 2) {
                Some(waiters) => Step::To { process, waiters, sure: false },
                None => Step::End(ChainEnd::Itself),
            }
        }
        Awaited::Unread(why) | Awaited::Unknown(why) => unknown(why),
        Awaited::Udp { .. } => unknown("packets of UDP have no other end"),
        _ => Step::End(ChainEnd::Itself),
    }
}

fn at_other_end<'a>(reading: &'a Reading, other: &OtherEnd, last: &Link) -> Step<'a> {
    match other {
        OtherEnd::Elsewhere => Step::End(ChainEnd::Remote),
        OtherEnd::Unknown(why) => Step::End(ChainEnd::Unknown(why.clone())),
        OtherEnd::Here { held, .. } if held.is_empty() => Step::End(ChainEnd::Unknown(
            "it is on this host, and no process that can be seen has it".to_owned(),
        )),
        OtherEnd::Here { held, .. } => with(reading, held, last),
    }
}

/// On to one of those that have something: to one that is kept itself, if there is one.
fn with<'a>(reading: &'a Reading, held: &[HeldBy], last: &Link) -> Step<'a> {
    let mut best: Option<(u8, &ReadProcess, Vec<Waiters>)> = None;
    for process in held.iter().filter_map(|held| reading.process(held.id())) {
        let mut all = waiters(reading, process);
        if process.id().is_same(last.process.id) && !last.is_all() {
            // Its other threads are to do it.
            all.retain(|w| !w.tids.iter().any(|tid| last.tids.contains(tid)));
        }
        let weight = all.first().map_or(0, |w| w.awaited.weight());
        if best.as_ref().is_none_or(|(most, ..)| weight > *most) {
            best = Some((weight, process, all));
        }
    }
    let Some((weight, process, all)) = best else {
        let pid = held.first().map_or(0, |held| held.pid);
        let why = reading.cut.clone();
        return Step::End(ChainEnd::Unknown(
            why.unwrap_or_else(|| format!("process {pid} could not be read")),
        ));
    };
    if let Some(why) = process.waiting.why_unknown() {
        return Step::End(ChainEnd::Unknown(format!("[{}]: {why}", process.id().pid)));
    }
    let sure = held.len() == 1 && last.peers < 2 && all.iter().all(|w| w.awaited.weight() > 0);
    match all.into_iter().next() {
        Some(waiters) if weight > 0 => Step::To { process, waiters, sure },
        Some(waiters) => Step::End(standing(process, &waiters)),
        None => Step::End(ChainEnd::Unknown("it has no thread that could be read".to_owned())),
    }
}

/// A process that nothing keeps.
fn standing(process: &ReadProcess, waiters: &Waiters) -> ChainEnd {
    let party = Party::of(process);
    match &waiters.awaited {
        Awaited::Nothing => ChainEnd::Runs(party),
        Awaited::Unknown(why) => ChainEnd::Unknown(why.clone()),
        _ => ChainEnd::Idle(party),
    }
}

/// Whether any of a process's threads could take a connection.
#[must_use]
pub fn takes(reading: &Reading, process: &ReadProcess) -> Takes {
    let unread = process.waiting.has_more() || process.waiting.unknown.is_some();
    let of_threads = waiters(reading, process).iter().map(|w| w.awaited.takes()).max();
    if unread { Takes::Yes } else { of_threads.unwrap_or(Takes::Yes) }
}

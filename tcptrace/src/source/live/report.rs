//! All that is known of one process, from one scan and from `/proc`.

use std::rc::Rc;

use crate::{
    engine::{
        blocked::blockage::{Blockage, Kept, Unserved, blockages},
        forecast::estimate::Estimate,
        language::{Language, language},
        record::{BootNs, Holder, ProcessId, Record},
        report,
        report::{Listening, ProcessReport},
        stack::threads::LeftAlone,
        usage::InUse,
        watch::WaitsOf,
    },
    source::live::{blocked, limits, lookup::Known, netstat, process, snapshot::Snapshot, threads},
};

/// The report on a process whose sockets are `records`.
#[must_use]
pub fn process(snapshot: &Snapshot, id: ProcessId, records: &[Record]) -> ProcessReport {
    let pid = id.pid;
    let mut known = Known::default();
    known.learn(id);
    let process = known.processes().caller(pid, None, BootNs::MAX);
    let limits::DescriptorLimits { used, soft: limit, .. } = limits::of_process(pid);
    let leaks: Vec<&Record> = records.iter().filter(|r| r.is_leak()).collect();
    // What waits in a queue has no descriptor.
    let ages = leaks.iter().filter(|r| holds(&r.holders, pid) && r.listener.is_none());
    let ages: Vec<u64> = ages.map(|r| r.age(snapshot.now).min_ns).collect();
    let full = Estimate::of_leaks(&ages, snapshot.now, InUse::of(used.ok(), limit.ok()));
    let listeners = listeners(snapshot, pid);
    ProcessReport {
        parent: process::find_with_name(process.ppid).map(|(id, comm)| (id.pid, comm)),
        process,
        command: process::command(pid),
        used,
        limit,
        sockets: report::count(records, snapshot.now),
        leaks: leaks.len() as u64,
        full,
        kept: kept(id, &listeners, records),
        listeners,
        overflows: netstat::listen_overflows(pid),
        threads: threads::groups(pid),
        stacks: Err(LeftAlone::NotAskedFor),
    }
}

/// What a process waits for now.
#[must_use]
pub fn waits_of(id: ProcessId) -> WaitsOf {
    let causes = blocked::read(vec![id]).map(|reading| blockages(&reading, id));
    let causes = causes.unwrap_or_default().into();
    WaitsOf { threads: Rc::new(threads::groups(id.pid)), causes }
}

/// What keeps it, and those that share its listeners.
fn kept(
    id: ProcessId,
    listeners: &[Listening],
    records: &[Record],
) -> Result<Vec<Kept>, &'static str> {
    let mut asked = vec![id];
    for other in listeners.iter().flat_map(|listener| &listener.shared_with) {
        if !asked.contains(other) {
            asked.push(*other);
        }
    }
    let reading = blocked::read(asked)?;
    if let Some(why) = reading.process(id).and_then(|process| process.waiting.why_unknown()) {
        return Err(why);
    }
    let kept = |cause: Blockage| {
        let effect = Unserved::count(&cause.workers, records);
        Kept { cause, effect }
    };
    Ok(blockages(&reading, id).into_iter().map(kept).collect())
}

fn holds(holders: &[Holder], pid: u32) -> bool {
    holders.iter().any(|h| h.process.pid == pid)
}

fn listeners(snapshot: &Snapshot, pid: u32) -> Vec<Listening> {
    let mut list: Vec<Listening> = snapshot
        .listeners()
        .filter(|(_, holders)| holds(holders, pid))
        .map(|(listener, holders)| {
            let mut shared_with: Vec<ProcessId> =
                holders.iter().map(|h| h.process).filter(|p| p.pid != pid).collect();
            shared_with.dedup();
            Listening { shared_with, ..listener }
        })
        .collect();
    list.sort_by_key(|l| l.local);
    list
}

/// What the process that lets a socket sit is written in, as far as its name tells.
#[must_use]
pub fn language_of(holders: &[Holder]) -> Option<Language> {
    let holder = holders.first()?;
    language(&process::executable(holder.process.pid).unwrap_or_default(), &holder.comm)
}

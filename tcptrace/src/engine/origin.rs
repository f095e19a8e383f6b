//! Who opened a connection and who read from it, as the kernel programs saw it: facts where
//! [`opener`](super::opener) has to conclude.

use std::rc::Rc;

use tcptrace_common::event;

use super::{
    assemble, decode,
    processes::Processes,
    record::{Holder, HolderSource, How, Moment, Origins, ProcessId, Record},
    stack::Stack,
    unknown::Reason,
    verdict::Verdict,
};

/// Names of the fields, as [`Record::unknown`] has them.
pub const FIELDS: [&str; 3] = ["origin", "last_read", "end_read"];

/// What bears on how much can be known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Reads are traced.
    pub reads: bool,
    /// Only certain calls are looked at.
    pub narrowed: bool,
    /// Something was not kept for want of room.
    pub full: bool,
    /// A holder of this socket has an io_uring.
    pub ring: bool,
}

/// A moment, from the kernel's record. `stack` finds one by its name.
#[must_use]
pub fn moment(
    raw: &event::Moment,
    processes: &Processes,
    stack: impl FnOnce(u64) -> Result<Rc<Stack>, Reason>,
) -> Option<Moment> {
    (raw.time_ns != 0).then(|| {
        let process = ProcessId { pid: raw.pid, start_ns: raw.start_ns };
        let stack = match raw.stack {
            0 => Err(Reason::StackUnreadable),
            name => stack(name),
        };
        Moment {
            at: raw.time_ns,
            process,
            called: processes.called(process),
            tid: raw.tid,
            thread: decode::comm(&raw.comm),
            stack,
        }
    })
}

/// Puts into a record what is known of its origins, and what follows: who opened it, who let go.
pub fn tell(record: &mut Record, origins: Origins, limits: Limits, processes: &Processes) {
    for (field, why) in FIELDS.into_iter().zip(reasons(record, &origins, limits)) {
        match why {
            Some(why) => record.unknown.insert(field, why),
            None => record.unknown.remove(field),
        }
    }
    if let Some((how, opened)) = &origins.opened {
        mark_opener(record, &origins, *how, opened, processes);
    }
    record.origins = Some(Rc::new(origins));
}

/// Why each field is null, where it is.
fn reasons(record: &Record, origins: &Origins, limits: Limits) -> [Option<Reason>; 3] {
    if record.evidence.accepted == Some(false) {
        return [Some(Reason::NotAccepted); 3];
    }
    let seen = origins.opened.is_some();
    let opened = match limits {
        _ if seen => None,
        Limits { full: true, .. } => Some(Reason::NoPlace),
        Limits { ring: true, .. } => Some(Reason::OpenedByRing),
        Limits { narrowed: true, .. } => Some(Reason::OpenedElsewhere),
        _ => Some(Reason::OpenedUnseen),
    };
    // What was read while nothing was kept is not known either.
    let lost = !seen && limits.full;
    let read = match origins.last_read {
        Some(_) => None,
        None if !limits.reads => Some(Reason::ReadsUntraced),
        None if lost => Some(Reason::NoPlace),
        None if seen => Some(Reason::NeverRead),
        None => Some(Reason::NotReadSince),
    };
    let end = match (&origins.end_read, record.evidence.recv_q) {
        (Some(_), _) => None,
        (None, Some(1..)) => Some(Reason::EndUnread),
        _ if !limits.reads => Some(Reason::ReadsUntraced),
        _ if lost => Some(Reason::NoPlace),
        (None, Some(0)) => Some(Reason::EndReadUnseen),
        // MPTCP: its queues are in its subflows.
        (None, None) => Some(Reason::Subflows),
    };
    [opened, read, end]
}

/// Marks who opened it among its holders; one that is not among them has let go.
///
/// Who holds it now got it from the opener: by fork, if it began after the connection was opened,
/// else in a message over a unix socket (unix(7), SCM_RIGHTS). What fork left to a child that never
/// read from it was inherited by accident.
fn mark_opener(
    record: &mut Record,
    origins: &Origins,
    how: How,
    opened: &Moment,
    processes: &Processes,
) {
    if record.holder_source != HolderSource::FdTable {
        return;
    }
    for holder in &mut record.holders {
        holder.opener = Some(holder.process == opened.process);
    }
    assemble::note_opener(record);
    if record.holders.iter().any(|h| h.process == opened.process) {
        return;
    }
    let known = |h: &Holder| h.process == opened.process;
    if !record.former_holders.iter().any(known) {
        // The thread's name may not be its process's.
        let mut opener = processes.caller(opened.process.pid, None, opened.at);
        if opener.process.start_ns == 0 || &*opener.comm == "?" {
            opener.comm = Rc::clone(&opened.thread);
        }
        opener.process = opened.process;
        record.former_holders.push(opener);
    }
    for former in &mut record.former_holders {
        former.opener = Some(former.process == opened.process);
    }
    let reader = [&origins.last_read, &origins.end_read].into_iter().flatten();
    let used = reader.clone().any(|r| record.holders.iter().any(|h| h.process == r.process));
    let by_fork = record.holders.iter().any(|h| h.process.start_ns > opened.at);
    if how == How::Accepted
        && by_fork
        && !used
        && let Some(verdict) = record.verdict.filter(|v| v.is_unclosed())
    {
        record.also.insert(0, verdict);
        record.verdict = Some(Verdict::InheritedFd);
    }
}

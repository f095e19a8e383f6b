//! Who opened a connection and who read from it, as the kernel programs saw it: facts where
//! [`opener`](super::opener) has to conclude.

use std::rc::Rc;

use tcptrace_common::event;

use super::{
    assemble, decode,
    processes::Processes,
    record::{Holder, HolderSource, KnownOrigin, Opening, ProcessId, Record, TracedCall},
    stack::Stack,
    unknown::Reason,
    verdict::Verdict,
};

/// What bears on how much can be known.
#[derive(Clone, Copy, Debug, Default)]
pub struct OriginLimits {
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
    raw: &event::CallMoment,
    processes: &Processes,
    stack: impl FnOnce(u64) -> Result<Rc<Stack>, Reason>,
) -> Option<TracedCall> {
    (raw.time_ns != 0).then(|| {
        let process = ProcessId { pid: raw.pid, start_ns: raw.start_ns };
        let stack = match raw.stack {
            0 => Err(Reason::StackUnreadable),
            name => stack(name),
        };
        TracedCall {
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
pub fn tell(
    record: &mut Record,
    origins: KnownOrigin,
    limits: OriginLimits,
    processes: &Processes,
) {
    for (field, why) in KnownOrigin::FIELDS.into_iter().zip(reasons(record, &origins, limits)) {
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
fn reasons(record: &Record, origins: &KnownOrigin, limits: OriginLimits) -> [Option<Reason>; 3] {
    if record.evidence.accepted == Some(false) {
        return [Some(Reason::NotAccepted); 3];
    }
    let seen = origins.opened.is_some();
    let opened = match limits {
        _ if seen => None,
        OriginLimits { full: true, .. } => Some(Reason::NoPlace),
        OriginLimits { ring: true, .. } => Some(Reason::OpenedByRing),
        OriginLimits { narrowed: true, .. } => Some(Reason::OpenedElsewhere),
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
    origins: &KnownOrigin,
    how: Opening,
    opened: &TracedCall,
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
    if how == Opening::Accepted
        && by_fork
        && !used
        && let Some(verdict) = record.verdict.filter(|v| v.is_unclosed())
    {
        record.also.insert(0, verdict);
        record.verdict = Some(Verdict::InheritedFd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::record::{
        Holder,
        tests::{self, leak},
    };

    fn call(pid: u32, at: u64) -> TracedCall {
        TracedCall {
            at,
            process: ProcessId { pid, start_ns: 10 },
            called: None,
            tid: pid,
            thread: "worker".into(),
            stack: Err(Reason::StackLost),
        }
    }

    fn holder(pid: u32, start_ns: u64) -> Holder {
        let process = ProcessId { pid, start_ns };
        Holder { process, ..tests::holder(pid, 4) }
    }

    const ALL: OriginLimits =
        OriginLimits { reads: true, narrowed: false, full: false, ring: false };

    fn accepted(by: TracedCall) -> KnownOrigin {
        KnownOrigin { opened: Some((Opening::Accepted, by)), ..KnownOrigin::default() }
    }

    fn told(holders: Vec<Holder>, origin: KnownOrigin, limits: OriginLimits) -> Record {
        let mut record = leak();
        record.holders = holders;
        tell(&mut record, origin, limits, &Processes::default());
        record
    }

    #[test]
    fn who_accepted_it_and_let_go_is_named() {
        // Its child began after that, and never read from it.
        let record = told(vec![holder(8, 200)], accepted(call(7, 100)), ALL);
        assert_eq!(record.verdict, Some(Verdict::InheritedFd));
        assert_eq!(record.also, [Verdict::EofNotClosed]);
        let former: Vec<_> =
            record.former_holders.iter().map(|h| (h.process.pid, h.opener)).collect();
        assert_eq!(former, [(7, Some(true))]);
        assert_eq!(record.holders[0].opener, Some(false));
        assert_eq!(record.unknown.get("opener"), None);
    }

    #[test]
    fn who_was_given_it_to_work_with_did_not_inherit_it() {
        let passed = told(vec![holder(8, 50)], accepted(call(7, 100)), ALL);
        assert_eq!(passed.verdict, Some(Verdict::EofNotClosed), "it was there before");
        let reader = holder(8, 200);
        let end = TracedCall { process: reader.process, ..call(8, 300) };
        let forked = KnownOrigin { end_read: Some(end), ..accepted(call(7, 100)) };
        let forked = told(vec![reader], forked, ALL);
        assert_eq!(forked.verdict, Some(Verdict::EofNotClosed), "it reads from it");
        assert_eq!(forked.former_holders.len(), 1, "the opener is named in either case");
    }

    #[test]
    fn who_opened_it_and_has_it_still() {
        let record = told(vec![holder(7, 10), holder(8, 200)], accepted(call(7, 100)), ALL);
        let openers: Vec<_> = record.holders.iter().map(|h| h.opener).collect();
        assert_eq!(openers, [Some(true), Some(false)]);
        assert_eq!((record.verdict, record.former_holders.len()), (Some(Verdict::EofNotClosed), 0));
    }

    #[test]
    fn each_null_has_a_reason() {
        let reasons = |record: &Record| KnownOrigin::FIELDS.map(|field| record.unknown.get(field));
        let none = KnownOrigin::default;
        let unseen = told(vec![holder(7, 10)], none(), ALL);
        let (opened, ended) = (Some(Reason::OpenedUnseen), Some(Reason::EndReadUnseen));
        assert_eq!(reasons(&unseen), [opened, Some(Reason::NotReadSince), ended]);
        let ring = told(vec![holder(7, 10)], none(), OriginLimits { ring: true, ..ALL });
        assert_eq!(reasons(&ring)[0], Some(Reason::OpenedByRing));
        let full = told(vec![holder(7, 10)], none(), OriginLimits { full: true, ..ALL });
        assert_eq!(reasons(&full), [Some(Reason::NoPlace); 3]);
        let old = told(vec![holder(7, 10)], accepted(call(7, 1)), OriginLimits::default());
        assert_eq!(reasons(&old), [None, Some(Reason::ReadsUntraced), Some(Reason::ReadsUntraced)]);

        let mut waiting = leak();
        waiting.evidence.accepted = Some(false);
        tell(&mut waiting, none(), ALL, &Processes::default());
        assert_eq!(reasons(&waiting), [Some(Reason::NotAccepted); 3]);
        let mut unread = leak();
        unread.evidence.recv_q = Some(5);
        tell(&mut unread, accepted(call(7, 1)), ALL, &Processes::default());
        assert_eq!(reasons(&unread), [None, Some(Reason::NeverRead), Some(Reason::EndUnread)]);
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_both_known_and_unknown(
            seen in proptest::array::uniform3(proptest::prelude::any::<bool>()),
            limits in proptest::array::uniform4(proptest::prelude::any::<bool>()),
            pids in proptest::collection::vec((1u32..4, 0u64..300), 0..4),
            recv_q in proptest::option::of(0u32..2),
            is_accepted in proptest::prelude::any::<bool>(),
        ) {
            let [reads, narrowed, full, ring] = limits;
            let origin = KnownOrigin {
                opened: seen[0].then(|| (Opening::Accepted, call(1, 100))),
                last_read: seen[1].then(|| call(2, 110)),
                end_read: seen[2].then(|| call(2, 120)),
            };
            let mut record = leak();
            record.holders = pids.into_iter().map(|(pid, start)| holder(pid, start)).collect();
            record.evidence.recv_q = recv_q;
            record.evidence.accepted = Some(is_accepted || seen != [false; 3]);
            let limits = OriginLimits { reads, narrowed, full, ring };
            tell(&mut record, origin, limits, &Processes::default());
            for (field, seen) in KnownOrigin::FIELDS.into_iter().zip(seen) {
                proptest::prop_assert_eq!(record.unknown.get(field).is_none(), seen, "{}", field);
            }
            let openers = record.holders.iter().chain(&record.former_holders);
            let openers: std::collections::HashSet<_> =
                openers.filter(|h| h.opener == Some(true)).map(|h| h.process).collect();
            proptest::prop_assert!(openers.len() <= 1);
        }
    }
}

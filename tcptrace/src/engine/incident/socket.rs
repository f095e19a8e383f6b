//! A socket's story: its states, who held it when, what was concluded, and how it ended.

use std::rc::Rc;

use tcptrace_common::state::TcpState;

use super::process::ProcessStories;
use crate::engine::{
    record::{Age, BootNs, ClosedBy, Holder, HolderSource, Record, Since},
    unknown::Reason,
    verdict::Verdict,
};

/// A socket, from the first report to its end.
#[derive(Clone, Debug)]
pub struct SocketStory {
    /// As last seen.
    pub record: Rc<Record>,
    /// Its states, in order.
    pub stays: Vec<Stay>,
    /// Who held it, or its listener, in the order in which they were seen first.
    pub holds: Vec<Hold>,
    /// What was concluded, in order.
    pub verdicts: Vec<Judged>,
    /// How it ended.
    pub end: Option<Ended>,
    /// Changes that are not told.
    pub more: u32,
}

/// A stay in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// The state.
    pub state: TcpState,
    /// When it began.
    pub since: Since,
    /// When it had ended at the latest; `None`: it goes on.
    pub until_ns: Option<BootNs>,
}

/// A descriptor that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The process's number among the incident's processes; `None`: there were too many.
    pub process: Option<u32>,
    /// The thread, where that has a table of its own.
    pub tid: Option<u32>,
    /// The descriptor's number.
    pub fd: u32,
    /// It is the listener that is held: the connection waits in its queue.
    pub waits: bool,
    /// Whether the process opened the socket, where known.
    pub opener: Option<bool>,
    /// When it was seen first.
    pub from_ns: BootNs,
    /// When it was not seen any more; `None`: it is held still.
    pub until_ns: Option<BootNs>,
}

/// What was concluded from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The verdict.
    pub verdict: Option<Verdict>,
    /// Since when, ns of the boot clock.
    pub from_ns: BootNs,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When, ns of the boot clock.
    pub at_ns: BootNs,
    /// How long it stayed in all.
    pub stayed: Age,
    /// By whom, where a program ended it.
    pub closed_by: Option<ClosedBy>,
    /// Why that is unknown.
    pub why: Reason,
}

/// Of one kind of change, more are not told.
const CHANGES: usize = 16;

impl SocketStory {
    /// From when it was first reported.
    pub(super) fn new(record: &Rc<Record>, processes: &mut ProcessStories) -> Self {
        let mut story = Self {
            record: Rc::clone(record),
            stays: vec![stay(record)],
            holds: Vec::with_capacity(record.holders.len().min(CHANGES)),
            verdicts: vec![judged(record)],
            end: None,
            more: 0,
        };
        story.hold(record, processes);
        story
    }

    /// As it is now.
    pub(super) fn see(&mut self, record: &Rc<Record>, processes: &mut ProcessStories) {
        // Of what has not changed, the watch has the same record.
        if Rc::ptr_eq(&self.record, record) || record.seen_ns < self.record.seen_ns {
            return;
        }
        let before = std::mem::replace(&mut self.record, Rc::clone(record));
        if (before.state, before.latest_ns) != (record.state, record.latest_ns) {
            if let Some(last) = self.stays.last_mut() {
                last.until_ns = Some(record.latest_ns);
            }
            push(&mut self.stays, stay(record), &mut self.more);
        }
        if before.verdict != record.verdict {
            push(&mut self.verdicts, judged(record), &mut self.more);
        }
        if before.holders != record.holders || before.holder_source != record.holder_source {
            self.hold(record, processes);
        }
    }

    fn hold(&mut self, record: &Record, processes: &mut ProcessStories) {
        let waits = record.holder_source == HolderSource::Listener;
        let number = |h: &Holder, processes: &mut ProcessStories| Hold {
            process: processes.number(h, record.seen_ns),
            tid: h.tid,
            fd: h.fd.unwrap_or_default(),
            waits,
            opener: h.opener,
            from_ns: record.seen_ns,
            until_ns: None,
        };
        let now: Vec<Hold> = record.holders.iter().map(|h| number(h, processes)).collect();
        for held in self.holds.iter_mut().filter(|held| held.until_ns.is_none()) {
            match now.iter().find(|n| n.is_same(held)) {
                Some(still) => held.opener = still.opener.or(held.opener),
                None => held.until_ns = Some(record.seen_ns),
            }
        }
        for hold in now {
            if !self.holds.iter().any(|h| h.until_ns.is_none() && h.is_same(&hold)) {
                push(&mut self.holds, hold, &mut self.more);
            }
        }
    }

    pub(super) fn finish(&mut self, end: Ended) {
        let open = self.stays.iter_mut().map(|stay| &mut stay.until_ns);
        let held = self.holds.iter_mut().map(|hold| &mut hold.until_ns);
        open.chain(held).filter(|until| until.is_none()).for_each(|until| *until = Some(end.at_ns));
        self.end = Some(end);
    }

    /// When its story begins: not before this, and not after that.
    #[must_use]
    pub fn since(&self) -> Since {
        self.stays.first().map_or(
            Since { earliest_ns: self.record.earliest_ns, latest_ns: self.record.latest_ns },
            |stay| stay.since,
        )
    }

    /// How long it has stayed, at `now`, or stayed in all.
    #[must_use]
    pub fn age(&self, now: BootNs) -> Age {
        let Since { earliest_ns, latest_ns } = self.since();
        self.end.as_ref().map_or(Age::at(now, earliest_ns, latest_ns), |end| end.stayed)
    }
}

impl Hold {
    fn is_same(&self, other: &Self) -> bool {
        (self.process, self.tid, self.fd, self.waits)
            == (other.process, other.tid, other.fd, other.waits)
    }
}

fn stay(record: &Record) -> Stay {
    let since = Since { earliest_ns: record.earliest_ns, latest_ns: record.latest_ns };
    Stay { state: record.state, since, until_ns: None }
}

fn judged(record: &Record) -> Judged {
    Judged { verdict: record.verdict, from_ns: record.seen_ns }
}

/// Beyond so many, the newest takes the place of the one before.
fn push<T>(list: &mut Vec<T>, item: T, more: &mut u32) {
    if list.len() >= CHANGES {
        list.pop();
        *more = more.saturating_add(1);
    }
    list.push(item);
}

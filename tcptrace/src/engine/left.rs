//! What a command left behind: what it had leaked and had not closed when it ended.

use std::{net::SocketAddr, rc::Rc};

use super::{
    record::{Age, BootNs, ProcessId, Record},
    update::Update,
    watch::Watch,
};

/// Findings that are told one by one; more are counted.
const MOST: usize = 1_000;

/// A process, as far as a finding names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastHolder {
    /// Which.
    pub process: ProcessId,
    /// Command name; may hold anything.
    pub comm: Rc<str>,
}

/// A listener that a process holds that has outlived the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftListener {
    /// By whom.
    pub holder: LastHolder,
    /// Its descriptor.
    pub fd: u32,
    /// Where it is bound.
    pub local: SocketAddr,
}

/// One thing that was left behind.
#[derive(Clone, Debug)]
pub enum Leftover {
    /// A leak that is still open: who holds it has outlived the command, or is not known.
    Open(Rc<Record>, Age),
    /// A leak that nobody closed: it went with the process that held it last.
    ClosedByExit(Rc<Record>, Age, LastHolder),
    /// A listener.
    Listener(LeftListener),
}

impl Leftover {
    /// As the interface spells it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Open(..) => "open",
            Self::ClosedByExit(..) => "closed-by-exit",
            Self::Listener(_) => "listener",
        }
    }

    /// The socket, where it is a connection.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        match self {
            Self::Open(record, _) | Self::ClosedByExit(record, ..) => Some(record),
            Self::Listener(_) => None,
        }
    }

    /// How long it had stayed.
    #[must_use]
    pub fn stayed(&self) -> Option<Age> {
        match self {
            Self::Open(_, age) | Self::ClosedByExit(_, age, _) => Some(*age),
            Self::Listener(_) => None,
        }
    }

    /// Who held it, where that is known.
    #[must_use]
    pub fn holder(&self) -> Option<LastHolder> {
        match self {
            Self::Open(record, _) => {
                let holder = record.holders.first()?;
                Some(LastHolder { process: holder.process, comm: holder.comm.clone() })
            }
            Self::ClosedByExit(_, _, by) => Some(by.clone()),
            Self::Listener(listener) => Some(listener.holder.clone()),
        }
    }
}

/// Gathers what a command leaves behind.
#[derive(Debug)]
pub struct Left {
    /// Stays that began before are not the command's.
    began: BootNs,
    findings: Vec<Leftover>,
    more: u64,
}

impl Left {
    /// Of a command that was started at `began`.
    #[must_use]
    pub const fn since(began: BootNs) -> Self {
        Self { began, findings: Vec::new(), more: 0 }
    }

    /// Takes in what a watch says.
    pub fn take(&mut self, update: &Update) {
        let Update::Resolved { record, stayed, closed_by: Some(by), .. } = update else { return };
        if by.exiting && self.is_its(record) {
            let holder = record.holders.iter().find(|h| h.process.pid == by.pid);
            let named = match holder {
                Some(holder) => LastHolder { process: holder.process, comm: holder.comm.clone() },
                None => LastHolder {
                    process: ProcessId { pid: by.pid, start_ns: 0 },
                    comm: by.comm.clone(),
                },
            };
            self.add(Leftover::ClosedByExit(record.clone(), *stayed, named));
        }
    }

    /// Takes in what is open at the end, `now`.
    pub fn finish(&mut self, watch: &Watch, listeners: Vec<LeftListener>, now: BootNs) {
        let mut open: Vec<_> = watch.rows().filter(|record| self.is_its(record)).collect();
        open.sort_unstable_by_key(|record| (record.latest_ns, record.connection.cookie));
        for record in open {
            self.add(Leftover::Open(record.clone(), record.age(now)));
        }
        listeners.into_iter().for_each(|listener| self.add(Leftover::Listener(listener)));
    }

    fn is_its(&self, record: &Record) -> bool {
        record.is_leak() && record.latest_ns >= self.began
    }

    fn add(&mut self, finding: Leftover) {
        if self.findings.len() < MOST { self.findings.push(finding) } else { self.more += 1 }
    }

    /// What there is, connections closed by exit first.
    #[must_use]
    pub fn findings(&self) -> &[Leftover] {
        &self.findings
    }

    /// So many were found that are not among [`Self::findings`].
    #[must_use]
    pub const fn more(&self) -> u64 {
        self.more
    }

    /// Whether nothing was left behind.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        record::{ClosedBy, tests::leak},
        unknown::Reason,
        verdict::Verdict,
        watch::Plan,
    };

    fn resolved(record: Record, closer: Option<bool>) -> Update {
        Update::Resolved {
            record: Rc::new(record),
            stayed: Age { min_ns: 5, max_ns: Some(5) },
            closed_by: closer.map(|exiting| ClosedBy { pid: 42, comm: "java".into(), exiting }),
            unknown: Reason::NotHeld,
        }
    }

    #[test]
    fn what_nobody_closed_is_left_and_what_somebody_closed_is_not() {
        let found = |record: Record, closer| {
            let mut left = Left::since(record.latest_ns);
            left.take(&resolved(record, closer));
            left.findings().iter().map(Leftover::kind).collect::<Vec<_>>()
        };
        assert_eq!(found(leak(), Some(true)), ["closed-by-exit"]);
        assert!(found(leak(), Some(false)).is_empty());
        assert!(found(leak(), None).is_empty());
        let used = Record { verdict: Some(Verdict::HalfCloseInUse), ..leak() };
        assert!(found(used, Some(true)).is_empty(), "no leak");
    }

    #[test]
    fn what_was_there_before_the_command_is_not_its() {
        let record = leak();
        let mut left = Left::since(record.latest_ns + 1);
        left.take(&resolved(record, Some(true)));
        assert!(left.is_empty());
    }

    #[test]
    fn what_is_told_is_bounded_and_the_rest_is_counted() {
        let mut left = Left::since(0);
        for _ in 0..MOST + 7 {
            left.take(&resolved(leak(), Some(true)));
        }
        left.finish(&Watch::new(Plan::default()), Vec::new(), 0);
        assert_eq!((left.findings().len(), left.more()), (MOST, 7));
    }
}

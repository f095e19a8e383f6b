//! Cause and effect as one finding: what the processes wait for that should take and read
//! connections, and how many nobody has taken or read meanwhile.

use std::collections::HashSet;

use super::{
    awaited::Takes,
    chain::{ChainEnd, Link, Party, Waiters, follow, takes, waiters},
    reading::{ReadProcess, Reading},
};
use crate::engine::{
    record::{BootNs, ProcessId, Record},
    verdict::Verdict,
};

/// Findings of one process.
const FINDINGS: usize = 3;

/// What processes that share their work wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blockage {
    /// When that was read, ns of the boot clock.
    pub at_ns: BootNs,
    /// The processes whose threads wait so: one, or several that share a listener.
    pub workers: Vec<Party>,
    /// How many of their threads wait so.
    pub threads: usize,
    /// Of how many.
    pub of: usize,
    /// From those threads to the end, the first worker's first.
    pub links: Vec<Link>,
    /// The end.
    pub end: ChainEnd,
    /// Whether any thread could take a connection, of all processes that have the listeners.
    pub takes: Takes,
}

/// What became of connections meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unserved {
    /// Connections that nobody accepted, and whose peers gave up.
    pub never_accepted: u64,
    /// Connections that were accepted and not read to their end.
    pub unread: u64,
}

impl Unserved {
    /// Of these processes, among all sockets that are known.
    pub fn count<'a>(workers: &[Party], records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut counts = Self::default();
        for record in records {
            if !record.holders.iter().any(|h| workers.iter().any(|w| w.id.pid == h.process.pid)) {
                continue;
            }
            counts.add(record.verdict, 1);
        }
        counts
    }

    /// Takes in so many sockets with a verdict.
    pub fn add(&mut self, verdict: Option<Verdict>, n: u64) {
        match verdict {
            Some(Verdict::NeverAccepted) => self.never_accepted += n,
            Some(Verdict::UnreadData | Verdict::UnreadFin) => self.unread += n,
            _ => {}
        }
    }

    /// Whether there are any.
    #[must_use]
    pub fn any(&self) -> bool {
        self.never_accepted + self.unread > 0
    }
}

/// A finding about a process, and what became of its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The cause.
    pub cause: Blockage,
    /// The effect.
    pub effect: Unserved,
}

/// How far the cause explains the effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// No thread could have taken a connection.
    Why,
    /// No thread waits for connections; some may have come back to that.
    Likely,
    /// Some thread takes connections: the two are there at the same time.
    Meanwhile,
}

impl Kept {
    /// How far the cause explains the effect.
    #[must_use]
    pub fn claim(&self) -> Claim {
        match self.cause.takes {
            Takes::Not => Claim::Why,
            Takes::Maybe => Claim::Likely,
            Takes::Yes => Claim::Meanwhile,
        }
    }

    /// Whether it is worth telling who looks for the cause of leaks.
    #[must_use]
    pub fn is_told(&self) -> bool {
        match self.claim() {
            Claim::Why | Claim::Likely => self.effect.any(),
            Claim::Meanwhile => self.effect.unread > 0 && counts(self.cause.threads, self.cause.of),
        }
    }
}

/// What keeps a process, and those that share its listeners: the group with most threads first.
/// Empty where nothing keeps it, as far as could be read.
#[must_use]
pub fn blockages(reading: &Reading, id: ProcessId) -> Vec<Blockage> {
    let Some(root) = reading.process(id) else { return Vec::new() };
    let shares = |p: &&ReadProcess| p.listeners.iter().any(|at| root.listeners.contains(at));
    let others = reading.asked().filter(|p| p.id() != root.id()).filter(shares);
    let sharing: Vec<&ReadProcess> = std::iter::once(root).chain(others).collect();
    let taking = sharing.iter().map(|p| takes(reading, p)).max().unwrap_or(Takes::Yes);
    let mut found: Vec<Blockage> = Vec::new();
    for process in &sharing {
        // A thread that sleeps, or waits for a lock that may be a condition, keeps nobody but
        // itself: it counts where it is all that there is, or leads to somebody else.
        let keeps = |w: &Waiters| match w.awaited.weight() {
            0 => false,
            1 => counts(w.tids.len(), w.of),
            _ => true,
        };
        for waiters in waiters(reading, process).iter().filter(|w| keeps(w)) {
            let same = found.iter_mut().find(|f| {
                f.links.first().is_some_and(|first| first.awaited.is_like(&waiters.awaited))
            });
            match same {
                Some(same) => {
                    same.threads += waiters.tids.len();
                    same.of += waiters.of;
                    same.workers.push(Party::of(process));
                }
                None => {
                    let (links, end) = follow(reading, process, waiters);
                    found.push(Blockage {
                        at_ns: reading.at_ns,
                        workers: vec![Party::of(process)],
                        threads: waiters.tids.len(),
                        of: waiters.of,
                        links,
                        end,
                        takes: taking,
                    });
                }
            }
        }
    }
    found.sort_by_key(|f| {
        let weight = f.links.first().map_or(0, |first| first.awaited.weight());
        std::cmp::Reverse((weight, f.threads))
    });
    drop_covered(&mut found);
    found.truncate(FINDINGS);
    found
}

/// Half of a process's threads, or more.
fn counts(threads: usize, of: usize) -> bool {
    threads * 2 >= of
}

/// What another finding leads through is said there.
fn drop_covered(found: &mut Vec<Blockage>) {
    let mut covered = HashSet::new();
    for finding in found.iter() {
        for link in finding.links.iter().skip(1).filter(|link| link.sure) {
            covered.extend(link.tids.iter().map(|tid| (link.process.id, *tid)));
        }
    }
    // In a circle each leads through the other: the first stays.
    let mut kept = HashSet::new();
    found.retain(|finding| {
        let Some(first) = finding.links.first() else { return false };
        let own = || first.tids.iter().map(|tid| (first.process.id, *tid));
        let is_covered = own().all(|thread| covered.contains(&thread));
        let leads_to_kept =
            finding.links.iter().any(|l| l.tids.iter().any(|t| kept.contains(&(l.process.id, *t))));
        let keep = !is_covered || (matches!(finding.end, ChainEnd::Cycle { .. }) && !leads_to_kept);
        if keep {
            kept.extend(own());
        }
        keep
    });
}

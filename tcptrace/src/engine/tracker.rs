//! All sockets that were reported, from the report to their end.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    rc::Rc,
};

use tcptrace_common::state::TcpState;

use super::{
    assemble,
    decode::Event,
    group::{GroupBy, HolderNames, Value, count_holder},
    opener,
    record::{Age, BootNs, ClosedBy, HolderSource, Record, Since},
    tally::Tally,
    unknown::Reason,
    update::{Summary, Update},
    verdict::Verdict,
};

/// Remembers what was reported of which socket. Its size goes by the sockets that are stuck, not by
/// the traffic.
#[derive(Debug, Default)]
pub struct Tracker {
    /// Ages are reported again when they have doubled from here, ns.
    min_age_ns: u64,
    open: HashMap<u64, Open>,
    /// Judged and not asked for, so that their ends are not reported either.
    unwanted: HashMap<u64, Progress>,
    /// Stuck, and no descriptor was found that leads there: the next scan decides.
    unheld: HashSet<u64>,
    counts: Counts,
}

/// What the summary counts, all since the start.
#[derive(Clone, Debug, Default)]
struct Counts {
    stuck: u64,
    resolved: u64,
    leaks: u64,
    leaks_open: u64,
    by_holder: Tally<Value>,
    by_verdict: Tally<&'static str>,
    by_remote: Tally<IpAddr>,
}

#[derive(Debug)]
struct Open {
    record: Rc<Record>,
    /// When it got stuck first: a ghost's story began before its present stay.
    since: Since,
    /// When it is reported again.
    due_ns: BootNs,
    progress: Progress,
    /// Complete scans in a row that did not list it.
    absent: u8,
    /// A reset ended its connection while its descriptor was open.
    reset: bool,
    /// It is being closed from outside.
    told: bool,
}

/// How far the peer has taken what was sent, and since when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    una: u32,
    since_ns: BootNs,
}

impl Progress {
    /// As of `now`, when the first byte that is not acknowledged is `una`.
    fn at(self, una: u32, now: BootNs) -> Self {
        if self.since_ns != 0 && self.una == una { self } else { Self { una, since_ns: now } }
    }
}

/// What an event means for the sockets that were reported.
#[derive(Debug)]
pub enum Outcome {
    /// Say this.
    Say(Update),
    /// A stay passed min-age and ended before any scan could find it.
    Unreported,
    /// Nothing.
    Silence,
}

/// One scan may overlook a stay while others come and go: two in a row are believed.
const ABSENT_IN: u8 = 2;
/// With a min-age of 0 a stay is reported at once; from then on when its age doubles from here.
const FIRST_REPEAT_NS: u64 = 1_000_000_000;

/// The age at which a stay of `age_ns` is reported next: the smallest doubling of min-age above it.
#[must_use]
pub fn next_doubling(age_ns: u64, min_age_ns: u64) -> u64 {
    let first = if min_age_ns == 0 { FIRST_REPEAT_NS } else { min_age_ns };
    let doublings = 64 - (age_ns / first).leading_zeros();
    first.checked_shl(doublings).filter(|next| next >> doublings == first).unwrap_or(u64::MAX)
}

impl Tracker {
    /// A tracker of stays of at least `min_age_ns`.
    #[must_use]
    pub fn new(min_age_ns: u64) -> Self {
        Self { min_age_ns, ..Self::default() }
    }

    /// From `now` on stays of this age are reported, ns. What was reported stays so; it is said
    /// again when it is its turn by the new age.
    pub fn set_min_age(&mut self, min_age_ns: u64, now: BootNs) {
        self.min_age_ns = min_age_ns;
        for open in self.open.values_mut() {
            let latest = open.record.latest_ns;
            let next = next_doubling(now.saturating_sub(latest), min_age_ns);
            open.due_ns = latest.saturating_add(next);
        }
    }

    /// Takes in an event of the kernel's. `from_ns`: shorter stays are not worth a word, ns.
    pub fn event(&mut self, event: &Event, from_ns: u64) -> Outcome {
        let cookie = event.change.connection.cookie;
        self.unheld.remove(&cookie);
        // A reset ends the connection; with its descriptor open the socket stays, as a ghost, and
        // the next scan reports it as such.
        if event.ghost
            && let Some(open) = self.open.get_mut(&cookie)
        {
            open.reset = true;
            return Outcome::Silence;
        }
        if self.unwanted.remove(&cookie).is_some() {
            return Outcome::Silence;
        }
        if let Some(open) = self.open.get(&cookie) {
            let why = match (event.change.old, event.change.new) {
                (TcpState::Close, TcpState::SynSent) => Reason::ConnectedAnew,
                _ if open.told => Reason::ClosedHere,
                _ if event.by_call => Reason::ShutDown,
                _ => Reason::ByNoCall,
            };
            return self
                .close(cookie, event.time, event.closed_by.clone(), why)
                .map_or(Outcome::Silence, Outcome::Say);
        }
        match event.change.stayed {
            Some(stayed) if stayed.min_ns >= from_ns => Outcome::Unreported,
            _ => Outcome::Silence,
        }
    }

    /// For how long the peer has taken nothing of what was sent, as far as earlier scans of the
    /// same socket tell, ns. `una`: the first byte that is not acknowledged at `now`.
    #[must_use]
    pub fn stalled(&self, cookie: u64, una: u32, now: BootNs) -> Option<u64> {
        let progress = match self.open.get(&cookie) {
            Some(open) => Some(open.progress),
            None => self.unwanted.get(&cookie).copied(),
        };
        progress
            .filter(|before| before.since_ns != 0)
            .map(|before| now.saturating_sub(before.at(una, now).since_ns))
    }

    /// Whether it is to be judged again before it is believed that nobody holds it: it may have
    /// been closed between being listed and the scan of the descriptor tables, or handed to a
    /// process that the scan had passed already.
    pub fn doubts(&mut self, record: &Record) -> bool {
        let cookie = record.connection.cookie;
        if record.holder_source != HolderSource::OutsideFdTables {
            self.unheld.remove(&cookie);
            return false;
        }
        let known = |open: &Open| open.record.holder_source == HolderSource::OutsideFdTables;
        !self.open.get(&cookie).is_some_and(known) && self.unheld.insert(cookie)
    }

    /// Adds what earlier scans of the same socket saw: who held it then, and holds it no more. A
    /// socket that one holder let go of and another did not is an inherited one.
    pub fn remember(&self, record: &mut Record) {
        let Some(open) = self.open.get(&record.connection.cookie) else { return };
        if record.holder_source != HolderSource::FdTable
            || open.record.holder_source != HolderSource::FdTable
        {
            return;
        }
        let earlier = [&open.record.holders[..], &open.record.former_holders].concat();
        opener::mark_by_earlier(&mut record.holders, &open.record.holders);
        record.former_holders = opener::former(&record.holders, &earlier);
        if record.former_holders.is_empty() {
            return;
        }
        for holder in &mut record.holders {
            let before = open.record.holders.iter().find(|b| b.process == holder.process);
            holder.opener = holder.opener.or(before.and_then(|b| b.opener));
        }
        // Who opened it and was in no scan may have handed it over: that was judged then.
        let let_go = open.record.holders.iter().any(|h| record.former_holders.contains(h));
        let inherited = let_go || open.record.verdict == Some(Verdict::InheritedFd);
        if inherited && let Some(verdict) = record.verdict.filter(|v| v.is_unclosed()) {
            record.also.insert(0, verdict);
            record.verdict = Some(Verdict::InheritedFd);
        }
        assemble::note_opener(record);
    }

    /// A scan at `record.seen_ns` found it stuck, and it is asked for. `una`: the first byte that
    /// the peer has not acknowledged. What is said, if it is new, another stay, or its age has
    /// doubled.
    pub fn stuck(&mut self, record: Record, una: u32) -> Option<Update> {
        let now = record.seen_ns;
        self.stuck_at(record, una, now)
    }

    /// The same at `now`, which may be later than it was seen.
    pub fn stuck_at(&mut self, record: Record, una: u32, now: BootNs) -> Option<Update> {
        let record = Rc::new(record);
        let cookie = record.connection.cookie;
        let before = self.unwanted.remove(&cookie).unwrap_or_default();
        let age = now.saturating_sub(record.latest_ns);
        let next = record.latest_ns.saturating_add(next_doubling(age, self.min_age_ns));
        let due = match self.open.get_mut(&cookie) {
            Some(open) => {
                let another =
                    (open.record.state, open.record.latest_ns) != (record.state, record.latest_ns);
                let due = another || now >= open.due_ns;
                if due {
                    open.due_ns = next;
                }
                open.progress = open.progress.at(una, now);
                open.absent = 0;
                // What says nothing new takes no other's place: with a hundred thousand of them,
                // the memory of both would be torn into pieces.
                if !due && is_the_same(&open.record, &record) {
                    return None;
                }
                let before = std::mem::replace(&mut open.record, Rc::clone(&record));
                self.counts.forget(&before);
                due
            }
            None => {
                let open = Open {
                    record: Rc::clone(&record),
                    since: Since { earliest_ns: record.earliest_ns, latest_ns: record.latest_ns },
                    due_ns: next,
                    progress: before.at(una, now),
                    absent: 0,
                    reset: false,
                    told: false,
                };
                self.open.insert(cookie, open);
                self.counts.stuck += 1;
                true
            }
        };
        self.counts.count(&record);
        due.then_some(Update::Stuck(record))
    }

    /// A scan found it stuck, and it is not asked for, or not any more: then what was said of it
    /// before is taken back.
    pub fn unwanted(&mut self, record: Record, una: u32) -> Option<Update> {
        let (cookie, now) = (record.connection.cookie, record.seen_ns);
        let why = match record.verdict {
            Some(Verdict::HalfCloseInUse) => Reason::InUse,
            None if !record.is_news() => Reason::Recovered,
            _ => Reason::NotAskedFor,
        };
        let before = match self.open.get(&cookie) {
            Some(open) => open.progress,
            None => self.unwanted.get(&cookie).copied().unwrap_or_default(),
        };
        let taken_back = if self.open.contains_key(&cookie) {
            self.stuck(record, una);
            self.close(cookie, now, None, why)
        } else {
            None
        };
        self.unwanted.insert(cookie, before.at(una, now));
        taken_back
    }

    /// Whether it was reported and has not ended.
    #[must_use]
    pub fn knows(&self, cookie: u64) -> bool {
        self.open.contains_key(&cookie)
    }

    /// Whether this stay of it was reported and has not ended.
    #[must_use]
    pub fn has_reported(&self, cookie: u64, latest_ns: BootNs) -> bool {
        self.open.get(&cookie).is_some_and(|open| open.record.latest_ns == latest_ns)
    }

    /// Whether it was judged and found not to be asked for.
    #[must_use]
    pub fn leaves_out(&self, cookie: u64) -> bool {
        self.unwanted.contains_key(&cookie)
    }

    /// Takes in a complete scan at `now`: what two of them in a row did not list has ended, nobody
    /// saw how.
    pub fn reconcile(&mut self, live: &HashSet<u64>, now: BootNs) -> Vec<Update> {
        self.unwanted.retain(|cookie, _| live.contains(cookie));
        self.unheld.retain(|cookie| live.contains(cookie));
        let mut gone = Vec::new();
        for (cookie, open) in &mut self.open {
            open.absent = if live.contains(cookie) { 0 } else { open.absent + 1 };
            if open.absent >= ABSENT_IN {
                gone.push(*cookie);
            }
        }
        gone.sort_unstable();
        let end = |tracker: &mut Self, cookie| {
            let reset = tracker.open.get(&cookie).is_some_and(|open| open.reset);
            let why = if reset { Reason::ResetUnfollowed } else { Reason::EndLost };
            tracker.close(cookie, now, None, why)
        };
        gone.into_iter().filter_map(|cookie| end(self, cookie)).collect()
    }

    /// One that was reported is over, and no event tells so.
    pub fn over(&mut self, cookie: u64, now: BootNs, why: Reason) -> Option<Update> {
        self.unwanted.remove(&cookie);
        self.unheld.remove(&cookie);
        self.close(cookie, now, None, why)
    }

    /// Whether a complete scan is still owed an answer about some socket.
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        !self.unheld.is_empty() || self.open.values().any(|open| open.absent > 0)
    }

    /// Whether the end of a descriptor decides about any socket.
    #[must_use]
    pub fn has_ghosts(&self) -> bool {
        self.open.values().any(|open| open.reset || open.record.state == TcpState::Close)
    }

    /// Those that were reported and have not ended, as last seen, in no order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &Rc<Record>> {
        self.open.values().map(|open| &open.record)
    }

    /// One of them.
    #[must_use]
    pub fn row(&self, cookie: u64) -> Option<&Rc<Record>> {
        self.open.get(&cookie).map(|open| &open.record)
    }

    /// It is being closed from outside; or it was not, after all.
    pub fn tell(&mut self, cookie: u64, told: bool) {
        if let Some(open) = self.open.get_mut(&cookie) {
            open.told = told;
        }
    }

    /// How many sockets are remembered, for whatever reason.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.open.len() + self.unwanted.len() + self.unheld.len()
    }

    /// The counts so far, without those that the kernel keeps.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let Counts { stuck, resolved, leaks, leaks_open, by_holder, by_verdict, by_remote } =
            self.counts.clone();
        let (mut holders, mut names) = (BTreeMap::new(), HolderNames::new());
        for (holder, n) in by_holder.sorted() {
            count_holder(&holder, n, &mut holders, &mut names);
        }
        Summary {
            stuck,
            resolved,
            still_open: self.open.len() as u64,
            leaks,
            leaks_open,
            by_holder: holders,
            names,
            by_verdict: by_verdict.sorted().into_iter().collect(),
            by_remote: by_remote.sorted().into_iter().collect(),
            other_holders: by_holder.others(),
            other_remotes: by_remote.others(),
            ..Summary::default()
        }
    }

    fn close(
        &mut self,
        cookie: u64,
        at: BootNs,
        closed_by: Option<ClosedBy>,
        unknown: Reason,
    ) -> Option<Update> {
        let open = self.open.remove(&cookie)?;
        self.counts.resolved += 1;
        self.counts.leaks_open -= u64::from(open.record.is_leak());
        let stayed = Age::at(at, open.since.earliest_ns, open.since.latest_ns);
        Some(Update::Resolved { record: open.record, stayed, closed_by, unknown })
    }
}

/// Whether two records of one stay differ in nothing but the time at which they were seen.
fn is_the_same(before: &Record, now: &Record) -> bool {
    let said = |r: &Record| (r.verdict, r.holder_source, r.evidence.recv_q, r.evidence.send_q);
    said(before) == said(now)
        && before.holders == now.holders
        && before.former_holders == now.former_holders
        && before.listener == now.listener
        && before.origins == now.origins
}

impl Counts {
    /// Adds an open record.
    fn count(&mut self, record: &Record) {
        let holders = GroupBy::Holder.values(record);
        holders.into_iter().for_each(|holder| self.by_holder.add(holder));
        self.by_verdict.add(record.verdict.map_or("unknown", Verdict::name));
        self.by_remote.add(record.connection.remote.ip());
        self.leaks += u64::from(record.is_leak());
        self.leaks_open += u64::from(record.is_leak());
    }

    /// Takes an open record out again, in whose place another comes.
    fn forget(&mut self, record: &Record) {
        let holders = GroupBy::Holder.values(record);
        holders.iter().for_each(|holder| self.by_holder.remove(holder));
        self.by_verdict.remove(&record.verdict.map_or("unknown", Verdict::name));
        self.by_remote.remove(&record.connection.remote.ip());
        self.leaks -= u64::from(record.is_leak());
        self.leaks_open -= u64::from(record.is_leak());
    }
}

#[cfg(test)]
mod tests;

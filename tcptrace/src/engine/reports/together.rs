//! A group: its sockets, and when it has something to say.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use super::{FORGET_NS, Key, SINGLES};
use crate::engine::{
    alike::{GroupReport, Report},
    record::{Age, BootNs, ClosedBy, Record},
    tracker::next_doubling,
    unknown::Reason,
    verdict::Verdict,
};

/// Sockets that are alike.
#[derive(Debug, Default)]
pub struct Together {
    members: HashMap<u64, Rc<Record>>,
    /// The oldest one; `None`: to be looked for.
    oldest: Option<Rc<Record>>,
    /// Not told yet, by their cookies.
    fresh: HashSet<u64>,
    /// Since it was empty.
    seen: u64,
    ended: u64,
    longest: Option<Age>,
    last: Option<Last>,
    /// What was told last: how many there were, and how old the oldest was, ns.
    told: u64,
    told_age_ns: u64,
    /// Since when it has been empty, as far as was asked.
    empty_ns: Option<BootNs>,
}

/// How the last one ended.
#[derive(Debug)]
struct Last {
    record: Rc<Record>,
    closed_by: Option<ClosedBy>,
    unknown: Reason,
}

impl Together {
    pub fn len(&self) -> u64 {
        self.members.len() as u64
    }

    pub fn insert(&mut self, record: &Rc<Record>) {
        let cookie = record.connection.cookie;
        if self.members.insert(cookie, Rc::clone(record)).is_none() {
            self.fresh.insert(cookie);
            self.seen += 1;
        }
        let known = self.oldest.take();
        self.oldest = match known {
            Some(oldest) if oldest.connection.cookie != cookie => {
                let older = record.latest_ns < oldest.latest_ns;
                Some(if older { Rc::clone(record) } else { oldest })
            }
            None if self.members.len() == 1 => Some(Rc::clone(record)),
            _ => None,
        };
    }

    pub fn remove(&mut self, cookie: u64) {
        self.members.remove(&cookie);
        self.fresh.remove(&cookie);
        if self.oldest.as_ref().is_some_and(|r| r.connection.cookie == cookie) {
            self.oldest = None;
        }
        if self.members.is_empty() {
            (self.told, self.told_age_ns, self.seen) = (0, 0, 0);
        }
    }

    pub fn end(
        &mut self,
        record: &Rc<Record>,
        stayed: Age,
        closed_by: Option<ClosedBy>,
        unknown: Reason,
    ) {
        self.ended += 1;
        self.longest = Some(self.longest.map_or(stayed, |longest| longest.older(stayed)));
        self.last = Some(Last { record: Rc::clone(record), closed_by, unknown });
    }

    fn oldest(&mut self) -> Option<&Rc<Record>> {
        if self.oldest.is_none() {
            let age = |r: &&Rc<Record>| (r.latest_ns, r.connection.cookie);
            self.oldest = self.members.values().min_by_key(age).map(Rc::clone);
        }
        self.oldest.as_ref()
    }

    /// Whether there is something to say: it is new, or twice as many, or twice as old, or nothing
    /// is left.
    pub fn is_due(&mut self, now: BootNs, min_age_ns: u64) -> bool {
        let (count, told, told_age_ns) = (self.len(), self.told, self.told_age_ns);
        let shrunk = self.has_shrunk();
        let few = self.seen <= SINGLES && !self.fresh.is_empty();
        match self.oldest() {
            None => self.ended > 0,
            Some(_) if shrunk => true,
            Some(_) if told == 0 || few || count >= 2 * told => true,
            Some(oldest) => {
                let age_ns = oldest.age(now).min_ns;
                next_doubling(age_ns, min_age_ns) > next_doubling(told_age_ns, min_age_ns)
            }
        }
    }

    /// Whether that some have ended is worth a line: of a few each, of many half of those that
    /// there were, told before or not.
    pub fn has_shrunk(&self) -> bool {
        let few = self.seen <= SINGLES;
        let half = 2 * self.len() <= self.told || self.ended >= self.len();
        self.ended > 0 && (few || half)
    }

    /// How often it has doubled since it was told.
    pub fn doublings(&self) -> u32 {
        (self.len() / self.told.max(1)).checked_ilog2().unwrap_or(0)
    }

    /// Whether it has been empty for long.
    pub fn is_over(&mut self, now: BootNs) -> bool {
        if !self.members.is_empty() {
            self.empty_ns = None;
            return false;
        }
        let since = *self.empty_ns.get_or_insert(now);
        now.saturating_sub(since) >= FORGET_NS
    }

    /// Says what there is to say; in how many lines.
    pub fn say(
        &mut self,
        key: &Key,
        now: BootNs,
        min_age_ns: u64,
        reports: &mut Vec<Report>,
    ) -> u32 {
        let before = reports.len();
        let value = match key {
            Key::Value(value) => Some(value.to_string()),
            _ => None,
        };
        let Some(oldest) = self.oldest().map(Rc::clone) else {
            return self.say_ended(value, reports);
        };
        if self.has_shrunk() {
            self.say_ended(value.clone(), reports);
            self.told = self.len();
            if !self.is_due(now, min_age_ns) {
                return 1;
            }
        }
        let age = oldest.age(now);
        if value.is_none() && self.seen <= SINGLES && !self.fresh.is_empty() {
            let mut fresh: Vec<&Rc<Record>> =
                self.fresh.iter().filter_map(|cookie| self.members.get(cookie)).collect();
            fresh.sort_unstable_by_key(|r| (r.latest_ns, r.connection.cookie));
            let first = self.len() - fresh.len() as u64 + 1;
            let single = |(count, record): (u64, &Rc<Record>)| Report::Socket {
                record: Rc::clone(record),
                count,
                new: true,
            };
            reports.extend((first..).zip(fresh).map(single));
        } else if value.is_none() && self.len() == 1 {
            let new = !self.fresh.is_empty();
            reports.push(Report::Socket { record: oldest, count: 1, new });
        } else {
            reports.push(Report::Group(self.report(value, oldest, age)));
        }
        self.fresh.clear();
        (self.told, self.told_age_ns) = (self.len(), age.min_ns);
        u32::try_from(reports.len() - before).unwrap_or(u32::MAX)
    }

    fn say_ended(&mut self, value: Option<String>, reports: &mut Vec<Report>) -> u32 {
        let Some((stayed, last)) = self.longest.take().zip(self.last.take()) else { return 0 };
        let Last { record, closed_by, unknown } = last;
        let count = self.ended;
        let left = self.len();
        reports.push(Report::Ended { record, left, count, stayed, closed_by, unknown, value });
        self.ended = 0;
        1
    }

    fn report(&self, value: Option<String>, oldest: Rc<Record>, age: Age) -> GroupReport {
        let members = || self.members.values();
        let mut verdicts: HashMap<Option<Verdict>, u64> = HashMap::new();
        members().for_each(|r| *verdicts.entry(r.verdict).or_default() += 1);
        let mut verdicts: Vec<_> = verdicts.into_iter().collect();
        verdicts.sort_by_key(|(v, n)| (std::cmp::Reverse(*n), v.map(Verdict::name)));
        let pids = |r: &Record| {
            let mut pids: Vec<u32> = r.holders.iter().map(|h| h.process.pid).collect();
            pids.sort_unstable();
            pids.dedup();
            pids
        };
        let first = pids(&oldest);
        GroupReport {
            value,
            age,
            count: self.len(),
            new: self.fresh.len() as u64,
            leaks: members().filter(|r| r.is_leak()).count() as u64,
            verdicts,
            same_holders: members().all(|r| pids(r) == first),
            local: members().map(|r| r.connection.local).collect(),
            remote: members().map(|r| r.connection.remote).collect(),
            oldest,
        }
    }
}

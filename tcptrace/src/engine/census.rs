//! Counting sockets that one look listed: in all, and by what they have in common.

use std::collections::{BTreeMap, HashMap};

use super::{
    event::{Age, BootNs, Group, GroupBy, Overview, Record},
    verdict::Verdict,
};

impl Overview {
    /// Counts one that is listed.
    pub fn add(&mut self, record: &Record) {
        self.sockets += 1;
        self.leaks += u64::from(record.is_leak());
        for holder in holder_names(record) {
            *self.by_holder.entry(holder).or_default() += 1;
        }
        *self.by_verdict.entry(record.verdict.map_or("unknown", Verdict::name)).or_default() += 1;
        *self.by_remote.entry(record.connection.remote.ip()).or_default() += 1;
    }
}

/// The processes that hold it, or its listener; each once.
#[must_use]
pub fn holder_names(record: &Record) -> Vec<String> {
    let mut names: Vec<String> = record.holders.iter().map(|h| format!("{}[{}]", h.comm, h.process.pid)).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        names.push("unknown".to_owned());
    }
    names
}

/// Groups of sockets.
#[derive(Debug)]
pub struct Groups {
    by: GroupBy,
    now: BootNs,
    groups: HashMap<String, Group>,
}

impl Groups {
    /// None yet; ages are as of `now`.
    #[must_use]
    pub fn new(by: GroupBy, now: BootNs) -> Self {
        Self { by, now, groups: HashMap::new() }
    }

    /// Counts one; a socket that several processes hold counts for each of them.
    pub fn add(&mut self, record: &Record) {
        let keys = match self.by {
            GroupBy::Holder => holder_names(record),
            GroupBy::Verdict => vec![record.verdict.map_or("unknown", Verdict::name).to_owned()],
            GroupBy::Remote => vec![record.connection.remote.ip().to_string()],
            GroupBy::Listener => vec![record.came_in_by.map_or_else(|| "none".to_owned(), |l| l.to_string())],
        };
        let age = record.age(self.now);
        for key in keys {
            let group = self.groups.entry(key).or_insert_with_key(|key| Group {
                by: self.by,
                key: key.clone(),
                count: 0,
                leaks: 0,
                oldest: age,
                by_verdict: BTreeMap::new(),
            });
            group.count += 1;
            group.leaks += u64::from(record.is_leak());
            group.oldest = group.oldest.older(age);
            *group.by_verdict.entry(record.verdict.map_or("unknown", Verdict::name)).or_default() += 1;
        }
    }

    /// The groups, the largest first.
    #[must_use]
    pub fn sorted(self) -> Vec<Group> {
        let mut list: Vec<Group> = self.groups.into_values().collect();
        list.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.key.cmp(&b.key)));
        list
    }
}

impl Age {
    /// The one that is certainly older; of two alike, the one that may be.
    fn older(self, other: Self) -> Self {
        let rank = |a: &Self| (a.min_ns, a.max_ns.unwrap_or(u64::MAX));
        if rank(&other) > rank(&self) { other } else { self }
    }
}

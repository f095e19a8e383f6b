//! Counting sockets that one scan listed: in all, and by what they have in common.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use tcptrace_common::state::TcpState;

use crate::engine::{
    record::{Age, BootNs, Record},
    verdict::Verdict,
};

/// Sockets that have something in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they have in common.
    pub by: GroupBy,
    /// Its value; of holders and listeners it may hold anything.
    pub key: String,
    /// How many.
    pub count: u64,
    /// Of those: leaks.
    pub leaks: u64,
    /// The age of the oldest.
    pub oldest: Age,
    /// By verdict.
    pub by_verdict: BTreeMap<&'static str, u64>,
}

/// What sockets are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// Process, `comm[pid]`.
    Holder,
    /// Verdict.
    Verdict,
    /// Remote address, without the port.
    Remote,
    /// Listener: local address and port of the one they came in by.
    Listener,
}

impl GroupBy {
    /// As the interface spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Holder => "holder",
            Self::Verdict => "verdict",
            Self::Remote => "remote",
            Self::Listener => "listener",
        }
    }
}

/// What one scan saw in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// Sockets listed.
    pub sockets: u64,
    /// Of those: leaks.
    pub leaks: u64,
    /// Half-closes in use, which nobody asked for and which are no leaks.
    pub in_use: u64,
    /// Network namespaces looked into.
    pub namespaces: u64,
    /// All TCP sockets there, by state, listed or not.
    pub states: Vec<(TcpState, u64)>,
    /// Listed ones by holder (`comm[pid]`).
    pub by_holder: BTreeMap<String, u64>,
    /// Listed ones by verdict.
    pub by_verdict: BTreeMap<&'static str, u64>,
    /// Listed ones by remote address, without the port.
    pub by_remote: BTreeMap<IpAddr, u64>,
}

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
    let mut names: Vec<String> =
        record.holders.iter().map(|h| format!("{}[{}]", h.comm, h.process.pid)).collect();
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
            GroupBy::Listener => {
                vec![record.came_in_by.map_or_else(|| "none".to_owned(), |l| l.to_string())]
            }
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
            *group
                .by_verdict
                .entry(record.verdict.map_or("unknown", Verdict::name))
                .or_default() += 1;
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
    #[must_use]
    pub fn older(self, other: Self) -> Self {
        let rank = |a: &Self| (a.min_ns, a.max_ns.unwrap_or(u64::MAX));
        if rank(&other) > rank(&self) { other } else { self }
    }
}

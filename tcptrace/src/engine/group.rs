//! Counting sockets that one scan listed: in all, and by what they have in common.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use tcptrace_common::state::TcpState;

use crate::engine::{
    record::{Age, BootNs, Holder, Record},
    time_wait::TimeWaits,
    verdict::Verdict,
};
use crate::formats::cgroup::Cgroups;

/// Sockets that have something in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they have in common.
    pub by: GroupBy,
    /// Its value; of holders and listeners it may hold anything.
    pub key: String,
    /// What people call that; it may hold anything.
    pub name: String,
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
    /// Container of who holds them, by its id.
    Container,
    /// Kubernetes pod of who holds them, by its uid.
    Pod,
    /// Cgroup of who holds them.
    Cgroup,
}

impl GroupBy {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Holder,
        Self::Verdict,
        Self::Remote,
        Self::Listener,
        Self::Container,
        Self::Pod,
        Self::Cgroup,
    ];

    /// As the interface spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Holder => "holder",
            Self::Verdict => "verdict",
            Self::Remote => "remote",
            Self::Listener => "listener",
            Self::Container => "container",
            Self::Pod => "pod",
            Self::Cgroup => "cgroup",
        }
    }

    /// A record's values: of holders, containers and the like it may have several, each once, in
    /// order.
    #[must_use]
    pub fn values(self, record: &Record) -> Vec<Value> {
        let of_holders = |value: &dyn Fn(&Cgroups) -> Option<String>| {
            let cgroups = record.holders.iter().filter_map(|h| h.cgroups.as_deref());
            distinct(cgroups.filter_map(value).map(Value::plain).collect(), "none")
        };
        let one = |key: String| vec![Value::plain(key)];
        match self {
            Self::Holder => {
                let value = |h: &Holder| Value {
                    key: format!("{}[{}]", h.comm, h.process.pid),
                    name: format!("{}[{}]", h.called(), h.process.pid),
                };
                distinct(record.holders.iter().map(value).collect(), "unknown")
            }
            Self::Verdict => one(record.verdict.map_or("unknown", Verdict::name).to_owned()),
            Self::Remote => one(record.connection.remote.ip().to_string()),
            Self::Listener => {
                one(record.came_in_by.map_or_else(|| "none".to_owned(), |l| l.to_string()))
            }
            Self::Container => of_holders(&|c| c.container().map(|c| c.id.to_string())),
            Self::Pod => {
                of_holders(&|c| c.container().and_then(|c| c.pod.as_deref()).map(str::to_owned))
            }
            Self::Cgroup => of_holders(&|c| c.path().map(str::to_owned)),
        }
    }
}

/// What a record is grouped by. It may hold anything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    /// What it is counted under; of a process `comm[pid]`.
    pub key: String,
    /// What people call that; of a process `name[pid]`.
    pub name: String,
}

impl Value {
    fn plain(key: String) -> Self {
        Self { name: key.clone(), key }
    }
}

fn distinct(mut values: Vec<Value>, none: &str) -> Vec<Value> {
    values.sort_unstable();
    values.dedup();
    if values.is_empty() {
        values.push(Value::plain(none.to_owned()));
    }
    values
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
    /// Left out by their age, which may be as much as was asked for.
    pub age_unknown: u64,
    /// Network namespaces looked into.
    pub namespaces: u64,
    /// All TCP sockets there, by state, listed or not; `None`: only those that were watched are
    /// known.
    pub states: Option<Vec<(TcpState, u64)>>,
    /// TIME_WAIT, where it was asked for.
    pub time_waits: Option<TimeWaits>,
    /// Listed ones by holder (`comm[pid]`).
    pub by_holder: BTreeMap<String, u64>,
    /// What people call those, where that is more; it may hold anything.
    pub names: HolderNames,
    /// Listed ones by verdict.
    pub by_verdict: BTreeMap<&'static str, u64>,
    /// Listed ones by remote address, without the port.
    pub by_remote: BTreeMap<IpAddr, u64>,
}

impl Overview {
    /// Counts one in TIME_WAIT that is not listed: its verdict, where the state was chosen.
    pub fn time_wait(&mut self, is_chosen: bool) {
        if is_chosen {
            *self.by_verdict.entry(Verdict::ClosedFirst.name()).or_default() += 1;
        }
    }

    /// Counts one that is listed.
    pub fn add(&mut self, record: &Record) {
        self.sockets += 1;
        self.leaks += u64::from(record.is_leak());
        for holder in GroupBy::Holder.values(record) {
            count_holder(&holder, 1, &mut self.by_holder, &mut self.names);
        }
        *self.by_verdict.entry(record.verdict.map_or("unknown", Verdict::name)).or_default() += 1;
        *self.by_remote.entry(record.connection.remote.ip()).or_default() += 1;
    }
}

/// What people call processes, by `comm[pid]`, where that is more.
pub type HolderNames = BTreeMap<String, String>;

/// Counts so many sockets of a holder.
pub fn count_holder(
    holder: &Value,
    n: u64,
    counts: &mut BTreeMap<String, u64>,
    names: &mut HolderNames,
) {
    *counts.entry(holder.key.clone()).or_default() += n;
    if holder.name != holder.key {
        names.entry(holder.key.clone()).or_insert_with(|| holder.name.clone());
    }
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
        let age = record.age(self.now);
        for Value { key, name } in self.by.values(record) {
            let group = self.groups.entry(key).or_insert_with_key(|key| Group {
                by: self.by,
                key: key.clone(),
                name,
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

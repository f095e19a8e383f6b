//! What agents of many hosts, or a Prometheus that scrapes them, say of who leaks.

use std::collections::BTreeMap;

/// Who leaks on one host: a process where its agent was asked, a workload where Prometheus was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeakingHost {
    /// The host, as it was named; may hold anything.
    pub host: String,
    /// `comm[pid]`, or the workload; may hold anything.
    pub who: String,
    /// Leaks that are open.
    pub leaks: u64,
    /// Sockets that are stuck, leaks or not; `None`: not asked.
    pub stuck: Option<u64>,
    /// Leaks gained an hour, over the last 15 minutes; `None`: not known.
    pub per_hour: Option<f64>,
    /// Age of the oldest stuck socket, at least, ns; `None`: not known.
    pub oldest_ns: Option<u64>,
    /// By verdict; names may be anything.
    pub by_verdict: BTreeMap<String, u64>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fleet {
    /// Those that leak, the worst first.
    pub leaking: Vec<LeakingHost>,
    /// As many more.
    pub more: u64,
    /// Their leaks.
    pub leaks: u64,
    /// Hosts that answered.
    pub hosts: u64,
    /// Hosts that did not, and why; both may hold anything.
    pub silent: Vec<(String, String)>,
}

impl Fleet {
    /// Puts those with most leaks first, and keeps so many.
    pub fn keep(&mut self, most: usize) {
        self.leaking.retain(|one| one.leaks > 0);
        self.leaks = self.leaking.iter().fold(0, |sum, one| sum.saturating_add(one.leaks));
        self.leaking.sort_by(|a, b| {
            let key = |one: &LeakingHost| (std::cmp::Reverse(one.leaks), one.host.clone());
            key(a).cmp(&key(b)).then_with(|| a.who.cmp(&b.who))
        });
        self.more = self.leaking.len().saturating_sub(most) as u64;
        self.leaking.truncate(most);
        self.silent.sort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_first_and_no_more_than_asked_for() {
        let one =
            |host: &str, leaks| LeakingHost { host: host.into(), leaks, ..LeakingHost::default() };
        let leaking = vec![one("b", 3), one("a", 3), one("c", 0), one("d", 9), one("e", 1)];
        let mut fleet = Fleet { leaking, ..Fleet::default() };
        fleet.keep(3);
        let hosts: Vec<&str> = fleet.leaking.iter().map(|one| one.host.as_str()).collect();
        assert_eq!((hosts, fleet.more, fleet.leaks), (vec!["d", "a", "b"], 1, 16));
    }
}

//! What was said of sockets, counted by workload since the start, for who asks again and again.
//! However many workloads there are, so many are told apart; the rest is counted together.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use tcptrace_common::state::TcpState;

use super::{
    record::{BootNs, Record},
    update::Update,
    verdict::Verdict,
    watch::Said,
    workload::{OTHER, Workload},
};

/// What is counted of one workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadCounts {
    /// Sockets that got stuck, by state and first verdict.
    pub stuck: BTreeMap<StateVerdict, CountedSockets>,
    /// Sockets that left their state, by state and last verdict.
    pub resolved: BTreeMap<StateVerdict, CountedSockets>,
}

/// A state, and why a socket sits there; `None`: no verdict could be given.
pub type StateVerdict = (TcpState, Option<Verdict>);

/// How many, and which was the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountedSockets {
    /// Since the start.
    pub count: u64,
    /// The cookie of the last one.
    pub last_cookie: u64,
    /// When that was.
    pub last_ns: BootNs,
}

impl CountedSockets {
    fn add(&mut self, cookie: u64, at: BootNs) {
        *self = Self { count: self.count + 1, last_cookie: cookie, last_ns: at };
    }

    /// Both together.
    pub fn merge(&mut self, other: Self) {
        let last = if other.last_ns >= self.last_ns { other } else { *self };
        *self = Self { count: self.count + other.count, ..last };
    }
}

impl WorkloadCounts {
    fn merge(&mut self, other: Self) {
        for (kind, counter) in other.stuck {
            self.stuck.entry(kind).or_default().merge(counter);
        }
        for (kind, counter) in other.resolved {
            self.resolved.entry(kind).or_default().merge(counter);
        }
    }
}

/// A workload that is told apart.
#[derive(Debug)]
struct Slot {
    account: WorkloadCounts,
    /// When anything was said of it last.
    used_ns: BootNs,
}

/// All of them.
#[derive(Debug)]
pub struct Accounts {
    most: usize,
    slots: HashMap<Workload, Slot>,
    other: WorkloadCounts,
    /// Workloads with sockets that are stuck now, and how many.
    open: HashMap<Workload, u64>,
    /// Whose each of those is.
    sockets: HashMap<u64, Workload>,
    /// Workloads that had to share since the start, those that came back counted again.
    merged: u64,
}

impl Accounts {
    /// None yet; `most` workloads are told apart.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            slots: HashMap::new(),
            other: WorkloadCounts::default(),
            open: HashMap::new(),
            sockets: HashMap::new(),
            merged: 0,
        }
    }

    /// From now on so many are told apart. Of more, those with fewest sockets open, and among them
    /// those that nothing was said of for longest, are counted together with the rest.
    pub fn set_most(&mut self, most: usize) {
        self.most = most;
        while self.slots.len() > most {
            let open = |of: &Workload| self.open.get(of).copied().unwrap_or(0);
            let least = self.slots.iter().min_by_key(|(of, slot)| (open(of), slot.used_ns));
            let Some(least) = least.map(|(of, _)| of.clone()) else { return };
            if let Some(slot) = self.slots.remove(&least) {
                self.other.merge(slot.account);
                self.merged += 1;
            }
        }
    }

    /// Takes in what was said.
    pub fn take(&mut self, said: &Said) {
        match &said.update {
            Update::Stuck(record) => self.stuck(record, said.time),
            Update::Resolved { record, .. } => self.resolved(record, said.time),
            _ => {}
        }
    }

    fn stuck(&mut self, record: &Rc<Record>, now: BootNs) {
        let cookie = record.connection.cookie;
        // It is said again whenever its age has doubled.
        if self.sockets.contains_key(&cookie) {
            return;
        }
        let workload = Workload::of_record(record);
        self.sockets.insert(cookie, workload.clone());
        *self.open.entry(workload.clone()).or_default() += 1;
        let kind = (record.state, record.verdict);
        let account = self.account(&workload, now);
        account.stuck.entry(kind).or_default().add(cookie, now);
        // From 0 on: what begins with 1 shows no growth.
        account.resolved.entry(kind).or_default();
    }

    fn resolved(&mut self, record: &Rc<Record>, now: BootNs) {
        let cookie = record.connection.cookie;
        let Some(workload) = self.sockets.remove(&cookie) else { return };
        if let Some(open) = self.open.get_mut(&workload) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&workload);
            }
        }
        let account = self.account(&workload, now);
        account.resolved.entry((record.state, record.verdict)).or_default().add(cookie, now);
    }

    /// Where a workload is counted. One with more sockets open than twice what another has that is
    /// told apart takes its place: those worth telling apart are those that leak most.
    fn account(&mut self, workload: &Workload, now: BootNs) -> &mut WorkloadCounts {
        if !self.slots.contains_key(workload) {
            if self.slots.len() < self.most {
                let slot = Slot { account: WorkloadCounts::default(), used_ns: now };
                self.slots.insert(workload.clone(), slot);
            } else if let Some(least) = self.less_than_half_of(workload) {
                if let Some(slot) = self.slots.remove(&least) {
                    self.other.merge(slot.account);
                }
                self.merged += 1;
                let slot = Slot { account: WorkloadCounts::default(), used_ns: now };
                self.slots.insert(workload.clone(), slot);
            }
        }
        match self.slots.get_mut(workload) {
            Some(slot) => {
                slot.used_ns = now;
                &mut slot.account
            }
            None => &mut self.other,
        }
    }

    fn less_than_half_of(&self, workload: &Workload) -> Option<Workload> {
        let open = |of: &Workload| self.open.get(of).copied().unwrap_or(0);
        let wanted = open(workload);
        let least = self.slots.iter().min_by_key(|(of, slot)| (open(of), slot.used_ns))?.0;
        (open(least).saturating_mul(2) < wanted).then(|| least.clone())
    }

    /// The name that a workload is shown by.
    #[must_use]
    pub fn shown(&self, workload: &Workload) -> &str {
        self.slots.get_key_value(workload).map_or(OTHER, |(told_apart, _)| &told_apart.name)
    }

    /// Those that are told apart, in order.
    #[must_use]
    pub fn told_apart(&self) -> Vec<(&Workload, &WorkloadCounts)> {
        let mut list: Vec<_> = self.slots.iter().map(|(of, slot)| (of, &slot.account)).collect();
        list.sort_by_key(|(of, _)| *of);
        list
    }

    /// What the others are counted as.
    #[must_use]
    pub fn other(&self) -> &WorkloadCounts {
        &self.other
    }

    /// Workloads with stuck sockets that are not told apart now.
    #[must_use]
    pub fn sharing(&self) -> u64 {
        self.open.keys().filter(|of| !self.slots.contains_key(of)).count() as u64
    }

    /// How often one had to give its place up.
    #[must_use]
    pub fn merged(&self) -> u64 {
        self.merged
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::{
        record::{
            Age, Holder,
            tests::{holder, leak},
        },
        unknown::Reason,
    };

    fn said(accounts: &mut Accounts, cookie: u64, comm: &str, over: bool, now: BootNs) {
        let mut record = leak();
        record.connection.cookie = cookie;
        record.holders = vec![Holder { comm: comm.into(), ..holder(7, 4) }];
        let record = Rc::new(record);
        let stayed = Age { min_ns: 1, max_ns: None };
        let update = match over {
            false => Update::Stuck(record),
            true => Update::Resolved { record, stayed, closed_by: None, unknown: Reason::ByNoCall },
        };
        accounts.take(&Said { time: now, update });
    }

    fn totals(accounts: &Accounts) -> (u64, u64) {
        let all = accounts.told_apart().into_iter().map(|(_, account)| account);
        all.chain([accounts.other()]).fold((0, 0), |(stuck, resolved), account| {
            let sum = |of: &BTreeMap<StateVerdict, CountedSockets>| {
                of.values().map(|c| c.count).sum::<u64>()
            };
            (stuck + sum(&account.stuck), resolved + sum(&account.resolved))
        })
    }

    #[test]
    fn twenty_thousand_workloads_take_the_room_of_fifty() {
        let mut accounts = Accounts::new(50);
        for n in 0..20_000u64 {
            said(&mut accounts, n + 1, &format!("job-{n}"), false, n);
            said(&mut accounts, n + 1, &format!("job-{n}"), true, n);
        }
        assert_eq!(accounts.told_apart().len(), 50);
        assert_eq!(totals(&accounts), (20_000, 20_000), "none is lost");
        assert_eq!((accounts.sockets.len(), accounts.open.len(), accounts.sharing()), (0, 0, 0));
        // One that leaks is told apart, whoever was there before.
        said(&mut accounts, 50_001, "leaks", false, 50_001);
        let names: Vec<&str> = accounts.told_apart().iter().map(|(of, _)| &*of.name).collect();
        assert!(names.contains(&"leaks"), "{names:?}");
    }

    #[test]
    fn fewer_are_told_apart() {
        let mut accounts = Accounts::new(50);
        for n in 0..9u64 {
            (0..=n).for_each(|of| {
                said(&mut accounts, 100 * n + of + 1, &format!("job-{n}"), false, n);
            });
        }
        let before = totals(&accounts);
        accounts.set_most(2);
        let names: Vec<&str> = accounts.told_apart().iter().map(|(of, _)| &*of.name).collect();
        assert_eq!(names, ["job-7", "job-8"], "those with most open");
        assert_eq!((totals(&accounts), accounts.merged()), (before, 7), "none is lost");
    }

    #[test]
    fn what_is_said_again_counts_once() {
        let mut accounts = Accounts::new(2);
        for now in 1..5 {
            said(&mut accounts, 9, "java", false, now);
        }
        assert_eq!(totals(&accounts), (1, 0));
        said(&mut accounts, 9, "java", true, 6);
        said(&mut accounts, 9, "java", true, 7);
        assert_eq!(totals(&accounts), (1, 1));
        said(&mut accounts, 9, "java", false, 8);
        assert_eq!(totals(&accounts), (2, 1), "the same descriptor, connected anew");
    }

    proptest! {
        /// Whatever comes and goes, the sums only grow, and those with most open are told apart.
        #[test]
        fn sums_only_grow(
            steps in proptest::collection::vec((1u64..12, 0u8..8, any::<bool>()), 0..200),
        ) {
            let mut accounts = Accounts::new(3);
            let (mut before, mut open) = ((0, 0), std::collections::HashMap::new());
            for (now, (cookie, comm, over)) in steps.into_iter().enumerate() {
                if over { open.remove(&cookie); } else { open.entry(cookie).or_insert(comm); }
                said(&mut accounts, cookie, &format!("c{comm}"), over, now as u64 + 1);
                let sums = totals(&accounts);
                prop_assert!(sums.0 >= before.0 && sums.1 >= before.1 && sums.1 <= sums.0);
                prop_assert_eq!(sums.0 - sums.1, open.len() as u64);
                prop_assert!(accounts.told_apart().len() <= 3);
                before = sums;
            }
        }
    }
}

//! Reports for people: sockets that are alike are told together. 40,000 leaks of one process are
//! one line that grows, not 40,000.
//!
//! Updates of single sockets go in as they come; when all of one scan are there,
//! [`Reports::flush`] says what is worth a line.

mod budget;
#[cfg(test)]
mod tests;
mod together;

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    net::SocketAddr,
    rc::Rc,
};

use tcptrace_common::state::TcpState;

use self::{budget::Budget, together::Together};
use super::{
    alike::Report,
    group::GroupBy,
    record::{BootNs, Record, Role},
    update::Update,
    verdict::Verdict,
};

/// So many sockets of a group are told one by one, where they come one by one.
const SINGLES: u64 = 3;
/// More ends of the same holders and verdict are told together.
const ENDS: usize = 4;
/// More groups are not told apart by their holders.
const GROUPS: usize = 4_096;
/// A group that has been empty for so long is forgotten, ns.
const FORGET_NS: u64 = 600_000_000_000;

/// What makes sockets alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Alike {
        who: Who,
        what: What,
        end: End,
    },
    Value(Rc<str>),
    /// Groups beyond those that are told apart.
    Other(What),
}

/// Network namespace, and the pids of the holders.
type Who = (u32, Rc<[u32]>);
type What = (TcpState, Option<Verdict>);

/// Where a connection leads: the end that its other connections share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Local(SocketAddr),
    Remote(SocketAddr),
    /// Ends beyond [`ENDS`].
    Other,
}

/// Whose lines are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Payer {
    Holders(Who),
    Value(Rc<str>),
    Other,
}

impl Key {
    fn payer(&self) -> Payer {
        match self {
            Self::Alike { who, .. } => Payer::Holders(who.clone()),
            Self::Value(value) => Payer::Value(Rc::clone(value)),
            Self::Other(_) => Payer::Other,
        }
    }

    fn what(&self) -> Option<What> {
        match self {
            Self::Alike { what, .. } | Self::Other(what) => Some(*what),
            Self::Value(_) => None,
        }
    }
}

/// Groups of sockets, and what was said of them.
#[derive(Debug)]
pub struct Reports {
    by: Option<GroupBy>,
    min_age_ns: u64,
    groups: HashMap<Rc<Key>, Together>,
    /// Which group a socket is in, by its cookie.
    homes: HashMap<u64, Rc<Key>>,
    /// Ends that are told apart.
    ends: HashMap<(Who, What), Vec<End>>,
    budgets: HashMap<Payer, Budget>,
    /// Groups about which there may be something to say.
    touched: Vec<Rc<Key>>,
    swept_ns: BootNs,
}

impl Reports {
    /// None yet. `by`: what is told together; `None`: sockets with the same holders, verdict and
    /// end. `min_age_ns`: at which age sockets are reported first.
    #[must_use]
    pub fn new(by: Option<GroupBy>, min_age_ns: u64) -> Self {
        Self {
            by,
            min_age_ns,
            groups: HashMap::new(),
            homes: HashMap::new(),
            ends: HashMap::new(),
            budgets: HashMap::new(),
            touched: Vec::new(),
            swept_ns: 0,
        }
    }

    /// From now on sockets are reported first at this age, ns.
    pub fn set_min_age(&mut self, min_age_ns: u64) {
        self.min_age_ns = min_age_ns;
    }

    /// Takes in what is about a socket; whether it did: what is not is for the view as it is.
    pub fn take(&mut self, update: &Update) -> bool {
        match update {
            Update::Stuck(record) => self.stuck(record),
            Update::Resolved { record, stayed, closed_by, unknown } => {
                let cookie = record.connection.cookie;
                let key = self.homes.remove(&cookie).unwrap_or_else(|| self.key(record));
                let group = self.groups.entry(key.clone()).or_default();
                group.remove(cookie);
                group.end(record, *stayed, closed_by.clone(), *unknown);
                self.touched.push(key);
            }
            _ => return false,
        }
        true
    }

    fn stuck(&mut self, record: &Rc<Record>) {
        let cookie = record.connection.cookie;
        let key = self.key(record);
        let before = self.homes.insert(cookie, key.clone());
        if let Some(before) = before.filter(|before| *before != key)
            && let Some(group) = self.groups.get_mut(&before)
        {
            group.remove(cookie);
            self.touched.push(before);
        }
        self.groups.entry(key.clone()).or_default().insert(record);
        self.touched.push(key);
    }

    /// Which group a record belongs to; all its members share one key.
    fn key(&mut self, record: &Record) -> Rc<Key> {
        let key = self.new_key(record);
        let known = self.groups.get_key_value(&key).map(|(known, _)| Rc::clone(known));
        known.unwrap_or_else(|| Rc::new(key))
    }

    fn new_key(&mut self, record: &Record) -> Key {
        if let Some(by) = self.by {
            let names: Vec<String> = by.values(record).into_iter().map(|v| v.name).collect();
            return Key::Value(names.join(", ").into());
        }
        let mut pids: Vec<u32> = record.holders.iter().map(|h| h.process.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        let who = (record.connection.netns, Rc::from(pids));
        let what = (record.state, record.verdict);
        let end = match record.role {
            Some(Role::Client) => End::Remote(record.connection.remote),
            _ => End::Local(record.connection.local),
        };
        let known = self.ends.entry((Clone::clone(&who), what)).or_default();
        let end = if known.contains(&end) {
            end
        } else if known.len() < ENDS {
            known.push(end);
            end
        } else {
            End::Other
        };
        let key = Key::Alike { who, what, end };
        let other = self.groups.len() >= GROUPS && !self.groups.contains_key(&key);
        if other { Key::Other(what) } else { key }
    }

    /// What is worth saying at `now`, first of groups that have grown most since they were told.
    pub fn flush(&mut self, now: BootNs) -> Vec<Report> {
        let mut once = HashSet::new();
        let mut due = std::mem::take(&mut self.touched);
        due.retain(|key| once.insert(key.clone()));
        due.retain(|key| self.groups.get_mut(key).is_some_and(|g| g.is_due(now, self.min_age_ns)));
        due.sort_by_key(|key| self.groups.get(key).map(|g| Reverse((g.doublings(), g.len()))));
        let mut reports = Vec::new();
        for key in due {
            let Some(group) = self.groups.get_mut(&key) else { continue };
            let budget = self.budgets.entry(key.payer()).or_insert_with(|| Budget::new(now));
            let ends = group.len() == 0 || group.has_shrunk();
            let may = if ends { budget.may_end(now) } else { budget.may_say(now, key.what()) };
            if may {
                let lines = group.say(&key, now, self.min_age_ns, &mut reports);
                budget.spend(now, lines, key.what().filter(|_| !ends));
            } else {
                // It is said when its time has come, as it is then.
                self.touched.push(key);
            }
        }
        self.sweep(now);
        reports
    }

    /// Forgets groups that are over.
    fn sweep(&mut self, now: BootNs) {
        if now.saturating_sub(self.swept_ns) < FORGET_NS / 10 {
            return;
        }
        self.swept_ns = now;
        self.groups.retain(|_, group| !group.is_over(now));
        let payers: HashSet<Payer> = self.groups.keys().map(|key| key.payer()).collect();
        self.budgets.retain(|payer, _| payers.contains(payer));
        let groups = &self.groups;
        self.ends.retain(|(who, what), ends| {
            ends.retain(|end| {
                groups.contains_key(&Key::Alike { who: who.clone(), what: *what, end: *end })
            });
            !ends.is_empty()
        });
    }

    /// How many things are remembered one by one.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.homes.len() + self.groups.len() + self.budgets.len() + self.ends.len()
    }
}

//! Rows of the table: sockets one by one, or those together that have something in common.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

use tcptrace_common::state::TcpState;

use super::ends::Ends;
use crate::engine::{
    forecast::estimate::Estimate,
    group::GroupBy,
    record::{BootNs, Holder, HolderSource, ProcessId, Record},
    verdict::Verdict,
};

/// As the command line spells what rows have in common; `None`: nothing, each socket has a row.
#[must_use]
pub fn name(by: Option<GroupBy>) -> &'static str {
    by.map_or("none", GroupBy::name)
}

/// What a key goes on to: all groupings, then none, and from there the first.
#[must_use]
pub fn next(by: Option<GroupBy>) -> Option<GroupBy> {
    let Some(by) = by else { return GroupBy::ALL.first().copied() };
    let at = GroupBy::ALL.iter().position(|other| *other == by)?;
    GroupBy::ALL.get(at + 1).copied()
}

/// What tells a row from all others, also from one moment to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// One process, by pid and start.
    Holder(u32, BootNs),
    /// Several processes.
    Holders(Vec<(u32, BootNs)>),
    /// No process is known.
    NoHolder,
    /// A verdict, or none.
    Verdict(Option<Verdict>),
    /// A remote address.
    Remote(IpAddr),
    /// Where a listener is bound; none: they did not come in.
    Listener(Option<SocketAddr>),
    /// A container's id; none: on the host itself.
    Container(Option<String>),
    /// A Kubernetes pod's uid; none: in no pod.
    Pod(Option<String>),
    /// A cgroup's path; none: not known.
    Cgroup(Option<String>),
    /// One socket, by its cookie.
    Socket(u64),
}

impl Key {
    /// A socket's.
    #[must_use]
    pub fn of(record: &Record, by: Option<GroupBy>) -> Self {
        match by {
            Some(GroupBy::Holder) => holder_key(&record.holders),
            Some(GroupBy::Verdict) => Self::Verdict(record.verdict),
            Some(GroupBy::Remote) => Self::Remote(record.connection.remote.ip()),
            Some(GroupBy::Listener) => Self::Listener(record.came_in_by),
            Some(GroupBy::Container) => Self::Container(container(record).map(str::to_owned)),
            Some(GroupBy::Pod) => Self::Pod(pod(record).map(str::to_owned)),
            Some(GroupBy::Cgroup) => Self::Cgroup(cgroup(record).map(str::to_owned)),
            None => Self::Socket(record.connection.cookie),
        }
    }
}

fn holder_key(holders: &[Holder]) -> Key {
    let id = |h: &Holder| (h.process.pid, h.process.start_ns);
    let Some(first) = holders.first() else { return Key::NoHolder };
    if holders.iter().all(|h| h.process == first.process) {
        let (pid, start_ns) = id(first);
        return Key::Holder(pid, start_ns);
    }
    let mut ids: Vec<_> = holders.iter().map(id).collect();
    ids.sort_unstable();
    ids.dedup();
    Key::Holders(ids)
}

/// The id of the container that the first holder runs in. May hold anything.
#[must_use]
pub fn container(record: &Record) -> Option<&str> {
    let cgroups = record.holders.first()?.cgroups.as_ref()?;
    cgroups.container().map(|container| &*container.id)
}

/// The uid of the pod that the first holder runs in.
#[must_use]
pub fn pod(record: &Record) -> Option<&str> {
    let cgroups = record.holders.first()?.cgroups.as_ref()?;
    cgroups.container()?.pod.as_deref()
}

/// The cgroup that the first holder runs in. May hold anything.
#[must_use]
pub fn cgroup(record: &Record) -> Option<&str> {
    record.holders.first()?.cgroups.as_ref()?.path()
}

/// A row: of one socket, or of several.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which.
    pub key: Key,
    /// How many sockets.
    pub count: u64,
    /// Of those: leaks.
    pub leaks: u64,
    /// How many more they are than a minute ago.
    pub growth: i64,
    /// The one that has been in its state for longest.
    pub oldest: Rc<Record>,
    /// Its state is that of all.
    pub same_state: bool,
    /// How many have which verdict, in the order of [`Verdict::ALL`].
    verdicts: [u32; Verdict::ALL.len()],
    /// Their local ends.
    pub local: Ends,
    /// Their remote ends.
    pub remote: Ends,
    /// Bytes not read, of all.
    pub recv_q: u64,
    /// Bytes not acknowledged, of all.
    pub send_q: u64,
    /// All have the same holders as the oldest.
    pub same_holders: bool,
    /// Descriptors that their process has, and may have.
    pub descriptors: Option<(u64, Option<u64>)>,
    /// When that has none left.
    pub full: Option<Estimate>,
}

impl Row {
    fn of(key: Key, record: &Rc<Record>) -> Self {
        let connection = &record.connection;
        let mut row = Self {
            key,
            count: 0,
            leaks: 0,
            growth: 0,
            oldest: Rc::clone(record),
            same_state: true,
            verdicts: [0; Verdict::ALL.len()],
            local: Ends::of(connection.local),
            remote: Ends::of(connection.remote),
            recv_q: 0,
            send_q: 0,
            same_holders: true,
            descriptors: None,
            full: None,
        };
        row.add(record);
        row
    }

    fn add(&mut self, record: &Rc<Record>) {
        self.count += 1;
        self.leaks += u64::from(record.is_leak());
        self.same_state &= record.state == self.oldest.state;
        self.same_holders &= same_processes(&record.holders, &self.oldest.holders);
        if (record.latest_ns, record.connection.cookie)
            < (self.oldest.latest_ns, self.oldest.connection.cookie)
        {
            self.oldest = Rc::clone(record);
        }
        if let Some(verdict) = record.verdict {
            self.verdicts[verdict as usize] += 1;
        }
        self.local.add(record.connection.local);
        self.remote.add(record.connection.remote);
        self.recv_q += u64::from(record.evidence.recv_q.unwrap_or(0));
        self.send_q += u64::from(record.evidence.send_q.unwrap_or(0));
    }

    /// Its verdicts, the most frequent first.
    #[must_use]
    pub fn verdicts(&self) -> Vec<(Verdict, u32)> {
        let counted = Verdict::ALL.into_iter().map(|v| (v, self.verdicts[v as usize]));
        let mut list: Vec<_> = counted.filter(|(_, n)| *n > 0).collect();
        list.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        list
    }

    /// The most frequent one.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        let counted = Verdict::ALL.into_iter().filter(|v| self.verdicts[*v as usize] > 0);
        // Of several with the same count the first, as in the list above.
        counted.rev().max_by_key(|v| self.verdicts[*v as usize])
    }
}

fn same_processes(a: &[Holder], b: &[Holder]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.process == b.process)
}

/// How old growth is.
pub const MINUTE_NS: u64 = 60_000_000_000;

/// Groups sockets. `ended`: those that ended in the last minute, and when.
pub fn group<'a>(
    sockets: impl Iterator<Item = &'a Rc<Record>>,
    ended: impl Iterator<Item = &'a Rc<Record>>,
    by: Option<GroupBy>,
    now: BootNs,
) -> Vec<Row> {
    let then = now.saturating_sub(MINUTE_NS);
    let mut at: HashMap<Key, usize> = HashMap::new();
    let mut rows: Vec<Row> = Vec::new();
    for record in sockets {
        let key = Key::of(record, by);
        let row = if by.is_none() {
            // Each is the only one of its kind.
            rows.push(Row::of(key, record));
            rows.len() - 1
        } else if let Some(row) = at.get(&key) {
            rows[*row].add(record);
            *row
        } else {
            at.insert(key.clone(), rows.len());
            rows.push(Row::of(key, record));
            rows.len() - 1
        };
        // Of those that were there before us the beginning is not known, but for an interval.
        rows[row].growth += i64::from(record.earliest_ns > then);
    }
    // What began and ended within the minute changes nothing.
    for record in ended.filter(|record| record.earliest_ns <= then) {
        if let Some(row) = at.get(&Key::of(record, by)) {
            rows[*row].growth -= 1;
        }
    }
    rows
}

/// Who holds it, `java shop.jar[4711]`; of a socket that nobody is known to hold, why.
#[must_use]
pub fn who(row: &Row) -> String {
    let Some(first) = row.oldest.holders.first() else {
        return match row.oldest.holder_source {
            HolderSource::OutsideFdTables => "outside descriptor tables".to_owned(),
            _ => "nobody known".to_owned(),
        };
    };
    let mut others: Vec<ProcessId> = row.oldest.holders.iter().map(|h| h.process).collect();
    others.sort_unstable_by_key(|id| (id.pid, id.start_ns));
    others.dedup();
    let name = format!("{}[{}]", first.called(), first.process.pid);
    match others.len() - 1 {
        _ if !row.same_holders => format!("{name} and others"),
        0 => name,
        more => format!("{name} +{more}"),
    }
}

/// Its state, or that they are several.
#[must_use]
pub fn state(row: &Row) -> &'static str {
    if row.same_state { row.oldest.state.name() } else { "several" }
}

/// Whether the state counts towards the line of CLOSE_WAIT.
#[must_use]
pub fn waits_for_close(record: &Record) -> bool {
    record.state == TcpState::CloseWait
}

/// How a row is called, in a title.
#[must_use]
pub fn title(row: &Row, by: Option<GroupBy>) -> String {
    match by {
        Some(GroupBy::Holder) => who(row),
        Some(GroupBy::Verdict) => {
            row.oldest.verdict.map_or_else(|| "no verdict".to_owned(), |v| v.name().to_owned())
        }
        Some(GroupBy::Remote) => format!("remote {}", row.remote.first.ip()),
        Some(GroupBy::Listener) => row
            .oldest
            .came_in_by
            .map_or_else(|| "came in by no listener".to_owned(), |l| format!("listener {l}")),
        Some(GroupBy::Container) => container(&row.oldest)
            .map_or_else(|| "in no container".to_owned(), |id| format!("container {id}")),
        Some(GroupBy::Pod) => {
            pod(&row.oldest).map_or_else(|| "in no pod".to_owned(), |uid| format!("pod {uid}"))
        }
        Some(GroupBy::Cgroup) => cgroup(&row.oldest)
            .map_or_else(|| "in no known cgroup".to_owned(), |path| format!("cgroup {path}")),
        None => {
            let connection = &row.oldest.connection;
            format!("{} <- {}", connection.local, connection.remote)
        }
    }
}

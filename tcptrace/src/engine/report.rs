//! What is said of one process, or of one socket, when somebody asks for all of it.

use std::{collections::BTreeMap, net::SocketAddr, rc::Rc};

use tcptrace_common::state::TcpState;

use crate::{
    engine::{
        blocked::blockage::Kept,
        forecast::{NoForecast, estimate::Estimate},
        language::Language,
        record::{Age, BootNs, Holder, ProcessId, Record, Role},
        stack::threads::{LeftAlone, Stacks},
        verdict::Verdict,
    },
    formats::threads,
};

/// A number, or why it is not known.
pub type Answer = Result<u64, &'static str>;

/// What is known of a process.
#[derive(Clone, Debug)]
pub struct ProcessReport {
    /// The process; its descriptor number means nothing here.
    pub process: Holder,
    /// Its command line; empty where it hides it, or is gone. May hold anything.
    pub command: Vec<String>,
    /// Its parent's pid and command name.
    pub parent: Option<(u32, Rc<str>)>,
    /// Descriptors in use.
    pub used: Answer,
    /// Descriptors it may have (soft RLIMIT_NOFILE).
    pub limit: Answer,
    /// Its sockets, and those that wait in the queues of its listeners.
    pub sockets: Vec<Count>,
    /// Of those: leaks.
    pub leaks: u64,
    /// When it has no descriptor left if it goes on like this, or why that can't be told.
    pub full: Result<Estimate, NoForecast>,
    /// Its listeners.
    pub listeners: Vec<Listening>,
    /// Connections dropped on full queues in its network namespace, by all listeners
    /// (`TcpExtListenOverflows`).
    pub overflows: Answer,
    /// What its threads wait in.
    pub threads: Result<threads::Threads, &'static str>,
    /// What keeps it from its work, and what becomes of its connections meanwhile; empty: nothing,
    /// as far as could be read.
    pub kept: Result<Vec<Kept>, &'static str>,
    /// Where its threads are now, where that was asked for.
    pub stacks: Result<Stacks, LeftAlone>,
}

/// Where the threads of a process are that holds leaks.
#[derive(Clone, Debug)]
pub struct ProcessStacks {
    /// The process; its descriptor number means nothing here.
    pub process: Holder,
    /// Its leaks.
    pub leaks: u64,
    /// Where its threads are now.
    pub stacks: Result<Stacks, LeftAlone>,
}

/// A listener of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Where.
    pub local: SocketAddr,
    /// Connections waiting.
    pub queue: u32,
    /// How many may, but for one more.
    pub limit: u32,
    /// Connections that it dropped.
    pub drops: u32,
    /// Other processes that hold it too.
    pub shared_with: Vec<ProcessId>,
}

impl Listening {
    /// Whether it drops what comes now (`sk_acceptq_is_full`, include/net/sock.h).
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.queue > self.limit
    }
}

/// Sockets of one state and verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// State.
    pub state: TcpState,
    /// Verdict.
    pub verdict: Option<Verdict>,
    /// How many.
    pub count: u64,
    /// The age of the oldest; for states whose beginning nothing tells, unknown.
    pub oldest: Age,
}

/// Counts sockets by state and verdict, leaks first, then the most.
#[must_use]
pub fn count<'a>(records: impl IntoIterator<Item = &'a Record>, now: BootNs) -> Vec<Count> {
    let mut counts: BTreeMap<(u8, Option<Verdict>), Count> = BTreeMap::new();
    for r in records {
        let age = r.age(now);
        let count = counts.entry((r.state as u8, r.verdict)).or_insert(Count {
            state: r.state,
            verdict: r.verdict,
            count: 0,
            oldest: age,
        });
        count.count += 1;
        count.oldest = count.oldest.older(age);
    }
    let mut list: Vec<Count> = counts.into_values().collect();
    list.sort_by_key(|c| (c.verdict.is_none(), std::cmp::Reverse(c.count)));
    list
}

/// Why sockets are where they are, and what to do.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The verdict.
    pub verdict: Verdict,
    /// How many of the process's sockets it is about; of one socket: that one.
    pub about: About,
    /// What the program is written in, as far as its name tells.
    pub language: Option<Language>,
    /// Which side the program is of these connections, where of all the same.
    pub role: Option<Role>,
}

/// The role that all of these have, if they have the same.
pub fn role_of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<Role> {
    let mut roles = records.into_iter().map(|record| record.role);
    let first = roles.next()?;
    first.filter(|_| roles.all(|role| role == first))
}

/// What an explanation is about.
#[derive(Clone, Debug)]
pub enum About {
    /// So many sockets of a process.
    Sockets(u64),
    /// One socket.
    Socket(Rc<Record>),
}

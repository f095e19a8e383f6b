//! What one scan's records say of each network namespace and each process, taken in one by one: a
//! busy host has more of them than are worth keeping.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use tcptrace_common::state::TcpState;

use super::{
    Leaking, ListenerSeen, NamedProcess,
    ports::{Destination, PortsInUse},
};
use crate::{
    engine::{
        record::{BootNs, HolderSource, ProcessId, Record},
        verdict::Verdict,
    },
    formats::ports::LocalPorts,
};

/// What was gathered of a network namespace.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Sockets by state.
    pub states: BTreeMap<TcpState, u64>,
    /// Established ones that have keepalive on.
    pub keepalive: u64,
    ephemeral: Option<LocalPorts>,
    ports: PortsInUse,
    /// By local end.
    half_open: HashMap<SocketAddr, u64>,
    given_up: HashMap<SocketAddr, u64>,
}

impl Gathered {
    /// One whose ephemeral ports are these; `None`: they are not known, so none are counted.
    #[must_use]
    pub fn new(ephemeral: Option<LocalPorts>) -> Self {
        Self { ephemeral, ..Self::default() }
    }

    /// `aged`: it has certainly been in its state for long enough to count.
    fn add(&mut self, record: &Record, aged: bool) {
        *self.states.entry(record.state).or_default() += 1;
        let local = record.connection.local;
        match record.state {
            TcpState::SynRecv | TcpState::NewSynRecv => {
                *self.half_open.entry(local).or_default() += 1;
            }
            TcpState::Established => {
                self.keepalive += u64::from(record.evidence.keepalive == Some(true));
            }
            _ => {}
        }
        if let Some(listener) = &record.listener
            && record.verdict == Some(Verdict::NeverAccepted)
            && aged
        {
            *self.given_up.entry(listener.local).or_default() += 1;
        }
        if let Some(ephemeral) = &self.ephemeral {
            self.ports.add(record, ephemeral);
        }
    }

    /// What is known of a listener besides.
    pub fn complete(&self, listener: &mut ListenerSeen) {
        let bound = listener.local;
        let theirs = |at: &SocketAddr| {
            at.port() == bound.port() && (bound.ip().is_unspecified() || bound.ip() == at.ip())
        };
        let half_open = self.half_open.iter().filter(|(at, _)| theirs(at));
        listener.half_open = half_open.map(|(_, n)| n).sum();
        listener.given_up = self.given_up.get(&bound).copied().unwrap_or(0);
    }

    /// Where it connects to.
    #[must_use]
    pub fn destinations(self) -> Vec<Destination> {
        self.ports.fullest()
    }
}

/// What was gathered of all of a host.
#[derive(Debug, Default)]
pub struct Gathering {
    /// By namespace.
    pub namespaces: HashMap<u32, Gathered>,
    /// Sockets of each process, by state.
    pub sockets: HashMap<ProcessId, BTreeMap<TcpState, u64>>,
    leaks: HashMap<ProcessId, Leaking>,
}

impl Gathering {
    /// Takes in a record of a scan at `now`. A leak counts once it is certainly older than
    /// `min_age_ns`; a ghost does at once: nothing tells its age.
    pub fn add(&mut self, record: &Record, now: BootNs, min_age_ns: u64) {
        let age_ns = record.age(now).min_ns;
        let aged = age_ns >= min_age_ns;
        if let Some(netns) = self.namespaces.get_mut(&record.connection.netns) {
            netns.add(record, aged);
        }
        // A listener's holder has no descriptor of what waits in its queue.
        if record.holder_source != HolderSource::FdTable {
            return;
        }
        let leak = record.is_leak() && (aged || record.state == TcpState::Close);
        for holder in record.processes() {
            let sockets = self.sockets.entry(holder.process).or_default();
            *sockets.entry(record.state).or_default() += 1;
            if !leak {
                continue;
            }
            let leaking = self.leaks.entry(holder.process);
            let leaking = leaking.or_insert_with(|| Leaking::new(NamedProcess::of(holder)));
            leaking.leaks += 1;
            leaking.oldest_ns = leaking.oldest_ns.max(age_ns);
            if record.state != TcpState::Close {
                leaking.ages_ns.push(age_ns);
            }
            if let Some(verdict) = record.verdict {
                *leaking.verdicts.entry(verdict).or_default() += 1;
            }
        }
    }

    /// Processes with leaks, those with most first.
    pub fn leaks(&mut self) -> Vec<Leaking> {
        let mut leaks: Vec<Leaking> = std::mem::take(&mut self.leaks).into_values().collect();
        leaks.sort_by_key(|l| (std::cmp::Reverse(l.leaks), l.process.pid));
        leaks
    }
}

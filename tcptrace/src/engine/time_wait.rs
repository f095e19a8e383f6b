//! TIME_WAIT, counted: who closed first, and whether local ports run out.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};
use tcptrace_common::state::TcpState;

use super::record::Connection;
use crate::formats::ports::LocalPorts;

/// What a network namespace allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// The ports that connect() chooses from; `None`: they could not be read.
    pub ports: Option<LocalPorts>,
    /// So many may be in TIME_WAIT (`tcp_max_tw_buckets`); `None`: that could not be read.
    pub limit: Option<u64>,
}

/// Those of one network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its inode number.
    pub netns: u32,
    /// In TIME_WAIT there, asked for or not.
    pub count: u64,
    /// What it allows.
    pub bounds: Bounds,
}

/// Those that came in by one listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Network namespace.
    pub netns: u32,
    /// Where it listens.
    pub listener: SocketAddr,
    /// How many.
    pub count: u64,
}

/// Local ports between one address here and one end there: of each, one connection has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortUse {
    /// Network namespace.
    pub netns: u32,
    /// The address here.
    pub from: IpAddr,
    /// The end there.
    pub to: SocketAddr,
    /// Ports whose connection is in TIME_WAIT.
    pub time_wait: u64,
    /// Ports that are used, by connections in whatever state.
    pub used: u64,
    /// How many there are that nobody listens on; `None`: not known.
    pub ports: Option<u32>,
}

/// All that are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeWaits {
    /// How many.
    pub count: u64,
    /// The network namespaces that have any, those with most first.
    pub places: Vec<Namespace>,
    /// By listener, those with most first; of those whose listener is there.
    pub served: Vec<Served>,
    /// By the ends of connections that were opened here, those with most ports first.
    pub opened: Vec<PortUse>,
}

impl TimeWaits {
    /// So many of each list are told, those with most first.
    pub const MOST: usize = 100;

    /// Nothing beyond [`Self::MOST`] of each list. They are in order.
    pub fn shorten(&mut self) {
        self.places.truncate(Self::MOST);
        self.served.truncate(Self::MOST);
        self.opened.truncate(Self::MOST);
    }

    /// All network namespaces together.
    pub fn add(&mut self, other: Self) {
        self.count += other.count;
        self.places.extend(other.places);
        self.served.extend(other.served);
        self.opened.extend(other.opened);
    }

    /// In order, when all are there.
    pub fn sort(&mut self) {
        self.places.sort_by_key(|p| (std::cmp::Reverse(p.count), p.netns));
        self.served.sort_by_key(|s| (std::cmp::Reverse(s.count), s.netns, s.listener));
        self.opened.sort_by_key(|o| (std::cmp::Reverse(o.used), o.netns, o.from, o.to));
    }
}

/// Counts one network namespace's connections.
#[derive(Debug)]
pub struct TimeWaitCounter {
    place: Namespace,
    asked_for: u64,
    listeners: HashMap<u16, Vec<IpAddr>>,
    served: HashMap<SocketAddr, u64>,
    opened: HashMap<(IpAddr, SocketAddr), (u64, u64)>,
}

impl TimeWaitCounter {
    /// None yet, of a namespace that has these listeners.
    #[must_use]
    pub fn new(
        netns: u32,
        bounds: Bounds,
        listeners: impl IntoIterator<Item = SocketAddr>,
    ) -> Self {
        let mut by_port: HashMap<u16, Vec<IpAddr>> = HashMap::new();
        for at in listeners {
            by_port.entry(at.port()).or_default().push(at.ip());
        }
        Self {
            place: Namespace { netns, count: 0, bounds },
            asked_for: 0,
            listeners: by_port,
            served: HashMap::new(),
            opened: HashMap::new(),
        }
    }

    /// Takes in a connection, in whatever state.
    pub fn take(&mut self, c: &Connection, state: TcpState, is_asked_for: bool) {
        let waits = state == TcpState::TimeWait;
        self.place.count += u64::from(waits);
        let counts = waits && is_asked_for;
        self.asked_for += u64::from(counts);
        if let Some(listener) = self.listener(c.local) {
            if counts {
                *self.served.entry(listener).or_default() += 1;
            }
            return;
        }
        let ports = self.place.bounds.ports.as_ref();
        if ports.is_none_or(|ports| ports.range.contains(&c.local.port())) {
            let (time_wait, used) = self.opened.entry((c.local.ip(), c.remote)).or_default();
            *time_wait += u64::from(counts);
            *used += 1;
        }
    }

    /// The listener that takes what comes to this end: one on its very address before one on any.
    fn listener(&self, local: SocketAddr) -> Option<SocketAddr> {
        let at = self.listeners.get(&local.port())?;
        let own = at.iter().find(|ip| **ip == local.ip());
        let at = own.or_else(|| at.iter().find(|ip| ip.is_unspecified()))?;
        Some((*at, local.port()).into())
    }

    /// What was counted.
    #[must_use]
    pub fn counted(self) -> TimeWaits {
        let netns = self.place.netns;
        let listening = self.listeners.keys().copied().collect();
        let ports = self.place.bounds.ports.as_ref().map(|ports| ports.available(&listening));
        let opened = self.opened.into_iter().filter(|(_, (time_wait, _))| *time_wait > 0);
        let opened = opened.map(|((from, to), (time_wait, used))| PortUse {
            netns,
            from,
            to,
            time_wait,
            used,
            ports,
        });
        let served = self.served.into_iter();
        let served = served.map(|(listener, count)| Served { netns, listener, count });
        TimeWaits {
            count: self.asked_for,
            served: served.collect(),
            opened: opened.collect(),
            places: if self.place.count > 0 { vec![self.place] } else { Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn connection(local: SocketAddr, remote: SocketAddr) -> Connection {
        Connection { cookie: 1, netns: 1, local, remote, mptcp: false }
    }

    proptest! {
        /// Each is one of a listener's, or has a port of its own towards its peer, or was bound by
        /// hand.
        #[test]
        fn each_is_counted_once(
            list in proptest::collection::vec(
                (0u8..2, 0u16..6, 0u8..2, 1u16..3, any::<bool>(), any::<bool>()), 0..40,
            ),
        ) {
            let bounds = Bounds { ports: LocalPorts::parse("2 4", "3"), limit: Some(7) };
            let listeners = [([0, 0, 0, 0], 1).into(), ([10, 0, 0, 1], 1).into()];
            let mut tally = TimeWaitCounter::new(1, bounds, listeners);
            let mut expected = (0, 0, 0, 0);
            for (here, lport, there, rport, waits, asked) in list {
                let c = connection(
                    ([10, 0, 0, here], lport).into(), ([10, 0, 1, there], rport).into(),
                );
                let state = if waits { TcpState::TimeWait } else { TcpState::Established };
                tally.take(&c, state, asked);
                let counts = u64::from(waits && asked);
                expected.0 += u64::from(waits);
                expected.1 += counts;
                expected.2 += if lport == 1 { counts } else { 0 };
                expected.3 += if (2..=4).contains(&lport) { counts } else { 0 };
            }
            let mut all = TimeWaits::default();
            all.add(tally.counted());
            all.sort();
            let there: u64 = all.places.iter().map(|p| p.count).sum();
            let served: u64 = all.served.iter().map(|s| s.count).sum();
            let opened: u64 = all.opened.iter().map(|o| o.time_wait).sum();
            prop_assert_eq!((there, all.count, served, opened), expected);
            prop_assert!(all.opened.iter().all(|o| o.used >= o.time_wait && o.ports == Some(2)));
            prop_assert!(all.opened.is_sorted_by_key(|o| std::cmp::Reverse(o.used)));
        }
    }
}

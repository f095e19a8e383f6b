//! Local ports of one network namespace, counted by destination as its sockets come in.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};

use tcptrace_common::state::TcpState;

use super::{InUse, PortsUsage};
use crate::{
    engine::record::Connection,
    formats::ports::{LocalPorts, reuses},
};

/// A destination that uses less than one in so many ports is not told of.
pub const FEW: u64 = 10;
/// Destinations that are told of.
const KEPT: usize = 16;

/// What the namespace's settings say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRules {
    /// The ports that connect() chooses from.
    pub ports: LocalPorts,
    /// `net.ipv4.tcp_tw_reuse`.
    pub tw_reuse: Option<u64>,
    /// `net.ipv4.tcp_timestamps`.
    pub timestamps: Option<u64>,
}

/// By state number.
type States = [u64; 16];

/// Counts them.
#[derive(Debug)]
pub struct PortCounter<'a> {
    rules: &'a PortRules,
    listening: BTreeSet<u16>,
    destinations: HashMap<(IpAddr, SocketAddr), States>,
}

impl<'a> PortCounter<'a> {
    /// None yet; `listening`: ports that are listened on, which connect() does not take.
    #[must_use]
    pub fn new(rules: &'a PortRules, listening: BTreeSet<u16>) -> Self {
        Self { rules, listening, destinations: HashMap::new() }
    }

    /// Takes in a connection. What is CLOSE has no place in the table of connections any more.
    pub fn take(&mut self, c: &Connection, state: TcpState) {
        let port = c.local.port();
        let counts = c.remote.port() != 0 && !matches!(state, TcpState::Close | TcpState::Listen);
        if counts && self.rules.ports.holds(port) && !self.listening.contains(&port) {
            let states = self.destinations.entry((c.local.ip(), c.remote)).or_default();
            states[usize::from(state as u8) % 16] += 1;
        }
    }

    /// The destinations that use many, those with most first.
    #[must_use]
    pub fn counted(self) -> Vec<PortsUsage> {
        let Self { rules, listening, destinations } = self;
        let limit = u64::from(rules.ports.available(&listening));
        let usage = |((source, to), states): ((IpAddr, SocketAddr), States)| {
            let all: u64 = states.iter().sum();
            let reused = reuses(source, to.ip(), rules.tw_reuse, rules.timestamps);
            let free = if reused { states[TcpState::TimeWait as usize] } else { 0 };
            let ports = InUse { used: all - free, limit };
            let mut states: Vec<(u8, u64)> = (0..).zip(states).filter(|(_, n)| *n > 0).collect();
            states.sort_by_key(|(state, n)| (Reverse(*n), *state));
            PortsUsage { source, to, ports, states }
        };
        let many = |usage: &PortsUsage| usage.ports.used.saturating_mul(FEW) >= limit;
        let mut list: Vec<PortsUsage> = destinations.into_iter().map(usage).filter(many).collect();
        list.sort_by_key(|usage| (Reverse(usage.ports.used), usage.to, usage.source));
        list.truncate(KEPT);
        list
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Ports 100 to 119 but for a listener's and a reserved one.
        #[test]
        fn each_port_counts_once_where_it_is_in_the_way(
            sockets in proptest::collection::vec((98u16..122, 1u8..3, 1usize..12), 0..60),
            tw_reuse in 0u64..3,
        ) {
            let ports = LocalPorts::parse("100 119", "105").expect("ports");
            let rules = PortRules { ports, tw_reuse: Some(tw_reuse), timestamps: Some(1) };
            let mut counter = PortCounter::new(&rules, BTreeSet::from([110]));
            let mut expected = [0u64; 3];
            for (port, to, state) in sockets {
                let state = TcpState::ALL[state % TcpState::ALL.len()];
                let c = Connection {
                    cookie: 1,
                    netns: 1,
                    local: ([10, 0, 0, 9], port).into(),
                    remote: ([10, 0, 0, to], 80).into(),
                    mptcp: false,
                };
                counter.take(&c, state);
                let chosen = (100..=119).contains(&port) && ![105, 110].contains(&port);
                let there = !matches!(state, TcpState::Close | TcpState::Listen);
                let free = tw_reuse == 1 && state == TcpState::TimeWait;
                expected[usize::from(to)] += u64::from(chosen && there && !free);
            }
            let list = counter.counted();
            for usage in &list {
                let std::net::SocketAddr::V4(to) = usage.to else { panic!("{usage:?}") };
                let used = expected[usize::from(to.ip().octets()[3])];
                prop_assert_eq!(usage.ports, InUse { used, limit: 18 });
            }
            let many = expected.iter().filter(|used| **used * FEW >= 18).count();
            prop_assert_eq!(list.len(), many);
            prop_assert!(list.is_sorted_by_key(|usage| Reverse(usage.ports.used)));
        }
    }
}

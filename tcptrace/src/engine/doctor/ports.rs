//! Ephemeral ports: how many there are, and how many are used to one destination.
//!
//! connect() takes any port of the range whose whole tuple is free (`__inet_hash_connect`,
//! net/ipv4/inet_hashtables.c): the same port serves each (destination address, port) once, and
//! each source address again. Ports that somebody has bound with bind(), listeners among them, it
//! takes for nobody (`fastreuse` of their bucket is not negative), and reserved ones never.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use tcptrace_common::state::TcpState;

use super::NamedProcess;
use crate::{
    engine::record::Record,
    formats::ports::{self, LocalPorts},
};

/// Connections from one address to one address and port, by ephemeral ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// From this address.
    pub source: IpAddr,
    /// To this one.
    pub to: SocketAddr,
    /// Connections that are not in TIME_WAIT.
    pub open: u64,
    /// Those that are.
    pub time_wait: u64,
    /// Who has some, not too many of them.
    pub processes: Vec<NamedProcess>,
}

impl Destination {
    /// Whether connect() may take ports in TIME_WAIT here, see [`ports::reuses`].
    #[must_use]
    pub fn reuses(&self, tw_reuse: Option<u64>, timestamps: Option<u64>) -> bool {
        ports::reuses(self.source, self.to.ip(), tw_reuse, timestamps)
    }

    /// Ports that connect() can't take.
    #[must_use]
    pub fn used(&self, reuses: bool) -> u64 {
        self.open + if reuses { 0 } else { self.time_wait }
    }
}

/// Destinations, as records come in one by one.
#[derive(Debug, Default)]
pub struct PortsInUse(HashMap<(IpAddr, SocketAddr), Destination>);

/// Destinations that are told of.
const KEPT: usize = 16;
/// Processes of a destination that are named.
const NAMED: usize = 3;

impl PortsInUse {
    /// Takes in a socket of this namespace.
    pub fn add(&mut self, record: &Record, ephemeral: &LocalPorts) {
        let (local, to) = (record.connection.local, record.connection.remote);
        // Who listens or is bound only has no other end.
        if to.port() == 0 || !ephemeral.holds(local.port()) {
            return;
        }
        let source = local.ip();
        let new = || Destination { source, to, open: 0, time_wait: 0, processes: Vec::new() };
        let destination = self.0.entry((source, to)).or_insert_with(new);
        match record.state {
            TcpState::TimeWait => destination.time_wait += 1,
            // It has no place in the table of connections any more.
            TcpState::Close => {}
            _ => destination.open += 1,
        }
        for holder in record.processes() {
            let known = destination.processes.iter().any(|p| p.pid == holder.process.pid);
            if destination.processes.len() < NAMED && !known {
                destination.processes.push(NamedProcess::of(holder));
            }
        }
    }

    /// Those with most ports in use, and the most used first.
    #[must_use]
    pub fn fullest(self) -> Vec<Destination> {
        let mut all: Vec<Destination> = self.0.into_values().collect();
        // A single connection is nobody's worry.
        all.retain(|d| d.open + d.time_wait > 1);
        all.sort_by_key(|d| (std::cmp::Reverse(d.open + d.time_wait), d.to, d.source));
        all.truncate(KEPT);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_time_wait_is_in_nobodys_way() {
        let to = |source: &str, to: &str| Destination {
            source: source.parse().expect("an address"),
            to: to.parse().expect("an end"),
            open: 3,
            time_wait: 40,
            processes: Vec::new(),
        };
        let (near, far) = (to("127.0.0.1", "127.0.0.1:80"), to("10.0.0.1", "10.0.0.2:80"));
        for (value, by_loopback, elsewhere) in [(0, 43, 43), (1, 3, 3), (2, 3, 43)] {
            let used = |d: &Destination| d.used(d.reuses(Some(value), Some(1)));
            assert_eq!((used(&near), used(&far)), (by_loopback, elsewhere), "{value}");
        }
        assert!(!near.reuses(Some(1), Some(0)), "not without timestamps");
        assert!(!near.reuses(None, Some(1)), "nobody knows");
    }
}

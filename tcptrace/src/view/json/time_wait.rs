//! TIME_WAIT, in lines of its own and in summaries.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::{
    engine::time_wait::{Namespace, PortUse, Served, TimeWaits},
    formats::ports::LocalPorts,
};

const MOST: usize = TimeWaits::MOST;

/// Those of a watch.
#[derive(Serialize)]
pub struct TimeWaitEvent {
    event: &'static str,
    time: String,
    time_wait: TimeWaitLine,
}

impl TimeWaitEvent {
    pub fn new(time: String, all: &TimeWaits) -> Self {
        Self { event: "time_wait", time, time_wait: all.into() }
    }
}

#[derive(Serialize)]
pub struct TimeWaitLine {
    count: u64,
    namespaces: Vec<NamespaceLine>,
    by_listener: Vec<ServedLine>,
    by_destination: Vec<PortsLine>,
}

#[derive(Serialize)]
struct NamespaceLine {
    netns: u32,
    count: u64,
    limit: Option<u64>,
    port_range: Option<PortRange>,
    ports: Option<u32>,
}

#[derive(Serialize)]
struct PortRange {
    first: u16,
    last: u16,
}

#[derive(Serialize)]
struct ServedLine {
    netns: u32,
    local: SocketAddr,
    count: u64,
}

#[derive(Serialize)]
struct PortsLine {
    netns: u32,
    source: IpAddr,
    destination: SocketAddr,
    time_wait: u64,
    used: u64,
    ports: Option<u32>,
}

impl From<&TimeWaits> for TimeWaitLine {
    fn from(all: &TimeWaits) -> Self {
        Self {
            count: all.count,
            namespaces: all.places.iter().take(MOST).map(NamespaceLine::from).collect(),
            by_listener: all.served.iter().take(MOST).map(ServedLine::from).collect(),
            by_destination: all.opened.iter().take(MOST).map(PortsLine::from).collect(),
        }
    }
}

impl From<&Namespace> for NamespaceLine {
    fn from(place: &Namespace) -> Self {
        let ports = place.bounds.ports.as_ref();
        let range = ports.map(|ports| &ports.range);
        Self {
            netns: place.netns,
            count: place.count,
            limit: place.bounds.limit,
            port_range: range.map(|r| PortRange { first: *r.start(), last: *r.end() }),
            ports: ports.map(LocalPorts::count),
        }
    }
}

impl From<&Served> for ServedLine {
    fn from(served: &Served) -> Self {
        Self { netns: served.netns, local: served.listener, count: served.count }
    }
}

impl From<&PortUse> for PortsLine {
    fn from(of: &PortUse) -> Self {
        let PortUse { netns, from, to, time_wait, used, ports } = *of;
        Self { netns, source: from, destination: to, time_wait, used, ports }
    }
}

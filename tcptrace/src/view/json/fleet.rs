//! Who leaks on many hosts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ms::Ms;
use crate::engine::fleet::{Fleet, LeakingHost};

#[derive(Serialize)]
pub struct LeakingLine<'a> {
    event: &'static str,
    time: &'a str,
    host: &'a str,
    who: &'a str,
    leaks: u64,
    stuck: Option<u64>,
    per_hour: Option<f64>,
    oldest_ms: Option<Ms>,
    by_verdict: &'a BTreeMap<String, u64>,
}

impl<'a> LeakingLine<'a> {
    pub fn new(time: &'a str, one: &'a LeakingHost) -> Self {
        let LeakingHost { host, who, leaks, stuck, per_hour, oldest_ns, by_verdict } = one;
        Self {
            event: "leaking",
            time,
            host,
            who,
            leaks: *leaks,
            stuck: *stuck,
            per_hour: *per_hour,
            oldest_ms: oldest_ns.map(Ms),
            by_verdict,
        }
    }
}

#[derive(Serialize)]
pub struct FleetLine<'a> {
    event: &'static str,
    time: &'a str,
    leaks: u64,
    more: u64,
    hosts: u64,
    silent: BTreeMap<&'a str, &'a str>,
}

impl<'a> FleetLine<'a> {
    pub fn new(time: &'a str, fleet: &'a Fleet) -> Self {
        let silent = fleet.silent.iter().map(|(host, why)| (host.as_str(), why.as_str()));
        Self {
            event: "summary",
            time,
            leaks: fleet.leaks,
            more: fleet.more,
            hosts: fleet.hosts,
            silent: silent.collect(),
        }
    }
}

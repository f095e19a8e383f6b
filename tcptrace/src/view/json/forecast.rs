//! A forecast as a JSON line.

use std::net::SocketAddr;

use serde::Serialize;

use super::{count::CountLine, ms::Ms};
use crate::engine::{
    forecast::{
        Between,
        estimate::Estimate,
        told::{Forecast, What},
    },
    record::BootNs,
};

#[derive(Serialize)]
pub struct ForecastLine<'a> {
    event: &'static str,
    time: String,
    #[serde(flatten)]
    forecast: ForecastFields<'a>,
}

#[derive(Serialize)]
pub struct ForecastFields<'a> {
    what: &'static str,
    pid: Option<u32>,
    comm: Option<&'a str>,
    name: Option<&'a str>,
    netns: Option<u32>,
    local: Option<String>,
    remote: Option<SocketAddr>,
    used: u64,
    limit: u64,
    per_hour: Bounds<u64>,
    left_ms: Bounds<Ms>,
    sockets: Option<Vec<CountLine>>,
}

#[derive(Serialize)]
struct Bounds<T> {
    min: T,
    est: T,
    max: T,
}

impl<'a> ForecastFields<'a> {
    pub fn new(now: BootNs, f: &'a Forecast) -> Self {
        let (process, local, remote) = match &f.what {
            What::Descriptors { process, .. } => (Some(process), None, None),
            What::Ports { source, to, .. } => (None, Some(source.to_string()), Some(*to)),
            What::AcceptQueue { local, .. } => (None, Some(local.to_string()), None),
            What::FileTable | What::Conntrack { .. } | What::Memory => (None, None, None),
        };
        let Estimate { used, limit, per_hour, .. } = f.estimate;
        let Between { min, est, max } = f.left(now);
        Self {
            what: f.what.name(),
            pid: process.map(|p| p.process.pid),
            comm: process.map(|p| &*p.comm),
            name: process.map(|p| p.called()),
            netns: f.what.place().map(|place| place.netns),
            local,
            remote,
            used,
            limit,
            per_hour: Bounds { min: per_hour.min, est: per_hour.est, max: per_hour.max },
            left_ms: Bounds { min: Ms(min), est: Ms(est), max: Ms(max) },
            sockets: f.what.sockets().map(|list| list.iter().map(CountLine::from).collect()),
        }
    }
}

impl<'a> ForecastLine<'a> {
    pub fn new(time: String, now: BootNs, f: &'a Forecast) -> Self {
        Self { event: "forecast", time, forecast: ForecastFields::new(now, f) }
    }
}

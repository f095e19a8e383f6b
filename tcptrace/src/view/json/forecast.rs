//! A forecast as a JSON line.

use serde::Serialize;

use super::{count::CountLine, ms::Ms};
use crate::engine::{
    forecast::{
        Between,
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
        let (process, sockets) = match &f.what {
            What::Descriptors { process, sockets } => (Some(process), Some(sockets)),
            What::FileTable => (None, None),
        };
        let Between { min, est, max } = f.left(now);
        Self {
            what: f.what.name(),
            pid: process.map(|p| p.process.pid),
            comm: process.map(|p| &*p.comm),
            name: process.map(|p| p.called()),
            used: f.used,
            limit: f.limit,
            per_hour: Bounds { min: f.per_hour.min, est: f.per_hour.est, max: f.per_hour.max },
            left_ms: Bounds { min: Ms(min), est: Ms(est), max: Ms(max) },
            sockets: sockets.map(|list| list.iter().map(CountLine::from).collect()),
        }
    }
}

impl<'a> ForecastLine<'a> {
    pub fn new(time: String, now: BootNs, f: &'a Forecast) -> Self {
        Self { event: "forecast", time, forecast: ForecastFields::new(now, f) }
    }
}

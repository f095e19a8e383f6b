//! The shapes of JSON lines. Field names are the contract.

use std::{collections::BTreeMap, net::IpAddr};

use serde::Serialize;
use tcptrace_common::state::TcpState;

use crate::{
    engine::{
        group::{Group, Overview},
        record::{BootNs, Holder},
        update::{Lost, Stays, Summary},
    },
    formats::container::Runtime,
    prose::advice::advice,
    view::json::{
        forecast::ForecastFields,
        kept::KeptLine,
        ms::{AgeMs, Ms},
        origins::{STORIES, StoryLine},
        time_wait::TimeWaitLine,
    },
};

#[derive(Serialize)]
pub struct HolderLine<'a> {
    pub pid: u32,
    pub inner_pid: Option<u32>,
    pub tid: Option<u32>,
    pub fd: Option<u32>,
    pub comm: &'a str,
    pub name: &'a str,
    pub cgroup: Option<&'a str>,
    pub container: Option<&'a str>,
    pub runtime: Option<&'static str>,
    pub pod: Option<&'a str>,
    pub opener: Option<bool>,
}

impl<'a> From<&'a Holder> for HolderLine<'a> {
    fn from(h: &'a Holder) -> Self {
        let cgroups = h.cgroups.as_deref();
        let container = cgroups.and_then(|c| c.container());
        Self {
            pid: h.process.pid,
            inner_pid: h.inner_pid,
            tid: h.tid,
            fd: h.fd,
            comm: &h.comm,
            name: h.called(),
            cgroup: cgroups.and_then(|c| c.path()),
            container: container.map(|c| &*c.id),
            runtime: container.and_then(|c| c.runtime).map(Runtime::name),
            pod: container.and_then(|c| c.pod.as_deref()),
            opener: h.opener,
        }
    }
}

#[derive(Serialize)]
pub struct LostLine {
    event: &'static str,
    time: String,
    lost: BTreeMap<&'static str, u64>,
}

impl LostLine {
    pub fn new(time: String, lost: &Lost) -> Self {
        Self { event: "lost", time, lost: counts(lost) }
    }
}

fn counts(lost: &Lost) -> BTreeMap<&'static str, u64> {
    lost.named().into()
}

/// What to do about each verdict that was given.
fn by_name(verdicts: &BTreeMap<&'static str, u64>) -> BTreeMap<&'static str, &'static str> {
    advice(verdicts).map(|(verdict, advice)| (verdict.name(), advice)).collect()
}

#[derive(Serialize)]
pub struct SummaryLine<'a> {
    event: &'static str,
    time: String,
    stuck: u64,
    resolved: u64,
    still_open: u64,
    leaks: u64,
    by_holder: &'a BTreeMap<String, u64>,
    by_verdict: &'a BTreeMap<&'static str, u64>,
    by_remote: &'a BTreeMap<IpAddr, u64>,
    stays: BTreeMap<&'static str, StaysLine>,
    transitions: Transitions,
    lost: BTreeMap<&'static str, u64>,
    blocked: Vec<KeptLine<'a>>,
    forecasts: Vec<ForecastFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_wait: Option<TimeWaitLine>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    origins: Vec<StoryLine<'a>>,
    advice: BTreeMap<&'static str, &'static str>,
}

#[derive(Serialize)]
pub struct StaysLine {
    count: u64,
    half_below_ms: Option<Ms>,
    most_below_ms: Option<Ms>,
}

impl From<&Stays> for StaysLine {
    fn from(s: &Stays) -> Self {
        Self {
            count: s.count,
            half_below_ms: s.half_below_ns.map(Ms),
            most_below_ms: s.most_below_ns.map(Ms),
        }
    }
}

#[derive(Serialize)]
pub struct Transitions {
    seen: u64,
    filtered: u64,
    emitted: u64,
    lost: u64,
}

impl<'a> SummaryLine<'a> {
    pub fn new(
        time: String,
        now: BootNs,
        s: &'a Summary,
        stamp: &dyn Fn(BootNs) -> String,
    ) -> Self {
        let kept = s.kept.iter().map(|kept| KeptLine::new(stamp(kept.cause.at_ns), kept));
        Self {
            event: "summary",
            time,
            stuck: s.stuck,
            resolved: s.resolved,
            still_open: s.still_open,
            leaks: s.leaks,
            by_holder: &s.by_holder,
            by_verdict: &s.by_verdict,
            by_remote: &s.by_remote,
            stays: s.stays.iter().map(|s| (s.state.name(), StaysLine::from(s))).collect(),
            transitions: Transitions {
                seen: s.seen,
                filtered: s.filtered,
                emitted: s.emitted,
                lost: s.lost.total(),
            },
            lost: counts(&s.lost),
            blocked: kept.collect(),
            forecasts: s.forecasts.iter().map(|f| ForecastFields::new(now, f)).collect(),
            time_wait: s.time_waits.as_deref().map(TimeWaitLine::from),
            origins: s.stories.iter().take(STORIES).map(StoryLine::from).collect(),
            advice: by_name(&s.by_verdict),
        }
    }
}

#[derive(Serialize)]
pub struct GroupLine<'a> {
    event: &'static str,
    time: String,
    by: &'static str,
    key: &'a str,
    name: &'a str,
    count: u64,
    leaks: u64,
    oldest_ms: AgeMs,
    by_verdict: &'a BTreeMap<&'static str, u64>,
}

impl<'a> GroupLine<'a> {
    pub fn new(time: String, g: &'a Group) -> Self {
        Self {
            event: "group",
            time,
            by: g.by.name(),
            key: &g.key,
            name: &g.name,
            count: g.count,
            leaks: g.leaks,
            oldest_ms: (&g.oldest).into(),
            by_verdict: &g.by_verdict,
        }
    }
}

#[derive(Serialize)]
pub struct OverviewLine<'a> {
    event: &'static str,
    time: String,
    sockets: u64,
    leaks: u64,
    half_closes_in_use: u64,
    age_unknown: u64,
    namespaces: u64,
    states: Option<BTreeMap<&'static str, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_wait: Option<TimeWaitLine>,
    by_holder: &'a BTreeMap<String, u64>,
    by_verdict: &'a BTreeMap<&'static str, u64>,
    by_remote: &'a BTreeMap<IpAddr, u64>,
    advice: BTreeMap<&'static str, &'static str>,
}

fn by_state(states: &[(TcpState, u64)]) -> BTreeMap<&'static str, u64> {
    states.iter().map(|(state, n)| (state.name(), *n)).collect()
}

impl<'a> OverviewLine<'a> {
    pub fn new(time: String, o: &'a Overview) -> Self {
        Self {
            event: "summary",
            time,
            sockets: o.sockets,
            leaks: o.leaks,
            half_closes_in_use: o.in_use,
            age_unknown: o.age_unknown,
            namespaces: o.namespaces,
            states: o.states.as_deref().map(by_state),
            time_wait: o.time_waits.as_ref().map(TimeWaitLine::from),
            by_holder: &o.by_holder,
            by_verdict: &o.by_verdict,
            by_remote: &o.by_remote,
            advice: by_name(&o.by_verdict),
        }
    }
}

//! The shapes of what `doctor` says. Field names are the contract.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    engine::doctor::{
        Checkup, NamedProcess, Unseen,
        findings::{Diagnosis, Harm, Remark},
        settings::SettingSeen,
    },
    prose::doctor,
};

#[derive(Serialize)]
struct ProcessName<'a> {
    pid: u32,
    comm: &'a str,
    name: &'a str,
    container: Option<&'a str>,
}

impl<'a> ProcessName<'a> {
    fn all(processes: &'a [NamedProcess]) -> Vec<Self> {
        let one = |p: &'a NamedProcess| Self {
            pid: p.pid,
            comm: &p.comm,
            name: &p.name,
            container: p.container.as_deref(),
        };
        processes.iter().map(one).collect()
    }
}

#[derive(Serialize)]
pub struct DiagnosisLine<'a> {
    event: &'static str,
    time: &'a str,
    name: &'static str,
    harm: &'static str,
    confidence: &'static str,
    basis: &'static str,
    netns: Option<u32>,
    processes: Vec<ProcessName<'a>>,
    value: u64,
    limit: Option<u64>,
    found: String,
    evidence: Vec<String>,
    meaning: &'static str,
    remedy: String,
    no_help: Option<&'static str>,
    source: &'static str,
}

impl<'a> DiagnosisLine<'a> {
    pub fn new(time: &'a str, d: &'a Diagnosis, apart_ns: u64) -> Self {
        Self {
            event: "finding",
            time,
            name: d.ailment.name(),
            harm: d.harm.name(),
            confidence: d.confidence.name(),
            basis: d.basis.name(),
            netns: d.netns,
            processes: ProcessName::all(d.ailment.processes()),
            value: d.value,
            limit: d.limit,
            found: doctor::headline(d, apart_ns),
            evidence: doctor::evidence(d, apart_ns),
            meaning: doctor::meaning(d),
            remedy: doctor::remedy(d),
            no_help: doctor::no_help(d),
            source: doctor::source(&d.ailment),
        }
    }
}

#[derive(Serialize)]
pub struct RemarkLine<'a> {
    event: &'static str,
    time: &'a str,
    name: &'static str,
    netns: Option<u32>,
    text: String,
}

impl<'a> RemarkLine<'a> {
    pub fn new(time: &'a str, remark: &Remark, apart_ns: u64) -> Self {
        Self {
            event: "remark",
            time,
            name: remark.name(),
            netns: remark.netns(),
            text: doctor::remark(remark, apart_ns),
        }
    }
}

#[derive(Serialize)]
pub struct SettingLine<'a> {
    event: &'static str,
    time: &'a str,
    name: &'static str,
    netns: Option<u32>,
    value: Option<&'a str>,
    why: Option<&'static str>,
    default: Option<String>,
    default_is: String,
    changed: Option<bool>,
    matters: bool,
    does: &'static str,
    here: Option<String>,
    hurts: &'static str,
    source: &'static str,
}

impl<'a> SettingLine<'a> {
    pub fn new(time: &'a str, s: &'a SettingSeen) -> Self {
        Self {
            event: "setting",
            time,
            name: s.sysctl.name(),
            netns: s.netns,
            value: s.value.as_deref().ok(),
            why: s.value.as_ref().err().copied(),
            default: s.default.value(),
            default_is: doctor::settings::default(&s.default),
            changed: s.changed,
            matters: s.matters,
            does: doctor::settings::does(s.sysctl),
            here: doctor::settings::here(s),
            hurts: doctor::settings::hurts(s.sysctl),
            source: doctor::settings::source(s.sysctl),
        }
    }
}

#[derive(Serialize)]
pub struct UnseenLine<'a> {
    event: &'static str,
    time: &'a str,
    what: &'a str,
    why: &'a str,
    hides: bool,
}

impl<'a> UnseenLine<'a> {
    pub fn new(time: &'a str, unseen: &'a Unseen) -> Self {
        Self {
            event: "not_looked_at",
            time,
            what: &unseen.what,
            why: &unseen.why,
            hides: unseen.hides,
        }
    }
}

#[derive(Serialize)]
pub struct CheckupLine<'a> {
    event: &'static str,
    time: &'a str,
    findings: u64,
    by_harm: BTreeMap<&'static str, u64>,
    worst: Option<&'static str>,
    not_looked_at: u64,
    namespaces: u64,
    netns_paths: BTreeMap<u32, &'a str>,
    states: BTreeMap<&'static str, u64>,
    apart_ms: f64,
}

impl<'a> CheckupLine<'a> {
    pub fn new(time: &'a str, c: &'a Checkup) -> Self {
        let count = |harm: Harm| c.findings.iter().filter(|d| d.harm == harm).count() as u64;
        Self {
            event: "summary",
            time,
            findings: c.findings.len() as u64,
            by_harm: Harm::ALL.into_iter().map(|harm| (harm.name(), count(harm))).collect(),
            worst: c.findings.first().map(|d| d.harm.name()),
            not_looked_at: c.unseen.len() as u64,
            namespaces: c.places.len() as u64,
            netns_paths: c.places.iter().map(|(netns, path)| (*netns, &**path)).collect(),
            states: c.states.iter().map(|(state, n)| (state.name(), *n)).collect(),
            apart_ms: c.apart_ns as f64 / 1e6,
        }
    }
}

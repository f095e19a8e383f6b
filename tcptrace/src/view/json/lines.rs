//! The shapes of JSON lines. Field names are the contract.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Serialize, Serializer};

use crate::{
    engine::{
        group::{Group, Overview},
        record::{Age, BootNs, ClosedBy, Holder, Listener, Record},
        unknown::Unknown,
        update::{Lost, Stays, Summary},
    },
    formats::container::Runtime,
};

#[derive(Serialize)]
pub struct AgeMs {
    min: Ms,
    max: Option<Ms>,
}

impl From<&Age> for AgeMs {
    fn from(age: &Age) -> Self {
        Self { min: Ms(age.min_ns), max: age.max_ns.map(Ms) }
    }
}

/// ns, shown as ms to the microsecond.
pub struct Ms(pub u64);

impl Serialize for Ms {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 µs, 285 years")]
        s.serialize_f64((self.0 / 1_000) as f64 / 1_000.0)
    }
}

#[derive(Serialize)]
pub struct RecordLine<'a> {
    event: &'static str,
    time: String,
    cookie: u64,
    netns: u32,
    family: u8,
    local: SocketAddr,
    remote: SocketAddr,
    protocol: &'static str,
    role: Option<&'static str>,
    state: &'static str,
    age_ms: AgeMs,
    verdict: Option<&'static str>,
    also: Vec<&'static str>,
    evidence: EvidenceLine,
    holders: Vec<HolderLine<'a>>,
    holder_source: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    former_holders: Vec<HolderLine<'a>>,
    listener: Option<ListenerLine<'a>>,
    cgroup: Option<&'a str>,
    advice: Option<&'static str>,
    #[serde(serialize_with = "reasons")]
    unknown: Cow<'a, Unknown>,
}

fn reasons<S: Serializer>(unknown: &Unknown, s: S) -> Result<S::Ok, S::Error> {
    s.collect_map(unknown.iter())
}

#[derive(Serialize)]
pub struct EvidenceLine {
    recv_q: Option<u32>,
    send_q: Option<u32>,
    accepted: Option<bool>,
    bytes_sent_since_fin: Option<u64>,
    inode: Option<u64>,
    keepalive: Option<bool>,
    last_data_sent_ms: Option<Ms>,
    last_data_recv_ms: Option<Ms>,
    last_ack_recv_ms: Option<Ms>,
}

#[derive(Serialize)]
pub struct HolderLine<'a> {
    pub pid: u32,
    pub inner_pid: Option<u32>,
    pub tid: Option<u32>,
    pub fd: u32,
    pub comm: &'a str,
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
            cgroup: cgroups.and_then(|c| c.path()),
            container: container.map(|c| &*c.id),
            runtime: container.and_then(|c| c.runtime).map(Runtime::name),
            pod: container.and_then(|c| c.pod.as_deref()),
            opener: h.opener,
        }
    }
}

#[derive(Serialize)]
pub struct ListenerLine<'a> {
    local: SocketAddr,
    pid: Option<u32>,
    comm: Option<&'a str>,
    queue: u32,
    limit: u32,
    drops: u32,
}

impl<'a> From<&'a Listener> for ListenerLine<'a> {
    fn from(l: &'a Listener) -> Self {
        let first = l.holders.first();
        Self {
            local: l.local,
            pid: first.map(|h| h.process.pid),
            comm: first.map(|h| &*h.comm),
            queue: l.queue,
            limit: l.limit,
            drops: l.drops,
        }
    }
}

impl<'a> RecordLine<'a> {
    pub fn new(event: &'static str, time: String, now: BootNs, r: &'a Record) -> Self {
        let c = &r.connection;
        Self {
            event,
            time,
            cookie: c.cookie,
            netns: c.netns,
            family: c.family(),
            local: c.local,
            remote: c.remote,
            protocol: protocol(c.mptcp),
            role: r.role.map(|role| role.name()),
            state: r.state.name(),
            age_ms: (&r.age(now)).into(),
            verdict: r.verdict.map(|v| v.name()),
            also: r.also.iter().map(|v| v.name()).collect(),
            evidence: EvidenceLine {
                recv_q: r.evidence.recv_q,
                send_q: r.evidence.send_q,
                accepted: r.evidence.accepted,
                bytes_sent_since_fin: r.evidence.bytes_sent_since_fin,
                inode: r.evidence.inode,
                keepalive: r.evidence.keepalive,
                last_data_sent_ms: r.evidence.sent_ago_ns.map(Ms),
                last_data_recv_ms: r.evidence.received_ago_ns.map(Ms),
                last_ack_recv_ms: r.evidence.acked_ago_ns.map(Ms),
            },
            holders: r.holders.iter().map(HolderLine::from).collect(),
            holder_source: r.holder_source.name(),
            former_holders: r.former_holders.iter().map(HolderLine::from).collect(),
            listener: r.listener.as_ref().map(ListenerLine::from),
            cgroup: r.cgroup.as_deref(),
            advice: r.verdict.map(|v| v.advice()),
            unknown: Cow::Borrowed(&r.unknown),
        }
    }
}

fn protocol(mptcp: bool) -> &'static str {
    if mptcp { "mptcp" } else { "tcp" }
}

#[derive(Serialize)]
pub struct ResolvedLine<'a> {
    #[serde(flatten)]
    record: RecordLine<'a>,
    /// When verdict, evidence and holders were looked at.
    as_of: String,
    stayed_ms: AgeMs,
    closed_by: Option<CloserLine<'a>>,
}

#[derive(Serialize)]
pub struct CloserLine<'a> {
    pid: u32,
    comm: &'a str,
}

impl<'a> ResolvedLine<'a> {
    pub fn new(
        mut record: RecordLine<'a>,
        as_of: String,
        stayed: &Age,
        closed_by: Option<&'a ClosedBy>,
        unknown: &'static str,
    ) -> Self {
        if closed_by.is_none() {
            record.unknown.to_mut().insert("closed_by", unknown);
        }
        let closed_by = closed_by.map(|c| CloserLine { pid: c.pid, comm: &c.comm });
        Self { record, as_of, stayed_ms: stayed.into(), closed_by }
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
    pub fn new(time: String, s: &'a Summary) -> Self {
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
        }
    }
}

#[derive(Serialize)]
pub struct GroupLine<'a> {
    event: &'static str,
    time: String,
    by: &'static str,
    key: &'a str,
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
    namespaces: u64,
    states: BTreeMap<&'static str, u64>,
    by_holder: &'a BTreeMap<String, u64>,
    by_verdict: &'a BTreeMap<&'static str, u64>,
    by_remote: &'a BTreeMap<IpAddr, u64>,
}

impl<'a> OverviewLine<'a> {
    pub fn new(time: String, o: &'a Overview) -> Self {
        Self {
            event: "summary",
            time,
            sockets: o.sockets,
            leaks: o.leaks,
            half_closes_in_use: o.in_use,
            namespaces: o.namespaces,
            states: o.states.iter().map(|(state, n)| (state.name(), *n)).collect(),
            by_holder: &o.by_holder,
            by_verdict: &o.by_verdict,
            by_remote: &o.by_remote,
        }
    }
}

//! One JSON object a line. The names are a contract.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::{IpAddr, SocketAddr},
};

use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use super::{Clock, Sink, text::steers};
use crate::engine::{
    container::Runtime,
    event::{Age, BootNs, Change, ClosedBy, Holder, Listener, Lost, Record, Stays, Summary, Update},
};

/// Writes JSON lines.
#[derive(Debug)]
pub struct Json<W> {
    out: W,
    clock: Clock,
}

impl<W: Write> Json<W> {
    /// A sink that writes to `out`.
    pub fn new(out: W, clock: Clock) -> Self {
        Self { out, clock }
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut self.out, Escaping))?;
        self.out.write_all(b"\n")
    }
}

impl<W: Write> Sink for Json<W> {
    fn update(&mut self, time: BootNs, update: &Update) -> io::Result<()> {
        let stamp = self.clock.rfc3339(time);
        match update {
            Update::Transition(change) => self.line(&TransitionLine::new(stamp, change)),
            Update::Stuck(record) => self.line(&RecordLine::new("stuck", stamp, time, record)),
            Update::Resolved { record, stayed, closed_by, unknown } => {
                let mut line = RecordLine::new("resolved", stamp, time, record);
                if closed_by.is_none() {
                    line.unknown.insert("closed_by", unknown);
                }
                self.line(&ResolvedLine {
                    as_of: self.clock.rfc3339(record.seen_ns),
                    record: line,
                    stayed_ms: stayed.into(),
                    closed_by: closed_by.as_ref().map(closer),
                })
            }
            Update::Lost(lost) => self.line(&LostLine { event: "lost", time: stamp, lost: counts(lost) }),
            Update::Summary(summary) => self.line(&SummaryLine::new(stamp, summary)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// JSON lets control characters from U+007F on pass; terminals act on some of them.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(steers) {
            let (before, from) = rest.split_at(at);
            let c = from.chars().next().unwrap_or_default();
            // All characters that steer are below U+10000: one escape each.
            write!(out, "{before}\\u{:04x}", c as u32)?;
            rest = &from[c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

#[derive(Serialize)]
struct AgeMs {
    min: Ms,
    max: Option<Ms>,
}

impl From<&Age> for AgeMs {
    fn from(age: &Age) -> Self {
        Self { min: Ms(age.min_ns), max: age.max_ns.map(Ms) }
    }
}

/// ns, shown as ms to the microsecond.
struct Ms(u64);

impl Serialize for Ms {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 µs, 285 years")]
        s.serialize_f64((self.0 / 1_000) as f64 / 1_000.0)
    }
}

#[derive(Serialize)]
struct RecordLine<'a> {
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
    listener: Option<ListenerLine<'a>>,
    cgroup: Option<&'a str>,
    advice: Option<&'static str>,
    unknown: BTreeMap<&'static str, &'static str>,
}

#[derive(Serialize)]
struct EvidenceLine {
    recv_q: Option<u32>,
    send_q: Option<u32>,
    accepted: Option<bool>,
    bytes_sent_since_fin: Option<u64>,
    inode: Option<u64>,
}

#[derive(Serialize)]
struct HolderLine<'a> {
    pid: u32,
    inner_pid: Option<u32>,
    tid: Option<u32>,
    fd: u32,
    comm: &'a str,
    cgroup: Option<String>,
    container: Option<&'a str>,
    runtime: Option<&'static str>,
    pod: Option<&'a str>,
    opener: Option<bool>,
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
            cgroup: cgroups.and_then(|c| c.path()).map(|p| p.to_string()),
            container: container.map(|c| &*c.id),
            runtime: container.and_then(|c| c.runtime).map(Runtime::name),
            pod: container.and_then(|c| c.pod.as_deref()),
            opener: h.opener,
        }
    }
}

#[derive(Serialize)]
struct ListenerLine<'a> {
    local: SocketAddr,
    pid: Option<u32>,
    comm: Option<&'a str>,
    queue: u32,
    limit: u32,
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
        }
    }
}

impl<'a> RecordLine<'a> {
    fn new(event: &'static str, time: String, now: BootNs, r: &'a Record) -> Self {
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
            },
            holders: r.holders.iter().map(HolderLine::from).collect(),
            holder_source: r.holder_source.name(),
            listener: r.listener.as_ref().map(ListenerLine::from),
            cgroup: r.cgroup.as_deref(),
            advice: r.verdict.map(|v| v.advice()),
            unknown: r.unknown.clone(),
        }
    }
}

fn protocol(mptcp: bool) -> &'static str {
    if mptcp { "mptcp" } else { "tcp" }
}

#[derive(Serialize)]
struct ResolvedLine<'a> {
    #[serde(flatten)]
    record: RecordLine<'a>,
    /// When verdict, evidence and holders were looked at.
    as_of: String,
    stayed_ms: AgeMs,
    closed_by: Option<CloserLine<'a>>,
}

#[derive(Serialize)]
struct CloserLine<'a> {
    pid: u32,
    comm: &'a str,
}

fn closer(c: &ClosedBy) -> CloserLine<'_> {
    CloserLine { pid: c.pid, comm: &c.comm }
}

#[derive(Serialize)]
struct TransitionLine {
    event: &'static str,
    time: String,
    cookie: Option<u64>,
    netns: u32,
    family: u8,
    local: SocketAddr,
    remote: SocketAddr,
    protocol: &'static str,
    old: &'static str,
    new: &'static str,
    stayed_ms: Option<AgeMs>,
    on_cpu_pid: u32,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unknown: BTreeMap<&'static str, &'static str>,
}

impl TransitionLine {
    fn new(time: String, change: &Change) -> Self {
        let c = &change.connection;
        let mut unknown = BTreeMap::new();
        if c.cookie == 0 {
            unknown.insert("cookie", "at this moment the kernel would name the listener's");
        }
        if change.stayed.is_none() {
            unknown.insert("stayed_ms", "the state before was not watched, or had begun before tracing");
        }
        Self {
            event: "transition",
            time,
            cookie: (c.cookie != 0).then_some(c.cookie),
            netns: c.netns,
            family: c.family(),
            local: c.local,
            remote: c.remote,
            protocol: protocol(c.mptcp),
            old: change.old.name(),
            new: change.new.name(),
            stayed_ms: change.stayed.as_ref().map(AgeMs::from),
            on_cpu_pid: change.on_cpu_pid,
            unknown,
        }
    }
}

#[derive(Serialize)]
struct LostLine {
    event: &'static str,
    time: String,
    lost: BTreeMap<&'static str, u64>,
}

fn counts(lost: &Lost) -> BTreeMap<&'static str, u64> {
    lost.named().into()
}

#[derive(Serialize)]
struct SummaryLine<'a> {
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
struct StaysLine {
    count: u64,
    half_below_ms: Option<Ms>,
    most_below_ms: Option<Ms>,
}

impl From<&Stays> for StaysLine {
    fn from(s: &Stays) -> Self {
        Self { count: s.count, half_below_ms: s.half_below_ns.map(Ms), most_below_ms: s.most_below_ns.map(Ms) }
    }
}

#[derive(Serialize)]
struct Transitions {
    seen: u64,
    filtered: u64,
    emitted: u64,
    lost: u64,
}

impl<'a> SummaryLine<'a> {
    fn new(time: String, s: &'a Summary) -> Self {
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
            transitions: Transitions { seen: s.seen, filtered: s.filtered, emitted: s.emitted, lost: s.lost.total() },
            lost: counts(&s.lost),
        }
    }
}

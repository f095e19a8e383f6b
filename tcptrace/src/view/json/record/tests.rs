use std::{net::SocketAddr, rc::Rc};

use proptest::{option, prelude::*, sample::select};
use serde::{Serialize, Serializer};
use tcptrace_common::state::TcpState;

use super::*;
use crate::{
    engine::{
        record::{Connection, HolderSource, ProcessId, Role},
        timer::Timer,
        verdict::Verdict,
    },
    formats::cgroup::Cgroups,
    view::json::{
        Escaping,
        lines::HolderLine,
        ms::{AgeMs, Ms},
        schema,
    },
};

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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    former_holders: Vec<HolderLine<'a>>,
    listener: Option<ListenerLine<'a>>,
    cgroup: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    normal: Option<Option<NormalLine>>,
    #[serde(serialize_with = "reasons")]
    unknown: std::borrow::Cow<'a, Unknown>,
}

fn reasons<S: Serializer>(unknown: &Unknown, s: S) -> Result<S::Ok, S::Error> {
    s.collect_map(unknown.iter().map(|(field, why)| (field, reasons::words(why))))
}

#[derive(Serialize)]
struct NormalLine {
    below_ms: Ms,
    per_mille: u64,
    of: u64,
    at: &'static str,
}

#[derive(Serialize)]
struct EvidenceLine {
    recv_q: Option<u32>,
    send_q: Option<u32>,
    accepted: Option<bool>,
    bytes_sent_since_fin: Option<u64>,
    inode: Option<u64>,
    keepalive: Option<bool>,
    last_data_sent_ms: Option<Ms>,
    last_data_recv_ms: Option<Ms>,
    last_ack_recv_ms: Option<Ms>,
    timer: Option<&'static str>,
    retransmits: Option<u8>,
    probes: Option<u8>,
    snd_wnd: Option<u32>,
}

#[derive(Serialize)]
struct ListenerLine<'a> {
    local: SocketAddr,
    pid: Option<u32>,
    comm: Option<&'a str>,
    queue: u32,
    limit: u32,
    drops: u32,
    handshakes: Option<u32>,
    syncookies_sent: Option<u64>,
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
            handshakes: l.handshakes,
            syncookies_sent: l.cookies,
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
            protocol: if c.mptcp { "mptcp" } else { "tcp" },
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
                timer: r.evidence.timer.map(Timer::name),
                retransmits: r.evidence.retransmits,
                probes: r.evidence.probes,
                snd_wnd: r.evidence.snd_wnd,
            },
            holders: r.holders.iter().map(HolderLine::from).collect(),
            holder_source: r.holder_source.name(),
            former_holders: r.former_holders.iter().map(HolderLine::from).collect(),
            listener: r.listener.as_ref().map(ListenerLine::from),
            cgroup: r.cgroup.as_deref(),
            normal: (r.normal.is_some() || r.unknown.get("normal").is_some()).then(|| {
                r.normal.map(|n| NormalLine {
                    below_ms: Ms(n.below_ns),
                    per_mille: 999,
                    of: n.ended,
                    at: if n.server { "listener" } else { "remote" },
                })
            }),
            unknown: std::borrow::Cow::Borrowed(&r.unknown),
        }
    }
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

impl<'a> ResolvedLine<'a> {
    fn new(
        mut record: RecordLine<'a>,
        as_of: String,
        stayed: &Age,
        closed_by: Option<&'a ClosedBy>,
        unknown: Reason,
    ) -> Self {
        if closed_by.is_none() {
            record.unknown.to_mut().insert("closed_by", unknown);
        }
        let closed_by = closed_by.map(|c| CloserLine { pid: c.pid, comm: &c.comm });
        Self { record, as_of, stayed_ms: stayed.into(), closed_by }
    }
}

fn library(value: &impl Serialize) -> String {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Escaping);
    value.serialize(&mut serializer).expect("JSON");
    String::from_utf8(out).expect("UTF-8") + "\n"
}

/// Whether docs/json.md tells of all of it.
fn described(line: &str) -> Result<(), String> {
    schema::check(&serde_json::from_str(line).expect("JSON"))
}

/// Names as others choose them: mostly plain, sometimes anything.
fn names() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z/.-]{0,12}", "[\"\\\\\u{7f}\u{9b}\u{202e}\n\u{0}a]{0,6}", any::<String>()]
}

fn ends() -> impl Strategy<Value = SocketAddr> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
}

/// Longer than a century a float would take an exponent.
fn times() -> std::ops::Range<u64> {
    0..1 << 61
}

prop_compose! {
    fn holders()(
        (pid, start_ns, ppid, fd) in any::<(u32, u64, u32, u32)>(),
        (tid, inner_pid, opener) in any::<(Option<u32>, Option<u32>, Option<bool>)>(),
        comm in names(),
        cgroup in option::of(prop_oneof![
            names().prop_map(|name| format!("0::/{name}")),
            "[0-9a-f]{64}".prop_map(|id| format!("0::/system.slice/docker-{id}.scope")),
        ]),
    ) -> Holder {
        Holder {
            process: ProcessId { pid, start_ns },
            tid,
            ppid,
            fd: Some(fd).filter(|fd| fd % 5 != 0),
            name: (fd % 2 == 0).then(|| format!("{comm} {comm}").into()),
            comm: comm.into(),
            cgroups: cgroup.map(|text| Rc::new(Cgroups::parse(&text))),
            inner_pid,
            opener,
        }
    }
}

prop_compose! {
    fn evidences()(
        (recv_q, send_q, accepted) in any::<(Option<u32>, Option<u32>, Option<bool>)>(),
        (bytes_sent_since_fin, inode) in any::<(Option<u64>, Option<u64>)>(),
        keepalive in any::<Option<bool>>(),
        timer in option::of(select(vec![Timer::None, Timer::Retransmit, Timer::TimeWait])),
        (retransmits, probes, snd_wnd) in any::<(Option<u8>, Option<u8>, Option<u32>)>(),
        ago in [option::of(times()), option::of(times()), option::of(times())],
    ) -> Evidence {
        Evidence {
            recv_q,
            send_q,
            accepted,
            bytes_sent_since_fin,
            inode,
            keepalive,
            sent_ago_ns: ago[0],
            received_ago_ns: ago[1],
            acked_ago_ns: ago[2],
            stalled_ns: None,
            timer,
            retransmits,
            probes,
            snd_wnd,
        }
    }
}

prop_compose! {
    fn records()(
        (local, remote, came_in_by) in (ends(), ends(), ends()),
        (cookie, netns, mptcp) in any::<(u64, u32, bool)>(),
        role in option::of(select(vec![Role::Server, Role::Client])),
        state in select(&TcpState::ALL[..]),
        (earliest_ns, latest_ns) in (times(), times()),
        verdict in option::of(select(&Verdict::ALL[..])),
        also in proptest::collection::vec(select(&Verdict::ALL[..]), 0..3),
        evidence in evidences(),
        [holders, former_holders, waiting] in
            [(); 3].map(|()| proptest::collection::vec(holders(), 0..3)),
        (listens, queue, limit, drops) in any::<(bool, u32, u32, u32)>(),
        (handshakes, cookies) in any::<(Option<u32>, Option<u64>)>(),
        holder_source in select(vec![
            HolderSource::FdTable, HolderSource::Listener, HolderSource::None,
            HolderSource::OutsideFdTables,
        ]),
        cgroup in option::of(names()),
        fields in proptest::sample::subsequence(
            vec!["age_ms.max", "closed_by", "inode", "normal", "role"], 0..=5,
        ),
        normal in option::of((times(), any::<(u64, bool)>()).prop_map(
            |(below_ns, (ended, server))| Normal { below_ns, ended, server },
        )),
        why in select(&Reason::ALL[..]),
    ) -> Record {
        Record {
            connection: Connection { cookie, netns, local, remote, mptcp },
            role,
            state,
            earliest_ns,
            latest_ns,
            seen_ns: 0,
            verdict,
            also,
            evidence,
            holders,
            holder_source,
            former_holders,
            listener: listens.then_some(Listener {
                local: came_in_by, queue, limit, drops, handshakes, cookies, holders: waiting,
            }),
            came_in_by: Some(came_in_by),
            cgroup: cgroup.map(Rc::from),
            origins: None,
            normal,
            unknown: fields.into_iter().map(|field| (field, why)).collect(),
        }
    }
}

proptest! {
    #[test]
    fn as_the_library_writes_it(
        r in records(), now in times(), stayed in (times(), option::of(times())),
        closer in option::of((any::<u32>(), names())),
    ) {
        let mut line = Vec::new();
        let times = Stamped { now, stamp: "T", origins: &Stamps::default() };
        record(&mut line, "socket", &times, &r, None);
        let expected = library(&RecordLine::new("socket", "T".to_owned(), now, &r));
        prop_assert_eq!(String::from_utf8(line).expect("UTF-8"), &*expected);
        prop_assert_eq!(described(&expected), Ok(()));

        let stayed = Age { min_ns: stayed.0, max_ns: stayed.1 };
        let closed_by =
            closer.map(|(pid, comm)| ClosedBy { pid, comm: comm.into(), exiting: false });
        let (closed_by, unknown) = (closed_by.as_ref(), Reason::EndLost);
        let ended = End { as_of: "A", stayed: &stayed, closed_by, unknown };
        let mut line = Vec::new();
        record(&mut line, "resolved", &times, &r, Some(&ended));
        let whole = RecordLine::new("resolved", "T".to_owned(), now, &r);
        let whole = ResolvedLine::new(whole, "A".to_owned(), &stayed, closed_by, unknown);
        let expected = library(&whole);
        prop_assert_eq!(String::from_utf8(line).expect("UTF-8"), &*expected);
        prop_assert_eq!(described(&expected), Ok(()));
    }
}

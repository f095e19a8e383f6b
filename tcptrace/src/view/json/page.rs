//! The shapes of what `explain` says. Field names are the contract.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::Serialize;

use crate::{
    engine::{
        blocked::blockage::Kept,
        record::{BootNs, Holder, Role},
        report::{About, Answer, Explanation, Listening, ProcessReport},
    },
    prose::{
        cure::{Snippet, cure},
        forecast, threads,
        words::evidence,
    },
    view::json::{
        count::CountLine,
        kept::KeptLine,
        lines::HolderLine,
        ms::Ms,
        stack::{ThreadLine, thread_lines},
    },
};

#[derive(Serialize)]
pub struct ProcessLine<'a> {
    event: &'static str,
    time: String,
    pid: u32,
    inner_pid: Option<u32>,
    comm: &'a str,
    command: &'a [String],
    ppid: u32,
    parent: Option<&'a str>,
    cgroup: Option<&'a str>,
    container: Option<&'a str>,
    runtime: Option<&'static str>,
    pod: Option<&'a str>,
    running_ms: Option<Ms>,
    descriptors: DescriptorsLine,
    leaks: u64,
    sockets: Vec<CountLine>,
    listeners: Vec<ListenerLine>,
    listen_overflows: Option<u64>,
    threads: Vec<GroupLine<'a>>,
    threads_read: Option<usize>,
    threads_in_all: Option<usize>,
    blocked: Option<Vec<KeptLine<'a>>>,
    stacks: Option<Vec<ThreadLine<'a>>>,
    unknown: BTreeMap<&'static str, &'static str>,
}

#[derive(Serialize)]
struct DescriptorsLine {
    used: Option<u64>,
    limit: Option<u64>,
    full_in_ms: Option<Ms>,
    full_in_min_ms: Option<Ms>,
    full_in_max_ms: Option<Ms>,
}

#[derive(Serialize)]
struct ListenerLine {
    local: SocketAddr,
    queue: u32,
    limit: u32,
    drops: u32,
    full: bool,
    shared_with: Vec<u32>,
}

impl From<&Listening> for ListenerLine {
    fn from(l: &Listening) -> Self {
        Self {
            local: l.local,
            queue: l.queue,
            limit: l.limit,
            drops: l.drops,
            full: l.is_full(),
            shared_with: l.shared_with.iter().map(|p| p.pid).collect(),
        }
    }
}

#[derive(Serialize)]
struct GroupLine<'a> {
    count: usize,
    wchan: Option<&'a str>,
    text: String,
    tids: &'a [u32],
}

impl<'a> ProcessLine<'a> {
    pub fn new(
        time: String,
        now: BootNs,
        r: &'a ProcessReport,
        stamp: &dyn Fn(BootNs) -> String,
    ) -> Self {
        let mut unknown = BTreeMap::new();
        let mut answer =
            |field, answer: Answer| answer.map_err(|why| unknown.insert(field, why)).ok();
        let (used, limit) =
            (answer("descriptors.used", r.used), answer("descriptors.limit", r.limit));
        let listen_overflows = answer("listen_overflows", r.overflows);
        let full = r.full.map(|estimate| estimate.left(now)).map_err(forecast::none);
        let full = full.map_err(|why| unknown.insert("descriptors.full_in_ms", why)).ok();
        let threads = r.threads.as_ref().map_err(|why| unknown.insert("threads", *why)).ok();
        let kept = r.kept.as_ref().map_err(|why| unknown.insert("blocked", *why)).ok();
        let kept_line = |kept: &'a Kept| KeptLine::new(stamp(kept.cause.at_ns), kept);
        let stacks = thread_lines(&r.stacks, &mut unknown);
        let HolderLine { pid, inner_pid, comm, cgroup, container, runtime, pod, .. } =
            HolderLine::from(&r.process);
        let Holder { process, ppid, .. } = &r.process;
        Self {
            event: "process",
            time,
            pid,
            inner_pid,
            comm,
            command: &r.command,
            ppid: *ppid,
            parent: r.parent.as_ref().map(|(_, comm)| &**comm),
            cgroup,
            container,
            runtime,
            pod,
            running_ms: (process.start_ns != 0).then(|| Ms(now.saturating_sub(process.start_ns))),
            descriptors: DescriptorsLine {
                used,
                limit,
                full_in_ms: full.map(|left| Ms(left.est)),
                full_in_min_ms: full.map(|left| Ms(left.min)),
                full_in_max_ms: full.map(|left| Ms(left.max)),
            },
            leaks: r.leaks,
            sockets: r.sockets.iter().map(CountLine::from).collect(),
            listeners: r.listeners.iter().map(ListenerLine::from).collect(),
            listen_overflows,
            threads_read: threads.map(|t| t.read),
            threads_in_all: threads.map(|t| t.of),
            blocked: kept.map(|all| all.iter().map(kept_line).collect()),
            stacks,
            threads: threads
                .map_or(&[][..], |t| &t.groups)
                .iter()
                .map(|g| GroupLine {
                    count: g.tids.len(),
                    wchan: g.wchan.as_deref(),
                    text: threads::text(g),
                    tids: &g.tids,
                })
                .collect(),
            unknown,
        }
    }
}

#[derive(Serialize)]
pub struct ExplanationLine {
    event: &'static str,
    time: String,
    verdict: &'static str,
    sockets: u64,
    cookie: Option<u64>,
    evidence: Vec<String>,
    means: &'static str,
    role: Option<&'static str>,
    look_for: Vec<&'static str>,
    in_code: Vec<CodeLine>,
    no_help: &'static [&'static str],
}

#[derive(Serialize)]
struct CodeLine {
    language: &'static str,
    role: Option<&'static str>,
    code: &'static str,
}

impl ExplanationLine {
    pub fn new(time: String, e: &Explanation) -> Self {
        let cure = cure(e.verdict);
        let code = |Snippet { language, role, code }: Snippet| CodeLine {
            language: language.name(),
            role: role.map(Role::name),
            code,
        };
        let (sockets, record) = match &e.about {
            About::Sockets(n) => (*n, None),
            About::Socket(record) => (1, Some(record)),
        };
        Self {
            event: "explanation",
            time,
            verdict: e.verdict.name(),
            sockets,
            cookie: record.map(|r| r.connection.cookie),
            evidence: record.map(|r| evidence(r, r.seen_ns)).unwrap_or_default(),
            means: cure.means,
            role: e.role.map(Role::name),
            look_for: cure.look_for(e.role).collect(),
            in_code: cure.in_code_for(e.language, e.role).into_iter().map(code).collect(),
            no_help: cure.no_help,
        }
    }
}

//! What happens, as log records: one for each event of the feed. Names of attributes are those of
//! the semantic conventions; what these have no name for begins with `tcptrace.`.

use std::{io, net::IpAddr, sync::Arc};

use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    logs::v1::{LogRecord, SeverityNumber},
};
use tcptrace_common::state::TcpState;

use super::{
    attributes::{body, flag, item, number, seconds, text, texts},
    queue::Queue,
};
use crate::{
    engine::{
        forecast::told::{Forecast, What},
        record::{Age, BootNs, Connection, Holder, Record},
        update::Update,
        workload::Workload,
    },
    formats::{container::Runtime, pods::PodNames},
    prose::{forecast::forecast, told},
    serve::feed::FeedView,
    view::{Clock, View},
};

/// Processes of a record that are named.
const HOLDERS: usize = 16;

/// Writes what a watch says into a feed, and puts it into the queue.
pub struct OtlpView {
    feed: FeedView,
    queue: Arc<Queue>,
}

impl OtlpView {
    /// Both.
    #[must_use]
    pub fn new(feed: FeedView, queue: Arc<Queue>) -> Self {
        Self { feed, queue }
    }
}

impl View for OtlpView {
    fn update(&mut self, time: BootNs, update: &Update) -> io::Result<()> {
        let pods = self.feed.pods();
        if let Some(record) = log_record(time, self.feed.clock(), update, &pods) {
            let mut out = Vec::new();
            item(&mut out, &record);
            self.queue.push(out);
        }
        self.feed.update(time, update)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.feed.flush()
    }

    fn clock(&mut self) -> &mut Clock {
        self.feed.clock()
    }
}

/// An update as a log record; `None`: nothing is said of it.
#[must_use]
pub fn log_record(
    time: BootNs,
    clock: &Clock,
    update: &Update,
    pods: &PodNames,
) -> Option<LogRecord> {
    let mut attributes = Vec::new();
    let (name, warns, sentence) = match update {
        Update::Stuck(record) => {
            socket(&mut attributes, record, pods);
            age(&mut attributes, ["tcptrace.age.min", "tcptrace.age.max"], &record.age(time));
            ("tcptrace.stuck", record.is_leak(), told::stuck(record, time))
        }
        Update::Resolved { record, stayed, closed_by, unknown } => {
            socket(&mut attributes, record, pods);
            age(&mut attributes, ["tcptrace.stayed.min", "tcptrace.stayed.max"], stayed);
            if let Some(by) = closed_by {
                attributes.push(number("tcptrace.closed_by.pid", by.pid));
                attributes.push(text("tcptrace.closed_by.comm", &by.comm));
            }
            let sentence = told::resolved(record, stayed, closed_by.as_ref(), *unknown);
            ("tcptrace.resolved", false, sentence)
        }
        Update::Forecast(f) => {
            foretold(&mut attributes, f, time, pods);
            ("tcptrace.forecast", true, forecast(f, time))
        }
        Update::TimeWaits(all) => {
            attributes.push(number("tcptrace.count", all.count));
            attributes.push(text("network.connection.state", "time_wait"));
            ("tcptrace.time_wait", false, told::time_wait(all))
        }
        Update::Lost(lost) => {
            let kinds = lost.named().into_iter();
            attributes.extend(kinds.map(|(kind, n)| number(&format!("tcptrace.lost.{kind}"), n)));
            ("tcptrace.lost", true, told::lost(lost))
        }
        _ => return None,
    };
    let (severity, severity_text) =
        if warns { (SeverityNumber::Warn, "WARN") } else { (SeverityNumber::Info, "INFO") };
    let at = clock.unix_ns(time);
    Some(LogRecord {
        time_unix_nano: at,
        observed_time_unix_nano: at,
        severity_number: severity.into(),
        severity_text: severity_text.to_owned(),
        event_name: name.to_owned(),
        body: body(&sentence),
        attributes,
        ..LogRecord::default()
    })
}

fn socket(out: &mut Vec<KeyValue>, r: &Record, pods: &PodNames) {
    connection(out, &r.connection);
    out.push(text("network.connection.state", state(r.state)));
    out.push(flag("tcptrace.leak", r.is_leak()));
    out.extend(r.verdict.map(|verdict| text("tcptrace.verdict", verdict.name())));
    if !r.also.is_empty() {
        out.push(texts("tcptrace.also", r.also.iter().map(|verdict| verdict.name())));
    }
    out.extend(r.role.map(|role| text("tcptrace.role", role.name())));
    out.extend(r.evidence.recv_q.map(|n| number("tcptrace.recv_q", n)));
    out.extend(r.evidence.send_q.map(|n| number("tcptrace.send_q", n)));
    out.push(text("tcptrace.workload", &Workload::of_record(r).name));
    out.push(text("tcptrace.holder_source", r.holder_source.name()));
    let called: Vec<String> = r.processes().take(HOLDERS).map(called).collect();
    out.push(texts("tcptrace.holders", called.iter().map(String::as_str)));
    out.push(number("tcptrace.holder_count", r.processes().count() as u64));
    // Who opened it is who is to close it.
    let opener = r.holders.iter().find(|holder| holder.opener == Some(true));
    if let Some(holder) = opener.or_else(|| r.holders.first()) {
        process(out, holder, pods);
        out.extend(holder.fd.map(|fd| number("tcptrace.fd", fd)));
    }
}

fn called(holder: &Holder) -> String {
    format!("{}[{}]", holder.called(), holder.process.pid)
}

fn connection(out: &mut Vec<KeyValue>, c: &Connection) {
    out.push(text("network.transport", "tcp"));
    out.push(text("network.type", if c.family() == 4 { "ipv4" } else { "ipv6" }));
    for (end, address, port) in [
        (c.local, "network.local.address", "network.local.port"),
        (c.remote, "network.peer.address", "network.peer.port"),
    ] {
        out.push(text(address, &end.ip().to_string()));
        out.push(number(port, end.port()));
    }
    if c.mptcp {
        out.push(flag("tcptrace.mptcp", true));
    }
    if c.cookie != 0 {
        out.push(number("tcptrace.cookie", c.cookie));
    }
    out.push(number("tcptrace.netns", c.netns));
}

fn process(out: &mut Vec<KeyValue>, holder: &Holder, pods: &PodNames) {
    out.push(number("process.pid", holder.process.pid));
    out.push(number("process.parent_pid", holder.ppid));
    out.push(text("process.title", holder.called()));
    out.push(text("tcptrace.comm", &holder.comm));
    out.extend(holder.inner_pid.map(|pid| number("process.vpid", pid)));
    let Some(cgroups) = &holder.cgroups else { return };
    out.extend(cgroups.path().map(|path| text("tcptrace.cgroup", path)));
    let Some(container) = cgroups.container() else { return };
    let named = matches!(container.runtime, Some(Runtime::Lxc | Runtime::Nspawn));
    out.push(text(if named { "container.name" } else { "container.id" }, &container.id));
    out.extend(container.runtime.map(|by| text("container.runtime.name", by.name())));
    let Some(uid) = container.pod.as_deref() else { return };
    out.push(text("k8s.pod.uid", uid));
    let Some(pod) = pods.get(uid) else { return };
    out.push(text("k8s.namespace.name", &pod.namespace));
    out.push(text("k8s.pod.name", &pod.name));
    let Some(owner) = &pod.owner else { return };
    match owner_key(&owner.kind) {
        Some(key) => out.push(text(key, &owner.name)),
        None => {
            out.push(text("tcptrace.owner.kind", &owner.kind));
            out.push(text("tcptrace.owner.name", &owner.name));
        }
    }
}

/// What the conventions call the name of one.
fn owner_key(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Deployment" => "k8s.deployment.name",
        "ReplicaSet" => "k8s.replicaset.name",
        "StatefulSet" => "k8s.statefulset.name",
        "DaemonSet" => "k8s.daemonset.name",
        "Job" => "k8s.job.name",
        "ReplicationController" => "k8s.replicationcontroller.name",
        _ => return None,
    })
}

fn age(out: &mut Vec<KeyValue>, [min, max]: [&str; 2], age: &Age) {
    out.push(seconds(min, age.min_ns));
    out.extend(age.max_ns.map(|ns| seconds(max, ns)));
}

fn foretold(out: &mut Vec<KeyValue>, f: &Forecast, now: BootNs, pods: &PodNames) {
    let peer = |out: &mut Vec<KeyValue>, ip: IpAddr, port: u16| {
        out.push(text("network.peer.address", &ip.to_string()));
        out.push(number("network.peer.port", port));
    };
    out.push(text("tcptrace.what", f.what.name()));
    out.push(number("tcptrace.used", f.estimate.used));
    out.push(number("tcptrace.limit", f.estimate.limit));
    out.push(number("tcptrace.per_hour", f.estimate.per_hour.est));
    let left = f.left(now);
    out.push(seconds("tcptrace.full_in.min", left.min));
    out.push(seconds("tcptrace.full_in.est", left.est));
    out.push(seconds("tcptrace.full_in.max", left.max));
    out.extend(f.what.place().map(|place| number("tcptrace.netns", place.netns)));
    match &f.what {
        What::Descriptors { process: holder, .. } => {
            process(out, holder, pods);
            out.push(text("tcptrace.workload", &Workload::of(holder).name));
        }
        What::Ports { source, to, .. } => {
            out.push(text("network.local.address", &source.to_string()));
            peer(out, to.ip(), to.port());
        }
        What::AcceptQueue { local, .. } => {
            out.push(text("network.local.address", &local.ip().to_string()));
            out.push(number("network.local.port", local.port()));
        }
        What::FileTable | What::Conntrack { .. } | What::Memory => {}
    }
}

/// As the conventions spell it, after RFC 9293.
const fn state(state: TcpState) -> &'static str {
    match state {
        TcpState::Established => "established",
        TcpState::SynSent => "syn_sent",
        TcpState::SynRecv | TcpState::NewSynRecv => "syn_received",
        TcpState::FinWait1 => "fin_wait_1",
        TcpState::FinWait2 => "fin_wait_2",
        TcpState::TimeWait => "time_wait",
        TcpState::Close | TcpState::BoundInactive => "closed",
        TcpState::CloseWait => "close_wait",
        TcpState::LastAck => "last_ack",
        TcpState::Listen => "listen",
        TcpState::Closing => "closing",
    }
}

#[cfg(test)]
mod tests;

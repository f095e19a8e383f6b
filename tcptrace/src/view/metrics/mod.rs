//! What a watch knows, as metrics. Their number is bounded: by the states, the verdicts and the
//! workloads that are told apart. No label is a pid, a port or an address.

pub mod around;
pub mod exposition;

use std::collections::{BTreeMap, HashMap, HashSet};

use tcptrace_common::{
    counters::{BUCKETS, Counters, below},
    state::TcpState,
};

use self::{
    around::Around,
    exposition::{Exemplar, Exposition, Metric, MetricKind, MetricSink, MetricWriter},
};
use super::Clock;
use crate::{
    engine::{
        accounts::{Accounts, CountedSockets, StateVerdict, WorkloadCounts},
        forecast::told::What,
        record::{BootNs, ProcessId},
        usage::InUse,
        verdict::Verdict,
        watch::Watch,
        workload::{OTHER, UNKNOWN, Workload},
    },
    formats::pods::KnownPods,
};

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, unit, help }
}

const fn info(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Info, unit: "", help }
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter, unit: "", help }
}

const BUILD: Metric = info("tcptrace_build", "The agent's version, and the kernel.");
const SOCKETS: Metric = gauge(
    "tcptrace_sockets",
    "",
    "Sockets that have been in a state for longer than --min-age, by workload and verdict.",
);
const LEAKS: Metric = gauge("tcptrace_leaks", "", "Of these, those with a verdict that is a leak.");
const STUCK: Metric = counter("tcptrace_stuck", "Sockets that got stuck in a state.");
const RESOLVED: Metric = counter("tcptrace_resolved", "Sockets that got stuck and left the state.");
const STATE: Metric = Metric {
    name: "tcptrace_state_seconds",
    kind: MetricKind::Histogram,
    unit: "seconds",
    help: "How long all stays in a state were that ended, the short ones too.",
};
const OLDEST: Metric = gauge(
    "tcptrace_oldest_seconds",
    "seconds",
    "Age of the oldest stuck socket, at least: of one that was there before, the least it can be.",
);
const FDS: Metric = gauge(
    "tcptrace_process_fds",
    "",
    "Descriptors in use, of the process with stuck sockets that has least room.",
);
const FD_LIMIT: Metric =
    gauge("tcptrace_process_fd_limit", "", "Descriptors that the same process may have.");
const FULL_IN: Metric = gauge(
    "tcptrace_full_in_seconds",
    "seconds",
    "Time until something is full at its present pace, if within a day: descriptors of a workload, \
     ports, accept-queue, file-table, conntrack, memory of the host.",
);
const QUEUE: Metric = gauge(
    "tcptrace_listen_queue",
    "",
    "Connections that wait to be accepted at a workload's fullest listener with stuck ones.",
);
const QUEUE_LIMIT: Metric =
    gauge("tcptrace_listen_limit", "", "How many may wait there (the backlog).");
const LOST: Metric = counter("tcptrace_events_lost", "What could not be seen or shown, by kind.");
const TRANSITIONS: Metric =
    counter("tcptrace_transitions", "Changes of state, by what became of them.");
const WORKLOAD: Metric =
    info("tcptrace_workload", "What a workload is, of those that are told apart.");
const SHARING: Metric = gauge(
    "tcptrace_workloads_other",
    "",
    "Workloads with stuck sockets that are counted as other.",
);
const MERGED: Metric = counter(
    "tcptrace_workloads_merged",
    "Workloads that were told apart and are counted as other since.",
);
/// Buckets that are told, of those that are kept: each four times as long as the one before.
const STEP: usize = 2;

/// All of it as text, as of `now`.
#[must_use]
pub fn metrics(
    watch: &Watch,
    accounts: &Accounts,
    clock: &Clock,
    now: BootNs,
    around: &Around,
    format: Exposition,
) -> String {
    let mut out = MetricWriter::new(format);
    write(watch, accounts, clock, now, around, &mut out);
    out.finish()
}

/// All of it, as of `now`, in whatever format.
pub fn write(
    watch: &Watch,
    accounts: &Accounts,
    clock: &Clock,
    now: BootNs,
    around: &Around,
    out: &mut dyn MetricSink,
) {
    out.metric(BUILD);
    let version = env!("CARGO_PKG_VERSION");
    out.sample(&[("version", version), ("kernel", &around.kernel)], 1.0);
    let open = Open::of(watch, accounts, now);
    open.write(out);
    counted(out, STUCK, accounts, clock, |counts| &counts.stuck);
    counted(out, RESOLVED, accounts, clock, |counts| &counts.resolved);
    lengths(out, watch);
    full_in(out, watch, accounts, now);
    totals(out, watch);
    workloads(out, accounts, around.pods.as_ref());
    around.write(out);
}

/// What is open, by labels.
#[derive(Default)]
struct Open<'a> {
    sockets: BTreeMap<(&'static str, &'a str, &'static str), u64>,
    leaks: BTreeMap<&'a str, u64>,
    oldest: BTreeMap<(&'static str, &'a str), u64>,
    descriptors: BTreeMap<&'a str, InUse>,
    queues: BTreeMap<&'a str, InUse>,
}

impl<'a> Open<'a> {
    fn of(watch: &Watch, accounts: &'a Accounts, now: BootNs) -> Self {
        let mut open = Self::default();
        // A process may hold a hundred thousand: it is named and asked once.
        let (mut names, mut asked) = (HashMap::new(), HashSet::new());
        for record in watch.rows() {
            let shown = match record.holders.first() {
                Some(holder) => *names
                    .entry(holder.process)
                    .or_insert_with(|| accounts.shown(&Workload::of(holder))),
                None => accounts.shown(&Workload::of_record(record)),
            };
            let state = record.state.name();
            *open.sockets.entry((state, shown, verdict(record.verdict))).or_default() += 1;
            if record.is_leak() {
                *open.leaks.entry(shown).or_default() += 1;
            }
            let oldest = open.oldest.entry((state, shown)).or_default();
            *oldest = record.age(now).min_ns.max(*oldest);
            if let Some(listener) = &record.listener {
                let queue = InUse { used: listener.queue.into(), limit: listener.limit.into() };
                least_room(&mut open.queues, shown, queue);
            }
            for holder in record.processes() {
                if asked.insert(holder.process)
                    && let Some(in_use) = descriptors(watch, holder.process)
                {
                    least_room(&mut open.descriptors, shown, in_use);
                }
            }
        }
        if let Some(n) = watch.in_time_wait() {
            let of_nobody = (TcpState::TimeWait.name(), UNKNOWN, Verdict::ClosedFirst.name());
            open.sockets.insert(of_nobody, n);
        }
        open
    }

    fn write(&self, out: &mut dyn MetricSink) {
        out.metric(SOCKETS);
        for ((state, workload, verdict), n) in &self.sockets {
            let labels = [("state", *state), ("workload", workload), ("verdict", verdict)];
            out.count(&labels, *n, None);
        }
        out.metric(LEAKS);
        for (workload, n) in &self.leaks {
            out.count(&[("workload", workload)], *n, None);
        }
        out.metric(OLDEST);
        for ((state, workload), age_ns) in &self.oldest {
            out.sample(&[("state", state), ("workload", workload)], seconds(*age_ns));
        }
        for (metrics, by_workload) in
            [([FDS, FD_LIMIT], &self.descriptors), ([QUEUE, QUEUE_LIMIT], &self.queues)]
        {
            let [used, limit] = metrics;
            out.metric(used);
            by_workload.iter().for_each(|(of, n)| out.count(&[("workload", of)], n.used, None));
            out.metric(limit);
            by_workload.iter().for_each(|(of, n)| out.count(&[("workload", of)], n.limit, None));
        }
    }
}

/// As counted last, or else as they were when the process was first told of.
fn descriptors(watch: &Watch, id: ProcessId) -> Option<InUse> {
    let told = || {
        let process = watch.process(id)?;
        InUse::of(process.descriptors, process.descriptor_limit)
    };
    watch.descriptors_in_use(id).or_else(told)
}

/// Of several, the one that has most of its limit in use.
fn least_room<'a>(of: &mut BTreeMap<&'a str, InUse>, shown: &'a str, now: InUse) {
    let fuller = |a: InUse, b: InUse| {
        u128::from(a.used) * u128::from(b.limit) > u128::from(b.used) * u128::from(a.limit)
    };
    let known = of.entry(shown).or_insert(now);
    if fuller(now, *known) {
        *known = now;
    }
}

fn counted(
    out: &mut dyn MetricSink,
    metric: Metric,
    accounts: &Accounts,
    clock: &Clock,
    of: fn(&WorkloadCounts) -> &BTreeMap<StateVerdict, CountedSockets>,
) {
    out.metric(metric);
    let told = accounts.told_apart().into_iter();
    let told = told.map(|(workload, counts)| (&*workload.name, counts));
    // A command may be called as a container or a unit is: one series is both then.
    let mut counted: BTreeMap<(&str, StateVerdict), CountedSockets> = BTreeMap::new();
    for (workload, counts) in told.chain([(OTHER, accounts.other())]) {
        for (kind, counter) in of(counts) {
            counted.entry((workload, *kind)).or_default().merge(*counter);
        }
    }
    for ((workload, (state, why)), counter) in counted {
        let labels = [("state", state.name()), ("workload", workload), ("verdict", verdict(why))];
        let at = clock.unix_s(counter.last_ns);
        let exemplar = Exemplar { cookie: counter.last_cookie, at };
        out.count(&labels, counter.count, Some(exemplar).filter(|_| counter.count > 0));
    }
}

fn lengths(out: &mut dyn MetricSink, watch: &Watch) {
    out.metric(STATE);
    let Some(histogram) = watch.histogram() else { return };
    for state in TcpState::ALL {
        let Some(row) = histogram.stays.get(state as usize) else { continue };
        let count = row.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
        if count == 0 {
            continue;
        }
        let chunks = row.chunks(STEP).zip((0..BUCKETS).skip(STEP - 1).step_by(STEP));
        let buckets: Vec<(f64, u64)> = chunks
            .filter_map(|(chunk, last)| {
                let n = chunk.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
                Some((seconds(below(last)?), n))
            })
            .collect();
        out.histogram(&[("state", state.name())], &buckets, count);
    }
}

fn full_in(out: &mut dyn MetricSink, watch: &Watch, accounts: &Accounts, now: BootNs) {
    out.metric(FULL_IN);
    // The first of a kind is the one that matters.
    let mut told: BTreeMap<(&'static str, &str), u64> = BTreeMap::new();
    for forecast in watch.forecasts(now) {
        let workload = match &forecast.what {
            What::Descriptors { process, .. } => accounts.shown(&Workload::of(process)),
            _ => "",
        };
        let left = forecast.left(now).est;
        told.entry((forecast.what.name(), workload)).or_insert(left);
    }
    for ((what, workload), left) in &told {
        let labels = [("what", *what), ("workload", workload)];
        let n = if workload.is_empty() { 1 } else { 2 };
        out.sample(&labels[..n], seconds(*left));
    }
}

fn totals(out: &mut dyn MetricSink, watch: &Watch) {
    out.metric(LOST);
    for (kind, n) in watch.losses().named() {
        out.count(&[("kind", kind)], n, None);
    }
    out.metric(TRANSITIONS);
    let Counters { seen, filtered, emitted, .. } = watch.counters();
    for (outcome, n) in [("seen", *seen), ("filtered", *filtered), ("emitted", *emitted)] {
        out.count(&[("outcome", outcome)], n, None);
    }
}

fn workloads(out: &mut dyn MetricSink, accounts: &Accounts, pods: Option<&KnownPods>) {
    out.metric(WORKLOAD);
    for (workload, _) in accounts.told_apart() {
        let uid = workload.pod.as_deref();
        let pod = uid.and_then(|uid| pods?.names.get(uid));
        let owner = pod.and_then(|pod| pod.owner.as_ref());
        let labels = [
            ("workload", &*workload.name),
            ("kind", workload.kind.name()),
            ("pod_uid", uid.unwrap_or("")),
            ("namespace", pod.map_or("", |pod| &pod.namespace)),
            ("pod", pod.map_or("", |pod| &pod.name)),
            ("runtime", workload.runtime.unwrap_or("")),
            ("owner_kind", owner.map_or("", |owner| &owner.kind)),
            ("owner_name", owner.map_or("", |owner| &owner.name)),
        ];
        out.sample(&labels, 1.0);
    }
    out.metric(SHARING);
    out.count(&[], accounts.sharing(), None);
    out.metric(MERGED);
    out.count(&[], accounts.merged(), None);
}

/// A label can't be null.
fn verdict(verdict: Option<Verdict>) -> &'static str {
    verdict.map_or(UNKNOWN, Verdict::name)
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53 µs, 285 years")]
fn seconds(ns: u64) -> f64 {
    (ns / 1_000) as f64 / 1_000_000.0
}

#[cfg(test)]
mod tests;

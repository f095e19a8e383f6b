//! A finding's headline, and its evidence.

use std::collections::BTreeMap;

use tcptrace_common::state::TcpState;

use super::{all_named, named};
use crate::{
    engine::{
        counted::counted,
        doctor::{
            NamedProcess,
            findings::{Ailment, Diagnosis, FullQueue, PortsUsed, SynQueue},
            percent,
        },
    },
    prose::{forecast::span, time::human},
};

/// What was found, in a line. It may hold what others chose.
#[must_use]
pub fn headline(d: &Diagnosis, apart_ns: u64) -> String {
    let within = human(apart_ns);
    let (value, limit) = (d.value, d.limit.unwrap_or(0));
    match &d.ailment {
        Ailment::Leaks(leaks) => format!(
            "{} holds {} that the peers have ended",
            named(&leaks.process),
            counted(value, "connection", "connections")
        ),
        Ailment::Descriptors(near) => {
            format!("{} uses {value} of its {limit} descriptors", named(&near.process))
        }
        Ailment::FileTable => format!("the host uses {value} of {limit} open files"),
        Ailment::Ports(ports) => format!(
            "{value} of {limit} ephemeral ports from {} to {} are taken",
            ports.source, ports.destination
        ),
        Ailment::TimeWait { without: 0 } => {
            format!("{value} of {limit} places for TIME_WAIT are taken")
        }
        Ailment::TimeWait { without } => {
            let gone = counted(*without, "connection found", "connections found");
            format!("{gone} no place for TIME_WAIT in {within}")
        }
        Ailment::AcceptQueue(queue) => accept_queue(queue, value, limit, &within),
        Ailment::SynQueue(syn) => {
            let times = counted(value, "connection request", "connection requests");
            let local = syn.local.map_or_else(String::new, |local| format!(", most at {local}"));
            format!("{times} found a full SYN queue in {within}{local}")
        }
        Ailment::Orphans => format!("{value} connections belong to no process, of {limit} allowed"),
        Ailment::Memory { .. } => {
            format!("TCP's buffers take {value} pages of memory, of {limit} at most")
        }
        Ailment::AbortedForMemory => format!(
            "{} reset in {within} for want of memory, or of room for orphans",
            counted(value, "connection was", "connections were")
        ),
        Ailment::Conntrack { dropped: Some(n) } => format!(
            "connection tracking dropped {} in {within}: {value} of {limit} entries are taken",
            counted(*n, "packet", "packets")
        ),
        Ailment::Conntrack { dropped: None } => {
            format!("connection tracking uses {value} of {limit} entries")
        }
        Ailment::Loss { sent, .. } => format!(
            "{value} of {sent} segments sent in {within} were sent again ({}%)",
            percent(value, *sent)
        ),
        Ailment::Recycle => "net.ipv4.tcp_tw_recycle is on".to_owned(),
    }
}

fn accept_queue(queue: &FullQueue, value: u64, limit: u64, within: &str) -> String {
    let local = queue.local;
    // One more than the limit waits in a full one.
    if value > limit {
        return format!("the accept queue of {local} is full: {value} wait, the limit is {limit}");
    }
    if queue.dropped > 0 {
        let dropped = counted(queue.dropped, "connection", "connections");
        return format!("the accept queue of {local} was full: {dropped} dropped in {within}");
    }
    let given_up = counted(queue.given_up, "connection", "connections");
    format!("nobody accepts at {local}: {given_up} in its queue were given up by the peers")
}

/// What it rests on, a line each. It may hold what others chose.
#[must_use]
pub fn evidence(d: &Diagnosis, apart_ns: u64) -> Vec<String> {
    let within = human(apart_ns);
    match &d.ailment {
        Ailment::Leaks(leaks) => {
            let verdicts: Vec<String> =
                leaks.verdicts.iter().map(|(v, n)| format!("{n} {}", v.name())).collect();
            let mut lines = Vec::from_iter(
                (!verdicts.is_empty()).then(|| format!("by verdict: {}", verdicts.join(", "))),
            );
            if leaks.oldest_ns > 0 {
                lines.push(format!("the oldest for {} at least", human(leaks.oldest_ns)));
            }
            if let Some(limit) = d.limit {
                let share = percent(d.value, limit);
                lines.push(format!("{share}% of the {limit} descriptors that it may have"));
            }
            if let Some(left) = leaks.full_in_ns {
                lines.push(format!("no descriptor is left in {}, at this pace", span(left)));
            }
            lines
        }
        Ailment::Descriptors(near) => {
            let sockets = of_states(&near.sockets);
            let hard = near.hard;
            vec![
                format!("TCP sockets among them: {sockets}"),
                format!(
                    "its own limit as it runs (/proc/{}/limits); hard: {hard}",
                    near.process.pid
                ),
            ]
        }
        Ailment::FileTable => vec!["fs.file-nr and fs.file-max".to_owned()],
        Ailment::Ports(ports) => of_ports(ports),
        Ailment::TimeWait { without } => {
            let limit = d.limit.map_or_else(|| "an unknown limit".to_owned(), |n| n.to_string());
            vec![
                format!("{} of {limit} (net.ipv4.tcp_max_tw_buckets)", d.value),
                format!("TCPTimeWaitOverflow rose by {without} in {within}"),
            ]
        }
        Ailment::AcceptQueue(queue) => of_accept_queue(queue, d.limit.unwrap_or(0), &within),
        Ailment::SynQueue(syn) => of_syn_queue(syn, d.value, &within),
        Ailment::Orphans => vec!["/proc/net/sockstat, of all network namespaces".to_owned()],
        Ailment::Memory { pressure } => vec![
            format!("above {pressure} TCP saves memory (net.ipv4.tcp_mem)"),
            "/proc/net/sockstat, of all network namespaces".to_owned(),
        ],
        Ailment::AbortedForMemory => {
            vec![format!("TCPAbortOnMemory rose by {} in {within}", d.value)]
        }
        Ailment::Conntrack { .. } => vec![
            "net.netfilter.nf_conntrack_count and nf_conntrack_max".to_owned(),
            "drop in /proc/net/stat/nf_conntrack".to_owned(),
        ],
        Ailment::Loss { timeouts, .. } => vec![
            format!("RetransSegs rose by {} in {within}", d.value),
            format!("TCPTimeouts rose by {timeouts}"),
        ],
        Ailment::Recycle => vec!["/proc/sys/net/ipv4/tcp_tw_recycle".to_owned()],
    }
}

/// `340 (300 CLOSE_WAIT, 40 ESTABLISHED)`.
fn of_states(sockets: &BTreeMap<TcpState, u64>) -> String {
    let mut states: Vec<(TcpState, u64)> = sockets.iter().map(|(s, n)| (*s, *n)).collect();
    states.sort_by_key(|(state, n)| (std::cmp::Reverse(*n), *state));
    let all = states.iter().fold(0, |all: u64, (_, n)| all.saturating_add(*n));
    if all == 0 {
        return "none".to_owned();
    }
    let states: Vec<String> = states.iter().map(|(s, n)| format!("{n} {}", s.name())).collect();
    format!("{all} ({})", states.join(", "))
}

fn of_ports(ports: &PortsUsed) -> Vec<String> {
    let (low, high) = ports.range;
    let who = if ports.processes.is_empty() {
        "no process has a connection there now: TIME_WAIT has no owner".to_owned()
    } else {
        format!("who has connections there: {}", all_named(&ports.processes))
    };
    vec![
        format!(
            "{}, {} in TIME_WAIT",
            counted(ports.open, "open connection", "open connections"),
            ports.time_wait
        ),
        format!(
            "net.ipv4.ip_local_port_range is {low} to {high}; reserved ports and listeners' are \
             taken off"
        ),
        who,
    ]
}

fn of_accept_queue(queue: &FullQueue, limit: u64, within: &str) -> Vec<String> {
    let first = queue.queue.0.map_or_else(String::new, |n| format!("{n} at the first look, "));
    let mut lines = vec![format!(
        "waiting: {first}{} at the second; limit {limit}, and the kernel lets one more in",
        queue.queue.1
    )];
    if queue.dropped > 0 {
        lines.push(format!(
            "dropped in {within}: {} (of this listener; ListenOverflows rose, too)",
            queue.dropped
        ));
    }
    if queue.given_up > 0 {
        lines.push(format!(
            "given up by their peers, and still waiting: {} (first come, first accepted: nobody \
             was accepted for as long)",
            queue.given_up
        ));
    }
    if queue.at_somaxconn {
        lines.push(format!(
            "the limit is net.core.somaxconn's ({limit}): the program may have asked for more"
        ));
    }
    lines.push(held_by(&queue.processes));
    lines
}

fn held_by(processes: &[NamedProcess]) -> String {
    if processes.is_empty() {
        "who holds the listener could not be seen".to_owned()
    } else {
        format!("the listener is held by {}", all_named(processes))
    }
}

fn of_syn_queue(syn: &SynQueue, rose: u64, within: &str) -> Vec<String> {
    let full = format!("TCPReqQFullDoCookies and TCPReqQFullDrop rose by {rose} in {within}");
    let mut lines = vec![full];
    if let Some(local) = syn.local {
        lines.push(format!(
            "half-open connections now: {} at {local}, whose limit is its backlog, {}",
            syn.half_open, syn.backlog
        ));
        lines.push(held_by(&syn.processes));
    }
    if syn.cookies > 0 {
        let (cookies, answered) = (syn.cookies, syn.answered);
        lines.push(format!("SYN cookies sent in {within}: {cookies}, answered: {answered}"));
    }
    if syn.dropped > 0 {
        lines.push(format!("SYNs dropped in {within}: {} (TCPReqQFullDrop)", syn.dropped));
    }
    lines
}

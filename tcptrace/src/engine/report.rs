//! What is said of one process, or of one socket, when somebody asks for all of it.

use std::{collections::BTreeMap, net::SocketAddr, rc::Rc};

use tcptrace_common::state::TcpState;

use super::{
    cure::Language,
    event::{Age, BootNs, Holder, HolderSource, ProcessId, Record},
    threads,
    verdict::Verdict,
};

/// A number, or why it is not known.
pub type Answer = Result<u64, &'static str>;

/// What is known of a process.
#[derive(Clone, Debug)]
pub struct ProcessReport {
    /// The process; its descriptor number means nothing here.
    pub process: Holder,
    /// Its command line; empty where it hides it, or is gone. May hold anything.
    pub command: Vec<String>,
    /// Its parent's pid and command name.
    pub parent: Option<(u32, Rc<str>)>,
    /// Descriptors in use.
    pub used: Answer,
    /// Descriptors it may have (soft RLIMIT_NOFILE).
    pub limit: Answer,
    /// Its sockets, and those that wait in the queues of its listeners.
    pub sockets: Vec<Count>,
    /// Of those: leaks.
    pub leaks: u64,
    /// When, at the pace of the leaks so far, it has no descriptor left, ns from now.
    pub full_in_ns: Option<u64>,
    /// Its listeners.
    pub listeners: Vec<Listening>,
    /// Connections dropped on full queues in its network namespace, by all listeners
    /// (`TcpExtListenOverflows`).
    pub overflows: Answer,
    /// What its threads wait in, the largest group first.
    pub threads: Result<Vec<threads::Group>, &'static str>,
}

/// A listener of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Where.
    pub local: SocketAddr,
    /// Connections waiting.
    pub queue: u32,
    /// How many may, but for one more.
    pub limit: u32,
    /// Connections that it dropped.
    pub drops: u32,
    /// Other processes that hold it too.
    pub shared_with: Vec<ProcessId>,
}

impl Listening {
    /// Whether it drops what comes now (`sk_acceptq_is_full`, include/net/sock.h).
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.queue > self.limit
    }
}

/// Sockets of one state and verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// State.
    pub state: TcpState,
    /// Verdict.
    pub verdict: Option<Verdict>,
    /// How many.
    pub count: u64,
    /// The age of the oldest; for states whose beginning nothing tells, unknown.
    pub oldest: Age,
}

/// Counts sockets by state and verdict, leaks first, then the most.
#[must_use]
pub fn count(records: &[Record], now: BootNs) -> Vec<Count> {
    let mut counts: BTreeMap<(u8, Option<Verdict>), Count> = BTreeMap::new();
    for r in records {
        let age = r.age(now);
        let count = counts.entry((r.state as u8, r.verdict)).or_insert(Count {
            state: r.state,
            verdict: r.verdict,
            count: 0,
            oldest: age,
        });
        count.count += 1;
        count.oldest = count.oldest.older(age);
    }
    let mut list: Vec<Count> = counts.into_values().collect();
    list.sort_by_key(|c| (c.verdict.is_none(), std::cmp::Reverse(c.count)));
    list
}

/// Fewer leaks show no pace.
const PACE_OF: usize = 10;

/// How long until `free` descriptors are gone, if leaks go on coming as they came since the oldest
/// of them. Ages are those that are certain.
#[must_use]
pub fn full_in(leak_ages_ns: &[u64], free: u64) -> Option<u64> {
    let oldest = leak_ages_ns.iter().max().filter(|_| leak_ages_ns.len() >= PACE_OF)?;
    let each = oldest / leak_ages_ns.len() as u64;
    each.checked_mul(free).filter(|_| each > 0)
}

/// Why sockets are where they are, and what to do.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The verdict.
    pub verdict: Verdict,
    /// How many of the process's sockets it is about; of one socket: that one.
    pub about: About,
    /// What the program is written in, as far as its name tells.
    pub language: Option<Language>,
}

/// What an explanation is about.
#[derive(Clone, Debug)]
pub enum About {
    /// So many sockets of a process.
    Sockets(u64),
    /// One socket.
    Socket(Rc<Record>),
}

/// A record's evidence in words, each piece with what it shows. `ago` writes lengths of time.
#[must_use]
pub fn evidence(r: &Record, ago: fn(u64) -> String) -> Vec<String> {
    let e = &r.evidence;
    let mut words = Vec::new();
    if r.state == TcpState::Close {
        words.push(
            "the state is CLOSE: a reset came, or both sides had shut down; ss and netstat do not \
             list it"
                .to_owned(),
        );
    }
    match (e.accepted, &r.listener) {
        (Some(false), Some(l)) => words.push(format!(
            "it has no struct socket: nobody accepted it; it waits in the queue of {}, with {} \
             others ({} may wait)",
            l.local,
            l.queue.saturating_sub(1),
            // The kernel lets one more in than the limit says.
            l.limit.saturating_add(1)
        )),
        (Some(false), None) => words
            .push("it has no struct socket and no listener: no program can reach it".to_owned()),
        _ => {}
    }
    // The FIN is counted only while it is there: after it came and before it is read.
    let fin =
        if r.state == TcpState::CloseWait { ", the end of the stream counted as one" } else { "" };
    match e.recv_q {
        Some(0) if r.state == TcpState::CloseWait => words.push(
            "Recv-Q is 0: everything was read, the end of the stream too (the last recv() may \
             have returned data, and the program not have asked again)"
                .to_owned(),
        ),
        Some(1) if r.state == TcpState::CloseWait => {
            words.push("Recv-Q is 1: all data was read, the end of the stream was not".to_owned());
        }
        Some(n) if n > 0 => words.push(format!("Recv-Q is {n}: so many bytes were not read{fin}")),
        _ => {}
    }
    match e.send_q {
        Some(n) if n > 0 => {
            words.push(format!("Send-Q is {n}: so many bytes the peer has not taken yet"))
        }
        _ => {}
    }
    match e.bytes_sent_since_fin {
        Some(0) => words.push("nothing was sent since the peer's FIN".to_owned()),
        Some(n) => words.push(format!("{n} bytes were sent since the peer's FIN")),
        None => {}
    }
    // Both stamps begin with the connection.
    let times = [("came", e.received_ago_ns), ("was sent", e.sent_ago_ns)];
    for (what, ns) in times {
        if let Some(ns) = ns {
            words.push(format!(
                "the last data {what} {} ago; if none ever did, the connection is that old",
                ago(ns)
            ));
        }
    }
    if let Some(ns) = e.acked_ago_ns {
        let by = if e.keepalive == Some(true) {
            ", which may have been an answer to keepalive"
        } else {
            ""
        };
        words.push(format!("the last acknowledgement came {} ago{by}", ago(ns)));
    }
    match e.keepalive {
        Some(true) if r.state == TcpState::CloseWait => words.push(
            "keepalive is on: while the peer answers, nothing changes; once it is gone, a reset \
             makes this a ghost-fd"
                .to_owned(),
        ),
        Some(false) if r.state == TcpState::CloseWait => {
            words.push("keepalive is off: nothing but the program ends this".to_owned());
        }
        _ => {}
    }
    words
}

/// Who holds a record's socket, a line each.
#[must_use]
pub fn holders(r: &Record) -> Vec<String> {
    if r.holder_source == HolderSource::OutsideFdTables || r.holders.is_empty() {
        let why = r.unknown.get("holders").unwrap_or("nobody");
        return vec![why.to_owned()];
    }
    let waits = r.holder_source == HolderSource::Listener;
    let line = |h: &Holder, former: bool| {
        let thread =
            h.tid.map(|tid| format!(", in the table of thread {tid} alone")).unwrap_or_default();
        let fd = if waits {
            "holds its listener".to_owned()
        } else {
            format!("descriptor {}{thread}", h.fd)
        };
        let how = match h.opener {
            _ if former => " (let go of it)",
            Some(true) => " (had it first)",
            Some(false) => " (inherited it)",
            None => "",
        };
        format!("{}: {fd}{how}", name(h))
    };
    let now = r.holders.iter().map(|h| line(h, false));
    now.chain(r.former_holders.iter().map(|h| line(h, true))).collect()
}

/// `java[4711]`, in a container with the pid inside.
#[must_use]
pub fn name(h: &Holder) -> String {
    let container = h.cgroups.as_ref().and_then(|c| c.container());
    let inner = h.inner_pid.map(|pid| format!(", pid {pid} inside")).unwrap_or_default();
    match container {
        None => format!(
            "{}[{}]{}",
            h.comm,
            h.process.pid,
            h.inner_pid.map(|p| format!(" (pid {p} inside)")).unwrap_or_default()
        ),
        Some(c) => {
            let runtime = c.runtime.map_or("container", |r| r.name());
            format!(
                "{}[{}] ({runtime} {}{inner})",
                h.comm,
                h.process.pid,
                c.id.get(..12).unwrap_or(&c.id)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_pace_of_leaks() {
        let second = 1_000_000_000;
        let ages: Vec<u64> = (1..=10).map(|n| n * second).collect();
        assert_eq!(full_in(&ages, 100), Some(100 * second), "one a second");
        assert_eq!(full_in(&ages[..9], 100), None, "too few");
        assert_eq!(full_in(&[0; 20], 100), None, "all at once, just now");
        assert_eq!(full_in(&ages, u64::MAX), None, "no limit");
    }

    proptest! {
        #[test]
        fn no_pace_overflows(ages in proptest::collection::vec(any::<u64>(), 0..30), free: u64) {
            let _ = full_in(&ages, free);
        }
    }
}

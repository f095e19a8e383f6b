//! Records in words: the evidence, and who holds the socket.

mod states;

use tcptrace_common::state::TcpState;

use super::{reasons, time::human};
use crate::engine::{
    counted::counted,
    normal::Normal,
    record::{BootNs, Holder, HolderSource, Record},
};

/// A record's evidence in words at `now`, each piece with what it shows. It is as of the record's
/// scan; times go on since.
#[must_use]
pub fn evidence(r: &Record, now: BootNs) -> Vec<String> {
    let since = now.saturating_sub(r.seen_ns);
    let human = |ns: u64| human(ns.saturating_add(since));
    let e = &r.evidence;
    let mut words = Vec::new();
    words.extend(states::beginning(r));
    if r.state == TcpState::Close {
        words.push(
            "the state is CLOSE: the connection was reset, or both sides shut it down; ss and \
             netstat don't list it"
                .to_owned(),
        );
    }
    match (e.accepted, &r.listener) {
        (Some(false), Some(l)) if !states::is_request(r) => words.push(format!(
            "nobody has accepted it: it is waiting in the queue of {}, with {} ({} may wait)",
            l.local,
            counted(l.queue.saturating_sub(1).into(), "other", "others"),
            // The kernel lets one more in than the limit says.
            l.limit.saturating_add(1)
        )),
        (Some(false), None) if !states::is_request(r) => words.push(
            "it has no descriptor and waits for no listener: no program can reach it".to_owned(),
        ),
        _ => {}
    }
    // The FIN is counted only while it is there: after it came and before it is read.
    let fin =
        if r.state == TcpState::CloseWait { " (the end of the stream counts as one)" } else { "" };
    match e.recv_q {
        Some(0) if r.state == TcpState::CloseWait => words.push(
            "Recv-Q is 0: the process has read everything, the end of the stream included, though \
             perhaps no recv() has returned 0 yet"
                .to_owned(),
        ),
        Some(1) if r.state == TcpState::CloseWait => words.push(
            "Recv-Q is 1: the process has read all data, but not the end of the stream".to_owned(),
        ),
        Some(n) if n > 0 => {
            let bytes = counted(n.into(), "byte is", "bytes are");
            words.push(format!("Recv-Q is {n}: {bytes} unread{fin}"));
        }
        _ => {}
    }
    words.extend(states::tries(r));
    if let Some(n) = e.send_q.filter(|n| *n > 0) {
        let bytes = counted(n.into(), "byte", "bytes");
        words.push(format!("Send-Q is {n}: the peer hasn't acknowledged {bytes} yet"));
    }
    match e.bytes_sent_since_fin {
        Some(0) => words.push("nothing has been sent since the peer's FIN".to_owned()),
        Some(n) => {
            let bytes = counted(n, "byte has", "bytes have");
            words.push(format!("{bytes} been sent since the peer's FIN"));
        }
        None => {}
    }
    // Both stamps begin with the connection.
    let times = [("arrived", e.received_ago_ns), ("was sent", e.sent_ago_ns)];
    for (what, ns) in times {
        if let Some(ns) = ns {
            words.push(format!(
                "the last data {what} {} ago, or if there never was any, the connection is that old",
                human(ns)
            ));
        }
    }
    if let Some(ns) = e.acked_ago_ns {
        let by = if e.keepalive == Some(true) { ", perhaps in answer to keepalive" } else { "" };
        words.push(format!("the last acknowledgement arrived {} ago{by}", human(ns)));
    }
    words.extend(r.normal.as_ref().map(|normal| format!("{}: {}", age(r, now), usual(normal))));
    match e.keepalive {
        Some(false) if r.state == TcpState::Established => words.push(
            "keepalive is off: while nothing is sent, nothing would show that the peer is gone"
                .to_owned(),
        ),
        Some(true) if r.state == TcpState::CloseWait => words.push(
            "keepalive is on: while the peer answers, nothing changes; once it doesn't, this \
             becomes a ghost-fd"
                .to_owned(),
        ),
        Some(false) if r.state == TcpState::CloseWait => {
            words.push("keepalive is off: only the program can end this".to_owned());
        }
        _ => {}
    }
    words
}

fn age(r: &Record, now: BootNs) -> String {
    format!("it has been in {} for {}", r.state.name(), human(r.age(now).min_ns))
}

/// `normally below 4ms (99.9% of 1203448 on its port)`.
#[must_use]
pub fn usual(n: &Normal) -> String {
    let place = if n.server { "on its port" } else { "to its peer" };
    format!("normally below {} (99.9% of {} {place})", human(n.below_ns), n.ended)
}

/// Who holds a record's socket, a line each.
#[must_use]
pub fn holders(r: &Record) -> Vec<String> {
    if r.holder_source == HolderSource::OutsideFdTables || r.holders.is_empty() {
        let why = r.unknown.get("holders").map_or("nobody", reasons::words);
        return vec![why.to_owned()];
    }
    let waits = r.holder_source == HolderSource::Listener;
    let line = |h: &Holder, former: bool| {
        let thread =
            h.tid.map(|tid| format!(", only in the table of thread {tid}")).unwrap_or_default();
        let fd = match h.fd {
            _ if waits => "holds its listener".to_owned(),
            Some(fd) => format!("descriptor {fd}{thread}"),
            None => "a descriptor, before any scan".to_owned(),
        };
        let how = match h.opener {
            _ if former => " (no longer has it)",
            Some(true) => " (had it first)",
            Some(false) => " (inherited it)",
            None => "",
        };
        format!("{}: {fd}{how}", name(h))
    };
    let now = r.holders.iter().map(|h| line(h, false));
    now.chain(r.former_holders.iter().map(|h| line(h, true))).collect()
}

/// `java shop.jar[4711]`, in a container with the pid inside.
#[must_use]
pub fn name(h: &Holder) -> String {
    let container = h.cgroups.as_ref().and_then(|c| c.container());
    let inner = h.inner_pid.map(|pid| format!(", pid {pid} inside")).unwrap_or_default();
    match container {
        None => format!(
            "{}[{}]{}",
            h.called(),
            h.process.pid,
            h.inner_pid.map(|p| format!(" (pid {p} inside)")).unwrap_or_default()
        ),
        Some(c) => {
            let runtime = c.runtime.map_or("container", |r| r.name());
            format!(
                "{}[{}] ({runtime} {}{inner})",
                h.called(),
                h.process.pid,
                c.id.get(..12).unwrap_or(&c.id)
            )
        }
    }
}

/// A size: `17 bytes`, `1.5 MiB`.
#[must_use]
pub fn bytes(size: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| size >> shift > 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", size as f64 / (1_u64 << shift) as f64),
        None => format!("{size} bytes"),
    }
}

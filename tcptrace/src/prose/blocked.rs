//! What processes wait for, and what becomes of their connections meanwhile, in words.

use std::net::SocketAddr;

use tcptrace_common::state::TcpState;

use super::time::human;
use crate::engine::{
    blocked::{
        awaited::{Awaited, Direction},
        blockage::{Blockage, Claim, Kept},
        chain::{ChainEnd, Link, Party},
        reading::{HeldBy, OtherEnd, TcpEnd},
    },
    counted::counted,
};

/// Workers that are named; more are counted.
const WORKERS: usize = 4;

/// Where nothing keeps a process.
pub const NOTHING: &str = "nothing, as far as its calls show: its threads run, or wait for \
                           connections, events or work";

/// Cause and effect in one sentence, then link by link how that leads to its end. It may hold
/// anything that others chose.
#[must_use]
pub fn lines(kept: &Kept) -> Vec<String> {
    let mut lines = vec![finding(kept)];
    lines.extend(way(&kept.cause));
    lines
}

/// Cause and effect in one sentence.
#[must_use]
pub fn finding(kept: &Kept) -> String {
    let Blockage { workers, threads, of, links, .. } = &kept.cause;
    let Some(first) = links.first() else { return String::new() };
    let names: Vec<String> = workers.iter().take(WORKERS).map(named).collect();
    let more = workers.len().saturating_sub(WORKERS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let all = Group { threads: *threads, of: *of, more: first.more };
    let cause = format!("{}{more}: {}", names.join(", "), predicate(first, all));
    let effect = effect(kept);
    match kept.claim() {
        _ if effect.is_empty() => format!("{cause}."),
        Claim::Why => format!("{cause}: that is why {effect}."),
        Claim::Likely => {
            format!("{cause}, and none waits for connections: that is likely why {effect}.")
        }
        Claim::Meanwhile => format!("{cause}; meanwhile {effect}."),
    }
}

/// `20 connections were never accepted and 3 are unread`; empty: none.
fn effect(kept: &Kept) -> String {
    let effect = kept.effect;
    // Where others take connections, that some are not taken has another cause.
    let never = if kept.claim() == Claim::Meanwhile { 0 } else { effect.never_accepted };
    let mut parts = Vec::new();
    if never > 0 {
        let were = if never == 1 { "was" } else { "were" };
        let connections = counted(never, "connection", "connections");
        parts.push(format!("{connections} {were} never accepted"));
    }
    if effect.unread > 0 {
        let are = if effect.unread == 1 { "is" } else { "are" };
        let connections = match never {
            0 => counted(effect.unread, "connection", "connections"),
            _ => effect.unread.to_string(),
        };
        parts.push(format!("{connections} {are} unread"));
    }
    parts.join(" and ")
}

/// How the cause is led to: what the first link waits on, then process by process, and the end.
#[must_use]
pub fn way(cause: &Blockage) -> Vec<String> {
    let mut lines = Vec::new();
    for (n, link) in cause.links.iter().enumerate() {
        if let Some(before) = n.checked_sub(1).and_then(|n| cause.links.get(n)) {
            lines.push(step(before, link));
        }
        lines.extend(details(link));
    }
    lines.extend(end(cause));
    lines
}

fn named(party: &Party) -> String {
    format!("{}[{}]", party.called, party.id.pid)
}

/// Threads of a process, or of several.
#[derive(Clone, Copy)]
struct Group {
    threads: usize,
    of: usize,
    /// There are more that were not read.
    more: bool,
}

impl Group {
    fn of(link: &Link) -> Self {
        Self { threads: link.tids.len(), of: link.of, more: link.more }
    }

    fn words(self) -> String {
        match (self.threads, self.of) {
            (n, of) if self.more => format!("{n} of its first {of} threads"),
            (1, 1) => "its only thread".to_owned(),
            (2, 2) => "both threads".to_owned(),
            (n, of) if n == of => format!("all {n} threads"),
            (n, of) => format!("{n} of {of} threads"),
        }
    }
}

/// `its only thread waits for data from 10.0.0.5:9000 (ESTABLISHED, silent for 41s)`
fn predicate(link: &Link, group: Group) -> String {
    let s = if group.threads == 1 { "s" } else { "" };
    let does = match &link.awaited {
        Awaited::Sleep => format!("sleep{s} for a time that it chose"),
        Awaited::Continue => {
            let is = if group.threads == 1 { "is" } else { "are" };
            format!("{is} stopped by a signal or a debugger")
        }
        awaited => format!("wait{s} for {}", what(awaited, link.peers)),
    };
    format!("{} {does}", group.words())
}

/// What is waited for.
fn what(awaited: &Awaited, peers: usize) -> String {
    match awaited {
        Awaited::Tcp(direction, end) if peers > 1 => match direction {
            Direction::Reads => format!("data from {peers} peers of {}", end.local),
            _ => format!("{peers} peers of {} to take data", end.local),
        },
        Awaited::Tcp(direction, end) => tcp(*direction, end),
        Awaited::Udp { remote, local } => packet(*local, *remote),
        Awaited::Unix { direction, name, .. } => {
            let name = name.as_ref().map_or_else(String::new, |name| format!(" {name}"));
            at_end(*direction, &format!("a unix socket{name}"))
        }
        Awaited::Pipe { direction, .. } => at_end(*direction, "a pipe"),
        Awaited::Unread(why) => format!("something that could not be read: {why}"),
        Awaited::Mutex { owner } => {
            format!("a lock that thread {owner} has, by the owner that the lock's memory names")
        }
        Awaited::Futex { .. } => "a lock, for another thread, or for a time to pass".to_owned(),
        Awaited::FileLock { path, holder: Some(holder) } => {
            format!("the lock of {path}, which process {} has", holder.pid)
        }
        Awaited::FileLock { path, holder: None } => format!("the lock of {path}"),
        Awaited::Child(children) if children.len() > 1 => {
            format!("one of {} child processes to end", children.len())
        }
        Awaited::Child(_) => "a child process to end".to_owned(),
        Awaited::Page => "a page of memory, often from disk or swap".to_owned(),
        Awaited::File(path) if path.is_empty() => "the disk".to_owned(),
        Awaited::File(path) => format!("the file system behind {path}"),
        Awaited::Device(path) => format!("the device {path}"),
        Awaited::Process => "another process, by a semaphore or a message queue".to_owned(),
        Awaited::Sleep => "a time to pass".to_owned(),
        Awaited::Continue => "a signal to go on".to_owned(),
        Awaited::Connections => "connections".to_owned(),
        Awaited::Events { .. } => "events".to_owned(),
        Awaited::Queued => "I/O that was queued".to_owned(),
        Awaited::Woken => "another thread, a timer or a signal".to_owned(),
        Awaited::Nothing | Awaited::Over => "nothing".to_owned(),
        Awaited::Unknown(why) => format!("something that calls do not tell ({why})"),
    }
}

fn tcp(direction: Direction, end: &TcpEnd) -> String {
    let state = state_name(end.state);
    match direction {
        Direction::Reads => {
            let silent = end.received_ago_ns.map(|ns| format!(", silent for {}", human(ns)));
            format!("data from {} ({state}{})", end.remote, silent.unwrap_or_default())
        }
        Direction::Writes => {
            let bytes = counted(end.send_q.into(), "byte", "bytes");
            format!("{} to take data ({state}, {bytes} not acknowledged)", end.remote)
        }
        Direction::Connects => format!("{} to answer ({state})", end.remote),
    }
}

fn packet(local: SocketAddr, remote: SocketAddr) -> String {
    match remote.port() {
        0 => format!("a UDP packet at {local}"),
        53 => format!("a UDP packet from {remote}: an answer of DNS"),
        _ => format!("a UDP packet from {remote}"),
    }
}

fn at_end(direction: Direction, of: &str) -> String {
    match direction {
        Direction::Reads => format!("data from the other end of {of}"),
        Direction::Writes => format!("the other end of {of} to take data"),
        Direction::Connects => format!("the other end of {of} to accept it"),
    }
}

/// A state's name, as output spells it.
#[must_use]
pub fn state_name(state: u8) -> &'static str {
    TcpState::ALL.into_iter().find(|s| *s as u8 == state).map_or("unknown state", TcpState::name)
}

/// What a connection that is waited on shows.
fn details(link: &Link) -> Option<String> {
    let Awaited::Tcp(_, end) = &link.awaited else { return None };
    if link.peers > 1 {
        return None;
    }
    let call = link.call.as_deref().unwrap_or("a call");
    let fd = link.fd.map_or_else(String::new, |fd| format!(" on fd {fd}"));
    let mut text = format!("{call}{fd}: {} to {}", end.local, end.remote);
    if let (Some(open), Some(received), Some(sent)) =
        (end.open_for_ns(), end.received_ago_ns, end.sent_ago_ns)
    {
        let [open, received, sent] = [open, received, sent].map(human);
        text += &format!(
            ", open for at least {open}, last data received {received} ago and sent {sent} ago"
        );
    } else if let Some(why) = &end.times_unknown {
        text += &format!(", age and last data unknown ({why})");
    }
    if end.recv_q > 0 {
        text += &format!(", {} not read yet", counted(end.recv_q.into(), "byte", "bytes"));
    }
    Some(format!("{text}."))
}

/// From one link to the next.
fn step(before: &Link, link: &Link) -> String {
    let group = predicate(link, Group::of(link));
    let who = named(&link.process);
    if before.process.id == link.process.id {
        return match &before.awaited {
            Awaited::Mutex { owner } => {
                let does = predicate(link, Group { threads: 1, of: 1, more: false });
                format!("Thread {owner} {}.", does.trim_start_matches("its only thread "))
            }
            Awaited::Futex { .. } => {
                format!("If it is a lock, one of its other threads has it; of those, {group}.")
            }
            _ => format!("The other end is in {who}, too: {group}."),
        };
    }
    match &before.awaited {
        Awaited::Tcp(_, end) => format!("{}; {group}.", peer(end, &link.process)),
        Awaited::Unix { other, .. } => {
            let held = others(other.held());
            format!("The other end is in {who}{held}{}; {group}.", read(other))
        }
        Awaited::Pipe { held, .. } => {
            format!("The other end of the pipe is in {who}{}; {group}.", others(held))
        }
        Awaited::FileLock { .. } => format!("{who} has the lock: {group}."),
        Awaited::Child(_) => format!("The child is {who}: {group}."),
        _ => format!("{who}: {group}."),
    }
}

/// Who is at the other end of a connection.
fn peer(end: &TcpEnd, party: &Party) -> String {
    let held = others(end.other.held());
    format!("{} is {} on this host{held}{}", end.remote, named(party), read(&end.other))
}

/// That others have a descriptor for the same.
fn others(held: &[HeldBy]) -> String {
    match held.len() {
        0 | 1 => String::new(),
        2 => " (one more process has it, too)".to_owned(),
        n => format!(" ({} more processes have it, too)", n - 1),
    }
}

/// What the other end of a connection shows.
fn read(other: &OtherEnd) -> String {
    match other {
        OtherEnd::Here { accepted: false, .. } => {
            ", and has not accepted this connection".to_owned()
        }
        OtherEnd::Here { recv_q: 0, .. } => ", and has read all that was sent".to_owned(),
        OtherEnd::Here { recv_q, .. } => {
            let bytes = counted((*recv_q).into(), "byte", "bytes");
            format!(", and has {bytes} unread")
        }
        _ => String::new(),
    }
}

/// How it ends, where the last link does not say so.
fn end(cause: &Blockage) -> Option<String> {
    let last = cause.links.last()?;
    let at_end = |party: &Party| match &last.awaited {
        Awaited::Tcp(_, end) => peer(end, party),
        Awaited::Mutex { owner } => format!("Thread {owner} has it"),
        _ => format!("The other end is in {}", named(party)),
    };
    Some(match &cause.end {
        ChainEnd::Itself => return None,
        ChainEnd::Remote => {
            let remote = last.awaited.remote().map(|remote| remote.to_string());
            let remote = remote.unwrap_or_else(|| "The other end".to_owned());
            format!("{remote} is not on this host, by its addresses: look for the cause there.")
        }
        ChainEnd::Idle(party) => format!(
            "{}: it is idle, its threads wait for events, connections or work. Calls do not show \
             why it does not answer.",
            at_end(party)
        ),
        ChainEnd::Runs(party) => {
            format!("{}: it runs, and may be at work on the answer.", at_end(party))
        }
        ChainEnd::Cycle { to, whole } => {
            let round = cause.links.get(*to..).unwrap_or_default();
            let mut names: Vec<String> = round.iter().map(|link| named(&link.process)).collect();
            names.dedup();
            let one = names.len() == 1;
            names.extend(names.first().cloned().filter(|_| !one));
            let round = if one {
                format!("It waits for itself: that is a circle, within {}", names.join(""))
            } else {
                format!("That closes a circle: {}", names.join(" waits for "))
            };
            match whole {
                true => {
                    format!("{round}. None goes on by itself, unless a timeout ends its wait.")
                }
                false => {
                    format!("{round}. None goes on unless another thread breaks it, or a timeout.")
                }
            }
        }
        ChainEnd::Unknown(why) => format!("It can't be followed further: {why}."),
        ChainEnd::Long => format!(
            "It goes on from there: no more than {} are followed.",
            counted(cause.links.len() as u64, "step", "steps")
        ),
    })
}

#[cfg(test)]
mod tests;

//! What keeps a process from its work, as JSON: cause and effect, and the links between. Field
//! names are the contract.

use std::net::SocketAddr;

use serde::Serialize;

use crate::{
    engine::blocked::{
        awaited::{Awaited, Direction},
        blockage::{Claim, Kept},
        chain::{ChainEnd, Link, Party},
        reading::{OtherEnd, TcpEnd},
    },
    prose::blocked,
    view::json::ms::{AgeMs, Ms},
};

#[derive(Serialize)]
pub struct KeptLine<'a> {
    as_of: String,
    text: Vec<String>,
    workers: Vec<PartyLine<'a>>,
    threads: usize,
    threads_of: usize,
    claim: &'static str,
    never_accepted: u64,
    unread: u64,
    links: Vec<LinkLine<'a>>,
    end: &'static str,
    end_pid: Option<u32>,
    cycle_to: Option<usize>,
}

#[derive(Serialize)]
struct PartyLine<'a> {
    pid: u32,
    name: &'a str,
}

#[derive(Serialize)]
struct LinkLine<'a> {
    pid: u32,
    name: &'a str,
    tids: &'a [u32],
    threads_of: usize,
    call: Option<&'a str>,
    fd: Option<u32>,
    waits_for: &'static str,
    connection: Option<ConnectionLine<'a>>,
    held_by: Vec<u32>,
    sure: bool,
}

#[derive(Serialize)]
struct ConnectionLine<'a> {
    netns: u32,
    local: SocketAddr,
    remote: SocketAddr,
    state: &'static str,
    recv_q: u32,
    send_q: u32,
    age_ms: Option<AgeMs>,
    last_data_recv_ms: Option<Ms>,
    last_data_sent_ms: Option<Ms>,
    times_unknown: Option<&'a str>,
    peer_on_this_host: Option<bool>,
    peer_accepted: Option<bool>,
    peer_recv_q: Option<u32>,
}

impl<'a> From<&'a Party> for PartyLine<'a> {
    fn from(party: &'a Party) -> Self {
        Self { pid: party.id.pid, name: &party.called }
    }
}

impl<'a> From<&'a TcpEnd> for ConnectionLine<'a> {
    fn from(end: &'a TcpEnd) -> Self {
        let (here, accepted, recv_q) = match &end.other {
            OtherEnd::Elsewhere => (Some(false), None, None),
            OtherEnd::Unknown(_) => (None, None, None),
            OtherEnd::Here { accepted, recv_q, .. } => (Some(true), Some(*accepted), Some(*recv_q)),
        };
        Self {
            netns: end.netns,
            local: end.local,
            remote: end.remote,
            state: blocked::state_name(end.state),
            recv_q: end.recv_q,
            send_q: end.send_q,
            age_ms: end.open_for_ns().map(AgeMs::at_least),
            last_data_recv_ms: end.received_ago_ns.map(Ms),
            last_data_sent_ms: end.sent_ago_ns.map(Ms),
            times_unknown: end.times_unknown.as_deref(),
            peer_on_this_host: here,
            peer_accepted: accepted,
            peer_recv_q: recv_q,
        }
    }
}

impl<'a> From<&'a Link> for LinkLine<'a> {
    fn from(link: &'a Link) -> Self {
        let connection = if let Awaited::Tcp(_, end) = &link.awaited { Some(&**end) } else { None };
        Self {
            pid: link.process.id.pid,
            name: &link.process.called,
            tids: &link.tids,
            threads_of: link.of,
            call: link.call.as_deref(),
            fd: link.fd,
            waits_for: word(&link.awaited),
            connection: connection.map(ConnectionLine::from),
            held_by: link.awaited.held().iter().map(|held| held.pid).collect(),
            sure: link.sure,
        }
    }
}

impl<'a> KeptLine<'a> {
    pub fn new(as_of: String, kept: &'a Kept) -> Self {
        let cause = &kept.cause;
        let (end, party, to) = match &cause.end {
            ChainEnd::Remote => ("remote", None, None),
            ChainEnd::Itself => ("itself", None, None),
            ChainEnd::Idle(party) => ("idle", Some(party), None),
            ChainEnd::Runs(party) => ("running", Some(party), None),
            ChainEnd::Cycle { to, .. } => ("cycle", None, Some(*to)),
            ChainEnd::Unknown(_) => ("unknown", None, None),
            ChainEnd::Long => ("cut", None, None),
        };
        Self {
            as_of,
            text: blocked::lines(kept),
            workers: cause.workers.iter().map(PartyLine::from).collect(),
            threads: cause.threads,
            threads_of: cause.of,
            claim: match kept.claim() {
                Claim::Why => "why",
                Claim::Likely => "likely",
                Claim::Meanwhile => "meanwhile",
            },
            never_accepted: kept.effect.never_accepted,
            unread: kept.effect.unread,
            links: cause.links.iter().map(LinkLine::from).collect(),
            end,
            end_pid: party.map(|party| party.id.pid),
            cycle_to: to,
        }
    }
}

/// How a chain may end, in a word.
pub const ENDS: fn() -> Vec<&'static str> =
    || vec!["remote", "itself", "idle", "running", "cycle", "unknown", "cut"];

/// How far the cause explains the effect, in a word.
pub const CLAIMS: fn() -> Vec<&'static str> = || vec!["why", "likely", "meanwhile"];

/// What is waited for, in a word.
pub const AWAITED: fn() -> Vec<&'static str> = || {
    vec![
        "data",
        "room",
        "answer",
        "packet",
        "mutex",
        "futex",
        "file-lock",
        "child",
        "time",
        "continue",
        "page",
        "file",
        "device",
        "process",
        "accept",
        "events",
        "queued",
        "woken",
        "nothing",
        "unknown",
    ]
};

fn word(awaited: &Awaited) -> &'static str {
    match awaited {
        Awaited::Tcp(direction, _)
        | Awaited::Unix { direction, .. }
        | Awaited::Pipe { direction, .. } => match direction {
            Direction::Reads => "data",
            Direction::Writes => "room",
            Direction::Connects => "answer",
        },
        Awaited::Udp { .. } => "packet",
        Awaited::Mutex { .. } => "mutex",
        Awaited::Futex { .. } => "futex",
        Awaited::FileLock { .. } => "file-lock",
        Awaited::Child(_) => "child",
        Awaited::Sleep => "time",
        Awaited::Continue => "continue",
        Awaited::Page => "page",
        Awaited::File(_) => "file",
        Awaited::Device(_) => "device",
        Awaited::Process => "process",
        Awaited::Connections => "accept",
        Awaited::Events { .. } => "events",
        Awaited::Queued => "queued",
        Awaited::Woken => "woken",
        Awaited::Nothing | Awaited::Over => "nothing",
        Awaited::Unread(_) | Awaited::Unknown(_) => "unknown",
    }
}

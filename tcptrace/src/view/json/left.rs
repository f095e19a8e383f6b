//! What a command left behind, a line each, and how it ended.

use std::{io, net::SocketAddr};

use serde::Serialize;

use super::{Json, ms::AgeMs};
use crate::{
    engine::{left::Leftover, record::BootNs},
    prose,
    view::{Clock, left::Ran},
};

#[derive(Serialize)]
struct LeftLine<'a> {
    event: &'static str,
    time: &'a str,
    left: &'static str,
    state: &'static str,
    verdict: Option<&'static str>,
    cookie: Option<u64>,
    netns: Option<u32>,
    local: SocketAddr,
    remote: Option<SocketAddr>,
    stayed_ms: Option<AgeMs>,
    pid: Option<u32>,
    comm: Option<String>,
    fd: Option<u32>,
    about: String,
    advice: Option<&'static str>,
}

#[derive(Serialize)]
struct RunLine<'a> {
    event: &'static str,
    time: &'a str,
    command: &'a str,
    status: u64,
    left_behind: u64,
    not_told: u64,
    missing: &'a [String],
}

impl<'a> LeftLine<'a> {
    fn new(time: &'a str, finding: &Leftover) -> Self {
        let record = finding.record();
        let holder = finding.holder();
        let (local, fd) = match finding {
            Leftover::Listener(listener) => (listener.local, Some(listener.fd)),
            Leftover::Open(r, _) | Leftover::ClosedByExit(r, ..) => {
                (r.connection.local, r.holders.iter().find_map(|h| h.fd))
            }
        };
        Self {
            event: "left",
            time,
            left: finding.kind(),
            state: record.map_or("LISTEN", |r| r.state.name()),
            verdict: record.and_then(|r| r.verdict).map(|v| v.name()),
            cookie: record.map(|r| r.connection.cookie),
            netns: record.map(|r| r.connection.netns),
            local,
            remote: record.map(|r| r.connection.remote),
            stayed_ms: finding.stayed().as_ref().map(AgeMs::from),
            pid: holder.as_ref().map(|h| h.process.pid),
            comm: holder.map(|h| h.comm.to_string()),
            fd,
            about: prose::left::sentence(finding),
            advice: prose::left::advice(finding),
        }
    }
}

/// The lines.
///
/// # Errors
/// None: a list of bytes takes all.
pub fn lines(outcome: &Ran<'_>, clock: &Clock, now: BootNs) -> io::Result<Vec<u8>> {
    let time = clock.rfc3339(now);
    let mut json = Json::new(Vec::new(), clock.clone());
    let findings = outcome.left.findings();
    for finding in findings {
        json.line(&LeftLine::new(&time, finding))?;
    }
    json.line(&RunLine {
        event: "run",
        time: &time,
        command: outcome.command,
        status: outcome.status.into(),
        left_behind: findings.len() as u64 + outcome.left.more(),
        not_told: outcome.left.more(),
        missing: outcome.missing,
    })?;
    Ok(json.out)
}

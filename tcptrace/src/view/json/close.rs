//! The shapes of what `close` says. Field names are the contract.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::Serialize;

use crate::{
    engine::close::{CloseResult, Closed, Closes, Planned, Spared},
    prose::close,
    view::json::{
        record::{Stamped, record},
        write::{maybe, string, text, word},
    },
};

/// Appends the line of a `planned`: a record, and what is to be done with it.
pub fn planned(out: &mut Vec<u8>, times: &Stamped<'_>, p: &Planned) {
    record(out, "planned", times, &p.record, None);
    // The record's own end.
    out.truncate(out.len() - "}\n".len());
    text(out, ",\"how\":");
    maybe(out, p.choice.ok(), |out, (how, _)| word(out, how.name()));
    text(out, ",\"refused\":");
    maybe(out, p.choice.err(), |out, refusal| word(out, refusal.name()));
    text(out, ",\"why\":");
    string(out, &close::choice(&p.choice, &p.record));
    text(out, "}\n");
}

#[derive(Serialize)]
pub struct ClosedLine<'a> {
    event: &'static str,
    time: String,
    cookie: u64,
    netns: u32,
    local: SocketAddr,
    remote: SocketAddr,
    state: &'static str,
    verdict: Option<&'static str>,
    how: &'static str,
    by: ByLine,
    result: &'static str,
    state_after: Option<&'static str>,
    still_held: Option<Vec<StillHeldLine<'a>>>,
    error: Option<&'a str>,
    text: Vec<String>,
}

#[derive(Serialize)]
struct ByLine {
    pid: u32,
    uid: u32,
    login_uid: Option<u32>,
}

#[derive(Serialize)]
struct StillHeldLine<'a> {
    pid: u32,
    fd: u32,
    comm: &'a str,
}

impl<'a> ClosedLine<'a> {
    pub fn new(time: String, c: &'a Closed) -> Self {
        let connection = &c.record.connection;
        let held = |held: &'a Vec<_>| {
            let line = |h: &'a crate::engine::close::StillHeld| StillHeldLine {
                pid: h.pid,
                fd: h.fd,
                comm: &h.comm,
            };
            held.iter().map(line).collect()
        };
        Self {
            event: "closed",
            time,
            cookie: connection.cookie,
            netns: connection.netns,
            local: connection.local,
            remote: connection.remote,
            state: c.record.state.name(),
            verdict: c.record.verdict.map(|verdict| verdict.name()),
            how: c.attempt.how.name(),
            by: ByLine {
                pid: c.attempt.by.pid,
                uid: c.attempt.by.uid,
                login_uid: c.attempt.by.login_uid,
            },
            result: c.attempt.outcome.name(),
            state_after: c.attempt.state_after().map(|state| state.name()),
            still_held: c.attempt.still_held.as_ref().map(held),
            error: c.attempt.error.as_deref(),
            text: close::outcome(c),
        }
    }
}

#[derive(Serialize)]
pub struct ClosesLine {
    event: &'static str,
    time: String,
    dry_run: bool,
    selected: u64,
    too_young: u64,
    age_unknown: u64,
    planned: u64,
    refused: BTreeMap<&'static str, u64>,
    results: BTreeMap<&'static str, u64>,
    still_held: u64,
    not_begun: u64,
}

impl ClosesLine {
    pub fn new(time: String, c: &Closes) -> Self {
        let refused = |(refusal, n): &(Spared, u64)| (refusal.name(), *n);
        let results = |(outcome, n): &(CloseResult, u64)| (outcome.name(), *n);
        Self {
            event: "summary",
            time,
            dry_run: c.dry_run,
            selected: c.selected,
            too_young: c.too_young,
            age_unknown: c.age_unknown,
            planned: c.planned,
            refused: c.refused.iter().map(refused).collect(),
            results: c.outcomes.iter().map(results).collect(),
            still_held: c.still_held,
            not_begun: c.not_begun,
        }
    }
}

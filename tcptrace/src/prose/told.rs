//! What happened, in one sentence each.

use super::{reasons, time::human, words};
use crate::engine::{
    counted::counted,
    record::{Age, BootNs, ClosedBy, Connection, Holder, Record},
    time_wait::TimeWaits,
    unknown::Reason,
    update::Lost,
};

/// Processes of a sentence; more are counted.
const MOST: usize = 3;

/// `10.0.0.1:443,10.0.0.2:5555 has been in CLOSE_WAIT for 12s (eof-not-closed), held by
/// java shop.jar[4711]`. Names may hold anything.
#[must_use]
pub fn stuck(r: &Record, now: BootNs) -> String {
    let (ends, state, age) = (ends(&r.connection), r.state.name(), long(&r.age(now)));
    format!("{ends} has been in {state} for {age}{}, {}", why(r), who(r))
}

/// `10.0.0.1:443,10.0.0.2:5555 left CLOSE_WAIT after 3m07s (eof-not-closed), closed by java[4711]`.
#[must_use]
pub fn resolved(r: &Record, stayed: &Age, by: Option<&ClosedBy>, unknown: Reason) -> String {
    let (ends, state, age) = (ends(&r.connection), r.state.name(), long(stayed));
    let by = match by {
        Some(by) => format!(", closed by {}[{}]", by.comm, by.pid),
        None => format!(": {}", reasons::words(unknown)),
    };
    format!("{ends} left {state} after {age}{}{by}", why(r))
}

/// `17 connections are in TIME_WAIT`.
#[must_use]
pub fn time_wait(all: &TimeWaits) -> String {
    format!("{} in TIME_WAIT", counted(all.count, "connection is", "connections are"))
}

/// `lost so far: ring_full 3, recursion 1; ages and ends are checked`.
#[must_use]
pub fn lost(lost: &Lost) -> String {
    let kinds = lost.named().into_iter().filter(|(_, n)| *n > 0);
    let kinds: Vec<String> = kinds.map(|(name, n)| format!("{name} {n}")).collect();
    format!("lost so far: {}; ages and ends are checked", kinds.join(", "))
}

fn ends(c: &Connection) -> String {
    format!("{},{}", c.local, c.remote)
}

fn long(age: &Age) -> String {
    let more = if age.is_exact() { "" } else { "more than " };
    format!("{more}{}", human(age.min_ns))
}

fn why(r: &Record) -> String {
    r.verdict.map_or_else(String::new, |verdict| format!(" ({})", verdict.name()))
}

fn who(r: &Record) -> String {
    let holders: Vec<&Holder> = r.processes().collect();
    if holders.is_empty() {
        return r.unknown.get("holders").map_or("held by nobody", reasons::words).to_owned();
    }
    let names: Vec<String> = holders.iter().take(MOST).map(|h| words::name(h)).collect();
    let more = holders.len().saturating_sub(MOST);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("held by {}{more}", names.join(", "))
}

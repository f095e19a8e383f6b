//! What a command left behind, in words.

use crate::{
    engine::left::{LastHolder, Leftover},
    prose::time::human,
};

/// What to do about a listener that outlives its command.
const LISTENER: &str = "a process that the command started still runs and listens: end it before \
                        the command ends, or have it end with it";

/// `python3[4711]`.
fn called(holder: &LastHolder) -> String {
    format!("{}[{}]", holder.comm, holder.process.pid)
}

/// What it is, in a few words: the same for all of a kind.
#[must_use]
pub fn title(finding: &Leftover) -> String {
    match finding {
        Leftover::Listener(_) => "listener left behind".to_owned(),
        Leftover::Open(record, _) => format!("{} left open", record.state.name()),
        Leftover::ClosedByExit(record, ..) => format!("{} never closed", record.state.name()),
    }
}

/// A sentence on it.
#[must_use]
pub fn sentence(finding: &Leftover) -> String {
    let holder = finding.holder().map_or_else(|| "an unknown holder".to_owned(), |h| called(&h));
    match finding {
        Leftover::Listener(listener) => {
            format!("{holder} still listens on {} (fd {})", listener.local, listener.fd)
        }
        Leftover::Open(record, age) | Leftover::ClosedByExit(record, age, _) => {
            let (c, state) = (&record.connection, record.state.name());
            let why = record.verdict.map_or("", |verdict| verdict.name());
            let stayed = human(age.min_ns);
            let fd = record.holders.iter().find_map(|h| h.fd);
            let fd = fd.map_or_else(String::new, |fd| format!(" fd {fd}"));
            let end = match finding {
                Leftover::Open(..) => format!("still held by {holder}{fd}"),
                _ => format!("held by {holder}{fd} until it ended, never closed by it"),
            };
            format!("{} to {}: {state} for {stayed} ({why}), {end}", c.local, c.remote)
        }
    }
}

/// What to do about it.
#[must_use]
pub fn advice(finding: &Leftover) -> Option<&'static str> {
    match finding.record() {
        Some(record) => record.verdict.map(|verdict| verdict.advice()),
        None => Some(LISTENER),
    }
}

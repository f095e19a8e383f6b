//! How many sockets there are of one state and verdict.

use serde::Serialize;

use super::ms::AgeMs;
use crate::engine::report::Count;

#[derive(Serialize)]
pub struct CountLine {
    state: &'static str,
    verdict: Option<&'static str>,
    count: u64,
    oldest_ms: AgeMs,
}

impl From<&Count> for CountLine {
    fn from(c: &Count) -> Self {
        Self {
            state: c.state.name(),
            verdict: c.verdict.map(|v| v.name()),
            count: c.count,
            oldest_ms: (&c.oldest).into(),
        }
    }
}

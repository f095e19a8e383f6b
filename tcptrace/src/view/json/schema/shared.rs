//! Fields of lines of several kinds.

use tcptrace_common::state::TcpState;

use super::{
    Field,
    Kind::{Count, Maybe, Milliseconds, Object, Text, Time, Word},
    field,
};
use crate::engine::verdict::Verdict;

pub(super) const VERDICT: super::Kind = Word(|| Verdict::ALL.iter().map(|v| v.name()).collect());
pub(super) const STATE: super::Kind = Word(|| TcpState::ALL.iter().map(|s| s.name()).collect());

pub(super) const EVENT: Field = field("event", Text, "What the line is.");
pub(super) const TIME: Field =
    field("time", Time, "When it was written, or when what it tells of happened.");

pub(super) const AGE: &[Field] = &[
    field("min", Milliseconds, "At least so long."),
    field("max", Maybe(&Milliseconds), "At most so long; the same as `min` where it was traced."),
];

/// Of sockets of one kind.
pub(super) const COUNT: &[Field] = &[
    field("state", STATE, "State."),
    field("verdict", Maybe(&VERDICT), "Verdict."),
    field("count", Count("sockets"), "How many."),
    field("oldest_ms", Object(AGE), "Age of the oldest."),
];

//! What is normal, as `--min-age auto` learns it.

use super::{
    Field,
    Kind::{Count, Milliseconds, Word},
    field,
};

/// How long stays last as a rule where a socket leads.
pub const NORMAL: &[Field] = &[
    field("below_ms", Milliseconds, "Nearly all stays there were shorter."),
    field("per_mille", Count("stays"), "So many of 1,000 were."),
    field("of", Count("stays"), "That ended there since tracing began."),
    field("at", Word(|| vec!["listener", "remote"]), "What they have in common with it."),
];

//! Fields of a forecast.

use super::{
    Field,
    Kind::{Count, List, Maybe, Milliseconds, Object, Text, Word},
    field,
    shared::{COUNT, EVENT, TIME},
};

/// A forecast in a summary: without event and time.
pub(super) const FORESEEN: &[Field] = FORECAST.split_at(2).1;

/// Of a forecast.
pub(super) const FORECAST: &[Field] = &[
    EVENT,
    TIME,
    field("what", Word(|| vec!["descriptors", "file-table"]), "What will be full."),
    field("pid", Maybe(&Count("")), "Whose descriptors; null of the host's open files."),
    field("comm", Maybe(&Text), "Its command name."),
    field("name", Maybe(&Text), "What people call it."),
    field("used", Count(""), "In use."),
    field("limit", Count(""), "There may be so many: RLIMIT_NOFILE (soft), or `fs.file-max`."),
    field(
        "per_hour",
        Object(&[
            field("min", Count(""), "At least."),
            field("est", Count(""), "As estimated."),
            field("max", Count(""), "At most."),
        ]),
        "Growth in an hour.",
    ),
    field(
        "left_ms",
        Object(&[
            field("min", Milliseconds, "At least."),
            field("est", Milliseconds, "As estimated."),
            field("max", Milliseconds, "At most."),
        ]),
        "Until it is full, from `time` on, if it goes on like this.",
    ),
    field(
        "sockets",
        Maybe(&List(&Object(COUNT))),
        "The process's sockets that were reported and are open, by state and verdict.",
    ),
];

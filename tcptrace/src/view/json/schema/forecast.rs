//! Fields of a forecast.

use super::{
    Field,
    Kind::{Count, List, Maybe, Milliseconds, Object, Text, Word},
    field,
    shared::{COUNT, EVENT, TIME},
};
use crate::engine::forecast::told::What;

/// A forecast in a summary: without event and time.
pub(super) const FORESEEN: &[Field] = FORECAST.split_at(2).1;

/// Of a forecast.
pub(super) const FORECAST: &[Field] = &[
    EVENT,
    TIME,
    field("what", Word(|| What::NAMES.to_vec()), "What will be full."),
    field("pid", Maybe(&Count("")), "Whose descriptors; null of all else."),
    field("comm", Maybe(&Text), "Its command name."),
    field("name", Maybe(&Text), "What people call it."),
    field("netns", Maybe(&Count("")), "The network namespace, of what it has for itself."),
    field("local", Maybe(&Text), "Of an accept queue the listener's end; of ports the address."),
    field("remote", Maybe(&Text), "Of ports: the end that they lead to."),
    field("used", Count(""), "In use."),
    field(
        "limit",
        Count(""),
        "There may be so many: RLIMIT_NOFILE (soft), `fs.file-max`, ports that nobody listens on, \
         the backlog and one more, `nf_conntrack_max`, the third number of `tcp_mem`.",
    ),
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
        "Of descriptors: the sockets of the process that were reported and are open. Of ports: the \
         connections that have them.",
    ),
];

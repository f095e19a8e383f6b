//! Who leaks on many hosts.

use super::{
    Field,
    Kind::{Count, Map, Maybe, Milliseconds, Text, Time},
    Line, field,
};

/// What `fleet` writes.
pub const LINES: &[Line] = &[
    Line {
        events: &["leaking"],
        from: "fleet",
        about: "A process, or with `--prometheus` a workload, that leaks on one host.",
        common: &[],
        fields: LEAKING,
    },
    Line {
        events: &["summary"],
        from: "fleet",
        about: "All hosts together.",
        common: &[],
        fields: FLEET,
    },
];

const EVENT: Field = field("event", Text, "What the line is.");
const TIME: Field = field("time", Time, "When it was asked.");

const LEAKING: &[Field] = &[
    EVENT,
    TIME,
    field("host", Text, "The host, as it was named."),
    field("who", Text, "`comm[pid]`; with `--prometheus` the workload."),
    field("leaks", Count("sockets"), "Leaks that are open."),
    field("stuck", Maybe(&Count("sockets")), "Stuck sockets; null: Prometheus was asked."),
    field("per_hour", Maybe(&Milliseconds), "Leaks gained an hour; null: not known to agents."),
    field("oldest_ms", Maybe(&Milliseconds), "Age of the oldest stuck socket, at least."),
    field("by_verdict", Map(&Count("sockets")), "By verdict; with `--prometheus` empty."),
];

const FLEET: &[Field] = &[
    EVENT,
    TIME,
    field("leaks", Count("sockets"), "Of all hosts."),
    field("more", Count(""), "Those that leak and are left out by `--limit`."),
    field("hosts", Count("hosts"), "Hosts that answered."),
    field("silent", Map(&Text), "Hosts that did not, and why."),
];

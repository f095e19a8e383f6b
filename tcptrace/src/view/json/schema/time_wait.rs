//! TIME_WAIT, counted.

use super::{
    Field,
    Kind::{Count, End, List, Maybe, Object, Text},
    field,
};

const NETNS: Field = field("netns", Count(""), "Inode of its network namespace.");
const PORTS: Field = field("ports", Maybe(&Count("ports")), "That connect() may choose from.");

/// What is said of all of them.
pub const TIME_WAIT: &[Field] = &[
    field("count", Count("sockets"), "In TIME_WAIT, of those that were asked for."),
    field(
        "namespaces",
        List(&Object(&[
            NETNS,
            field("count", Count("sockets"), "In TIME_WAIT there, asked for or not."),
            field("limit", Maybe(&Count("sockets")), "So many may be (`tcp_max_tw_buckets`)."),
            field(
                "port_range",
                Maybe(&Object(&[
                    field("first", Count(""), "The first port."),
                    field("last", Count(""), "The last port."),
                ])),
                "`ip_local_port_range`.",
            ),
            PORTS,
        ])),
        "By network namespace.",
    ),
    field(
        "by_listener",
        List(&Object(&[
            NETNS,
            field("local", End, "Where it listens."),
            field("count", Count("sockets"), "In TIME_WAIT."),
        ])),
        "Connections that came in, by listener: the server closed first. At most 100.",
    ),
    field(
        "by_destination",
        List(&Object(&[
            NETNS,
            field("source", Text, "Address here."),
            field("destination", End, "End there."),
            field("time_wait", Count("ports"), "Local ports whose connection is in TIME_WAIT."),
            field("used", Count("ports"), "Local ports with a connection in whatever state."),
            PORTS,
        ])),
        "Connections that were opened here, by their ends: the client closed first. At most 100.",
    ),
];

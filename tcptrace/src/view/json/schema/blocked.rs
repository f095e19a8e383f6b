//! What keeps a process from its work.

use tcptrace_common::state::TcpState;

use super::{
    super::kept::{AWAITED, CLAIMS, ENDS},
    Field,
    Kind::{Count, End, Flag, List, Maybe, Milliseconds, Object, Text, Time, Word},
    field,
};

const PARTY: &[Field] = &[
    field("pid", Count(""), "Process."),
    field("name", Text, "What people call it: an interpreter with what it runs."),
];

const CONNECTION: &[Field] = &[
    field("netns", Count(""), "Inode of its network namespace."),
    field("local", End, "Local end."),
    field("remote", End, "Remote end."),
    field("state", Word(|| TcpState::ALL.iter().map(|s| s.name()).collect()), "State."),
    field("recv_q", Count("bytes"), "Received and not read."),
    field("send_q", Count("bytes"), "Sent and not acknowledged."),
    field(
        "age_ms",
        Maybe(&Object(&[
            field("min", Milliseconds, "At least so long."),
            field("max", Maybe(&Milliseconds), "Null: the kernel does not say when it opened."),
        ])),
        "How long it has been open.",
    ),
    field(
        "last_data_recv_ms",
        Maybe(&Milliseconds),
        "Time since data came last, or since it was opened.",
    ),
    field(
        "last_data_sent_ms",
        Maybe(&Milliseconds),
        "Time since data was sent last, or since it was opened.",
    ),
    field("times_unknown", Maybe(&Text), "Why these are null."),
    field("peer_on_this_host", Maybe(&Flag), "Whether its other end is on this host."),
    field("peer_accepted", Maybe(&Flag), "Whether a process has accepted it there, or opened it."),
    field("peer_recv_q", Maybe(&Count("bytes")), "Received there and not read."),
];

const LINK: &[Field] = &[
    field("pid", Count(""), "Process."),
    field("name", Text, "What people call it."),
    field("tids", List(&Count("")), "Its threads that wait so."),
    field("threads_of", Count("threads"), "Of how many that were read."),
    field("call", Maybe(&Text), "The system call that they are in."),
    field("fd", Maybe(&Count("")), "The descriptor that they wait on, of the first of them."),
    field("waits_for", Word(AWAITED), "What they wait for."),
    field("connection", Maybe(&Object(CONNECTION)), "The TCP connection that they wait on."),
    field("held_by", List(&Count("")), "Who has what they wait for: the other end, the lock."),
    field("sure", Flag, "Whether nothing but this leads on from the link before."),
];

/// A finding.
pub const KEPT: &[Field] = &[
    field("as_of", Time, "When it was read."),
    field("text", List(&Text), "All of it in words: the finding, then link by link to its end."),
    field("workers", List(&Object(PARTY)), "The processes whose threads wait so."),
    field("threads", Count("threads"), "How many of their threads wait so."),
    field("threads_of", Count("threads"), "Of how many that were read."),
    field("claim", Word(CLAIMS), "How far this explains the connections below."),
    field("never_accepted", Count("sockets"), "Connections that nobody accepted."),
    field("unread", Count("sockets"), "Connections that were accepted and not read."),
    field("links", List(&Object(LINK)), "From these threads to the end."),
    field("end", Word(ENDS), "How the chain ends."),
    field("end_pid", Maybe(&Count("")), "The process at the end, where that is idle or runs."),
    field("cycle_to", Maybe(&Count("")), "The link that a cycle comes back to, counted from 0."),
];

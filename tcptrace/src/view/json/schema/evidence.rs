//! What a verdict is made of.

use super::{
    Field,
    Kind::{Count, End, Flag, Maybe, Milliseconds, Text, Word},
    field,
};

/// What a verdict is made of.
pub const EVIDENCE: &[Field] = &[
    field("recv_q", Maybe(&Count("bytes")), "Received and not read; the FIN counts as one."),
    field("send_q", Maybe(&Count("bytes")), "Sent and not acknowledged, or not sent yet."),
    field("accepted", Maybe(&Flag), "Whether accept() has returned it, or it was connected out."),
    field("bytes_sent_since_fin", Maybe(&Count("bytes")), "Sent since the peer's FIN came."),
    field("inode", Maybe(&Count("")), "Inode, as in `/proc/PID/fd`."),
    field("keepalive", Maybe(&Flag), "Whether keepalive is on."),
    field("last_data_sent_ms", Maybe(&Milliseconds), "Time since data was last sent."),
    field("last_data_recv_ms", Maybe(&Milliseconds), "Time since data was last received."),
    field("last_ack_recv_ms", Maybe(&Milliseconds), "Time since the last acknowledgement came."),
    field(
        "timer",
        Maybe(&Word(|| vec!["none", "retransmit", "keepalive", "persist", "time-wait"])),
        "What the kernel's timer is for: `persist` asks whether a shut window has opened.",
    ),
    field(
        "retransmits",
        Maybe(&Count("times")),
        "Sent again in a row: data, a FIN, a SYN, a SYN-ACK.",
    ),
    field(
        "probes",
        Maybe(&Count("probes")),
        "Not answered, in a row: of keepalive or a shut window.",
    ),
    field(
        "snd_wnd",
        Maybe(&Count("bytes")),
        "The peer's window: what it takes beyond its last ACK.",
    ),
];

/// A listener.
pub const LISTENER: &[Field] = &[
    field("local", End, "Where it listens."),
    field("pid", Maybe(&Count("")), "The first process that holds it."),
    field("comm", Maybe(&Text), "That process's command name."),
    field("queue", Count("connections"), "Waiting to be accepted."),
    field("limit", Count("connections"), "How many may wait (the backlog)."),
    field("drops", Count("connections"), "Dropped by this listener so far."),
    field("handshakes", Maybe(&Count("connections")), "Handshakes under way with it."),
    field(
        "syncookies_sent",
        Maybe(&Count("")),
        "SYN cookies sent so far by all listeners of its network namespace.",
    ),
];

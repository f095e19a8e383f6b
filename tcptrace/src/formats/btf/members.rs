//! Members that a kernel may do without, or have elsewhere.

/// A struct and the path to one of its members.
pub type Member = (&'static str, &'static str);

/// Kernels built without cgroups lack the first two (then a socket's cgroup is unknown), those
/// built without MPTCP the third (then no socket is a subflow); of the next two each has one. The
/// next five are evidence that is unknown without them, and the last are registers, of which each
/// architecture has its own.
pub const OPTIONAL: [Member; 14] = [
    ("sock", "sk_cgrp_data.cgroup"),
    ("css_set", "dfl_cgrp"),
    ("tcp_sock", "is_mptcp"),
    ("file", "f_count"),
    ("file", "f_ref.refcnt"),
    ("sock", "sk_drops"),
    ("inet_connection_sock", "icsk_pending"),
    ("inet_connection_sock", "icsk_retransmits"),
    ("inet_connection_sock", "icsk_probes_out"),
    ("sock", "sk_timer.entry.pprev"),
    ("pt_regs", "ip"),
    ("pt_regs", "bp"),
    ("pt_regs", "pc"),
    ("pt_regs", "regs"),
];

/// What has gone elsewhere, and the old name may mean something else: keepalive's timer in 7.x, and
/// in 6.1 and 6.12 as of 2026, where `sk_timer` is MPTCP's or the retransmission's. Both structs
/// begin at the same place.
pub const MOVED: [(Member, Member); 1] = [(
    ("sock", "sk_timer.entry.pprev"),
    ("inet_connection_sock", "icsk_keepalive_timer.entry.pprev"),
)];

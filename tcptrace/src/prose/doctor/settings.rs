//! The internet's advice on settings, judged.

use crate::{
    engine::doctor::settings::{Here, KernelDefault, SettingSeen, Sysctl},
    prose::time::human,
};

/// What the kernel makes of it, in words.
#[must_use]
pub fn default(default: &KernelDefault) -> String {
    match default {
        KernelDefault::Fixed(text) if text.is_empty() => "empty".to_owned(),
        KernelDefault::Fixed(text) => text.clone(),
        KernelDefault::Computed(Some(number)) => format!("{number} (computed from memory)"),
        KernelDefault::Computed(None) => "computed from memory".to_owned(),
        KernelDefault::Unknown => "depends on the kernel's version".to_owned(),
    }
}

/// What changing it does.
#[must_use]
pub const fn does(sysctl: Sysctl) -> &'static str {
    match sysctl {
        Sysctl::TwRecycle => "Gone since Linux 4.12. Before, it broke clients behind NAT.",
        Sysctl::TwReuse => {
            "1 lets connect() take an ephemeral port in TIME_WAIT again after a second, 2 (the \
             default since 4.19) on loopback only, 0 never. Outgoing connections only, and only \
             where both ends use timestamps. It does not make TIME_WAIT less."
        }
        Sysctl::FinTimeout => {
            "How long a connection that the program has closed waits in FIN_WAIT2 for the peer's \
             FIN. TIME_WAIT is not concerned: it lasts 60 s, a constant (TCP_TIMEWAIT_LEN)."
        }
        Sysctl::MaxTwBuckets => {
            "How many TIME_WAIT there may be in the network namespace; beyond, connections end \
             without. A guard against attacks, nothing to tune."
        }
        Sysctl::Timestamps => {
            "Timestamps: for round-trip times, and against old segments in new connections. \
             Without, tcp_tw_reuse does nothing."
        }
        Sysctl::LocalPortRange => {
            "The ports from which connect() and bind() with port 0 choose. For connect() each \
             destination address and port has all of them."
        }
        Sysctl::LocalReservedPorts => {
            "Ports of that range that are not chosen, so that a service may still bind them."
        }
        Sysctl::Somaxconn => {
            "The most that listen(fd, N) is given for its accept queue. It changes nothing for \
             listeners that are there, nor where the program asks for less: the smaller of the \
             two counts."
        }
        Sysctl::MaxSynBacklog => {
            "With tcp_syncookies=1 or 2: nothing. With 0: from three quarters of it on, SYNs of \
             unknown peers are dropped. A SYN queue's own limit is the listener's backlog."
        }
        Sysctl::Syncookies => {
            "1: when a SYN queue is full, answer with a cookie and keep nothing. 2: always. 0: \
             drop the SYN."
        }
        Sysctl::SynackRetries => {
            "How often a SYN is answered again if the client says nothing; 5 keep a half-open \
             connection for 63 s."
        }
        Sysctl::AbortOnOverflow => {
            "1: when the accept queue is full, the client is reset at the end of its handshake, \
             instead of being left to try again."
        }
        Sysctl::SynRetries => {
            "How often connect() sends its SYN again: with 6 it fails after some two minutes. A \
             time-out of the program's own is the better way."
        }
        Sysctl::Retries1 => "After so many retransmissions another route is looked for.",
        Sysctl::Retries2 => {
            "After how many retransmissions a connection is given up whose peer says nothing. \
             TCP_USER_TIMEOUT does that for one socket."
        }
        Sysctl::KeepaliveTime => {
            "How long a connection is idle before the first probe, if its program has set \
             SO_KEEPALIVE; without that, nothing. It can't end a CLOSE_WAIT whose peer's kernel \
             answers."
        }
        Sysctl::KeepaliveIntvl => "How far probes are apart that nobody answers.",
        Sysctl::KeepaliveProbes => "After how many probes without an answer a connection is over.",
        Sysctl::MaxOrphans => {
            "How many connections there may be on the host that no process has any more; beyond, \
             they are reset. Each takes up to 64 KiB."
        }
        Sysctl::TcpMem => {
            "Pages for the buffers of all TCP sockets of the host: below the first no care is \
             taken, above the second windows are kept small, above the third segments are dropped."
        }
        Sysctl::TcpRmem => {
            "A socket's receive buffer: least, first, and the most that it grows to by itself. \
             SO_RCVBUF switches that off."
        }
        Sysctl::TcpWmem => {
            "A socket's send buffer: least, first, and the most that it grows to by itself. \
             SO_SNDBUF switches that off."
        }
        Sysctl::ConntrackMax => "How many connections are tracked at once; beyond, packets drop.",
        Sysctl::FileMax => {
            "Open files of the whole host. A process's own limit (RLIMIT_NOFILE) is another \
             thing, and nearly always reached first."
        }
        Sysctl::NrOpen => {
            "The most that any process's RLIMIT_NOFILE may be. It raises no limit by itself."
        }
    }
}

/// When changing it hurts.
#[must_use]
pub const fn hurts(sysctl: Sysctl) -> &'static str {
    match sysctl {
        Sysctl::TwRecycle => "always, with clients behind NAT",
        Sysctl::TwReuse => "1: hardly; where a peer's timestamps jump (some load balancers)",
        Sysctl::FinTimeout => "low: a peer that closes later than that is answered with a reset",
        Sysctl::MaxTwBuckets => "low: late segments may meet a new connection with the same ends",
        Sysctl::Timestamps => "0: fast connections lose their guard against old segments",
        Sysctl::LocalPortRange => {
            "wide: a service whose port is in it may find it taken; reserve that"
        }
        Sysctl::LocalReservedPorts => "many: fewer ports are left for connect()",
        Sysctl::Somaxconn => "high: a stuck program lets more clients wait, for longer",
        Sysctl::MaxSynBacklog => "with tcp_syncookies=0, low: SYNs are dropped early",
        Sysctl::Syncookies => {
            "0: a SYN flood keeps all clients out; 2: connections lose options without need"
        }
        Sysctl::SynackRetries => "low: clients on bad networks don't get in",
        Sysctl::AbortOnOverflow => "1: a short burst becomes errors instead of a short delay",
        Sysctl::SynRetries => "low: connections over bad networks fail",
        Sysctl::Retries1 => "low: routes change for a few lost segments",
        Sysctl::Retries2 => "below 8: less than RFC 1122's 100 s; a short outage ends connections",
        Sysctl::KeepaliveTime => "low: traffic on many idle connections, and radios kept awake",
        Sysctl::KeepaliveIntvl | Sysctl::KeepaliveProbes => {
            "low: a short outage ends idle connections"
        }
        Sysctl::MaxOrphans => "low: closed connections are reset before their data has arrived",
        Sysctl::TcpMem => "high: sockets may take memory from all else; low: everything is slow",
        Sysctl::TcpRmem | Sysctl::TcpWmem => "high, with many connections: memory",
        Sysctl::ConntrackMax => "high: memory, some 300 bytes each",
        Sysctl::FileMax => "low: ENFILE for every process",
        Sysctl::NrOpen => {
            "high: programs that close every possible descriptor when they start take long"
        }
    }
}

/// Where the kernel or its documentation says so.
#[must_use]
pub const fn source(sysctl: Sysctl) -> &'static str {
    match sysctl {
        Sysctl::TwRecycle => "\"tcp: remove tcp_tw_recycle\" (Linux 4.12)",
        Sysctl::TwReuse => "net/ipv4/tcp_ipv4.c: tcp_twsk_unique()",
        Sysctl::FinTimeout => "net/ipv4/tcp.c: __tcp_close(); include/net/tcp.h: TCP_TIMEWAIT_LEN",
        Sysctl::MaxTwBuckets => "net/ipv4/inet_timewait_sock.c: inet_twsk_alloc()",
        Sysctl::Timestamps => "Documentation/networking/ip-sysctl.rst; RFC 7323",
        Sysctl::LocalPortRange | Sysctl::LocalReservedPorts => {
            "net/ipv4/inet_hashtables.c: __inet_hash_connect()"
        }
        Sysctl::Somaxconn => "net/socket.c: __sys_listen()",
        Sysctl::MaxSynBacklog => "net/ipv4/tcp_input.c: tcp_conn_request()",
        Sysctl::Syncookies => "net/ipv4/tcp_input.c: tcp_syn_flood_action()",
        Sysctl::AbortOnOverflow => "net/ipv4/tcp_minisocks.c: tcp_check_req()",
        Sysctl::Retries1 | Sysctl::Retries2 => "net/ipv4/tcp_timer.c: tcp_write_timeout()",
        Sysctl::KeepaliveTime | Sysctl::KeepaliveIntvl | Sysctl::KeepaliveProbes => {
            "net/ipv4/tcp_timer.c: tcp_keepalive_timer(); tcp(7)"
        }
        Sysctl::MaxOrphans => "net/ipv4/tcp.c: tcp_check_oom()",
        Sysctl::ConntrackMax => "Documentation/networking/nf_conntrack-sysctl.rst",
        Sysctl::FileMax | Sysctl::NrOpen => "Documentation/admin-guide/sysctl/fs.rst",
        Sysctl::SynackRetries
        | Sysctl::SynRetries
        | Sysctl::TcpMem
        | Sysctl::TcpRmem
        | Sysctl::TcpWmem => "Documentation/networking/ip-sysctl.rst",
    }
}

/// What changing it would be about here; `None`: the numbers here say nothing.
#[must_use]
pub fn here(setting: &SettingSeen) -> Option<String> {
    Some(match setting.here {
        Here::Nothing => return None,
        Here::TimeWait(n) => format!("{n} in TIME_WAIT"),
        Here::FinWait2(n) => {
            format!("{n} in FIN_WAIT2: it is about so many at most")
        }
        Here::Used(n, limit) => format!("{n} of {limit} in use"),
        Here::Keepalive(on, of) => {
            format!("{on} of {of} established connections have keepalive on")
        }
        Here::AtLimit(0, of) => {
            format!("none of {of} listeners is at this limit: raising it changes nothing")
        }
        Here::AtLimit(at, of) => {
            format!("{at} of {of} listeners have this limit, and may have asked for more")
        }
        Here::CookiesOn => "tcp_syncookies is on, so that changing it does nothing".to_owned(),
        Here::GivenUpAfter(ms) => {
            let after = human(ms.saturating_mul(1_000_000));
            format!("this value gives a silent peer up after {after} at the earliest")
        }
        Here::Ports(ports, most) => {
            format!("{ports} ports; the destination that uses most has {most}")
        }
        Here::NoTimestamps => "tcp_timestamps is 0, so that it does nothing".to_owned(),
    })
}

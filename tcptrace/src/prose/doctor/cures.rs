//! What a finding means, what helps, what doesn't, and which part of the kernel says so.

use tcptrace_common::state::TcpState;

use crate::engine::doctor::findings::{Ailment, Diagnosis, SynQueue};

/// What SYN queues that are full come from.
enum Flood {
    /// Nobody accepts.
    SlowAccept,
    /// Clients that are real.
    Burst,
    /// Who sends them does not answer.
    Unanswered,
}

fn cause(syn: &SynQueue) -> Flood {
    match syn {
        _ if syn.slow_accept => Flood::SlowAccept,
        _ if syn.cookies > 0 && syn.answered >= syn.cookies / 2 => Flood::Burst,
        _ => Flood::Unanswered,
    }
}

/// What it means for programs and for their clients.
#[must_use]
pub fn meaning(d: &Diagnosis) -> &'static str {
    match &d.ailment {
        Ailment::Leaks(_) => {
            "The peers have closed, the program has not. Each keeps a descriptor until the program \
             closes it or ends: no time-out and no setting of the kernel does."
        }
        Ailment::Descriptors(_) => {
            "At the limit accept(), socket() and open() fail with EMFILE, \"Too many open files\": \
             new connections wait in the accept queue, and nobody takes them."
        }
        Ailment::FileTable => {
            "At the limit each process without CAP_SYS_ADMIN gets ENFILE from open(), socket() and \
             accept()."
        }
        Ailment::Ports(_) => {
            "Once none is left, connect() to this destination fails with EADDRNOTAVAIL, \"Cannot \
             assign requested address\". To this one only: each other address or port has all of \
             them again. A program that calls bind() with port 0 before connect(), without \
             IP_BIND_ADDRESS_NO_PORT, takes its port away from all destinations."
        }
        Ailment::TimeWait { .. } => {
            "Beyond the limit the kernel ends connections without TIME_WAIT. Nothing fails at once; \
             but late segments may meet a new connection with the same ends, and a peer whose last \
             acknowledgement got lost is answered with a reset."
        }
        Ailment::AcceptQueue(_) => {
            "The program does not call accept(), or not fast enough. What comes while the queue is \
             full is dropped without a word: clients try again after 1 s, 2 s, 4 s, and see \
             time-outs; the program logs nothing."
        }
        Ailment::SynQueue(syn) => match cause(syn) {
            Flood::SlowAccept => {
                "The accept queue of that listener is full, too: handshakes can't end, because \
                 nobody calls accept(). \"Possible SYN flooding\" in the log is wrong here."
            }
            Flood::Burst => {
                "Most cookies came back, so the clients are real: more of them connect at once \
                 than the backlog allows. With a cookie they get in, but without window scaling \
                 and SACK where timestamps are off."
            }
            Flood::Unanswered => {
                "Hardly any cookie came back: a SYN flood from forged addresses, or answers that \
                 get lost on their way (asymmetric routes, firewalls). Nothing on this host tells \
                 the two apart."
            }
        },
        Ailment::Orphans => {
            "Programs have closed them, and what they sent is not acknowledged yet, or the peers \
             have not closed. Beyond the limit they are reset at once; those whose peer takes \
             nothing are, at half of it or less."
        }
        Ailment::Memory { .. } => {
            "Above the second number of tcp_mem all windows are kept small; at the third segments \
             are dropped, and connections reset."
        }
        Ailment::AbortedForMemory => "Peers of those connections saw a reset, and lost data.",
        Ailment::Conntrack { .. } => {
            "When the table is full, packets of new connections are dropped before TCP sees them: \
             clients see time-outs, and no socket shows it. The kernel logs \"nf_conntrack: table \
             full, dropping packet\"."
        }
        Ailment::Loss { .. } => {
            "Segments or their acknowledgements get lost, or come too late: transfers are slow. \
             The network, the peers or an overloaded host may be why."
        }
        Ailment::Recycle => {
            "It drops SYNs whose timestamp is behind that of another client with the same address: \
             of all clients behind one NAT only some get through, at random."
        }
    }
}

/// What to do.
#[must_use]
pub fn remedy(d: &Diagnosis) -> String {
    let first = d.ailment.processes().first().map(|p| p.pid);
    let explain = first
        .map_or_else(|| "tcptrace explain PID".to_owned(), |pid| format!("tcptrace explain {pid}"));
    match &d.ailment {
        Ailment::Leaks(_) => format!(
            "{explain} says why, and what to change in the program; tcptrace watch --origins says \
             where in its code they come from. Until then, a restart frees them."
        ),
        Ailment::Descriptors(near) => {
            let of = |state| near.sockets.get(&state).copied().unwrap_or(0);
            let leaks = of(TcpState::CloseWait).max(of(TcpState::Close));
            let pid = near.process.pid;
            if leaks >= d.value / 2 {
                return format!(
                    "Most of them are connections that the peers have ended: a leak, which reaches \
                     any limit. {explain} says why."
                );
            }
            let hard = near.hard;
            format!(
                "If that many are right: prlimit --pid {pid} --nofile=N:{hard} raises the limit of \
                 the running process, LimitNOFILE= in its unit (or ulimit -n in what starts it) \
                 that of the next one."
            )
        }
        Ailment::FileTable => {
            "See which processes have most: ls /proc/PID/fd | wc -l. If that many are right, raise \
             fs.file-max."
                .to_owned()
        }
        Ailment::Ports(ports) if ports.time_wait > ports.open => {
            "Keep connections open and use them again (keep-alive, a pool): short connections are \
             what fills TIME_WAIT. Where that can't be: net.ipv4.tcp_tw_reuse=1 lets connect() \
             take ports in TIME_WAIT after a second, if both ends use timestamps. More addresses \
             or ports at the destination, more source addresses, or a wider ip_local_port_range \
             give more ports."
                .to_owned()
        }
        Ailment::Ports(_) => {
            "These connections are open: bound their number (a pool), or close those that are idle. \
             More addresses or ports at the destination, more source addresses, or a wider \
             ip_local_port_range give more ports."
                .to_owned()
        }
        Ailment::TimeWait { .. } => {
            "Raise net.ipv4.tcp_max_tw_buckets; if somebody lowered it, put the kernel's own value \
             back. Each takes a few hundred bytes."
                .to_owned()
        }
        Ailment::AcceptQueue(queue) => {
            let longer = if queue.at_somaxconn {
                "the program's listen(fd, N) and net.core.somaxconn"
            } else {
                "the program's listen(fd, N), up to net.core.somaxconn"
            };
            format!(
                "{explain} says what the process waits for instead. Against bursts only, a longer \
                 queue: {longer}; it takes effect when the program calls listen() again."
            )
        }
        Ailment::SynQueue(syn) => match cause(syn) {
            Flood::SlowAccept => format!("As for the accept queue: {explain}."),
            Flood::Burst => {
                "A longer backlog: listen(fd, N) of the program and net.core.somaxconn, then a \
                 restart of the listener. net.ipv4.tcp_max_syn_backlog only counts with \
                 tcp_syncookies=0."
                    .to_owned()
            }
            Flood::Unanswered => {
                "Leave net.ipv4.tcp_syncookies=1: with it, real clients still get in. tcptrace \
                 snapshot --state syn_recv --group-by remote shows the addresses; forged ones can \
                 only be stopped upstream."
                    .to_owned()
            }
        },
        Ailment::Orphans | Ailment::AbortedForMemory => {
            "See which peers don't take their data: tcptrace snapshot --state \
             fin_wait1,closing,last_ack --group-by remote. net.ipv4.tcp_orphan_retries makes the \
             kernel give them up earlier; a higher net.ipv4.tcp_max_orphans takes up to 64 KiB for \
             each."
                .to_owned()
        }
        Ailment::Memory { .. } => {
            "See whose queues are full: tcptrace snapshot --state all, columns RECV-Q and SEND-Q. \
             Programs that don't read fill the one, peers that don't the other. If that much is \
             right, raise net.ipv4.tcp_mem; it is in pages."
                .to_owned()
        }
        Ailment::Conntrack { .. } => {
            "Raise net.netfilter.nf_conntrack_max (some 300 bytes each), lower \
             nf_conntrack_tcp_timeout_established (5 days), or leave traffic untracked that needs \
             no tracking (iptables -t raw -j CT --notrack)."
                .to_owned()
        }
        Ailment::Loss { .. } => {
            "ss -ti shows which connections retransmit; look at the interfaces' drops (ip -s link) \
             and at the path to those peers."
                .to_owned()
        }
        Ailment::Recycle => {
            "Switch it off: sysctl -w net.ipv4.tcp_tw_recycle=0. tcp_tw_reuse=1 does the harmless \
             part of it."
                .to_owned()
        }
    }
}

/// What people try, and what it does instead.
#[must_use]
pub const fn no_help(d: &Diagnosis) -> Option<&'static str> {
    Some(match &d.ailment {
        Ailment::Leaks(_) => {
            "Keepalive: the peer's kernel answers its probes, or the leak becomes a ghost. \
             tcp_fin_timeout and tcp_tw_reuse are about other states."
        }
        Ailment::Descriptors(_) => {
            "ulimit -n in your shell and /etc/security/limits.conf: neither is a running service's \
             limit. fs.file-max is the host's."
        }
        Ailment::FileTable => "ulimit -n and LimitNOFILE=: they are each process's.",
        Ailment::Ports(_) => {
            "tcp_fin_timeout: it is about FIN_WAIT2. A lower tcp_max_tw_buckets gives up what \
             TIME_WAIT protects from. tcp_tw_recycle: gone since Linux 4.12."
        }
        Ailment::TimeWait { .. } => "tcp_fin_timeout: TIME_WAIT lasts 60 s, whatever it says.",
        Ailment::AcceptQueue(_) => {
            "tcp_max_syn_backlog: another queue, before this one. tcp_abort_on_overflow=1: clients \
             that would get in a second later are reset."
        }
        Ailment::SynQueue(_) => {
            "tcp_max_syn_backlog with tcp_syncookies=1: the queue's limit is the listener's backlog."
        }
        _ => return None,
    })
}

/// Where the kernel or its documentation says so.
#[must_use]
pub const fn source(ailment: &Ailment) -> &'static str {
    match ailment {
        Ailment::Leaks(_) => "RFC 9293, 3.6 (CLOSE-WAIT); docs/verdicts.md",
        Ailment::Descriptors(_) => "fs/file.c: alloc_fd(); getrlimit(2)",
        Ailment::FileTable => {
            "fs/file_table.c: alloc_empty_file(); Documentation/admin-guide/sysctl/fs.rst"
        }
        Ailment::Ports(_) => {
            "net/ipv4/inet_hashtables.c: __inet_hash_connect(); net/ipv4/tcp_ipv4.c: \
             tcp_twsk_unique(); ip(7)"
        }
        Ailment::TimeWait { .. } => {
            "net/ipv4/inet_timewait_sock.c: inet_twsk_alloc(); net/ipv4/tcp_minisocks.c: \
             tcp_time_wait()"
        }
        Ailment::AcceptQueue(_) => {
            "include/net/sock.h: sk_acceptq_is_full(); net/ipv4/tcp_input.c: tcp_conn_request(); \
             listen(2)"
        }
        Ailment::SynQueue(_) => {
            "net/ipv4/tcp_input.c: tcp_conn_request(), tcp_syn_flood_action(); \
             include/net/inet_connection_sock.h: inet_csk_reqsk_queue_is_full()"
        }
        Ailment::Orphans => {
            "net/ipv4/tcp.c: tcp_check_oom(); net/ipv4/tcp_timer.c: tcp_out_of_resources()"
        }
        Ailment::Memory { .. } => {
            "net/core/sock.c: __sk_mem_raise_allocated(); Documentation/networking/ip-sysctl.rst"
        }
        Ailment::AbortedForMemory => {
            "LINUX_MIB_TCPABORTONMEMORY: net/ipv4/tcp.c, net/ipv4/tcp_timer.c"
        }
        Ailment::Conntrack { .. } => {
            "net/netfilter/nf_conntrack_core.c: __nf_conntrack_alloc(); \
             Documentation/networking/nf_conntrack-sysctl.rst"
        }
        Ailment::Loss { .. } => "net/ipv4/tcp_output.c: __tcp_retransmit_skb(); RFC 6298",
        Ailment::Recycle => {
            "net/ipv4/tcp_input.c until Linux 4.11; removed by \"tcp: remove tcp_tw_recycle\""
        }
    }
}

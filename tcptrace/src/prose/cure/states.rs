//! The texts of the cures of other states than CLOSE_WAIT.

use super::{Cure, any, client, code, server};
use crate::engine::language::Language::{C, Go, Java, Node, Python};

const FIN_TIMEOUT: &str =
    "tcp_fin_timeout: it is for sockets that their program has closed; this one is held";
const ORPHANS: &str =
    "tcp_max_orphans: it bounds how many the kernel keeps, and resets those above";
const KILL: &str =
    "killing the process that closed: the connection has been the kernel's since then";

pub(super) const PEER_NOT_CLOSED: Cure = Cure {
    means: "This side has shut down its half of the connection, the peer has acknowledged that, \
            and for 30 s or more it has neither sent anything nor closed its own half. A process \
            here has the descriptor still, so no timer ends the wait.",
    look_for: &[
        any("the peer: its end is mostly in CLOSE_WAIT, and tcptrace there says why"),
        client(
            "a client that calls shutdown(SHUT_WR) after its request and waits for the answer \
                without a timeout",
        ),
        server(
            "a server that shuts down and waits for the client to close (a lingering close) \
                without a timeout",
        ),
        any("shutdown() where close() was meant: it keeps the descriptor"),
    ],
    in_code: &[
        code(Java, any("socket.setSoTimeout(30_000);  // then close(): the peer had its time")),
        code(
            Go,
            any("conn.SetReadDeadline(time.Now().Add(30 * time.Second))  // after CloseWrite"),
        ),
        code(Python, any("sock.settimeout(30)  # after shutdown(SHUT_WR); then close()")),
        code(Node, any("socket.setTimeout(30_000, () => socket.destroy())  // after end()")),
        code(C, any("shutdown(fd, SHUT_WR); if (poll(&p, 1, 30000) <= 0) close(fd);")),
    ],
    no_help: &[
        FIN_TIMEOUT,
        "tcp_tw_reuse: it is for TIME_WAIT",
        "keepalive: the peer's kernel answers as long as it is there",
    ],
};

pub(super) const FIN_UNACKNOWLEDGED: Cure = Cure {
    means: "This side has closed, and the peer acknowledges neither the FIN nor the data before \
            it: the kernel has sent the same again three times or more, or has waited a minute \
            for a window that is shut. It gives up by itself after tcp_orphan_retries, or \
            tcp_retries2 while a process has the socket.",
    look_for: &[
        any("a peer that vanished without a word: power, network, a firewall that forgot the \
             connection"),
        any("Send-Q above 1: data that the peer never took; it may believe the transfer whole"),
        any("with peer-not-reading besides: the peer's program doesn't read, and its kernel does \
             answer"),
    ],
    in_code: &[],
    no_help: &[
        KILL,
        ORPHANS,
        "tcp_fin_timeout: it begins once the FIN has been acknowledged (FIN_WAIT2)",
    ],
};

pub(super) const NO_ANSWER: Cure = Cure {
    means: "A SYN was sent, and sent again, and nothing came back: no SYN-ACK, no reset, and no \
            error that the kernel gives up for. connect() still waits, until tcp_syn_retries are \
            used up, by default after about two minutes.",
    look_for: &[
        any("a firewall or a security group that drops instead of refusing"),
        any("a host that isn't there, or a route that leads nowhere: ip route get ADDRESS"),
        any("a listener whose queue is full: it drops SYNs, too (nstat TcpExtListenDrops there)"),
        any("connect() without a timeout: each attempt holds a thread and a descriptor that long"),
    ],
    in_code: &[
        code(Java, any("socket.connect(address, 3_000);  // ms")),
        code(Go, any("d := net.Dialer{Timeout: 3 * time.Second}")),
        code(Python, any("socket.create_connection(address, timeout=3)")),
        code(Node, any("fetch(url, { signal: AbortSignal.timeout(3_000) })")),
        code(C, any("int n = 2; setsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &n, sizeof n);")),
    ],
    no_help: &[
        "keepalive: it begins when the connection is there",
        "tcp_tw_reuse, ip_local_port_range: the SYN was sent, so it had a port",
    ],
};

pub(super) const HANDSHAKE_UNFINISHED: Cure = Cure {
    means: "A SYN came, and the SYN-ACK was sent more than once without the answer that finishes \
            the handshake; with TCP_DEFER_ACCEPT the answer may have come, without data. No \
            process knows of the connection yet.",
    look_for: &[
        any("one remote network for all of them, or addresses that don't exist: a SYN flood"),
        any("a way back that differs from the way here: the SYN-ACK is dropped (rp_filter, a \
             firewall that saw no SYN, a load balancer that answers by itself)"),
        any("clients that gave up: a timeout shorter than the way there and back"),
    ],
    in_code: &[],
    no_help: &[
        "more workers or a restart: no program has seen these connections",
        "tcp_syncookies=0: a full queue then drops those who would finish, too",
    ],
};

pub(super) const QUEUE_FULL: Cure = Cure {
    means: "This listener's queue is full: either connections that are complete and that the \
            process hasn't accepted, or handshakes under way. The kernel drops what else comes, \
            and clients see timeouts; a full queue of handshakes it may answer with SYN cookies.",
    look_for: &[
        any("threads that all wait in the same call, so that nobody calls accept(): tcptrace \
             explain PID"),
        any("an accept loop that ended, or sleeps, after an error such as EMFILE"),
        any("a backlog that is too short for a burst: the application's own in listen(), which \
             net.core.somaxconn bounds"),
        any("handshakes that nobody finishes: handshake-unfinished, a SYN flood"),
    ],
    in_code: &[],
    no_help: &[
        "a longer backlog while nobody accepts: more connections wait for the same process",
        "net.core.somaxconn alone: a listener keeps the limit that it was given by listen()",
        "tcp_abort_on_overflow: clients get a reset instead of a timeout, and no more are served",
    ],
};

pub(super) const PEER_GONE: Cure = Cure {
    means: "The peer has acknowledged nothing for 30 s or more, though data were sent again three \
            times or more, or two probes or more were sent. It, or the way there, is gone. The \
            kernel ends the connection by itself, by tcp_retries2 or keepalive's settings.",
    look_for: &[
        any("the peer's host: switched off, moved, its address given to another"),
        any("a firewall, NAT or load balancer that forgot an idle connection and drops what comes"),
        any("a write that nobody waits for: the program believes it was sent, and has no timeout"),
    ],
    in_code: &[
        code(
            Java,
            any("channel.config().setOption(EpollChannelOption.TCP_USER_TIMEOUT, 30_000);  \
                        // Netty, epoll transport"),
        ),
        code(Go, any("unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30_000)")),
        code(Python, any("sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)")),
        code(
            C,
            any("int ms = 30000; setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);"),
        ),
    ],
    no_help: &[
        "keepalive while data wait to be acknowledged: retransmission decides then",
        "tcp_fin_timeout, tcp_tw_reuse: they are for connections that were closed",
    ],
};

pub(super) const PEER_NOT_READING: Cure = Cure {
    means: "The peer's window has been shut for a minute or more, and data wait here: its kernel \
            has no room, because its program doesn't read. As long as it answers the probes, the \
            kernel never gives up by itself.",
    look_for: &[
        any("the program at the peer: blocked, stopped (SIGSTOP, a debugger), or swamped"),
        server("a client that downloads and has paused, or reads slowly on purpose"),
        any("a write without a timeout: it holds a thread and its buffers as long as the peer \
             likes"),
    ],
    in_code: &[
        code(Java, any("pipeline.addLast(new WriteTimeoutHandler(30));  // Netty, seconds")),
        code(Go, any("conn.SetWriteDeadline(time.Now().Add(30 * time.Second))")),
        code(Python, any("await asyncio.wait_for(writer.drain(), 30)")),
        code(Node, any("socket.setTimeout(30_000, () => socket.destroy())")),
        code(
            C,
            any("struct timeval t = {30, 0}; setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, \
                     sizeof t);"),
        ),
    ],
    no_help: &[
        "keepalive: the peer's kernel answers",
        "larger send buffers (tcp_wmem, SO_SNDBUF): more waits here for the same reader",
    ],
};

pub(super) const IDLE_NO_KEEPALIVE: Cure = Cure {
    means: "Nothing has passed on this connection for two hours or more, and keepalive is off. It \
            may be in order. But if the peer vanished, nothing would tell this host: the process \
            would keep the descriptor until it writes, or for ever.",
    look_for: &[
        client("a pool without an idle timeout, or one that keeps what it never uses again"),
        client("a connection that nobody gave back or closed: the peer has no reason to close it"),
        server("no idle timeout: clients that lost power or network stay for ever"),
        any("a listener for events or notifications that never writes: it needs keepalive most"),
    ],
    in_code: &[
        code(Java, any("socket.setKeepAlive(true);")),
        code(Java, server("socket.setSoTimeout(3_600_000);  // idle for an hour: close it")),
        code(
            Java,
            client(
                "HttpClients.custom().evictIdleConnections(30, TimeUnit.SECONDS)  \
                           // HttpClient 4.4",
            ),
        ),
        code(
            Go,
            any("lc := net.ListenConfig{KeepAlive: 30 * time.Second}  // on by default; look \
                      for a negative one"),
        ),
        code(Python, any("sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)")),
        code(Node, any("socket.setKeepAlive(true, 60_000)")),
        code(C, any("int on = 1; setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);")),
    ],
    no_help: &[
        "tcp_keepalive_time and its like: they are for sockets that asked for keepalive",
        "tcp_retries2, TCP_USER_TIMEOUT: they count while something waits for an answer",
    ],
};

pub(super) const CLOSED_FIRST: Cure = Cure {
    means: "The connection is over, and this side sent its FIN first, or at the same time as the \
            peer. The kernel remembers its ends for 60 s, so that late packets of it are not \
            taken for a new one's. No process holds anything, and it is no leak.",
    look_for: &[
        client(
            "a new connection for each request to the same address and port: each takes a local \
                port for 60 s; reuse connections (keep-alive, a pool)",
        ),
        server("a server that closes first: its ports are not used up, only some memory"),
    ],
    in_code: &[],
    no_help: &[
        "tcp_fin_timeout: it is for FIN_WAIT2; TIME_WAIT lasts 60 s, whatever is set",
        "tcp_tw_recycle: gone since Linux 4.12; it broke clients behind NAT",
        "tcp_tw_reuse for a server: it is for new outgoing connections only, with timestamps",
        "a small tcp_max_tw_buckets: what is above is thrown away, and late packets meet nobody",
        "SO_LINGER with 0: a reset instead of a close, and data under way are lost",
    ],
};

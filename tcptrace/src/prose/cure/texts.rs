//! The texts of the cures.

use super::{Cure, any, client, code, server, states};
use crate::engine::{
    language::Language::{C, Go, Java, Node, Php, Python},
    verdict::Verdict,
};

const FIN_TIMEOUT: &str = "tcp_fin_timeout: it is for FIN_WAIT2, on the side that closed first";
const TIME_WAIT: &str =
    "tcp_tw_reuse: it is for TIME_WAIT, and tcp_tw_recycle is gone since Linux 4.12";
const KEEPALIVE: &str = "keepalive: while the peer answers, nothing changes; once it doesn't, the leak becomes a \
     ghost-fd and the descriptor stays open";
const RESTART: &str = "a restart: the leak comes back, and the evidence is gone";
const MORE_FDS: &str =
    "a higher descriptor limit (ulimit -n, LimitNOFILE): it only takes longer to reach";
const DESTROY: &str =
    "ss -K: it ends the connection, not the descriptor; the leak becomes a ghost-fd";

/// What is to be said of a verdict.
#[must_use]
pub const fn cure(verdict: Verdict) -> Cure {
    match verdict {
        Verdict::NeverAccepted => NEVER_ACCEPTED,
        Verdict::UnreadData => UNREAD_DATA,
        Verdict::UnreadFin => UNREAD_FIN,
        Verdict::EofNotClosed => EOF_NOT_CLOSED,
        Verdict::InheritedFd => INHERITED_FD,
        Verdict::HalfCloseInUse => HALF_CLOSE_IN_USE,
        Verdict::GhostFd => GHOST_FD,
        Verdict::Orphan => ORPHAN,
        Verdict::PeerNotClosed => states::PEER_NOT_CLOSED,
        Verdict::FinUnacknowledged => states::FIN_UNACKNOWLEDGED,
        Verdict::NoAnswer => states::NO_ANSWER,
        Verdict::HandshakeUnfinished => states::HANDSHAKE_UNFINISHED,
        Verdict::QueueFull => states::QUEUE_FULL,
        Verdict::PeerGone => states::PEER_GONE,
        Verdict::PeerNotReading => states::PEER_NOT_READING,
        Verdict::IdleNoKeepalive => states::IDLE_NO_KEEPALIVE,
        Verdict::ClosedFirst => states::CLOSED_FIRST,
    }
}

const NEVER_ACCEPTED: Cure = Cure {
    means: "The kernel completed the connection and queued it for the listener; the peer closed \
            before the program called accept(). The listening process accepts connections too \
            slowly, or not at all. Nobody has read what the peer sent.",
    look_for: &[
        any("threads that all wait in the same call: an exhausted pool of workers, each blocked \
             in a read, a lock or a query without a timeout"),
        any("a blocking call inside an event loop, which is also the loop that calls accept()"),
        any("an accept loop that ended, or sleeps, after an error such as EMFILE (no descriptors \
             left)"),
        any("peers whose timeout is shorter than the time a request waits here: a load balancer, \
             a health check"),
    ],
    in_code: &[
        code(
            Java,
            any("socket.setSoTimeout(30_000);  // a silent client gives its worker back: \
                 SocketTimeoutException"),
        ),
        code(Go, any("for { c, err := ln.Accept(); if err != nil { return err }; go handle(c) }")),
        code(
            Python,
            any("result = await asyncio.to_thread(blocking_call)  # or an executor: the loop \
                 keeps accepting"),
        ),
        code(
            Node,
            any("new Worker('./job.js')  // node:worker_threads: long computations off the event \
                 loop"),
        ),
        code(
            Php,
            any("request_terminate_timeout = 30s  ; php-fpm pool, with pm.max_children to match \
                 the load"),
        ),
        code(
            C,
            any("while ((fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) \
                 serve(fd);"),
        ),
    ],
    no_help: &[
        "a longer backlog (listen(), net.core.somaxconn): more connections wait for the same \
         process",
        FIN_TIMEOUT,
        TIME_WAIT,
        "keepalive: a connection that it finds dead stays in the queue until accept() takes it",
        RESTART,
    ],
};

const UNREAD_DATA: Cure = Cure {
    means: "The peer sent data and closed, and some of that data is still unread. The process \
            hasn't come back to read it. Its threads tell better than the socket whether it is \
            stuck or has forgotten the connection.",
    look_for: &[
        any("what the threads wait in: a call to another service, a lock or a pool without a \
             timeout"),
        any("a blocking call inside an event loop"),
        server(
            "a handler that stops reading: it has sent its answer early, or waits for something \
             else",
        ),
        client(
            "a response whose body is neither read nor discarded: error paths, unhandled status \
             codes",
        ),
        any("a stream that was paused for back-pressure and never resumed"),
        any("edge-triggered epoll and a read that stopped before EAGAIN"),
    ],
    in_code: &[
        code(
            Java,
            server("socket.setSoTimeout(30_000);  // on the connections that its workers wait for"),
        ),
        code(
            Java,
            client(
                "try (CloseableHttpResponse r = client.execute(get)) { \
                 EntityUtils.consume(r.getEntity()); }",
            ),
        ),
        code(Go, any("ctx, cancel := context.WithTimeout(ctx, 5*time.Second); defer cancel()")),
        code(Go, server("defer conn.Close()")),
        code(Go, client("defer resp.Body.Close()")),
        code(Python, server("with conn: serve(conn)  # conn, _ = listener.accept()")),
        code(
            Python,
            any("requests.get(url, timeout=(3, 10))  # without a timeout, requests waits for ever"),
        ),
        code(Python, any("result = await asyncio.to_thread(blocking_call)")),
        code(Node, server("socket.setTimeout(30_000, () => socket.destroy())")),
        code(
            Node,
            client(
                "res.resume()  // a response whose body is not wanted must be drained or \
                 destroyed",
            ),
        ),
        code(Php, any("stream_set_timeout($fp, 10);")),
        code(
            C,
            any("while ((n = read(fd, buf, sizeof buf)) > 0) use(buf, n); if (n == 0) close(fd);"),
        ),
    ],
    no_help: &[FIN_TIMEOUT, TIME_WAIT, KEEPALIVE, MORE_FDS, DESTROY, RESTART],
};

const UNREAD_FIN: Cure = Cure {
    means: "The process has read all data, but not the end of the stream: Recv-Q is 1, the peer's \
            FIN itself. It hasn't read from this socket since the peer closed, as is usual for a \
            connection that sits idle. A program that only peeked (MSG_PEEK, as PHP's feof() \
            does) has seen the end and still leaves Recv-Q at 1.",
    look_for: &[
        client("a pool of connections (HTTP, database) without idle timeout or eviction"),
        client(
            "a response that is read to its Content-Length, and then neither closed nor given \
             back",
        ),
        client(
            "a server whose keep-alive timeout is shorter than this client's: the client's should \
             be the shorter one",
        ),
        server("a connection that waits for its next request without an idle timeout"),
        server("a handler that has answered and kept the connection without reading on"),
        any("a descriptor that was taken out of the epoll or select set and not closed"),
    ],
    in_code: &[
        code(
            Java,
            server(
                "socket.setSoTimeout(30_000);  // then close(): an idle client costs no \
                 descriptor",
            ),
        ),
        code(
            Java,
            client(
                "HttpClients.custom().evictExpiredConnections().evictIdleConnections(30, \
                 TimeUnit.SECONDS)  // HttpClient 4.4",
            ),
        ),
        code(
            Java,
            client(
                "try (CloseableHttpResponse r = client.execute(get)) { \
                 EntityUtils.consume(r.getEntity()); }",
            ),
        ),
        code(
            Go,
            server("srv := &http.Server{IdleTimeout: time.Minute}  // or conn.SetReadDeadline"),
        ),
        code(Go, client("defer resp.Body.Close()")),
        code(Go, client("db.SetConnMaxIdleTime(30 * time.Second)")),
        code(
            Python,
            server("conn.settimeout(30)  # with conn: … closes it after the TimeoutError"),
        ),
        code(Python, client("with requests.get(url, stream=True) as r: use(r)")),
        code(
            Python,
            client("create_engine(url, pool_pre_ping=True, pool_recycle=300)  # SQLAlchemy"),
        ),
        code(Node, server("socket.setTimeout(30_000, () => socket.destroy())")),
        code(Node, client("res.resume()  // a paused socket does not see the end")),
        code(Php, any("if (feof($fp)) { fclose($fp); }")),
        code(
            C,
            any(
                "if (ev.events & EPOLLRDHUP) { /* asked for in epoll_ctl(): the peer closed; read \
                 the rest, then */ close(fd); }",
            ),
        ),
    ],
    no_help: &[FIN_TIMEOUT, TIME_WAIT, KEEPALIVE, MORE_FDS, DESTROY, RESTART],
};

const EOF_NOT_CLOSED: Cure = Cure {
    means: "The process has read the stream to its end, but the descriptor is still open: a \
            close() is missing or late. If the FIN had already arrived when the last recv() ran, \
            that call returned data, not 0: the program may not know that the stream has ended.",
    look_for: &[
        any("a path without close(): an early return, an exception, an error that is handled \
             elsewhere"),
        server(
            "a handler that ends without close(), or a list or map that keeps the connections it \
             served",
        ),
        client("a response object that is kept alive (a list, a cache, a closure)"),
        client("closing that is left to the garbage collector"),
        any("a loop that reads until it has what it wants, and never until 0"),
    ],
    in_code: &[
        code(Java, server("try (Socket s = server.accept()) { serve(s); }")),
        code(
            Java,
            client(
                "try (CloseableHttpResponse r = client.execute(get)) { \
                 EntityUtils.consume(r.getEntity()); }",
            ),
        ),
        code(Go, server("defer conn.Close()")),
        code(
            Go,
            client(
                "resp, err := client.Do(req); if err != nil { return err }; defer \
                 resp.Body.Close()",
            ),
        ),
        code(Python, server("with conn: serve(conn)  # conn, _ = listener.accept()")),
        code(Python, client("with requests.get(url, stream=True) as r: use(r)")),
        code(Python, client("with socket.create_connection(address) as s: use(s)")),
        code(Python, any("writer.close(); await writer.wait_closed()  # asyncio streams")),
        code(
            Node,
            any("socket.on('end', () => socket.end())  // needed where allowHalfOpen is true"),
        ),
        code(Php, any("fclose($fp);")),
        code(
            Php,
            client("unset($ch);  // since PHP 8.0 curl_close() does nothing: the handle must go"),
        ),
        code(C, any("if ((n = read(fd, buf, sizeof buf)) == 0) close(fd);")),
    ],
    no_help: &[FIN_TIMEOUT, TIME_WAIT, KEEPALIVE, MORE_FDS, DESTROY, RESTART],
};

const INHERITED_FD: Cure = Cure {
    means: "More than one process got a descriptor for this connection, and it ends only when the \
            last of them is closed. One may well have called close(): while another keeps what it \
            inherited, that sends nothing to the peer. shutdown() acts on the connection itself, \
            whoever else holds it.",
    look_for: &[
        server(
            "a parent that forks for each connection and doesn't close its own descriptor \
             afterwards",
        ),
        client(
            "workers forked after the connection was opened: a database connection made before \
             the fork",
        ),
        any(
            "a program that starts others (exec, a shell, a daemon) with descriptors that are not \
             close-on-exec",
        ),
        any("a descriptor that was passed over a unix socket and kept by the sender"),
    ],
    in_code: &[
        code(
            Java,
            any("// the JDK closes descriptors in children: look at native code and at who \
                 started the JVM"),
        ),
        code(
            Go,
            any("// Go opens with O_CLOEXEC: look at cmd.ExtraFiles, and close what conn.File() \
                 returned"),
        ),
        code(
            Python,
            server(
                "conn.close()  # in the parent, after os.fork() or Process.start() with the fork \
                 method",
            ),
        ),
        code(
            Python,
            client("engine.dispose(close=False)  # SQLAlchemy: in each worker, after the fork"),
        ),
        code(
            Python,
            any("subprocess.Popen(cmd, close_fds=True)  # the default; look for False and \
                 pass_fds"),
        ),
        code(Node, server("child.send('conn', socket)  // without { keepOpen: true }")),
        code(Php, server("if (pcntl_fork() > 0) { fclose($conn); }")),
        code(C, server("if (fork() > 0) close(conn);  /* the parent */")),
        code(C, server("accept4(l, NULL, NULL, SOCK_CLOEXEC);")),
        code(C, client("socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);")),
        code(
            C,
            any(
                "shutdown(conn, SHUT_RDWR); close(conn);  /* ends the connection for every holder \
                 */",
            ),
        ),
    ],
    no_help: &[
        "another close() in a process that has closed already: another process keeps the \
         connection open",
        FIN_TIMEOUT,
        TIME_WAIT,
        KEEPALIVE,
        "a restart of one holder: the others keep the connection",
    ],
};

const HALF_CLOSE_IN_USE: Cure = Cure {
    means: "The peer has said that it will send no more, but it still takes what we send: data \
            went out after its FIN, or is waiting to be taken. That is what a half-close is for; \
            it isn't a leak.",
    look_for: &[any(
        "nothing, unless it is still there when the transfer should long be over: then a peer \
             that takes data too slowly",
    )],
    in_code: &[],
    no_help: &[],
};

const GHOST_FD: Cure = Cure {
    means: "The connection is over (reset, destroyed, or finished by both sides), but the \
            descriptor is still open. ss and netstat don't show it, and it still counts against \
            the descriptor limit.",
    look_for: &[
        any("error paths: ECONNRESET, EPIPE or ETIMEDOUT that is logged and not followed by \
             close()"),
        any("EPOLLHUP and EPOLLERR that are ignored, or a descriptor that is in no epoll set any \
             more"),
        any("shutdown() where close() was meant: it keeps the descriptor"),
        client("a pool that never tests its connections: it finds out only when it uses one again"),
        any("a CLOSE_WAIT leak whose connections were ended by keepalive, a firewall or ss -K"),
    ],
    in_code: &[
        code(
            Java,
            server(
                "try (Socket s = server.accept()) { serve(s); }  // closes after an IOException \
                 too",
            ),
        ),
        code(
            Java,
            client("try (Socket s = connect()) { use(s); }  // closes after an IOException too"),
        ),
        code(Go, any("defer conn.Close()  // right after the error check of Dial or Accept")),
        code(Python, server("with conn: serve(conn)  # closes after an OSError too")),
        code(
            Python,
            client(
                "with socket.create_connection(address) as s: use(s)  # closes after an OSError \
                 too",
            ),
        ),
        code(Node, any("socket.on('error', () => socket.destroy())")),
        code(Php, any("if (@fwrite($fp, $data) === false) { fclose($fp); }")),
        code(C, any("if (n < 0 && errno != EAGAIN && errno != EINTR) close(fd);")),
        code(C, any("if (ev.events & (EPOLLHUP | EPOLLERR)) close(fd);")),
    ],
    no_help: &[
        "any TCP sysctl, keepalive or ss -K: there is no connection left for them to act on",
        MORE_FDS,
        RESTART,
    ],
};

const ORPHAN: Cure = Cure {
    means: "No process has a descriptor for it, and it is in no listener's queue: the kernel is \
            cleaning it up. In FIN_WAIT2 it waits tcp_fin_timeout for the peer's FIN.",
    look_for: &[any("nothing here; if there are many, a program that closes its listener while \
             connections wait")],
    in_code: &[],
    no_help: &[],
};

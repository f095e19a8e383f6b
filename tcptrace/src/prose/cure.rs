//! What a verdict means, what to look for in the code, how the cure is usually spelled, and what
//! does not help. `docs/verdicts.md` says the same at length.

use crate::engine::{language::Language, verdict::Verdict};

/// What is to be said of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cure {
    /// What happened, no more than the evidence shows.
    pub means: &'static str,
    /// What to look for in the program that is named.
    pub look_for: &'static [&'static str],
    /// The usual spelling, by language; a language may have several.
    pub in_code: &'static [(Language, &'static str)],
    /// What is often tried and changes nothing.
    pub no_help: &'static [&'static str],
}

impl Cure {
    /// [`Self::in_code`], those of one language first.
    #[must_use]
    pub fn in_code_for(&self, first: Option<Language>) -> Vec<(Language, &'static str)> {
        let mut list = self.in_code.to_vec();
        list.sort_by_key(|(language, _)| Some(*language) != first);
        list
    }
}

const FIN_TIMEOUT: &str = "tcp_fin_timeout: it is about FIN_WAIT2, on the side that closed first";
const TIME_WAIT: &str =
    "tcp_tw_reuse: it is about TIME_WAIT, and tcp_tw_recycle is gone since Linux 4.12";
const KEEPALIVE: &str = "keepalive: a peer that answers keeps the connection as it is; where it \
                         is gone, the leak becomes a ghost-fd and the descriptor stays";
const RESTART: &str =
    "a restart: it hides the leak until it is back, and takes the evidence with it";
const MORE_FDS: &str = "a higher descriptor limit (ulimit -n, LimitNOFILE): it is reached later";
const DESTROY: &str =
    "ss -K: it ends the connection, not the descriptor; the leak becomes a ghost-fd";

/// What is to be said of a verdict.
#[must_use]
pub const fn cure(verdict: Verdict) -> Cure {
    use Language::{C, Go, Java, Node, Php, Python};
    match verdict {
        Verdict::NeverAccepted => Cure {
            means: "The kernel completed the connection and put it in the listener's queue; the \
                    peer closed before the program called accept(). The process that holds the \
                    listener does not take connections as fast as they come, or not at all. What \
                    was sent on this one nobody has read.",
            look_for: &[
                "threads that all wait in the same call: a pool of workers that is used up, each \
                 blocked in a read, a lock or a query without a timeout",
                "a blocking call inside an event loop: accept() comes from the same loop",
                "an accept loop that ended or sleeps after an error, such as EMFILE (descriptors \
                 used up)",
                "peers with a timeout shorter than the time a request waits here: a load \
                 balancer, a health check",
            ],
            in_code: &[
                (
                    Java,
                    "socket.setSoTimeout(30_000);  // a silent client gives its worker back: \
                     SocketTimeoutException",
                ),
                (Go, "for { c, err := ln.Accept(); if err != nil { return err }; go handle(c) }"),
                (
                    Python,
                    "result = await asyncio.to_thread(blocking_call)  # or an executor: the loop \
                     goes on accepting",
                ),
                (
                    Node,
                    "new Worker('./job.js')  // node:worker_threads: long computation off the \
                     event loop",
                ),
                (
                    Php,
                    "request_terminate_timeout = 30s  ; php-fpm pool, with pm.max_children to \
                     match the load",
                ),
                (
                    C,
                    "while ((fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) \
                     serve(fd);",
                ),
            ],
            no_help: &[
                "a longer backlog (listen(), net.core.somaxconn): more connections wait for the \
                 same process",
                FIN_TIMEOUT,
                TIME_WAIT,
                "keepalive: a connection that it finds dead stays in the queue until accept() \
                 takes it",
                RESTART,
            ],
        },
        Verdict::UnreadData => Cure {
            means: "The peer sent data and closed, and bytes of it are still unread. The program \
                    has not come back to read them. Whether it is stuck or has forgotten the \
                    connection, its threads tell better than the socket.",
            look_for: &[
                "what the threads wait in: a call to another service, a lock or a pool without a \
                 timeout",
                "a blocking call inside an event loop",
                "a response whose body is not read or given up: error paths, status codes that \
                 nobody handles",
                "a stream that was paused for back-pressure and not resumed",
                "edge-triggered epoll and a read that stopped before EAGAIN",
            ],
            in_code: &[
                (
                    Java,
                    "try (CloseableHttpResponse r = client.execute(get)) { \
                     EntityUtils.consume(r.getEntity()); }",
                ),
                (
                    Java,
                    "socket.setSoTimeout(30_000);  // on the connections that its workers wait for",
                ),
                (Go, "ctx, cancel := context.WithTimeout(ctx, 5*time.Second); defer cancel()"),
                (Go, "defer resp.Body.Close()"),
                (
                    Python,
                    "requests.get(url, timeout=(3, 10))  # without it requests waits for ever",
                ),
                (Python, "result = await asyncio.to_thread(blocking_call)"),
                (
                    Node,
                    "res.resume()  // a response whose body is not wanted must be drained or \
                     destroyed",
                ),
                (Php, "stream_set_timeout($fp, 10);"),
                (
                    C,
                    "while ((n = read(fd, buf, sizeof buf)) > 0) use(buf, n); if (n == 0) \
                     close(fd);",
                ),
            ],
            no_help: &[FIN_TIMEOUT, TIME_WAIT, KEEPALIVE, MORE_FDS, DESTROY, RESTART],
        },
        Verdict::UnreadFin => Cure {
            means: "All data was read; the end of the stream was not: Recv-Q is 1, the FIN \
                    itself. No read has reached it since the peer closed, as is usual for a \
                    connection that lies idle in a pool. A program that only peeked (MSG_PEEK, as \
                    PHP's feof() does) was told of the end and leaves Recv-Q at 1 too.",
            look_for: &[
                "a pool of connections (HTTP, database) without idle timeout or eviction",
                "a response read to its Content-Length and then neither closed nor given back",
                "a descriptor that was taken out of the epoll or select set and not closed",
                "a peer whose keep-alive timeout is shorter than ours: let ours be the shorter one",
            ],
            in_code: &[
                (
                    Java,
                    "HttpClients.custom().evictExpiredConnections().evictIdleConnections(30, \
                     TimeUnit.SECONDS)  // HttpClient 4.4",
                ),
                (
                    Java,
                    "try (CloseableHttpResponse r = client.execute(get)) { \
                     EntityUtils.consume(r.getEntity()); }",
                ),
                (Go, "defer resp.Body.Close()"),
                (Go, "db.SetConnMaxIdleTime(30 * time.Second)"),
                (Python, "with requests.get(url, stream=True) as r: use(r)"),
                (Python, "create_engine(url, pool_pre_ping=True, pool_recycle=300)  # SQLAlchemy"),
                (Node, "res.resume()  // a paused socket does not see the end"),
                (Php, "if (feof($fp)) { fclose($fp); }"),
                (
                    C,
                    "if (ev.events & EPOLLRDHUP) { /* asked for in epoll_ctl(): the peer closed; \
                     read the rest, then */ close(fd); }",
                ),
            ],
            no_help: &[FIN_TIMEOUT, TIME_WAIT, KEEPALIVE, MORE_FDS, DESTROY, RESTART],
        },
        Verdict::EofNotClosed => Cure {
            means: "The stream was read to its end, and the descriptor is still open: a close() \
                    is missing or late. A recv() that runs after the FIN has come takes the last \
                    data and the FIN at once: the program may never have been told of the end by \
                    a 0.",
            look_for: &[
                "a path without close(): an early return, an exception, a status code that is \
                 handled elsewhere",
                "a response object that is kept alive (a list, a cache, a closure)",
                "a loop that reads until it has what it wants and never until 0",
                "a client that leaves closing to the garbage collector",
            ],
            in_code: &[
                (Java, "try (Socket s = server.accept()) { serve(s); }"),
                (
                    Java,
                    "try (CloseableHttpResponse r = client.execute(get)) { \
                     EntityUtils.consume(r.getEntity()); }",
                ),
                (
                    Go,
                    "resp, err := client.Do(req); if err != nil { return err }; defer \
                     resp.Body.Close()",
                ),
                (Go, "defer conn.Close()"),
                (Python, "with requests.get(url, stream=True) as r: use(r)"),
                (Python, "writer.close(); await writer.wait_closed()  # asyncio streams"),
                (
                    Node,
                    "socket.on('end', () => socket.end())  // needed where allowHalfOpen is true",
                ),
                (Php, "fclose($fp);"),
                (
                    Php,
                    "unset($ch);  // since PHP 8.0 curl_close() does nothing: the handle must go",
                ),
                (C, "if ((n = read(fd, buf, sizeof buf)) == 0) close(fd);"),
            ],
            no_help: &[FIN_TIMEOUT, TIME_WAIT, KEEPALIVE, MORE_FDS, DESTROY, RESTART],
        },
        Verdict::InheritedFd => Cure {
            means: "Several processes have a descriptor for this connection, and it ends when the \
                    last of them is closed. One of them may well have called close(): that drops \
                    a reference and sends nothing while another is left. shutdown() acts on the \
                    connection itself, whoever else holds it.",
            look_for: &[
                "a parent that forks for each connection and does not close its own descriptor \
                 afterwards",
                "a program that starts others (exec, a shell, a daemon) with descriptors that are \
                 not close-on-exec",
                "workers forked after the connection was opened: a database connection made \
                 before the fork",
                "a descriptor that was passed over a unix socket and kept by the sender",
            ],
            in_code: &[
                (
                    Java,
                    "// the JDK closes descriptors in children: look at native code and at who \
                     started the JVM",
                ),
                (
                    Go,
                    "// Go opens with O_CLOEXEC: look at cmd.ExtraFiles, and close what \
                     conn.File() returned",
                ),
                (
                    Python,
                    "conn.close()  # in the parent, after os.fork() or Process.start() with the \
                     fork method",
                ),
                (
                    Python,
                    "subprocess.Popen(cmd, close_fds=True)  # the default; look for False and \
                     pass_fds",
                ),
                (Node, "child.send('conn', socket)  // without { keepOpen: true }"),
                (Php, "if (pcntl_fork() > 0) { fclose($conn); }"),
                (C, "if (fork() > 0) close(conn);  /* the parent */"),
                (
                    C,
                    "shutdown(conn, SHUT_RDWR); close(conn);  /* ends the connection for every \
                     holder */",
                ),
                (
                    C,
                    "accept4(l, NULL, NULL, SOCK_CLOEXEC); socket(AF_INET, SOCK_STREAM | \
                     SOCK_CLOEXEC, 0);",
                ),
            ],
            no_help: &[
                "another close() in a process that has closed already: the reference that counts \
                 is elsewhere",
                FIN_TIMEOUT,
                TIME_WAIT,
                KEEPALIVE,
                "a restart of one holder: the others keep the connection",
            ],
        },
        Verdict::HalfCloseInUse => Cure {
            means: "The peer said that it sends no more, and still takes what we send: data went \
                    out after its FIN, or waits to be taken. That is what half-closing is for, \
                    and no leak.",
            look_for: &["nothing, unless it stays when the transfer should long be over: then a \
                         peer that takes data too slowly"],
            in_code: &[],
            no_help: &[],
        },
        Verdict::GhostFd => Cure {
            means: "The connection is over (a reset came, it was destroyed, or both sides \
                    finished) and the descriptor is still open. ss and netstat show nothing; the \
                    descriptor still counts against the limit.",
            look_for: &[
                "error paths: ECONNRESET, EPIPE or ETIMEDOUT that is logged and not followed by \
                 close()",
                "EPOLLHUP and EPOLLERR that are ignored, or a descriptor that is in no epoll set \
                 any more",
                "shutdown() where close() was meant: it keeps the descriptor",
                "a CLOSE_WAIT leak whose connections keepalive, a firewall or ss -K has ended",
            ],
            in_code: &[
                (
                    Java,
                    "try (Socket s = connect()) { use(s); }  // closes after an IOException too",
                ),
                (Go, "defer conn.Close()  // right after the error check of Dial or Accept"),
                (
                    Python,
                    "with socket.create_connection(address) as s: use(s)  # closes after an \
                     OSError too",
                ),
                (Node, "socket.on('error', () => socket.destroy())"),
                (Php, "if (@fwrite($fp, $data) === false) { fclose($fp); }"),
                (C, "if (n < 0 && errno != EAGAIN && errno != EINTR) close(fd);"),
                (C, "if (ev.events & (EPOLLHUP | EPOLLERR)) close(fd);"),
            ],
            no_help: &[
                "any TCP sysctl, keepalive or ss -K: there is no connection left for them to act \
                 on",
                MORE_FDS,
                RESTART,
            ],
        },
        Verdict::Orphan => Cure {
            means: "No process has a descriptor for it and no listener's queue holds it: the \
                    kernel is taking it down by itself.",
            look_for: &[
                "nothing here; if there are many, who closes its listener while connections wait",
            ],
            in_code: &[],
            no_help: &[],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/verdicts.md"));

    /// From a verdict's heading to the next.
    fn section(verdict: Verdict) -> &'static str {
        let heading = format!("\n## {}\n", verdict.name());
        let (_, after) = DOCUMENT
            .split_once(&heading)
            .unwrap_or_else(|| panic!("docs/verdicts.md: no {heading:?}"));
        after.split("\n## ").next().unwrap_or_default()
    }

    /// Lines are wrapped there as they are here.
    fn one_line(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_document_has_each_verdict_and_its_code() {
        for verdict in Verdict::ALL {
            let section = section(verdict);
            for word in ["**Evidence**", "**Means**", "**In `ss`**"] {
                assert!(section.contains(word), "{}: {word}", verdict.name());
            }
            for (language, code) in cure(verdict).in_code {
                let item = one_line(&format!("- {}: `{code}`", language.name()));
                assert!(
                    one_line(section).contains(&item),
                    "docs/verdicts.md, {}: {item}",
                    verdict.name()
                );
            }
        }
        assert_eq!(
            DOCUMENT.matches("\n## ").count(),
            Verdict::ALL.len() + 2,
            "what helps nobody, and sources"
        );
    }

    #[test]
    fn every_leak_has_a_cure() {
        for verdict in Verdict::ALL {
            let cure = cure(verdict);
            let leak = !matches!(verdict, Verdict::HalfCloseInUse | Verdict::Orphan);
            assert!(
                (2..=3).contains(&cure.means.matches(['.']).count()) || !leak,
                "{}: a few sentences",
                verdict.name()
            );
            assert_eq!(
                (!cure.in_code.is_empty(), !cure.no_help.is_empty()),
                (leak, leak),
                "{}",
                verdict.name()
            );
            assert!(!cure.look_for.is_empty());
            for text in cure.in_code.iter().map(|(_, code)| *code).chain([cure.means]) {
                assert!(
                    !text.contains(['\n', '`']) && !text.contains("        "),
                    "one line: {text}"
                );
            }
        }
    }

    #[test]
    fn the_programs_own_language_comes_first() {
        let cure = cure(Verdict::EofNotClosed);
        let order = cure.in_code_for(Some(Language::Php));
        assert_eq!(
            order.iter().map(|(l, _)| *l).take(3).collect::<Vec<_>>(),
            [Language::Php, Language::Php, Language::Java]
        );
        assert_eq!(cure.in_code_for(None), cure.in_code);
    }
}

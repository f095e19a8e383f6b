//! Why a socket sits where it sits: evidence in, verdict out. A verdict never claims more than its
//! evidence shows.

use tcptrace_common::state::TcpState;

use super::event::{HolderSource, Record};

/// The words are the interface: the same in table, JSON, metrics and documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// The peer gave up while the connection sat in the accept queue.
    NeverAccepted,
    /// Accepted, and bytes wait that nobody came to read.
    UnreadData,
    /// All data read, the end of the stream not.
    UnreadFin,
    /// Read to the end and still open.
    EofNotClosed,
    /// Several processes hold it.
    InheritedFd,
    /// The peer closed one direction and still takes what is sent.
    HalfCloseInUse,
    /// The connection is gone, the descriptor is not.
    GhostFd,
    /// Nobody holds it.
    Orphan,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 8] = [
        Self::NeverAccepted,
        Self::UnreadData,
        Self::UnreadFin,
        Self::EofNotClosed,
        Self::InheritedFd,
        Self::HalfCloseInUse,
        Self::GhostFd,
        Self::Orphan,
    ];

    /// As the interface spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NeverAccepted => "never-accepted",
            Self::UnreadData => "unread-data",
            Self::UnreadFin => "unread-fin",
            Self::EofNotClosed => "eof-not-closed",
            Self::InheritedFd => "inherited-fd",
            Self::HalfCloseInUse => "half-close-in-use",
            Self::GhostFd => "ghost-fd",
            Self::Orphan => "orphan",
        }
    }

    /// Whether it is a program's not having closed.
    #[must_use]
    pub const fn is_leak(self) -> bool {
        !matches!(self, Self::HalfCloseInUse | Self::Orphan)
    }

    /// Whether it is one holder's not having closed: what a second holder explains better.
    #[must_use]
    pub const fn is_unclosed(self) -> bool {
        matches!(self, Self::UnreadData | Self::UnreadFin | Self::EofNotClosed)
    }

    /// What to do, in a line.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::NeverAccepted => {
                "the listening process does not call accept(): look at what its threads wait in, or give it more workers; no sysctl helps"
            }
            Self::UnreadData => {
                "data wait and the process does not come back to read them: look for a blocked event loop or a used-up thread pool; then read to the end and close()"
            }
            Self::UnreadFin => {
                "all data was read, the end of the stream was not: an idle or pooled connection that nobody looks at; close idle connections, or test them before use"
            }
            Self::EofNotClosed => {
                "the stream was read to its end and the descriptor is still open: look for a missing close() (finally, defer, with, try-with-resources) on this path; no sysctl helps"
            }
            Self::InheritedFd => {
                "several processes hold this socket, and the connection ends when the last one calls close(): close it in the process that does not serve it, or open it with SOCK_CLOEXEC"
            }
            Self::HalfCloseInUse => "the peer sends no more but still receives: a deliberate half-close, not a leak",
            Self::GhostFd => {
                "the connection is over (a reset, or a shutdown() that both sides finished) and its descriptor is still open, invisible to ss and netstat: close() it"
            }
            Self::Orphan => "no process holds it: the kernel is taking it down by itself",
        }
    }
}

/// Judges a record: the verdict that explains most first, then what holds besides; or why there is
/// none. `all_seen`: every process of the host was asked for its descriptors.
///
/// # Errors
/// The reason why nothing can be said.
pub fn judge(record: &Record, all_seen: bool) -> Result<(Verdict, Vec<Verdict>), &'static str> {
    match record.state {
        TcpState::Close if record.holder_source == HolderSource::FdTable => {
            return match record.connection.remote.port() {
                0 => Err("it was never connected"),
                _ => Ok((Verdict::GhostFd, Vec::new())),
            };
        }
        TcpState::CloseWait => {}
        _ => return Err("verdicts are about CLOSE_WAIT, and about CLOSE with an open descriptor"),
    }
    if record.evidence.accepted == Some(false) {
        return match record.listener {
            Some(_) => Ok((Verdict::NeverAccepted, Vec::new())),
            None if all_seen => Ok((Verdict::Orphan, Vec::new())),
            None => Err("not every process can be seen from here"),
        };
    }
    let mut verdicts = Vec::new();
    if in_use(record) {
        verdicts.push(Verdict::HalfCloseInUse);
    }
    let mut processes: Vec<u32> = record.holders.iter().map(|h| h.process.pid).collect();
    processes.sort_unstable();
    processes.dedup();
    if processes.len() > 1 {
        verdicts.push(Verdict::InheritedFd);
    }
    match record.evidence.recv_q {
        Some(0) => verdicts.push(Verdict::EofNotClosed),
        Some(1) => verdicts.push(Verdict::UnreadFin),
        Some(_) => verdicts.push(Verdict::UnreadData),
        None => {}
    }
    if verdicts.is_empty() {
        return Err("the socket's queues could not be read");
    }
    let primary = verdicts.remove(0);
    Ok((primary, verdicts))
}

/// Who sent nothing for so long does not use its half of the connection any more.
const IN_USE_NS: u64 = 30_000_000_000;
/// The kernel's stamps are this coarse, and an answer takes a moment.
const SLACK_NS: u64 = 1_000_000_000;

/// Data wait for the peer to take them (the send queue may be full and nothing move for a while),
/// or were sent not long ago and after the FIN. Of a socket that was there before tracing, the FIN
/// is only known to lie in an interval: what may have been sent after it gets the benefit of the
/// doubt, for as long.
fn in_use(record: &Record) -> bool {
    if record.evidence.send_q.unwrap_or(0) > 0 {
        return true;
    }
    let Some(sent_ago_ns) = record.evidence.sent_ago_ns else { return false };
    let after_the_fin = match record.evidence.bytes_sent_since_fin {
        Some(bytes) => bytes > 0,
        None => record.age(record.seen_ns).max_ns.is_none_or(|max| max > sent_ago_ns.saturating_add(SLACK_NS)),
    };
    after_the_fin && sent_ago_ns < IN_USE_NS
}

//! Why a socket sits where it sits: evidence in, verdict out. A verdict never claims more than its
//! evidence shows.

use tcptrace_common::state::TcpState;

use super::event::{Evidence, HolderSource, Record};

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

    /// What to do, in a line.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::NeverAccepted => {
                "the listening process does not call accept(): look at what its threads wait in, or give it more workers; no sysctl helps"
            }
            Self::UnreadData => {
                "the process accepted and does not come back to read: look for a blocked event loop or a used-up thread pool; then read to the end and close()"
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
                "the connection was reset and its descriptor is still open, invisible to ss and netstat: close() it when a read or write fails"
            }
            Self::Orphan => "no process holds it: the kernel is taking it down by itself",
        }
    }
}

/// Judges a record: the verdict that explains most first, then what holds besides; or why there is
/// none. `sent_before`: the bytes sent since the FIN as of the look before, where there was one.
///
/// # Errors
/// The reason why nothing can be said.
pub fn judge(record: &Record, sent_before: Option<u64>) -> Result<(Verdict, Vec<Verdict>), &'static str> {
    match record.state {
        TcpState::Close if record.holder_source == HolderSource::FdTable => return Ok((Verdict::GhostFd, Vec::new())),
        TcpState::CloseWait => {}
        _ => return Err("verdicts are about CLOSE_WAIT, and about CLOSE with an open descriptor"),
    }
    if record.evidence.accepted == Some(false) {
        let verdict = if record.listener.is_some() { Verdict::NeverAccepted } else { Verdict::Orphan };
        return Ok((verdict, Vec::new()));
    }
    let mut verdicts = Vec::new();
    if in_use(&record.evidence, sent_before) {
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

/// Data flowed since the last look, or wait for the peer to take them: the send queue may be full
/// and nothing move for a while.
fn in_use(evidence: &Evidence, sent_before: Option<u64>) -> bool {
    let sent = evidence.bytes_sent_since_fin.unwrap_or(0);
    sent > sent_before.unwrap_or(0) || evidence.send_q.unwrap_or(0) > 0
}

//! What to do about each verdict, in a line.

use std::collections::BTreeMap;

use crate::engine::verdict::Verdict;

/// What to do about each of the verdicts that were counted, by name; of each once, however many
/// sockets have it.
pub fn advice(
    counts: &BTreeMap<&'static str, u64>,
) -> impl Iterator<Item = (Verdict, &'static str)> {
    let given = Verdict::ALL.into_iter().filter(|verdict| counts.contains_key(verdict.name()));
    given.map(|verdict| (verdict, verdict.advice()))
}

impl Verdict {
    /// What to do, in a line.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::NeverAccepted => {
                "the listening process does not call accept(): look at what its threads wait in, \
                 or give it more workers; no sysctl helps"
            }
            Self::UnreadData => {
                "data wait and the process does not come back to read them: look for a blocked \
                 event loop or a used-up thread pool; then read to the end and close()"
            }
            Self::UnreadFin => {
                "all data was read, the end of the stream was not: an idle or pooled connection \
                 that nobody looks at; close idle connections, or test them before use"
            }
            Self::EofNotClosed => {
                "the stream was read to its end and the descriptor is still open: look for a \
                 missing close() (finally, defer, with, try-with-resources) on this path; no \
                 sysctl helps"
            }
            Self::InheritedFd => {
                "several processes hold this socket, and the connection ends when the last one \
                 calls close(): close it in the process that does not serve it, or open it with \
                 SOCK_CLOEXEC"
            }
            Self::HalfCloseInUse => {
                "the peer sends no more but still receives: a deliberate half-close, not a leak"
            }
            Self::GhostFd => {
                "the connection is over (a reset, or a shutdown() that both sides finished) and \
                 its descriptor is still open, invisible to ss and netstat: close() it"
            }
            Self::Orphan => "no process holds it: the kernel is taking it down by itself",
        }
    }
}

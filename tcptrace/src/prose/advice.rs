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
                "the process isn't calling accept(): see what its threads are waiting for, or give \
                 it more workers; no sysctl helps"
            }
            Self::UnreadData => {
                "unread data is waiting; the process isn't reading it: look for a blocked event \
                 loop or an exhausted thread pool, then read to the end and close()"
            }
            Self::UnreadFin => {
                "the process has read all data but hasn't noticed that the peer closed, as is \
                 usual for idle and pooled connections: close idle ones, or test them before use"
            }
            Self::EofNotClosed => {
                "the process has read everything and hasn't closed the socket: look for a missing \
                 close() (finally, defer, with, try-with-resources); no sysctl helps"
            }
            Self::InheritedFd => {
                "a process that doesn't serve this connection has inherited its descriptor, and it \
                 ends only when the last holder calls close(): close it there, or open it with \
                 SOCK_CLOEXEC"
            }
            Self::HalfCloseInUse => {
                "the peer has finished sending but is still receiving: a deliberate half-close, \
                 not a leak"
            }
            Self::GhostFd => {
                "the connection is over (reset, or shut down by both sides) but its descriptor is \
                 still open, and ss and netstat don't show it: close() it"
            }
            Self::Orphan => "no process holds it: the kernel is cleaning it up",
        }
    }
}

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
            Self::PeerNotClosed => {
                "this side has shut down its half, and the peer hasn't closed its own: look there \
                 (it may be in CLOSE_WAIT), or close() here once no answer is expected"
            }
            Self::FinUnacknowledged => {
                "this side has closed, and the peer acknowledges neither that nor the data before \
                 it: look at the network and at the peer; the kernel gives up by itself"
            }
            Self::NoAnswer => {
                "nobody answers at that address and port: look at routes and firewalls, and \
                 whether that host is there; bound connect() with a timeout"
            }
            Self::HandshakeUnfinished => {
                "whoever sent these SYNs doesn't answer the SYN-ACK: a client that is gone, a way \
                 back that drops packets, or a SYN flood; the kernel gives up by itself"
            }
            Self::QueueFull => {
                "the listener has no room for another connection: its process accepts too slowly, \
                 or not at all; look there before making the backlog longer"
            }
            Self::PeerGone => {
                "the peer acknowledges nothing, though it is asked again and again: look at that \
                 host and the way there; the kernel gives up by itself, in minutes"
            }
            Self::PeerNotReading => {
                "the peer's kernel answers, but its program doesn't read: look at the program \
                 there, and bound how long a write may take here"
            }
            Self::IdleNoKeepalive => {
                "nothing has passed for hours, and without keepalive nothing would show that the \
                 peer is gone: set SO_KEEPALIVE or an idle timeout, and close what isn't needed"
            }
            Self::ClosedFirst => {
                "this side closed first, and the kernel keeps the ends for 60 s: normal, no leak; \
                 what counts is whether ports run out"
            }
        }
    }
}

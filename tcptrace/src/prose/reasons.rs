//! Why something is not known, in words.

use crate::engine::unknown::Reason;

/// In words, as every view has them.
#[must_use]
pub const fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::Subflows => "MPTCP keeps these in its subflows",
        Reason::NoDescriptor => "no descriptor for it was found",
        Reason::FinBeforeTracing => "the FIN arrived before tracing began",
        Reason::ThereBefore => {
            "it was there before tracing began, and the kernel doesn't say since when"
        }
        Reason::HeldOutside => {
            "held outside descriptor tables: in flight over a unix socket, an io_uring fixed file, or a kernel socket"
        }
        Reason::NotHeld => "no process has a descriptor for it",
        Reason::NotAllSeen => "some processes can't be seen from here",
        Reason::WhoConnected => {
            "it has no listener on its port, and only BPF tells which side connected"
        }
        Reason::NoFile => "no process has a file for it",
        Reason::OtherTimer => "another timer is running and hides it",
        Reason::OnlyHolder => {
            "the only holder now; another process may have opened it and passed it on unseen"
        }
        Reason::OpenerUnwatched => {
            "it was opened unseen, and parents and descriptor numbers don't tell by whom"
        }
        Reason::Gone => "it ended before a scan could see it",
        Reason::NeverConnected => "it was never connected",
        Reason::NoVerdictOnState => "there are no verdicts on this state",
        Reason::QueuesUnread => "the socket's queues could not be read",
        Reason::ConnectedAnew => "the program used the descriptor for a new connection",
        Reason::ShutDown => "shutdown() ended the state; the descriptor is still open",
        Reason::ByNoCall => {
            "no call on this socket ended it: a packet did, or its listener was closed"
        }
        Reason::ClosedHere => "closed by tcptrace (--close-after): the line closed says how",
        Reason::InUse => "not closed: data was sent after the FIN, so it is in use and not a leak",
        Reason::NotAskedFor => "not closed: it no longer matches the selection",
        Reason::ResetUnfollowed => {
            "a reset ended the connection, and its descriptor was closed before such ends were traced"
        }
        Reason::EndLost => "the event that ended it was lost",
        Reason::HandshakeOver => {
            "a handshake has no process; whether it was answered or given up, the kernel doesn't say"
        }
        Reason::ListenersCookie => "at this moment the kernel would give the listener's",
        Reason::Unwatched => "the previous state wasn't watched, or began before tracing",
        Reason::NotAccepted => "nobody has accepted it",
        Reason::OpenedUnseen => "opened before tracing began, or by a call that isn't traced",
        Reason::OpenedByRing => {
            "opened before tracing began, or through io_uring, which its process uses and which isn't traced"
        }
        Reason::OpenedElsewhere => {
            "opened before tracing began, or by a process that wasn't selected"
        }
        Reason::NoPlace => "there were more connections than room for what was seen of them",
        Reason::ReadsUntraced => "this kernel doesn't trace reads: Linux 6.3 and later do",
        Reason::FewStays => "fewer than 1,000 stays have ended there since tracing began",
        Reason::NormalsFull => "there are more listeners and remotes than room to tell them apart",
        Reason::NeverRead => "no read has returned data",
        Reason::NotReadSince => "no read has returned data since tracing began",
        Reason::EndUnread => "the end of the stream hasn't been read",
        Reason::EndReadUnseen => {
            "the end of the stream was read before tracing began, or by a call that isn't traced"
        }
        Reason::StackLost => "there were too many stacks at once, and this one wasn't kept",
        Reason::StackPending => "its functions are still being looked up: a later report has them",
        Reason::StackUnreadable => "the thread's stack couldn't be read",
        Reason::AtWork => "nothing is wrong with it, as far as the kernel shows",
        Reason::TimersUnread => "its timers and the peer's window weren't looked at",
        Reason::NoFullSocket => "in this state the kernel keeps little more than the ends",
        Reason::WindowUnread => "this kernel doesn't tell: Linux 5.4 and later do",
        Reason::Over => "the connection is over",
        Reason::Listens => "a listener has none",
        Reason::NotAfterFin => "it is counted in CLOSE_WAIT only",
        Reason::NoHandshake => "the handshake isn't over",
        Reason::NotCounted => "only snapshot --state listen counts them",
        Reason::Recovered => "not closed: what was wrong with it is over",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_reason_has_words_of_its_own() {
        let all: HashSet<&str> = Reason::ALL.into_iter().map(words).collect();
        assert_eq!(all.len(), Reason::ALL.len());
    }
}

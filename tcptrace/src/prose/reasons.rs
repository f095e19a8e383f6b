//! Why something is not known, in words.

use crate::engine::unknown::Reason;

/// In words, as every view has them.
#[must_use]
pub const fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::Subflows => "MPTCP keeps these in its subflows",
        Reason::NoDescriptor => "no descriptor leads to it",
        Reason::FinBeforeTracing => "the FIN came before tracing began",
        Reason::ThereBefore => "it was there before tracing, and nothing bounds how long",
        Reason::HeldOutside => {
            "held outside descriptor tables: in flight over a unix socket, an io_uring fixed file, or a kernel socket"
        }
        Reason::NotHeld => "no process has a descriptor for it",
        Reason::NotAllSeen => "not every process can be seen from here",
        Reason::WhoConnected => "no listener on its port, and only BPF shows who connected",
        Reason::NoFile => "it has no file",
        Reason::OtherTimer => "another timer runs, or the kernel hides it",
        Reason::OnlyHolder => {
            "its only holder: nobody watched whether another opened it and let go"
        }
        Reason::OpenerUnwatched => {
            "not told by parents and descriptor numbers, and nobody watched it being opened"
        }
        Reason::Gone => "it ended before it could be looked at",
        Reason::NeverConnected => "it was never connected",
        Reason::NoVerdictOnState => {
            "verdicts are about CLOSE_WAIT, and about CLOSE with an open descriptor"
        }
        Reason::QueuesUnread => "the socket's queues could not be read",
        Reason::ConnectedAnew => "the descriptor connected anew",
        Reason::ShutDown => "shutdown() ended the state; the descriptor is still open",
        Reason::ByNoCall => {
            "no call on this socket ended it: a packet did, or the end of its listener"
        }
        Reason::InUse => "not closed: data is sent after the FIN, so it is in use and no leak",
        Reason::NotAskedFor => "not closed: what is known of it now is not asked for",
        Reason::ResetUnfollowed => {
            "a reset ended the connection, and its descriptor was closed before anybody followed such ends"
        }
        Reason::EndLost => "the event that ended it was lost",
        Reason::ListenersCookie => "at this moment the kernel would name the listener's",
        Reason::Unwatched => "the state before was not watched, or had begun before tracing",
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

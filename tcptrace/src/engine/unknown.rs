//! What is not known, and why: a reason for each field that is null.

/// Why something is not known. The words are in [`crate::prose`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// MPTCP's own socket has no queues: its subflows have them.
    Subflows,
    /// What is known comes from a slot of the nursery: no descriptor led to the socket.
    NoDescriptor,
    /// The FIN came before tracing began, so nothing tells what was sent since.
    FinBeforeTracing,
    /// It was there before tracing, in a state whose beginning nothing bounds.
    ThereBefore,
    /// It has a `struct socket`, and no process a descriptor for it.
    HeldOutside,
    /// It has no `struct socket`, and waits in no queue.
    NotHeld,
    /// Other processes, which we do not see, may hold it.
    NotAllSeen,
    /// Without BPF, and without a listener on its port.
    WhoConnected,
    /// It waits in a queue, or is orphaned.
    NoFile,
    /// The timer that the kernel shows is another.
    OtherTimer,
    /// Its one holder may have been given it by a process that let go.
    OnlyHolder,
    /// Which of several holders opened it, neither parents nor descriptor numbers tell.
    OpenerUnwatched,
    /// Its stay ended before any scan: only its event speaks.
    Gone,
    /// A socket in CLOSE that no connection was made on.
    NeverConnected,
    /// Verdicts are not about its state.
    NoVerdictOnState,
    /// A verdict rests on the queues, which are not known.
    QueuesUnread,
    /// It left the state because its descriptor was used for another connection.
    ConnectedAnew,
    /// A call ended the state that did not close the descriptor.
    ShutDown,
    /// No call on this socket ended the state.
    ByNoCall,
    /// This program ended it, as it was told to.
    ClosedHere,
    /// Not ended: what was said of it is taken back.
    InUse,
    /// Not ended: what is known now is not what was asked for.
    NotAskedFor,
    /// A reset made it a ghost, whose end nobody followed yet.
    ResetUnfollowed,
    /// No event told of its end; two scans did not list it.
    EndLost,
    /// A handshake: whether it was answered or given up, no event tells.
    HandshakeOver,
    /// A child of a listener, at a moment when it still has its listener's cookie.
    ListenersCookie,
    /// Nobody timed the state before.
    Unwatched,
    /// Nobody has accepted it, so nobody has read from it.
    NotAccepted,
    /// Opened before tracing began, or by a call that is not traced.
    OpenedUnseen,
    /// The same, and its process has an io_uring, whose calls are not traced.
    OpenedByRing,
    /// The same, and only the calls of those that were asked for are looked at.
    OpenedElsewhere,
    /// There was no room for what was seen.
    NoPlace,
    /// This kernel has no tracepoint for reads.
    ReadsUntraced,
    /// No read has returned data.
    NeverRead,
    /// No read has returned data since tracing began.
    NotReadSince,
    /// The end of the stream has not been read.
    EndUnread,
    /// It was read before tracing began, or by a call that is not traced.
    EndReadUnseen,
    /// Its stack was not handed over, or not kept.
    StackLost,
    /// Its stack is not in words yet.
    StackPending,
    /// Too few stays have ended to call anything normal.
    FewStays,
    /// There was no room to count how long stays were.
    NormalsFull,
    /// Its stack can't be read.
    StackUnreadable,
    /// Nothing is wrong with it, as far as shows.
    AtWork,
    /// Its timers and the peer's window were not looked at.
    TimersUnread,
    /// The kernel has no full socket in this state.
    NoFullSocket,
    /// The kernel does not tell the window.
    WindowUnread,
    /// A listener has none.
    Listens,
    /// The connection is over.
    Over,
    /// It is a number of CLOSE_WAIT's.
    NotAfterFin,
    /// The handshake is not over.
    NoHandshake,
    /// Only a look at listeners counts these.
    NotCounted,
    /// What was wrong with it is over.
    Recovered,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 52] = [
        Self::Subflows,
        Self::NoDescriptor,
        Self::FinBeforeTracing,
        Self::ThereBefore,
        Self::HeldOutside,
        Self::NotHeld,
        Self::NotAllSeen,
        Self::WhoConnected,
        Self::NoFile,
        Self::OtherTimer,
        Self::OnlyHolder,
        Self::OpenerUnwatched,
        Self::Gone,
        Self::NeverConnected,
        Self::NoVerdictOnState,
        Self::QueuesUnread,
        Self::ConnectedAnew,
        Self::ShutDown,
        Self::ByNoCall,
        Self::ClosedHere,
        Self::InUse,
        Self::NotAskedFor,
        Self::ResetUnfollowed,
        Self::EndLost,
        Self::HandshakeOver,
        Self::ListenersCookie,
        Self::Unwatched,
        Self::NotAccepted,
        Self::OpenedUnseen,
        Self::OpenedByRing,
        Self::OpenedElsewhere,
        Self::NoPlace,
        Self::ReadsUntraced,
        Self::NeverRead,
        Self::NotReadSince,
        Self::EndUnread,
        Self::EndReadUnseen,
        Self::FewStays,
        Self::NormalsFull,
        Self::StackLost,
        Self::StackPending,
        Self::StackUnreadable,
        Self::AtWork,
        Self::TimersUnread,
        Self::NoFullSocket,
        Self::WindowUnread,
        Self::Listens,
        Self::Over,
        Self::NotAfterFin,
        Self::NoHandshake,
        Self::NotCounted,
        Self::Recovered,
    ];

    /// The socket has not ended: what was said of it before is taken back.
    #[must_use]
    pub const fn takes_back(self) -> bool {
        matches!(self, Self::InUse | Self::NotAskedFor | Self::Recovered)
    }
}

/// Reasons by field name, in the names' order. A list, not a map: there are few, and many records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown(Vec<(&'static str, Reason)>);

impl Unknown {
    /// Says why a field is unknown; what was said of it before is forgotten.
    pub fn insert(&mut self, field: &'static str, why: Reason) {
        match self.0.binary_search_by_key(&field, |(name, _)| name) {
            Ok(at) => self.0[at].1 = why,
            Err(at) => self.0.insert(at, (field, why)),
        }
    }

    /// The field is known after all.
    pub fn remove(&mut self, field: &str) {
        self.0.retain(|(name, _)| *name != field);
    }

    /// Why a field is unknown, if it is.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<Reason> {
        self.iter().find(|(name, _)| *name == field).map(|(_, why)| why)
    }

    /// Fields and reasons.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, Reason)> {
        self.0.iter().copied()
    }
}

impl FromIterator<(&'static str, Reason)> for Unknown {
    fn from_iter<I: IntoIterator<Item = (&'static str, Reason)>>(list: I) -> Self {
        let mut unknown = Self::default();
        for (field, why) in list {
            unknown.insert(field, why);
        }
        unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reason_a_field_in_order() {
        let mut unknown: Unknown =
            [("role", Reason::Gone), ("inode", Reason::NoFile), ("role", Reason::NoDescriptor)]
                .into_iter()
                .collect();
        assert_eq!(
            unknown.iter().collect::<Vec<_>>(),
            [("inode", Reason::NoFile), ("role", Reason::NoDescriptor)]
        );
        unknown.remove("inode");
        assert_eq!((unknown.get("inode"), unknown.get("role")), (None, Some(Reason::NoDescriptor)));
    }
}

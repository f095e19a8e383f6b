//! Ending connections from outside: which may be, which way, and what came of it.

pub mod after;

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use tcptrace_common::state::TcpState;

use super::{
    record::{HolderSource, Record},
    unknown::Reason,
    verdict::Verdict,
};

/// A way to end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CloseWay {
    /// shutdown() on a copy of a holder's descriptor: a FIN goes out, what was sent is delivered,
    /// what was received stays readable.
    Shutdown,
    /// SOCK_DESTROY of sock_diag: a reset goes out, and the kernel forgets the connection.
    Destroy,
}

impl CloseWay {
    /// As the interface spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Destroy => "destroy",
        }
    }
}

/// Why it is this way and not the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayReason {
    /// It was asked for.
    Asked,
    /// A process has a descriptor for it.
    Held,
    /// Nobody has accepted it.
    NeverAccepted,
    /// What has it is in no descriptor table.
    HeldOutside,
    /// No process has it.
    NotHeld,
    /// Its FIN was sent before: shutdown() has nothing left to do.
    FinSent,
}

/// Why a connection is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spared {
    /// It is a listener.
    Listener,
    /// The connection is over, only its descriptor is left.
    Over,
    /// This program's own.
    Own,
    /// A process that started this one talks over it: it may be the session of who typed this.
    Session,
    /// The first process of the host has it.
    Init,
    /// It is open on both sides.
    Established,
    /// The peer still takes what the program sends.
    HalfCloseInUse,
    /// The kernel or the peer has to act next: no program's leak.
    NoLeak,
    /// The kernel did not say which socket it is.
    NoCookie,
    /// shutdown() takes a descriptor, and no process has one.
    NoDescriptor,
    /// Who holds it can't be seen from here.
    HoldersHidden,
    /// shutdown() would do nothing: its FIN was sent before.
    FinSent,
    /// The kernel can't destroy MPTCP's own sockets.
    Mptcp,
    /// More were selected than may be closed at once.
    BeyondMax,
}

impl Spared {
    /// Every one.
    pub const ALL: [Self; 14] = [
        Self::Listener,
        Self::Over,
        Self::Own,
        Self::Session,
        Self::Init,
        Self::Established,
        Self::HalfCloseInUse,
        Self::NoLeak,
        Self::NoCookie,
        Self::NoDescriptor,
        Self::HoldersHidden,
        Self::FinSent,
        Self::Mptcp,
        Self::BeyondMax,
    ];

    /// As the interface spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Over => "over",
            Self::Own => "own",
            Self::Session => "session",
            Self::Init => "init",
            Self::Established => "established",
            Self::HalfCloseInUse => "half-close-in-use",
            Self::NoLeak => "no-leak",
            Self::NoCookie => "no-cookie",
            Self::NoDescriptor => "no-descriptor",
            Self::HoldersHidden => "holders-hidden",
            Self::FinSent => "fin-sent",
            Self::Mptcp => "mptcp",
            Self::BeyondMax => "beyond-max",
        }
    }
}

/// What is asked for, and who asks.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The one way; `None`: by what each connection is.
    pub how: Option<CloseWay>,
    /// Those that are no leaks, too.
    pub force: bool,
    /// This program's pid.
    pub own: u32,
    /// Those that started it, from its parent on, without the first process of all.
    pub ancestors: Vec<u32>,
    /// Pid 1 is the host's, and not a container's program.
    pub host_init: bool,
}

/// Why a connection is ended in which way; or why it is not.
pub type Choice = Result<(CloseWay, WayReason), Spared>;

impl Rules {
    /// What is to be done with a connection.
    ///
    /// # Errors
    /// Why it is left alone.
    pub fn choose(&self, r: &Record) -> Choice {
        self.may(r)?;
        let held = r.holder_source == HolderSource::FdTable && r.holders.iter().any(has_descriptor);
        let way = match self.how {
            Some(how) => (how, WayReason::Asked),
            None if !shuts_down(r.state) => (CloseWay::Destroy, WayReason::FinSent),
            None if held => (CloseWay::Shutdown, WayReason::Held),
            None => match r.holder_source {
                HolderSource::Listener => (CloseWay::Destroy, WayReason::NeverAccepted),
                HolderSource::OutsideFdTables => (CloseWay::Destroy, WayReason::HeldOutside),
                _ if r.unknown.get("holders") == Some(Reason::NotAllSeen) => {
                    return Err(Spared::HoldersHidden);
                }
                _ => (CloseWay::Destroy, WayReason::NotHeld),
            },
        };
        match way.0 {
            CloseWay::Shutdown if !held => Err(Spared::NoDescriptor),
            CloseWay::Shutdown if !shuts_down(r.state) => Err(Spared::FinSent),
            CloseWay::Destroy if r.connection.mptcp => Err(Spared::Mptcp),
            _ => Ok(way),
        }
    }

    /// Whether it may be ended at all.
    fn may(&self, r: &Record) -> Result<(), Spared> {
        let held_by = |pid: u32| {
            r.holder_source == HolderSource::FdTable
                && r.holders.iter().any(|h| h.process.pid == pid)
        };
        // Whatever is asked for.
        if r.state == TcpState::Listen {
            return Err(Spared::Listener);
        }
        if r.state == TcpState::Close {
            return Err(Spared::Over);
        }
        if r.connection.cookie == 0 {
            return Err(Spared::NoCookie);
        }
        if held_by(self.own) {
            return Err(Spared::Own);
        }
        if r.is_leak() {
            let init = self.host_init && held_by(1);
            return if init && !self.force { Err(Spared::Init) } else { Ok(()) };
        }
        if self.ancestors.iter().any(|pid| held_by(*pid)) {
            return Err(Spared::Session);
        }
        match r.state {
            _ if self.force => Ok(()),
            TcpState::Established => Err(Spared::Established),
            _ if r.verdict == Some(Verdict::HalfCloseInUse) => Err(Spared::HalfCloseInUse),
            _ => Err(Spared::NoLeak),
        }
    }
}

fn has_descriptor(holder: &super::record::Holder) -> bool {
    holder.fd.is_some()
}

/// Whether shutdown() sends something in this state (net/ipv4/tcp.c: `tcp_shutdown`), or gives the
/// attempt to connect up (net/ipv4/af_inet.c: `inet_shutdown`).
const fn shuts_down(state: TcpState) -> bool {
    matches!(
        state,
        TcpState::Established | TcpState::CloseWait | TcpState::SynSent | TcpState::SynRecv
    )
}

/// A connection that was selected, and what is to be done with it.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The connection.
    pub record: Rc<Record>,
    /// What is to be done.
    pub choice: Choice,
}

/// What came of closing a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseResult {
    /// The kernel has no such connection any more.
    Closed,
    /// It was told to end, and waits for the peer or for a timer.
    Closing,
    /// It had ended before.
    GoneBefore,
    /// It is not what it was when it was selected: left alone.
    Changed,
    /// It could not be done.
    Failed,
    /// The rights did not suffice.
    NotAllowed,
}

impl CloseResult {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::Closed,
        Self::Closing,
        Self::GoneBefore,
        Self::Changed,
        Self::Failed,
        Self::NotAllowed,
    ];

    /// As the interface spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Closing => "closing",
            Self::GoneBefore => "gone-before",
            Self::Changed => "changed",
            Self::Failed => "failed",
            Self::NotAllowed => "not-allowed",
        }
    }
}

/// A descriptor that is still open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StillHeld {
    /// Its process.
    pub pid: u32,
    /// Its number.
    pub fd: u32,
    /// The process's command name; may hold anything.
    pub comm: String,
}

/// Who closed it: this program, and who runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// The process.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Who logged in (audit's loginuid); `None`: nobody did, or the kernel does not say.
    pub login_uid: Option<u32>,
}

/// A connection that was closed, or was to be.
#[derive(Clone, Debug)]
pub struct Closed {
    /// As it was selected.
    pub record: Rc<Record>,
    /// In which way, by whom, and what came of it.
    pub attempt: CloseAttempt,
}

/// What was done to a connection, as plain data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseAttempt {
    /// The connection's cookie.
    pub cookie: u64,
    /// In which way.
    pub how: CloseWay,
    /// By whom.
    pub by: Operator,
    /// What came of it.
    pub outcome: CloseResult,
    /// The number of the state that the kernel shows now; `None`: it has no such socket any more.
    pub state_after: Option<u8>,
    /// Descriptors that are still open; `None`: they can't be seen.
    pub still_held: Option<Vec<StillHeld>>,
    /// Why it could not be done, or what is different now.
    pub error: Option<String>,
}

impl CloseAttempt {
    /// The state that the kernel shows now.
    #[must_use]
    pub fn state_after(&self) -> Option<TcpState> {
        self.state_after.and_then(TcpState::from_number)
    }
}

/// All of it, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closes {
    /// Nothing was done: it was only said what would be.
    pub dry_run: bool,
    /// Sockets that matched.
    pub selected: u64,
    /// Left out: younger than asked for, or not certainly as old.
    pub too_young: u64,
    /// Left out: their age is not known, and may be what was asked for.
    pub age_unknown: u64,
    /// Left alone, by reason.
    pub refused: Vec<(Spared, u64)>,
    /// To be closed.
    pub planned: u64,
    /// What came of those, by outcome.
    pub outcomes: Vec<(CloseResult, u64)>,
    /// Descriptors of closed connections that are still open.
    pub still_held: u64,
    /// Somebody ended it early: so many were not begun.
    pub not_begun: u64,
}

impl Closes {
    /// Counts one that was selected.
    pub fn plan(&mut self, choice: &Choice) {
        self.selected += 1;
        match choice {
            Ok(_) => self.planned += 1,
            Err(refusal) => count(&mut self.refused, *refusal),
        }
    }

    /// Counts one that was closed, or was to be.
    pub fn close(&mut self, closed: &CloseAttempt) {
        count(&mut self.outcomes, closed.outcome);
        self.still_held += closed.still_held.as_ref().map_or(0, |held| held.len() as u64);
    }

    /// How many had this outcome.
    #[must_use]
    pub fn of(&self, outcome: CloseResult) -> u64 {
        self.outcomes.iter().find(|(o, _)| *o == outcome).map_or(0, |(_, n)| *n)
    }
}

fn count<T: PartialEq>(counts: &mut Vec<(T, u64)>, what: T) {
    match counts.iter_mut().find(|(known, _)| *known == what) {
        Some((_, n)) => *n += 1,
        None => counts.push((what, 1)),
    }
}

#[cfg(test)]
mod tests;

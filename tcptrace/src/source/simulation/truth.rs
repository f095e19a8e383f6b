//! What really happened to each socket: what everything that is said is held against.

use tcptrace_common::state::TcpState;

use super::parts::SocketId;
use crate::engine::record::{BootNs, ProcessId};

/// All stories.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    stories: Vec<Story>,
}

/// A socket's.
#[derive(Clone, Debug)]
pub struct Story {
    /// Its name.
    pub cookie: u64,
    /// Each state and when it was entered, in order.
    states: Vec<(TcpState, BootNs)>,
    holders: Vec<Held>,
    /// When it was freed.
    gone_ns: Option<BootNs>,
    /// When it was taken out of its listener's queue.
    accepted_ns: Option<BootNs>,
    /// When data was sent, and whether the peer took it at once.
    sends: Vec<(BootNs, bool)>,
    /// Who closed the last descriptor, and when.
    closer: Option<(u32, BootNs)>,
    closed_with_a_socket: bool,
    /// A change of its state was not traced.
    missed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    by: ProcessId,
    from_ns: BootNs,
    to_ns: BootNs,
}

/// From then on nobody uses its half of a connection who has sent nothing (docs/verdicts.md).
const IN_USE_NS: u64 = 30_000_000_000;

impl Truth {
    /// A socket is in a state from now on.
    pub fn enters(&mut self, id: SocketId, cookie: u64, state: TcpState, now: BootNs) {
        if self.stories.len() <= id {
            self.stories.push(Story {
                cookie,
                states: Vec::new(),
                holders: Vec::new(),
                gone_ns: None,
                accepted_ns: None,
                sends: Vec::new(),
                closer: None,
                closed_with_a_socket: false,
                missed: false,
            });
        }
        self.stories[id].states.push((state, now));
    }

    /// It is about to enter CLOSE, and has a `struct socket` or not.
    pub fn closes(&mut self, id: SocketId, with_a_socket: bool) {
        self.stories[id].closed_with_a_socket = with_a_socket;
    }

    /// A process has a descriptor for it from now on, or one more.
    pub fn holds(&mut self, id: SocketId, by: ProcessId, now: BootNs) {
        let holders = &mut self.stories[id].holders;
        if holders.iter().all(|h| h.by != by || h.to_ns != BootNs::MAX) {
            holders.push(Held { by, from_ns: now, to_ns: BootNs::MAX });
        }
    }

    /// A process has none any more.
    pub fn lets_go(&mut self, id: SocketId, by: ProcessId, now: BootNs) {
        let open = |h: &&mut Held| h.by == by && h.to_ns == BootNs::MAX;
        if let Some(held) = self.stories[id].holders.iter_mut().find(open) {
            held.to_ns = now;
        }
    }

    /// Accepted.
    pub fn is_accepted(&mut self, id: SocketId, now: BootNs) {
        self.stories[id].accepted_ns = Some(now);
    }

    /// Data is sent; `taken`: the peer takes it, and what waited before.
    pub fn sends(&mut self, id: SocketId, now: BootNs, taken: bool) {
        self.stories[id].sends.push((now, taken));
    }

    /// A process closes the last descriptor.
    pub fn is_closed_by(&mut self, id: SocketId, pid: u32, now: BootNs) {
        self.stories[id].closer = Some((pid, now));
    }

    /// The programs do not run for a change of its state.
    pub fn is_missed(&mut self, id: SocketId) {
        self.stories[id].missed = true;
    }

    /// The kernel frees it.
    pub fn goes(&mut self, id: SocketId, now: BootNs) {
        self.stories[id].gone_ns = Some(now);
    }

    /// The story of a socket.
    pub fn by_cookie(&self, cookie: u64) -> Option<&Story> {
        self.stories.iter().find(|s| s.cookie == cookie)
    }

    /// All stories.
    pub fn all(&self) -> &[Story] {
        &self.stories
    }
}

impl Story {
    /// The stays in a state that overlap a time: from when to when each.
    pub fn stays(
        &self,
        state: TcpState,
        from: BootNs,
        to: BootNs,
    ) -> impl Iterator<Item = (BootNs, BootNs)> + '_ {
        let ends = self.states[1..].iter().map(|(_, at)| *at);
        let ends = ends.chain([self.gone_ns.unwrap_or(BootNs::MAX)]);
        let stays = self.states.iter().zip(ends);
        let fits = move |((s, begin), end): ((TcpState, BootNs), BootNs)| {
            (s == state && begin <= to && end >= from).then_some((begin, end))
        };
        stays.map(|(s, end)| (*s, end)).filter_map(fits)
    }

    /// Whether a change of its state was not traced.
    pub fn was_missed(&self) -> bool {
        self.missed
    }

    /// Whether it left a state that it had entered within a time and came back unseen: a descriptor
    /// that connected again, its changes not traced. Nobody can tell that from having stayed.
    pub fn came_back_unseen(&self, state: TcpState, earliest: BootNs, latest: BootNs) -> bool {
        let begun = |(s, at): &(TcpState, BootNs)| *s == state && earliest <= *at && *at <= latest;
        self.missed && self.states.iter().any(begun)
    }

    /// The state it is in, and since when; `None`: it is gone.
    pub fn now(&self) -> Option<(TcpState, BootNs)> {
        self.states.last().copied().filter(|_| self.gone_ns.is_none())
    }

    /// Whether a process had a descriptor for it at any moment of a time.
    pub fn is_held(&self, by: ProcessId, from: BootNs, to: BootNs) -> bool {
        self.holders.iter().any(|h| h.by == by && h.from_ns <= to && h.to_ns >= from)
    }

    /// Who has one now.
    pub fn holders(&self) -> impl Iterator<Item = ProcessId> + '_ {
        self.holders.iter().filter(|h| h.to_ns == BootNs::MAX).map(|h| h.by)
    }

    /// Whether, at any moment of a time, it was open and no process had a descriptor for it: in a
    /// message that nobody had received.
    pub fn was_held_elsewhere(&self, from: BootNs, to: BootNs) -> bool {
        let ends = self.holders.iter().map(|h| h.to_ns).filter(|at| (from..=to).contains(at));
        let mut moments = ends.chain([from, to]);
        moments.any(|at| {
            let held = self.holders.iter().any(|h| h.from_ns <= at && h.to_ns > at);
            let closed = self.closer.is_some_and(|(_, closed)| closed <= at);
            !held && !closed
        })
    }

    /// Whether it was accepted, or connected out, before a time.
    pub fn was_accepted_before(&self, at: BootNs) -> bool {
        let connected = self.accepted_ns.is_none() && !self.holders.is_empty();
        connected || self.accepted_ns.is_some_and(|accepted| accepted < at)
    }

    /// Whether its half of the connection is in use at `now`, the peer having closed the other at
    /// `fin`: data was sent lately, or waits for a peer that has taken some lately.
    pub fn is_in_use(&self, fin: BootNs, now: BootNs) -> bool {
        let lately = |at: BootNs| now.saturating_sub(at) < IN_USE_NS;
        let after = self.sends.iter().filter(|(at, _)| *at > fin && *at <= now);
        let Some((last, taken)) = after.clone().next_back() else { return false };
        let progress = after.filter(|(_, taken)| *taken).map(|(at, _)| *at).next_back();
        if *taken { lately(*last) } else { lately(progress.unwrap_or(fin)) }
    }

    /// The same at any moment of a time.
    pub fn is_in_use_throughout(&self, fin: BootNs, from: BootNs, to: BootNs) -> bool {
        let ends = self.sends.iter().map(|(at, _)| at + IN_USE_NS).chain([fin + IN_USE_NS]);
        let moments = ends.filter(|at| (from..=to).contains(at)).chain([from, to]);
        moments.into_iter().all(|at| self.is_in_use(fin, at))
    }

    /// It had a descriptor when the connection ended.
    pub fn closed_with_a_socket(&self) -> bool {
        self.closed_with_a_socket
    }

    /// The state before the one it is in.
    pub fn state_before(&self) -> Option<TcpState> {
        self.states.iter().rev().nth(1).map(|(state, _)| *state)
    }

    /// Who closed the last descriptor.
    pub fn closer(&self) -> Option<u32> {
        self.closer.map(|(pid, _)| pid)
    }
}

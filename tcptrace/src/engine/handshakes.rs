//! Handshakes under way: SYN_RECV, of which no event tells before they are over. They have no
//! socket yet, and the kernel's counts are by network namespace.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
};

use serde::{Deserialize, Serialize};
use tcptrace_common::event::Socket;

use super::{record::Connection, wire::Records};

/// Those of one network namespace at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Handshakes {
    /// Its inode number.
    pub netns: u32,
    /// SYN cookies that its listeners sent since it was made (`TcpExtSyncookiesSent`).
    pub cookies: Option<u64>,
    /// How many there are by local end, of at most [`Self::ENDS`]; further ones are in `uncounted`.
    pub by_end: BTreeMap<SocketAddr, u32>,
    /// Handshakes with further local ends.
    pub uncounted: u64,
    /// Those whose SYN-ACK was sent again, [`Self::MOST`] at most. One that was told and is missing
    /// is over.
    pub unanswered: Records<Socket>,
    /// As many more of those.
    pub more: u64,
}

impl Handshakes {
    /// Local ends that are told apart.
    pub const ENDS: usize = 1_024;
    /// Handshakes that are told one by one.
    pub const MOST: usize = 256;
}

/// Counts those of one network namespace.
#[derive(Debug)]
pub struct HandshakeCounter<'a> {
    all: Handshakes,
    /// Cookies of those that were told one by one before: they come first, so that one that is
    /// missing is over.
    told: &'a HashSet<u64>,
    /// Others.
    new: Vec<Socket>,
}

impl<'a> HandshakeCounter<'a> {
    /// None yet.
    #[must_use]
    pub fn new(netns: u32, cookies: Option<u64>, told: &'a HashSet<u64>) -> Self {
        let all = Handshakes { netns, cookies, ..Handshakes::default() };
        Self { all, told, new: Vec::new() }
    }

    /// Takes in one.
    pub fn take(&mut self, socket: &Socket) {
        let all = &mut self.all;
        let local = Connection::new(socket.cookie, &socket.tuple, socket.protocol).local;
        if all.by_end.len() < Handshakes::ENDS || all.by_end.contains_key(&local) {
            let count = all.by_end.entry(local).or_default();
            *count = count.saturating_add(1);
        } else {
            all.uncounted += 1;
        }
        if socket.retransmits == 0 {
            return;
        }
        if self.told.contains(&socket.cookie) && all.unanswered.0.len() < Handshakes::MOST {
            all.unanswered.0.push(*socket);
        } else if self.new.len() < Handshakes::MOST {
            self.new.push(*socket);
        } else {
            all.more += 1;
        }
    }

    /// What was counted.
    #[must_use]
    pub fn counted(self) -> Handshakes {
        let Self { mut all, mut new, .. } = self;
        let room = Handshakes::MOST - all.unanswered.0.len();
        all.more += new.len().saturating_sub(room) as u64;
        new.truncate(room);
        all.unanswered.0.append(&mut new);
        all
    }
}

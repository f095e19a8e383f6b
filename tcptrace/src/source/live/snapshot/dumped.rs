//! What sock_diag lists, all namespaces together, and what a scan of descriptors adds to it.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
    io,
};

use tcptrace_common::{
    event::{ADOPTED, HAS_SOCKET, Holding, NO_LIMIT, Socket},
    state::TcpState,
};

use super::{Between, DescriptorsScanned, Query};
use crate::{
    engine::{
        counted::counted,
        handshakes::{HandshakeCounter, Handshakes},
        holdings::{self, Holdings},
        record::BootNs,
        time_wait::TimeWaits,
    },
    formats::sock_diag::{Detail, MPTCP, TCP},
    source::live::{lookup::Known, netns, netns::Netns, netstat, sock_diag::SockDiag, time_wait},
};

/// All states that sock_diag knows but TCP_BOUND_INACTIVE, which is not TCP's.
const COUNTED: u32 = (1 << 13) - 2;

/// The accept queue's limit of each socket that a descriptor led to, by cookie: a connection keeps
/// its listener's, or has none.
pub type Limits = HashMap<u64, u32, BuildHasherDefault<OfCookie>>;

pub fn limits_of(holders: &[Holding]) -> Limits {
    holders.iter().map(|h| (h.cookie, h.max_backlog)).collect()
}

/// The kernel numbers its sockets one after the other, and nobody else has a say: one
/// multiplication spreads them.
#[derive(Default)]
pub struct OfCookie(u64);

impl Hasher for OfCookie {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, n: u64) {
        // 2^64 by the golden ratio; its upper half is mixed best, the map takes both ends.
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

/// What sock_diag answered, all namespaces together.
#[derive(Default)]
pub struct Dumped {
    pub sockets: Vec<Socket>,
    pub listeners: Vec<Socket>,
    /// The interfaces of sockets that are bound to one, by cookie.
    bound: HashMap<u64, u32>,
    /// Handshakes under way, where listeners or these were asked for.
    pub handshakes: Vec<Handshakes>,
    /// TIME_WAIT, where it was asked for.
    pub time_waits: Option<TimeWaits>,
    /// By state number.
    pub counts: [u64; 16],
    /// When that was.
    pub at: BootNs,
    /// What could not be asked.
    pub missing: Vec<String>,
    /// No network namespace could be looked into at all: nothing is known, not "no sockets".
    pub blind: bool,
}

const LISTEN: u32 = TcpState::Listen.bit();
const SYN_RECV: u32 = TcpState::SynRecv.bit();

/// So many sockets are asked for one by one; more, by listing all in their states.
const FEW: usize = 1_000;

/// Since when a connection is over: not before its last acknowledgement, and no more is known. It
/// was seen `between` two moments.
fn ghost(s: &Socket, between: Between) -> Socket {
    let Between { began_ns, ended_ns } = between;
    let earliest_ns =
        if s.acked_ago_ns == u64::MAX { 0 } else { began_ns.saturating_sub(s.acked_ago_ns) };
    Socket { flags: s.flags | ADOPTED, earliest_ns, latest_ns: ended_ns, ..*s }
}

/// Whether it is still the connection that was listed, and open. A socket may have been closed, or
/// connected anew; nobody has the file of one that is closed, which then shows no inode number.
fn is_still(listed: &Socket, now: &Socket) -> bool {
    (listed.cookie, listed.inode, listed.tuple) == (now.cookie, now.inode, now.tuple)
}

fn states_of<'a>(sockets: impl IntoIterator<Item = &'a Socket>) -> u32 {
    sockets.into_iter().fold(0, |states, s| states | 1 << s.state)
}

impl Dumped {
    /// The sockets asked for and all listeners; of the rest, how many there are in each state.
    pub fn of(namespaces: &[Netns], query: &Query) -> Self {
        // How full a listener is.
        let queues = query.states & (LISTEN | SYN_RECV) != 0;
        let handshakes = if queues { SYN_RECV } else { 0 };
        let asked = (query.states | handshakes) & COUNTED & !LISTEN;
        let (dumps, failed) = netns::each(namespaces, |netns| {
            let mut diag = SockDiag::open(netns.inode, query.clock)?;
            // A kernel without MPTCP has no such sockets.
            let mptcp = diag.dump(MPTCP, asked | LISTEN, Detail::Connection);
            let tcp = [
                diag.dump(TCP, asked, Detail::Connection)?,
                diag.dump(TCP, LISTEN, Detail::Listener)?,
                diag.dump(TCP, COUNTED & !asked & !LISTEN, Detail::Count)?,
            ];
            let waits = query.states & TcpState::TimeWait.bit() != 0;
            let time_waits = waits
                .then(|| {
                    time_wait::count(
                        &mut diag,
                        time_wait::bounds(),
                        &tcp[1].sockets,
                        &query.selection,
                    )
                })
                .transpose()?;
            let under_way = queues.then(|| {
                let cookies = netstat::syncookies_sent().ok();
                let none = HashSet::new();
                let mut all = HandshakeCounter::new(netns.inode, cookies, &none);
                let half_open = |s: &&Socket| s.state == TcpState::SynRecv as u8;
                tcp[0].sockets.iter().filter(half_open).for_each(|s| all.take(s));
                all.counted()
            });
            let mptcp = mptcp.map(|dump| dump.sockets).unwrap_or_default();
            Ok((tcp, mptcp, under_way, time_waits))
        });
        let mut dumped = Self { at: (query.clock)(), ..Self::default() };
        dumped.note(&failed);
        dumped.blind = dumps.is_empty() && !failed.is_empty();
        for (tcp, mptcp, under_way, time_waits) in dumps {
            if let Some(time_waits) = time_waits {
                dumped.time_waits.get_or_insert_default().add(time_waits);
            }
            dumped.handshakes.extend(under_way);
            dumped.add(mptcp);
            for dump in tcp {
                for (sum, n) in dumped.counts.iter_mut().zip(dump.states) {
                    *sum += n;
                }
                dumped.add(dump.sockets);
                dumped.bound.extend(dump.bound);
            }
        }
        dumped.time_waits.iter_mut().for_each(TimeWaits::sort);
        let listening = |s: &&Socket| s.state == TcpState::Listen as u8;
        dumped.listeners = dumped.sockets.iter().filter(listening).copied().collect();
        dumped
    }

    fn add(&mut self, sockets: Vec<Socket>) {
        if self.sockets.is_empty() { self.sockets = sockets } else { self.sockets.extend(sockets) }
    }

    fn note(&mut self, failed: &[(Netns, io::Error)]) {
        if let Some((netns, e)) = failed.first() {
            let path = netns.path.display();
            self.missing.push(format!(
                "{} could not be looked into ({path}: {e})",
                counted(failed.len() as u64, "network namespace", "network namespaces")
            ));
        }
    }

    /// Puts the sockets and a scan of descriptors together. The two were made side by side: what
    /// was accepted behind the scan is looked for in a second one.
    pub fn held(
        &mut self,
        scanned: DescriptorsScanned,
        namespaces: &[Netns],
        query: &Query,
        known: &mut Known,
    ) -> io::Result<Holdings> {
        let DescriptorsScanned { descriptors, listing, mut by_cookie, mut limits, between } =
            scanned;
        self.add_ghosts(&listing.sockets, between);
        self.sockets.retain(|s| query.asks_for(s));
        let unheld = self.learn(&limits);
        if self.forget_the_closed(unheld, namespaces, query) {
            let mut again = descriptors.list()?;
            again.holders.retain(|h| !limits.contains_key(&h.cookie));
            by_cookie.extend(holdings::by_cookie(&again.holders, known.of(&again.holders)));
            limits.extend(limits_of(&again.holders));
            let unheld = self.learn(&limits);
            self.forget_the_closed(unheld, namespaces, query);
        }
        Ok(Holdings::new(&self.listeners, &listing.queued, by_cookie, true))
    }

    /// Connections that are over and still have a descriptor, which only a scan of descriptors
    /// shows.
    fn add_ghosts(&mut self, seen: &[Socket], between: Between) {
        // Listed once for each descriptor.
        let ghosts = seen.iter().filter(|s| s.state == TcpState::Close as u8);
        let mut ghosts: HashMap<u64, &Socket> = ghosts.map(|s| (s.cookie, s)).collect();
        if !ghosts.is_empty() {
            for socket in &self.sockets {
                ghosts.remove(&socket.cookie);
            }
            self.sockets.extend(ghosts.into_values().map(|s| ghost(s, between)));
        }
    }

    /// Who connected, which only a scan of descriptors shows; returns the open sockets that no
    /// descriptor led to.
    fn learn(&mut self, known: &Limits) -> Vec<Socket> {
        let mut unheld = Vec::new();
        for socket in &mut self.sockets {
            match known.get(&socket.cookie) {
                Some(_) if socket.state == TcpState::Listen as u8 => {}
                Some(limit) => {
                    socket.max_backlog = *limit;
                    socket.flags &= !NO_LIMIT;
                }
                None if socket.flags & HAS_SOCKET != 0 => unheld.push(*socket),
                None => {}
            }
        }
        unheld
    }

    /// A socket that was closed since it was listed has no holder, and must not be taken for one
    /// that is held where nobody can see it. True: some of these are still there.
    pub fn forget_the_closed(
        &mut self,
        unheld: Vec<Socket>,
        namespaces: &[Netns],
        query: &Query,
    ) -> bool {
        if unheld.is_empty() {
            return false;
        }
        let doubtful: HashMap<u64, Socket> = unheld.into_iter().map(|s| (s.cookie, s)).collect();
        let there = |netns: &Netns| {
            let sockets = doubtful.values().filter(|s| s.tuple.netns == netns.inode);
            let (mptcp, tcp): (Vec<&Socket>, Vec<&Socket>) =
                sockets.partition(|s| s.protocol == MPTCP);
            let mut diag = SockDiag::open(netns.inode, query.clock)?;
            let mut found = Vec::new();
            if tcp.len() > FEW {
                found = diag.dump(TCP, states_of(tcp), Detail::Connection)?.sockets;
            } else {
                for s in tcp {
                    let interface = self.bound.get(&s.cookie).copied().unwrap_or(0);
                    found.extend(diag.find(s, interface)?);
                }
            }
            if !mptcp.is_empty() {
                found.extend(diag.dump(MPTCP, states_of(mptcp), Detail::Connection)?.sockets);
            }
            Ok(found)
        };
        let places: HashSet<u32> = doubtful.values().map(|s| s.tuple.netns).collect();
        let places: Vec<Netns> =
            namespaces.iter().filter(|n| places.contains(&n.inode)).cloned().collect();
        let (found, failed) = netns::each(&places, there);
        let still: HashSet<u64> = found
            .iter()
            .flatten()
            .filter(|now| doubtful.get(&now.cookie).is_some_and(|listed| is_still(listed, now)))
            .map(|s| s.cookie)
            .collect();
        self.sockets.retain(|s| !doubtful.contains_key(&s.cookie) || still.contains(&s.cookie));
        self.note(&failed);
        !still.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    #[test]
    fn a_socket_that_is_another_now() {
        let mut listed = Socket::new_zeroed();
        (listed.cookie, listed.inode, listed.tuple.rport) = (7, 70, 5000);
        assert!(is_still(&listed, &Socket { recv_q: 9, ..listed }), "whatever came since");
        assert!(!is_still(&listed, &Socket { inode: 0, ..listed }), "closed");
        assert!(!is_still(&listed, &Socket { cookie: 8, ..listed }), "its successor");
        let mut elsewhere = listed;
        elsewhere.tuple.rport = 5001;
        assert!(!is_still(&listed, &elsewhere), "connected anew");
    }

    #[test]
    fn a_connection_is_over_since_some_moment_up_to_the_pass() {
        let mut s = Socket::new_zeroed();
        s.acked_ago_ns = 30;
        let over = ghost(&s, Between { began_ns: 100, ended_ns: 200 });
        assert_eq!((over.earliest_ns, over.latest_ns), (70, 200));
        s.acked_ago_ns = u64::MAX;
        assert_eq!(
            ghost(&s, Between { began_ns: 100, ended_ns: 200 }).earliest_ns,
            0,
            "nobody knows"
        );
    }
}

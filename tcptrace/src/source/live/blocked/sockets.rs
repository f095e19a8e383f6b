//! The sockets that threads wait on, and their other ends on this host: by sock_diag where a
//! namespace can be asked about, else by the files in `/proc/PID/net`, which know no times.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use tcptrace_common::{event::Socket, state::TcpState};
use zerocopy::FromZeros;

use super::{
    super::{boot_now, netns, netns::Netns, sock_diag::SockDiag},
    netns_of,
};
use crate::{
    engine::{
        blocked::reading::{HeldBy, OtherEnd, ReadWhat, TcpEnd},
        record::{Connection, IPPROTO_TCP},
    },
    formats::{net_lines::NetLine, sock_diag::Detail},
};

/// Namespaces that are looked into for an other end.
const NAMESPACES: usize = 256;

const NO_TIMES: &str = "a running watch can't ask the kernel about this network namespace; \
                        tcptrace explain PID can";

/// Finds sockets.
#[derive(Debug)]
pub struct Sockets {
    /// Ways to ask, by namespace.
    diags: HashMap<u32, SockDiag>,
    /// Those that there are, once somebody looked.
    namespaces: Option<Vec<Netns>>,
}

/// A socket that was found.
#[derive(Debug)]
pub struct FoundSocket {
    kind: FoundKind,
    peer: Peer,
}

#[derive(Debug)]
enum FoundKind {
    Tcp(Box<TcpEnd>),
    Udp(SocketAddr, SocketAddr),
    Unix { name: Option<String>, recv_q: u32 },
    Unknown(String),
}

/// The other end, before it is known who has it.
#[derive(Clone, Debug)]
enum Peer {
    Elsewhere,
    Here {
        inode: u64,
        state: u8,
        recv_q: u32,
    },
    /// It waits in the queue of this listener.
    Queued {
        listener: u64,
        state: u8,
        recv_q: u32,
    },
    Unknown(String),
}

impl FoundSocket {
    /// Nothing is known of it.
    pub fn unknown(why: &str) -> Self {
        Self { kind: FoundKind::Unknown(why.to_owned()), peer: Peer::Elsewhere }
    }

    /// What it is; `holders` says who has a descriptor for a socket, by its inode number.
    pub fn what(
        self,
        mut holders: impl FnMut(u64) -> Result<Vec<HeldBy>, &'static str>,
    ) -> ReadWhat {
        let mut here = |inode, state, recv_q, accepted| match holders(inode) {
            Ok(mut held) => {
                held.dedup_by_key(|held| held.pid);
                OtherEnd::Here { state, recv_q, accepted, held }
            }
            Err(why) => OtherEnd::Unknown(why.to_owned()),
        };
        let other = match self.peer {
            Peer::Elsewhere => OtherEnd::Elsewhere,
            Peer::Unknown(why) => OtherEnd::Unknown(why),
            Peer::Here { inode, state, recv_q } => here(inode, state, recv_q, true),
            Peer::Queued { listener, state, recv_q } => here(listener, state, recv_q, false),
        };
        match self.kind {
            FoundKind::Tcp(end) => ReadWhat::Tcp(Box::new(TcpEnd { other, ..*end })),
            FoundKind::Udp(local, remote) => ReadWhat::Udp { local, remote },
            FoundKind::Unix { name, recv_q } => ReadWhat::Unix { name, recv_q, other },
            FoundKind::Unknown(why) => ReadWhat::Unknown(why),
        }
    }
}

impl Sockets {
    /// With a way to ask about each namespace that can be entered.
    pub fn everywhere() -> Self {
        let (mut namespaces, _) = netns::all();
        namespaces.truncate(NAMESPACES);
        let open = |netns: &Netns| Ok((netns.inode, SockDiag::open(netns.inode, boot_now)?));
        let (opened, _) = netns::each(&namespaces, open);
        Self { diags: opened.into_iter().collect(), namespaces: Some(namespaces) }
    }

    /// With a way to ask about one.
    pub fn here(own: Option<SockDiag>) -> Self {
        let diags = own.into_iter().map(|diag| (diag.netns(), diag)).collect();
        Self { diags, namespaces: None }
    }

    /// Forgets which namespaces there are.
    pub fn forget(&mut self) {
        self.namespaces = None;
    }

    /// Gives back memory.
    pub fn rest(&mut self) {
        self.diags.values_mut().for_each(SockDiag::rest);
    }

    /// The sockets of a process with these inode numbers.
    pub fn find(
        &mut self,
        pid: u32,
        inodes: &[u64],
        deadline: Instant,
    ) -> HashMap<u64, FoundSocket> {
        let mut found = HashMap::new();
        let Some(netns) = netns_of(pid).filter(|_| !inodes.is_empty()) else { return found };
        let mut left: HashSet<u64> = inodes.iter().copied().collect();
        for end in self.tcp(pid, netns, &left, deadline) {
            left.remove(&end.inode);
            let peer = self.other_end(pid, &end.tcp, deadline);
            found.insert(end.inode, FoundSocket { kind: FoundKind::Tcp(Box::new(end.tcp)), peer });
        }
        if !left.is_empty() {
            for line in lines(pid, &["udp", "udp6"], deadline).filter(|l| left.contains(&l.inode)) {
                let kind = FoundKind::Udp(line.local, line.remote);
                found.insert(line.inode, FoundSocket { kind, peer: Peer::Elsewhere });
            }
            left.retain(|inode| !found.contains_key(inode));
        }
        for inode in left {
            found.extend(self.unix(netns, inode).map(|unix| (inode, unix)));
        }
        found
    }

    /// The TCP connections with these inode numbers.
    fn tcp(
        &mut self,
        pid: u32,
        netns: u32,
        inodes: &HashSet<u64>,
        deadline: Instant,
    ) -> Vec<Inode> {
        if let Some(diag) = self.diags.get_mut(&netns) {
            match diag.pick(u32::MAX, Detail::Connection, &mut |socket| {
                inodes.contains(&socket.inode.into())
            }) {
                Ok(list) => return list.iter().map(of_diag).collect(),
                // What is left of its answer would be taken for the next one.
                Err(_) => drop(self.diags.remove(&netns)),
            }
        }
        let lines = lines(pid, &["tcp", "tcp6"], deadline);
        lines
            .filter(|line| inodes.contains(&line.inode))
            .map(|line| of_line(&line, netns))
            .collect()
    }

    /// Where the other end of a connection is.
    fn other_end(&mut self, pid: u32, end: &TcpEnd, deadline: Instant) -> Peer {
        let own = |address: IpAddr| address.is_loopback() || address == end.local.ip();
        let is_local = own(end.remote.ip());
        let mut namespaces = vec![(end.netns, Some(pid))];
        // Loopback addresses are of one namespace.
        if !end.remote.ip().is_loopback() {
            let all = self.namespaces.get_or_insert_with(|| netns::all().0);
            let others = all.iter().take(NAMESPACES).filter(|n| n.inode != end.netns);
            namespaces.extend(others.map(|n| (n.inode, n.process())));
        }
        for (netns, pid) in namespaces {
            let found = match self.reversed(netns, pid, end, deadline) {
                Some(Ok(found)) => found,
                Some(Err(why)) => return Peer::Unknown(why),
                None => continue,
            };
            let Inode { inode, tcp } = found;
            let (state, recv_q) = (tcp.state, tcp.recv_q);
            // A listener is the answer, too, where no connection has these ends.
            if state == TcpState::Listen as u8 {
                if is_local && end.state == TcpState::SynSent as u8 {
                    return Peer::Queued { listener: inode, state, recv_q };
                }
                continue;
            }
            if inode != 0 {
                return Peer::Here { inode, state, recv_q };
            }
            const QUEUED: [TcpState; 4] = [
                TcpState::Established,
                TcpState::CloseWait,
                TcpState::SynRecv,
                TcpState::NewSynRecv,
            ];
            if !QUEUED.iter().any(|queued| *queued as u8 == state) {
                return Peer::Unknown("its process has closed the other end already".to_owned());
            }
            return match self.listener(netns, pid, end.remote, deadline) {
                Some(listener) => Peer::Queued { listener, state, recv_q },
                None => Peer::Unknown("nobody has accepted the other end".to_owned()),
            };
        }
        if is_local {
            return Peer::Unknown("this host has no socket that is its other end".to_owned());
        }
        Peer::Elsewhere
    }

    /// The socket in a namespace that has these ends the other way round.
    fn reversed(
        &mut self,
        netns: u32,
        pid: Option<u32>,
        end: &TcpEnd,
        deadline: Instant,
    ) -> Option<Result<Inode, String>> {
        if let Some(diag) = self.diags.get_mut(&netns) {
            let mut wanted = Socket::new_zeroed();
            // Any cookie (INET_DIAG_NOCOOKIE).
            wanted.cookie = u64::MAX;
            let (local, remote) = (end.remote, end.local);
            wanted.tuple = Connection { cookie: 0, netns, local, remote, mptcp: false }.tuple();
            return match diag.find(&wanted, 0) {
                Ok(found) => found.map(|socket| Ok(of_diag(&socket))),
                Err(e) => {
                    self.diags.remove(&netns);
                    Some(Err(format!("the kernel does not say: {e}")))
                }
            };
        }
        let mut all = lines(pid?, &["tcp", "tcp6"], deadline);
        let line = all.find(|line| (line.local, line.remote) == (end.remote, end.local))?;
        Some(Ok(of_line(&line, netns)))
    }

    /// The listener in a namespace that takes connections to this address.
    fn listener(
        &mut self,
        netns: u32,
        pid: Option<u32>,
        at: SocketAddr,
        deadline: Instant,
    ) -> Option<u64> {
        let takes = |local: SocketAddr| {
            local.port() == at.port() && (local.ip() == at.ip() || local.ip().is_unspecified())
        };
        if let Some(diag) = self.diags.get_mut(&netns) {
            let local = |s: &Socket| Connection::new(s.cookie, &s.tuple, s.protocol).local;
            return match diag.pick(TcpState::Listen.bit(), Detail::Connection, &mut |socket| {
                takes(local(socket))
            }) {
                Ok(list) => list.first().map(|socket| socket.inode.into()),
                Err(_) => {
                    self.diags.remove(&netns);
                    None
                }
            };
        }
        // Each file has its listeners first.
        ["tcp", "tcp6"].into_iter().find_map(|file| {
            let mut listeners = lines(pid?, &[file], deadline).take_while(NetLine::is_listener);
            listeners.find(|line| takes(line.local)).map(|line| line.inode)
        })
    }

    fn unix(&mut self, netns: u32, inode: u64) -> Option<FoundSocket> {
        const UNASKED: &str = "the other ends of unix sockets can't be asked for in this network \
                               namespace by a running watch; tcptrace explain PID can";
        let Some(diag) = self.diags.get_mut(&netns) else {
            return Some(FoundSocket::unknown(UNASKED));
        };
        let mut ask = |inode: u64| diag.find_unix(u32::try_from(inode).ok()?).ok().flatten();
        let own = ask(inode)?;
        let (peer, name) = match own.peer {
            None => (Peer::Unknown("it is not connected".to_owned()), own.name),
            Some(0) => (Peer::Unknown("nobody has accepted it".to_owned()), own.name),
            Some(peer) => {
                let other = ask(u64::from(peer)).unwrap_or_default();
                let here =
                    Peer::Here { inode: peer.into(), state: other.state, recv_q: other.recv_q };
                (here, own.name.or(other.name))
            }
        };
        Some(FoundSocket { kind: FoundKind::Unix { name, recv_q: own.recv_q }, peer })
    }
}

/// A TCP socket and its inode number.
struct Inode {
    inode: u64,
    tcp: TcpEnd,
}

fn of_diag(socket: &Socket) -> Inode {
    let c = Connection::new(socket.cookie, &socket.tuple, IPPROTO_TCP);
    let known = |ns: u64| Some(ns).filter(|ns| *ns != u64::MAX);
    let tcp = TcpEnd {
        netns: c.netns,
        local: c.local,
        remote: c.remote,
        state: socket.state,
        recv_q: socket.recv_q,
        send_q: socket.send_q,
        received_ago_ns: known(socket.received_ago_ns),
        sent_ago_ns: known(socket.sent_ago_ns),
        times_unknown: None,
        other: OtherEnd::Elsewhere,
    };
    Inode { inode: socket.inode.into(), tcp }
}

fn of_line(line: &NetLine, netns: u32) -> Inode {
    let tcp = TcpEnd {
        netns,
        local: line.local,
        remote: line.remote,
        state: line.state,
        recv_q: line.recv_q,
        send_q: line.send_q,
        received_ago_ns: None,
        sent_ago_ns: None,
        times_unknown: Some(NO_TIMES.to_owned()),
        other: OtherEnd::Elsewhere,
    };
    Inode { inode: line.inode, tcp }
}

/// The sockets that these files of a process's network namespace list, until the deadline.
fn lines(pid: u32, files: &[&str], deadline: Instant) -> impl Iterator<Item = NetLine> + use<> {
    let files: Vec<File> = files
        .iter()
        .filter_map(|file| File::open(format!("/proc/{pid}/net/{file}")).ok())
        .collect();
    let lines =
        files.into_iter().flat_map(|file| BufReader::new(file).lines().map_while(Result::ok));
    let lines = lines.enumerate().take_while(move |(n, _)| {
        // Reading a clock takes as long as a line.
        !n.is_multiple_of(256) || Instant::now() < deadline
    });
    lines.filter_map(|(_, line)| NetLine::parse(&line))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd,
        time::Duration,
    };

    use super::*;

    #[test]
    fn a_listener_of_ipv6_is_found_behind_connections_of_ipv4() {
        let v4 = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let _connection = TcpStream::connect(v4.local_addr().expect("its address"));
        let Ok(v6) = TcpListener::bind("[::1]:0") else {
            return crate::skipped("no IPv6 here");
        };
        let at = v6.local_addr().expect("its address");
        let fd = std::fs::read_link(format!("/proc/self/fd/{}", v6.as_raw_fd())).expect("a link");
        let mut sockets = Sockets::here(None);
        let deadline = Instant::now() + Duration::from_secs(60);
        let found = sockets.listener(0, Some(std::process::id()), at, deadline);
        assert_eq!(found.map(|inode| format!("socket:[{inode}]")), fd.to_str().map(str::to_owned));
    }
}

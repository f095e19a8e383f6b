//! sock_diag (sock_diag(7)): all sockets of a network namespace, without BPF and without rights.

use std::{io, os::fd::OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect,
    netlink::{self, SocketAddrNetlink},
    recv, send, socket_with,
};

use tcptrace_common::{event::Socket, state::TcpState};

use crate::{
    engine::{
        parse::States,
        record::{BootNs, Connection},
    },
    formats::{
        sock_diag,
        sock_diag::{Detail, Dump, FAMILIES, TCP},
        unix_diag::{UnixSocket, answer_unix, request_unix},
    },
};

/// The kernel's answers are no larger (netlink_dump: 32 KiB).
const BUFFER: usize = 64 << 10;

/// Lists the sockets in `states` (bit `1 << number`) of the calling thread's network namespace,
/// whose number is `netns`. `clock` is the boot clock: each answer is as of when it was read.
///
/// # Errors
/// What the kernel answers; that it can't list TCP's sockets. That it knows no MPTCP is an empty
/// answer.
pub fn dump(
    netns: u32,
    protocol: u16,
    states: u32,
    detail: Detail,
    clock: fn() -> BootNs,
) -> io::Result<Dump> {
    SockDiag::open(netns, clock)?.dump(protocol, states, detail)
}

/// A way to ask about one network namespace.
#[derive(Debug)]
pub struct SockDiag {
    netns: u32,
    clock: fn() -> BootNs,
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl SockDiag {
    /// For the calling thread's network namespace, whose number is `netns`. `clock`: see [`dump`].
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn open(netns: u32, clock: fn() -> BootNs) -> io::Result<Self> {
        Ok(Self { netns, clock, socket: open()?, buffer: Vec::new() })
    }

    /// The namespace that it asks about.
    #[must_use]
    pub fn netns(&self) -> u32 {
        self.netns
    }

    /// Lists the sockets in `states` (bit `1 << number`).
    ///
    /// # Errors
    /// See [`dump`].
    pub fn dump(&mut self, protocol: u16, states: u32, detail: Detail) -> io::Result<Dump> {
        if protocol == TCP {
            // Both families at once: going through the kernel's tables takes as long as listing a
            // tenth of what is in them.
            let mut dump = Dump::new(self.netns, protocol, detail);
            if self.ask(&sock_diag::request_tcp(states, detail), &mut dump).is_ok() {
                return Ok(dump);
            }
        }
        let mut dump = Dump::new(self.netns, protocol, detail);
        for family in FAMILIES {
            self.ask(&sock_diag::request(family, protocol, states, detail), &mut dump)?;
        }
        Ok(dump)
    }

    /// The same TCP connection as it is now; `interface`: what it is bound to, or 0. `None`: it is
    /// gone.
    ///
    /// # Errors
    /// What else the kernel answers.
    pub fn find(&mut self, connection: &Socket, interface: u32) -> io::Result<Option<Socket>> {
        self.send(&sock_diag::request_one(connection, interface))?;
        let mut answer = Dump::new(self.netns, TCP, Detail::Connection);
        match self.read(&mut answer) {
            Ok(_) => Ok(answer.sockets.pop()),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The TCP connection in `states` with this cookie, and what it is bound to; `None`: there is
    /// none.
    ///
    /// # Errors
    /// See [`dump`].
    pub fn by_cookie(&mut self, states: u32, cookie: u64) -> io::Result<Option<(Socket, u32)>> {
        let mut dump = Dump::new(self.netns, TCP, Detail::Connection);
        self.send(&sock_diag::request_tcp(states, Detail::Connection))?;
        let mut found = None;
        loop {
            let over = self.read(&mut dump)?;
            if let Some(socket) = dump.sockets.drain(..).find(|s| s.cookie == cookie) {
                let bound = dump.bound.iter().find(|(c, _)| *c == cookie);
                found = Some((socket, bound.map_or(0, |(_, interface)| *interface)));
            }
            dump.bound.clear();
            if over {
                return Ok(found);
            }
        }
    }

    /// Ends this TCP connection; `interface`: what it is bound to, or 0. False: it is gone, or
    /// another has its ends.
    ///
    /// # Errors
    /// What else the kernel answers ([`sock_diag::request_destroy`]).
    pub fn destroy(&mut self, connection: &Socket, interface: u32) -> io::Result<bool> {
        self.send(&sock_diag::request_destroy(connection, interface))?;
        let n = self.receive()?;
        match sock_diag::acknowledgement(&self.buffer[..n]) {
            Ok(()) => Ok(true),
            Err(libc::ENOENT | libc::ESTALE) => Ok(false),
            Err(0) => Err(io::Error::other("the kernel's answer makes no sense")),
            Err(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Lists the TCP sockets in `states` that are to be kept: the others take no memory.
    ///
    /// # Errors
    /// See [`dump`].
    pub fn pick(
        &mut self,
        states: u32,
        detail: Detail,
        keep: &mut dyn FnMut(&Socket) -> bool,
    ) -> io::Result<Vec<Socket>> {
        let mut dump = Dump::new(self.netns, TCP, detail);
        self.send(&sock_diag::request_tcp(states, detail))?;
        let mut kept = Vec::new();
        loop {
            let over = self.read(&mut dump)?;
            kept.extend(dump.sockets.drain(..).filter(|socket| keep(socket)));
            dump.bound.clear();
            if over {
                return Ok(kept);
            }
        }
    }

    /// Goes through all TCP connections, whatever their state, and keeps none of them. A state that
    /// nobody knows is CLOSE.
    ///
    /// # Errors
    /// See [`dump`].
    pub fn each(&mut self, take: &mut dyn FnMut(&Connection, TcpState)) -> io::Result<()> {
        let states = States::ALL.0 & !TcpState::Listen.bit() & !TcpState::Close.bit();
        self.pick(states, Detail::Ends, &mut |socket| {
            let state = TcpState::from_number(socket.state).unwrap_or(TcpState::Close);
            take(&Connection::new(socket.cookie, &socket.tuple, socket.protocol), state);
            false
        })
        .map(drop)
    }

    /// The unix socket with this inode number; `None`: it is gone.
    ///
    /// # Errors
    /// What else the kernel answers: one without unix_diag has no such answers.
    pub fn find_unix(&mut self, inode: u32) -> io::Result<Option<UnixSocket>> {
        self.send(&request_unix(inode))?;
        let n = self.receive()?;
        match answer_unix(&self.buffer[..n]) {
            Ok(found) => Ok(Some(found)),
            Err(libc::ENOENT | libc::ESTALE) => Ok(None),
            Err(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Gives back the memory that answers were read into.
    pub fn rest(&mut self) {
        self.buffer = Vec::new();
    }

    fn ask(&mut self, request: &[u8], dump: &mut Dump) -> io::Result<()> {
        self.send(request)?;
        loop {
            match self.read(dump) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return unknown(dump.protocol),
                Err(e) => return Err(e),
            }
        }
    }

    fn send(&self, request: &[u8]) -> io::Result<()> {
        send(&self.socket, request, SendFlags::empty())?;
        Ok(())
    }

    /// One read; true: the answer is complete.
    fn read(&mut self, dump: &mut Dump) -> io::Result<bool> {
        let n = self.receive()?;
        dump.take(&self.buffer[..n], (self.clock)()).map_err(io::Error::from_raw_os_error)
    }

    fn receive(&mut self) -> io::Result<usize> {
        self.buffer.resize(BUFFER, 0);
        loop {
            match recv(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?.0),
            }
        }
    }
}

/// A socket that the kernel alone can send to: in a network namespace of their own, containers
/// could answer in its place.
fn open() -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

/// The kernel has no lister of this protocol's sockets: a module that is not there, and can't be
/// loaded.
fn unknown(protocol: u16) -> io::Result<()> {
    match protocol {
        TCP => Err(io::Error::other("this kernel can't list TCP sockets now; modprobe tcp_diag")),
        // A kernel without MPTCP has no such sockets.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use rustix::net::{getsockname, sendto, sockopt::set_socket_linger};

    use super::*;

    fn ours() -> SockDiag {
        SockDiag::open(7, || 1_000_000_000).expect("a socket")
    }

    /// Both ends of a connection.
    fn connected(to: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(to).expect("listens");
        let client = TcpStream::connect(listener.local_addr().expect("an address"));
        (client.expect("connects"), listener.accept().expect("accepts").0)
    }

    fn listed(diag: &mut SockDiag, stream: &TcpStream) -> Option<Socket> {
        let ends = (stream.local_addr().expect("an end"), stream.peer_addr().expect("an end"));
        let dump = diag.dump(TCP, TcpState::Established.bit(), Detail::Connection).expect("a list");
        dump.sockets.into_iter().find(|s| {
            let c = Connection::new(s.cookie, &s.tuple, s.protocol);
            (c.local, c.remote) == ends
        })
    }

    #[test]
    fn one_dump_lists_both_families() {
        let (v4, v6) = (connected("127.0.0.1:0"), connected("[::1]:0"));
        let mut diag = ours();
        for stream in [&v4.0, &v4.1, &v6.0, &v6.1] {
            let socket = listed(&mut diag, stream).expect("it is listed");
            assert_ne!((socket.inode, socket.cookie), (0, 0));
        }
    }

    #[test]
    fn a_connection_is_found_while_it_is_there() {
        for to in ["127.0.0.1:0", "[::1]:0"] {
            let (client, server) = connected(to);
            let mut diag = ours();
            let socket = listed(&mut diag, &client).expect("it is listed");
            let found = diag.find(&socket, 0).expect("an answer").expect("it is there");
            assert_eq!(
                (found.cookie, found.inode, found.tuple),
                (socket.cookie, socket.inode, socket.tuple)
            );
            let other = Socket { cookie: socket.cookie ^ 1, ..socket };
            assert!(diag.find(&other, 0).expect("an answer").is_none(), "another has its ends");
            // A reset leaves nothing behind.
            set_socket_linger(&client, Some(std::time::Duration::ZERO)).expect("no lingering");
            drop((client, server));
            assert!(diag.find(&socket, 0).expect("an answer").is_none(), "it is gone");
            assert!(listed(&mut diag, &connected(to).0).is_some(), "and the next is answered");
        }
    }

    #[test]
    fn a_protocol_that_the_kernel_does_not_know() {
        // 253 is for experiments (RFC 3692).
        let dump = |protocol| dump(0, protocol, 1 << 10, Detail::Count, || 0);
        assert!(dump(253).is_ok_and(|dump| dump.states == [0; 16]));
        assert!(dump(TCP).is_ok() && unknown(sock_diag::MPTCP).is_ok());
        let why = unknown(TCP).expect_err("not taken for a host without sockets").to_string();
        assert!(why.contains("modprobe tcp_diag"), "{why}");
    }

    #[test]
    fn nobody_else_can_answer() {
        let (ours, other) = (open().expect("a socket"), open().expect("a socket"));
        let address = getsockname(&ours).expect("an address");
        let to = SocketAddrNetlink::try_from(address).expect("a netlink address");
        assert_ne!(to.pid(), 0, "it has a port");
        let message = sock_diag::request(2, sock_diag::TCP, 1, Detail::Count);
        // EPERM to who lacks CAP_NET_ADMIN.
        assert!(sendto(&other, &message, SendFlags::empty(), &to).is_err());
    }
}

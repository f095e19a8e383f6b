//! sock_diag (sock_diag(7)): all sockets of a network namespace, without BPF and without rights.

use std::{io, os::fd::OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect,
    netlink::{self, SocketAddrNetlink},
    recv, send, socket_with,
};

use crate::{
    engine::record::BootNs,
    formats::{
        sock_diag,
        sock_diag::{Detail, Dump, FAMILIES, TCP},
    },
};

/// The kernel's answers are no larger (inet_diag: 32 KiB).
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
    let mut dump = Dump::new(netns, protocol, detail);
    let socket = open()?;
    let mut buffer = vec![0; BUFFER];
    for family in FAMILIES {
        send(&socket, &sock_diag::request(family, protocol, states, detail), SendFlags::empty())?;
        while !read(&socket, &mut buffer, &mut dump, clock)? {}
    }
    Ok(dump)
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

/// One read; true: the answer is complete.
fn read(
    socket: &OwnedFd,
    buffer: &mut [u8],
    dump: &mut Dump,
    clock: fn() -> BootNs,
) -> io::Result<bool> {
    let (n, _) = match recv(socket, &mut *buffer, RecvFlags::empty()) {
        Err(rustix::io::Errno::INTR) => return Ok(false),
        other => other?,
    };
    match dump.take(&buffer[..n], clock()) {
        Ok(done) => Ok(done),
        Err(libc::ENOENT) => unknown(dump.protocol).map(|()| true),
        Err(errno) => Err(io::Error::from_raw_os_error(errno)),
    }
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
    use rustix::net::{getsockname, sendto};

    use super::*;

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

//! sock_diag (sock_diag(7)): all sockets of a network namespace, without BPF and without rights.

use std::{io, os::fd::OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

use crate::engine::{
    diag::{self, Detail, Dump, FAMILIES},
    event::BootNs,
};

/// The kernel's answers are no larger (inet_diag: 32 KiB).
const BUFFER: usize = 64 << 10;

/// Lists the sockets in `states` (bit `1 << number`) of the calling thread's network namespace,
/// whose number is `netns`. `clock` is the boot clock: each answer is as of when it was read.
///
/// # Errors
/// What the kernel answers. That it knows no such protocol is an empty answer.
pub fn dump(netns: u32, protocol: u16, states: u32, detail: Detail, clock: fn() -> BootNs) -> io::Result<Dump> {
    let mut dump = Dump::new(netns, protocol, detail);
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
    let mut buffer = vec![0; BUFFER];
    for family in FAMILIES {
        send(&socket, &diag::request(family, protocol, states, detail), SendFlags::empty())?;
        while !read(&socket, &mut buffer, &mut dump, clock)? {}
    }
    Ok(dump)
}

/// One read; true: the answer is complete.
fn read(socket: &OwnedFd, buffer: &mut [u8], dump: &mut Dump, clock: fn() -> BootNs) -> io::Result<bool> {
    let (n, _) = match recv(socket, &mut *buffer, RecvFlags::empty()) {
        Err(rustix::io::Errno::INTR) => return Ok(false),
        other => other?,
    };
    match dump.take(&buffer[..n], clock()) {
        Ok(done) => Ok(done),
        Err(libc::ENOENT) => Ok(true),
        Err(errno) => Err(io::Error::from_raw_os_error(errno)),
    }
}

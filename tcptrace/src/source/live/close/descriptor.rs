//! A copy of another process's descriptor, and shutdown() on it (pidfd_getfd(2), Linux 5.6).

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::{
    fs::fstat,
    io::Errno,
    net::{Shutdown, getpeername, shutdown, sockopt::socket_cookie},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};
use tcptrace_common::state::TcpState;

use super::{CloseTarget, Handle, NotClosed};
use crate::engine::close::CloseResult;

/// Shuts the connection down that a holder's descriptor leads to, if it is the one.
pub fn shut_down(holder: &Handle, target: &CloseTarget) -> Result<(), NotClosed> {
    let copy = copy(holder)?;
    is_it(&copy, target)?;
    match shutdown(&copy, Shutdown::Both) {
        Ok(()) => Ok(()),
        // A reset came first.
        Err(Errno::NOTCONN) => Err(NotClosed::gone()),
        Err(e) => Err(NotClosed::from(io::Error::from(e))),
    }
}

/// The same open file as the holder's descriptor; it keeps the socket as long as it lives.
fn copy(holder: &Handle) -> Result<OwnedFd, NotClosed> {
    // PIDFD_THREAD is O_EXCL (uapi/linux/pidfd.h, Linux 6.9): a pidfd's table is its task's.
    let (id, flags) = match holder.tid {
        Some(tid) => (tid, PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned())),
        None => (holder.pid, PidfdFlags::empty()),
    };
    let pid = Pid::from_raw(id.cast_signed()).ok_or_else(NotClosed::gone)?;
    let pidfd = match pidfd_open(pid, flags) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Err(NotClosed::gone()),
        Err(Errno::INVAL) if holder.tid.is_some() => {
            return Err(NotClosed::new(
                CloseResult::Failed,
                "only a thread's own table has its descriptor, which takes Linux 6.9; --how destroy \
                 takes none",
            ));
        }
        Err(e) => return Err(unsupported(e)),
    };
    match pidfd_getfd(&pidfd, holder.fd.cast_signed(), PidfdGetfdFlags::empty()) {
        Ok(copy) => Ok(copy),
        Err(Errno::BADF | Errno::SRCH) => Err(NotClosed::gone()),
        Err(Errno::PERM) => Err(NotClosed { outcome: CloseResult::NotAllowed, why: None }),
        Err(e) => Err(unsupported(e)),
    }
}

/// Whether descriptors can be copied, tried on this process. Of others it takes the right to trace
/// them.
///
/// # Errors
/// What the kernel, or a filter, answers.
pub fn copies() -> io::Result<()> {
    let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    pidfd_getfd(&own, own.as_raw_fd(), PidfdGetfdFlags::empty())?;
    Ok(())
}

fn unsupported(e: Errno) -> NotClosed {
    match e {
        Errno::NOSYS => NotClosed::new(
            CloseResult::Failed,
            "this kernel can't copy descriptors of other processes (Linux 5.6 can); --how destroy \
             takes none",
        ),
        e => NotClosed::from(io::Error::from(e)),
    }
}

/// Whether it is the connection that was judged: the same socket, connected to the same peer, in
/// the same state. Descriptors are used again, and so are sockets (connect() with AF_UNSPEC).
fn is_it(copy: &OwnedFd, target: &CloseTarget) -> Result<(), NotClosed> {
    // Cookies were counted by network namespace before 5.12; inode numbers are the whole host's.
    let inode = fstat(copy).map_err(io::Error::from)?.st_ino;
    if inode != target.inode || socket_cookie(copy).ok() != Some(target.connection.cookie) {
        return Err(NotClosed::gone());
    }
    match getpeername(copy) {
        Ok(peer) => {
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).map(canonical);
            if peer != Some(target.connection.remote) {
                return Err(NotClosed::new(
                    CloseResult::Changed,
                    "it is connected to another peer now",
                ));
            }
        }
        // One that is in no state to have a peer.
        Err(Errno::NOTCONN) => {}
        Err(e) => return Err(NotClosed::from(io::Error::from(e))),
    }
    match state(copy) {
        // MPTCP's socket speaks for its subflows.
        _ if target.connection.mptcp => Ok(()),
        Some(TcpState::Close) => Err(NotClosed::gone()),
        Some(now) if now != target.state => Err(NotClosed::changed(now)),
        Some(_) => Ok(()),
        None => Err(NotClosed::new(CloseResult::Failed, "the kernel does not say its state")),
    }
}

fn canonical(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip().to_canonical(), end.port())
}

/// The first byte of `struct tcp_info` (uapi/linux/tcp.h).
fn state(copy: &OwnedFd) -> Option<TcpState> {
    let mut info = [0u8; 8];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the buffer is as long as `length` says, and both outlive the call.
    let done = unsafe {
        libc::getsockopt(
            copy.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    (done == 0 && length > 0).then(|| TcpState::from_number(info[0])).flatten()
}

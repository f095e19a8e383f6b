//! The watch's end of the process that closes connections for it. That is started before the watch
//! gives up its rights, and ends with it, as its only input does.

use std::{
    io,
    os::fd::OwnedFd,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
    sockopt::{Timeout, set_socket_timeout},
};
use tokio::io::unix::AsyncFd;

use super::wire::{self, Hello, LONGEST, Request, VERSION};
use crate::engine::close::CloseAttempt;

/// It has said by then that it is there.
const START: Duration = Duration::from_secs(10);

/// The process.
#[derive(Debug)]
pub struct Helper {
    socket: AsyncFd<OwnedFd>,
}

impl Helper {
    /// Starts this program anew, with these arguments, and waits until it has given up what it does
    /// not need; what it said of itself.
    ///
    /// # Errors
    /// That it did not start, or is another version.
    pub fn start(arguments: &[&str]) -> io::Result<(Self, Hello)> {
        let (ours, its) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut command = Command::new("/proc/self/exe");
        command.args(arguments).stdin(Stdio::from(its)).stdout(Stdio::null());
        // Nobody waits for it: it ends after this process, whose child it is.
        command.spawn()?;
        // It has a copy of the other end, whose end is how the loss of the process shows.
        drop(command);
        set_socket_timeout(&ours, Timeout::Recv, Some(START))?;
        let mut buffer = [0; LONGEST];
        let n = match recv(&ours, &mut buffer[..], RecvFlags::empty()) {
            Err(rustix::io::Errno::AGAIN) => return Err(io::Error::other("it does not answer")),
            other => other?.0,
        };
        let hello: Hello = wire::read(&buffer[..n.min(LONGEST)])
            .ok_or_else(|| io::Error::other("it ended before it was ready"))?;
        if hello.version != VERSION {
            return Err(io::Error::other("the program was replaced while it started"));
        }
        rustix::io::ioctl_fionbio(&ours, true)?;
        // SAFETY: the descriptor is owned, never replaced, and goes with us.
        let socket = unsafe { AsyncFd::register(ours) }.map_err(|e| e.into_parts().1)?;
        Ok((Self { socket }, hello))
    }

    /// Asks it to close a connection; it answers one at a time.
    ///
    /// # Errors
    /// That it is gone.
    pub fn ask(&self, request: &Request) -> io::Result<()> {
        let bytes = wire::write(request).ok_or_else(|| io::Error::other("too long a request"))?;
        send(self.socket.get_ref(), &bytes, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for its answer.
    ///
    /// # Errors
    /// That it is gone, or makes no sense.
    pub async fn answer(&self) -> io::Result<CloseAttempt> {
        let mut buffer = [0; LONGEST];
        loop {
            let mut ready = self.socket.readable().await?;
            let read = |socket: &AsyncFd<OwnedFd>| {
                Ok(recv(socket.get_ref(), &mut buffer[..], RecvFlags::empty())?.0)
            };
            match ready.try_io(read) {
                Ok(Ok(0)) => return Err(io::Error::other("it has ended")),
                Ok(Ok(n)) => {
                    let attempt = wire::read(&buffer[..n.min(LONGEST)]);
                    return attempt.ok_or_else(|| io::Error::other("its answer makes no sense"));
                }
                Ok(Err(e)) => return Err(e),
                // Not yet, after all.
                Err(_) => {}
            }
        }
    }
}

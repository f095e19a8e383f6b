//! What the kernel's iterators list of what there is now: live stays, the descriptors for them,
//! and sockets that have none.

use std::{
    io,
    io::Read,
    os::fd::{AsFd, OwnedFd},
};

use tcptrace_common::event::{
    Holding, KIND_HOLDING, KIND_ORIGIN, KIND_QUEUED, KIND_SOCKET, Origin, Queued, Socket,
};
use zerocopy::FromBytes;

use crate::source::live::bpf::sys;

/// What an iterator listed.
#[derive(Debug, Default)]
pub struct Listing {
    /// Sockets: those in a stay, or listeners.
    pub sockets: Vec<Socket>,
    /// Descriptors.
    pub holders: Vec<Holding>,
    /// Connections in the queues of listeners.
    pub queued: Vec<Queued>,
    /// Where sockets come from that are due.
    pub origins: Vec<Origin>,
    /// Records of a kind or length that nobody knows: a defect, counted.
    pub skipped: u64,
}

/// A linked iterator, to be run any number of times.
#[derive(Debug)]
pub struct LinkedIter(pub(super) OwnedFd);

impl LinkedIter {
    /// Runs it and reads all that it lists. One over sockets sees the network namespace, one
    /// over tasks the pid namespace, that the calling thread is in.
    ///
    /// # Errors
    /// What the kernel answers to opening or reading.
    pub fn run(&self) -> io::Result<Listing> {
        let mut file = sys::open_iter(self.0.as_fd())?;
        let mut buffer = vec![0; 32 << 10];
        let mut listing = Listing::default();
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(listing),
                // Every read returns whole records: the kernel keeps back what does not fit.
                Ok(n) => listing.take(&buffer[..n]),
                // A million silent objects, or a signal: it goes on where it was.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl Listing {
    /// Takes in what one read returned: whole records.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while let Ok((kind, _)) = u32::read_from_prefix(bytes) {
            match kind {
                // A socket's kind is one byte, and others follow.
                _ if bytes[0] == KIND_SOCKET
                    && let Ok((socket, rest)) = Socket::read_from_prefix(bytes) =>
                {
                    self.sockets.push(socket);
                    bytes = rest;
                }
                KIND_HOLDING if let Ok((holder, rest)) = Holding::read_from_prefix(bytes) => {
                    self.holders.push(holder);
                    bytes = rest;
                }
                KIND_QUEUED if let Ok((queued, rest)) = Queued::read_from_prefix(bytes) => {
                    self.queued.push(queued);
                    bytes = rest;
                }
                KIND_ORIGIN if let Ok((origin, rest)) = Origin::read_from_prefix(bytes) => {
                    self.origins.push(origin);
                    bytes = rest;
                }
                _ => break,
            }
        }
        self.skipped += u64::from(!bytes.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    #[test]
    fn records_of_both_kinds_in_any_order() {
        let mut socket = Socket::new_zeroed();
        (socket.kind, socket.cookie) = (KIND_SOCKET, 7);
        let mut holder = Holding::new_zeroed();
        (holder.kind, holder.cookie) = (KIND_HOLDING, 7);
        let bytes =
            [socket.as_bytes(), holder.as_bytes(), holder.as_bytes(), socket.as_bytes()].concat();
        let mut listing = Listing::default();
        listing.take(&bytes);
        assert_eq!((listing.sockets.len(), listing.holders.len(), listing.skipped), (2, 2, 0));
    }

    #[test]
    fn what_makes_no_sense_is_counted() {
        let mut listing = Listing::default();
        listing.take(&[9, 0, 0, 0, 1]);
        listing.take(&[1, 0, 0, 0, 1]);
        assert_eq!((listing.sockets.len(), listing.skipped), (0, 2));
    }
}

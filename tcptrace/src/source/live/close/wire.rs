//! What a watch asks of the process that closes for it: a datagram each way, bounded, and believed
//! in nothing that the kernel can say.

use std::{net::SocketAddr, rc::Rc};

use serde::{Deserialize, Serialize};
use tcptrace_common::state::TcpState;

use super::{CloseTarget, Handle};
use crate::engine::{
    close::CloseWay,
    record::{BootNs, Connection, Record},
};

/// Both are the same program; a file that was replaced meanwhile is found out by this.
pub const VERSION: u32 = 1;
/// No datagram is longer.
pub const LONGEST: usize = 4_096;
/// Holders of one connection that are named: shutdown takes one of them.
const HOLDERS: usize = 16;
/// A command name has 15 bytes, each of which may be shown as three.
const COMM: usize = 48;

/// The first word, of the process that closes.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u32,
    /// Capabilities that it does not have.
    pub missing: Vec<String>,
    /// Why no system call filter holds it, if none does.
    pub unfiltered: Option<String>,
}

/// A connection that is to be closed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its cookie.
    pub cookie: u64,
    netns: u32,
    local: SocketAddr,
    remote: SocketAddr,
    mptcp: bool,
    inode: u64,
    /// It has been in CLOSE_WAIT since then at least.
    pub since_ns: BootNs,
    /// In which way.
    pub how: CloseWay,
    holders: Vec<Holds>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Holds {
    pid: u32,
    tid: Option<u32>,
    fd: u32,
    comm: String,
}

impl Request {
    /// About a leak, as it was seen last.
    #[must_use]
    pub fn new(record: &Record, how: CloseWay) -> Self {
        let CloseTarget { connection, inode, holders, .. } = CloseTarget::of(record);
        let holds = |h: Handle| {
            let comm = h.comm.chars().take(COMM / 3).collect();
            Holds { pid: h.pid, tid: h.tid, fd: h.fd, comm }
        };
        let Connection { cookie, netns, local, remote, mptcp } = connection;
        let since_ns = record.latest_ns;
        let holders = holders.into_iter().take(HOLDERS).map(holds).collect();
        Self { cookie, netns, local, remote, mptcp, inode, since_ns, how, holders }
    }

    /// What it comes to: a connection in CLOSE_WAIT and in no other state, whatever was asked.
    #[must_use]
    pub fn target(&self) -> CloseTarget {
        let handle = |h: &Holds| Handle {
            pid: h.pid,
            tid: h.tid,
            fd: h.fd,
            comm: Rc::from(h.comm.chars().take(COMM / 3).collect::<String>()),
        };
        let Self { cookie, netns, local, remote, mptcp, inode, .. } = *self;
        CloseTarget {
            connection: Connection { cookie, netns, local, remote, mptcp },
            state: TcpState::CloseWait,
            inode,
            holders: self.holders.iter().take(HOLDERS).map(handle).collect(),
        }
    }
}

/// A message as a datagram; `None`: it would be too long.
#[must_use]
pub fn write(message: &impl Serialize) -> Option<Vec<u8>> {
    postcard::to_stdvec(message).ok().filter(|bytes| bytes.len() <= LONGEST)
}

/// A datagram's message; `None`: it makes no sense, or there is more behind it.
#[must_use]
pub fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (message, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::record::tests::{holder, leak};

    #[test]
    fn there_and_back() {
        let holders = (0..99).map(|n| {
            let mut holder = holder(n, n);
            holder.comm = "\u{fffd}".repeat(99).into();
            holder
        });
        let record = Record { holders: holders.collect(), ..leak() };
        let request = Request::new(&record, CloseWay::Shutdown);
        let bytes = write(&request).expect("it is bounded");
        assert_eq!(read::<Request>(&bytes).as_ref(), Some(&request));
        assert_eq!(read::<Request>(&[&bytes[..], &[0]].concat()), None);
        let target = request.target();
        assert_eq!((target.state, target.holders.len()), (TcpState::CloseWait, HOLDERS));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..LONGEST)) {
            if let Some(request) = read::<Request>(&bytes) {
                prop_assert!(request.target().holders.len() <= HOLDERS);
            }
            let _ = read::<Hello>(&bytes);
            let _ = read::<crate::engine::close::CloseAttempt>(&bytes);
        }
    }
}

//! What a modelled host is made of.

use std::collections::BTreeMap;

use tcptrace_common::state::TcpState;

use crate::engine::record::{BootNs, ProcessId};

/// A socket's number in [`super::host::ModelHost::sockets`]; never used again.
pub type SocketId = usize;
/// A file's number in [`super::host::ModelHost::files`]; never used again.
pub type FileId = usize;

/// A process.
#[derive(Clone, Debug)]
pub struct ModelProcess {
    /// Its pid, which another may have had before.
    pub id: ProcessId,
    /// Its parent's pid.
    pub ppid: u32,
    /// Files by descriptor.
    pub fds: BTreeMap<u32, FileId>,
}

/// What descriptors lead to.
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// Its socket.
    pub socket: SocketId,
    /// Descriptors for it, and messages that carry it.
    pub references: usize,
}

/// A `struct sock`.
#[derive(Clone, Debug)]
pub struct ModelSocket {
    /// Where it is in memory: another may have been there before.
    pub address: u64,
    /// Its name.
    pub cookie: u64,
    /// Its state.
    pub state: TcpState,
    /// Its file; `None`: waits in a queue, or orphaned.
    pub file: Option<FileId>,
    /// Bytes not read, without the FIN.
    pub unread: u32,
    /// The FIN came and was not read.
    pub fin_unread: bool,
    /// Data bytes sent so far.
    pub bytes_sent: u64,
    /// When data was sent last.
    pub sent_ns: BootNs,
    /// When data came last, and when anything did.
    pub received_ns: BootNs,
    /// See above.
    pub acked_ns: BootNs,
    /// Data bytes that the peer took.
    pub taken: u64,
    /// The other end, while there is one.
    pub peer: Option<SocketId>,
    /// Of a connection that nobody accepted: the listener in whose queue it waits.
    pub waits_at: Option<SocketId>,
    /// Of a listener: who waits.
    pub queue: Vec<SocketId>,
    /// Of a listener, and of its children: how many may wait. 0: connected out.
    pub limit: u32,
    /// Local port.
    pub lport: u16,
    /// Remote port.
    pub rport: u16,
    /// MPTCP's own.
    pub mptcp: bool,
    /// It was connected once.
    pub was_connected: bool,
    /// The kernel has freed it.
    pub gone: bool,
}

impl ModelSocket {
    /// It is a listener, and not a child that is still a copy of one.
    pub fn limit_is_own(&self) -> bool {
        self.rport == 0
    }
}

/// What a program sees of a socket.
#[derive(Clone, Copy, Debug)]
pub struct SocketView {
    /// The socket.
    pub id: SocketId,
    /// Where it is in memory.
    pub address: u64,
    /// Its name.
    pub cookie: u64,
    /// Its state.
    pub state: TcpState,
    /// It has a `struct socket`.
    pub has_socket: bool,
    /// Its last descriptor is being closed.
    pub closing: bool,
    /// Bytes not read, the FIN counted as one.
    pub recv_q: u32,
    /// Bytes not acknowledged.
    pub send_q: u32,
    /// Data bytes sent.
    pub bytes_sent: u64,
    /// First byte that is not acknowledged.
    pub snd_una: u32,
    /// How long ago data was sent last.
    pub sent_ago_ns: u64,
    /// How long ago data came last.
    pub received_ago_ns: u64,
    /// How long ago an acknowledgement came last.
    pub acked_ago_ns: u64,
    /// Of a listener: who waits.
    pub queue: u32,
    /// And how many may.
    pub limit: u32,
    /// Local port.
    pub lport: u16,
    /// Remote port.
    pub rport: u16,
    /// MPTCP's own.
    pub mptcp: bool,
}

/// Who is on the CPU.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Its process.
    pub pid: u32,
}

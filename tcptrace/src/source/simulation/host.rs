//! A model of a host: processes with descriptors, and the TCP sockets behind them, both ends of each
//! connection. It knows the truth, and calls the modelled kernel programs where the kernel would.

use std::collections::BTreeMap;

use tcptrace_common::state::TcpState;

use super::{
    programs::{Programs, Task, View},
    truth::Truth,
};
use crate::engine::record::{BootNs, ProcessId};

/// A socket's number in [`Host::sockets`]; never used again.
pub type SocketId = usize;
/// A file's number in [`Host::files`]; never used again.
pub type FileId = usize;

/// A process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its pid, which another may have had before.
    pub id: ProcessId,
    /// Its parent's pid.
    pub ppid: u32,
    /// Files by descriptor.
    pub fds: BTreeMap<u32, FileId>,
}

/// What descriptors lead to.
#[derive(Clone, Debug)]
pub struct File {
    /// Its socket.
    pub socket: SocketId,
    /// Descriptors for it, and messages that carry it.
    pub references: usize,
}

/// A `struct sock`.
#[derive(Clone, Debug)]
pub struct Socket {
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

impl Socket {
    /// It is a listener, and not a child that is still a copy of one.
    pub fn limit_is_own(&self) -> bool {
        self.rport == 0
    }
}

/// The host.
#[derive(Debug)]
pub struct Host {
    /// ns of the boot clock.
    pub now: BootNs,
    /// Who is alive.
    pub processes: Vec<Process>,
    /// All files that ever were.
    pub files: Vec<File>,
    /// All sockets that ever were.
    pub sockets: Vec<Socket>,
    /// Files in messages that nobody received yet.
    pub in_flight: Vec<FileId>,
    /// The kernel programs.
    pub programs: Programs,
    /// What really happened.
    pub truth: Truth,
    free_addresses: Vec<u64>,
    addresses: u64,
    ports: u16,
}

/// Pids are few, so that they are used again.
const PIDS: std::ops::Range<u32> = 100..116;

impl Host {
    /// One with a process and nothing else.
    pub fn new(programs: Programs) -> Self {
        let mut host = Self {
            // Not 0, which stands for "unknown".
            now: 1_000_000_000_000,
            processes: Vec::new(),
            files: Vec::new(),
            sockets: Vec::new(),
            in_flight: Vec::new(),
            programs,
            truth: Truth::default(),
            free_addresses: Vec::new(),
            addresses: 0,
            ports: 20_000,
        };
        host.spawn(1);
        host
    }

    /// Time goes by.
    pub fn pass(&mut self, ns: u64) {
        self.now += ns;
    }

    /// A process starts; `None`: there is no pid left.
    pub fn spawn(&mut self, ppid: u32) -> Option<usize> {
        let pid = PIDS.into_iter().find(|pid| self.processes.iter().all(|p| p.id.pid != *pid))?;
        // No two start at one moment.
        self.now += 50_000_000;
        let id = ProcessId { pid, start_ns: self.now };
        self.processes.push(Process { id, ppid, fds: BTreeMap::new() });
        Some(self.processes.len() - 1)
    }

    /// A child, with all descriptors of its parent.
    pub fn fork(&mut self, parent: usize) -> Option<usize> {
        let Process { id, fds, .. } = self.processes[parent].clone();
        let child = self.spawn(id.pid)?;
        let child_id = self.processes[child].id;
        for file in fds.values() {
            self.files[*file].references += 1;
            self.truth.holds(self.files[*file].socket, child_id, self.now);
        }
        self.processes[child].fds = fds;
        Some(child)
    }

    /// A process ends, and lets go of all it holds.
    pub fn exit(&mut self, process: usize) {
        if self.processes.len() < 2 {
            return;
        }
        while let Some((fd, _)) = self.processes[process].fds.first_key_value() {
            let fd = *fd;
            self.close(process, fd);
        }
        let pid = self.processes[process].id.pid;
        self.processes.swap_remove(process);
        for orphan in self.processes.iter_mut().filter(|p| p.ppid == pid) {
            orphan.ppid = 1;
        }
    }

    fn descriptor(&mut self, process: usize, file: FileId) -> u32 {
        let Process { id, fds, .. } = &mut self.processes[process];
        let fd = (3..).find(|fd| !fds.contains_key(fd)).unwrap_or(u32::MAX);
        fds.insert(fd, file);
        let id = *id;
        self.truth.holds(self.files[file].socket, id, self.now);
        fd
    }

    fn open(&mut self, process: usize, socket: SocketId) -> u32 {
        self.files.push(File { socket, references: 1 });
        let file = self.files.len() - 1;
        self.sockets[socket].file = Some(file);
        self.descriptor(process, file)
    }

    fn socket(&mut self, state: TcpState) -> SocketId {
        let address = self.free_addresses.pop().unwrap_or_else(|| {
            self.addresses += 1;
            self.addresses
        });
        let cookie = 1_000 + self.sockets.len() as u64;
        self.sockets.push(Socket {
            address,
            cookie,
            state,
            file: None,
            unread: 0,
            fin_unread: false,
            bytes_sent: 0,
            sent_ns: self.now,
            received_ns: self.now,
            acked_ns: self.now,
            taken: 0,
            peer: None,
            waits_at: None,
            queue: Vec::new(),
            limit: 0,
            lport: 0,
            rport: 0,
            mptcp: false,
            was_connected: false,
            gone: false,
        });
        let id = self.sockets.len() - 1;
        self.truth.enters(id, cookie, state, self.now);
        id
    }

    /// A process listens on a port of its own; its descriptor.
    pub fn listen(&mut self, process: usize, limit: u32) -> u32 {
        let id = self.socket(TcpState::Close);
        let fd = self.open(process, id);
        self.ports += 1;
        let port = self.ports;
        let socket = &mut self.sockets[id];
        (socket.lport, socket.limit) = (port, limit);
        self.change(id, TcpState::Listen, Some(process));
        fd
    }

    /// A process connects to a listener, on a new descriptor or on one of a connection that is over.
    /// False: it is refused, or has to wait.
    pub fn connect(&mut self, process: usize, again: Option<u32>, listener: SocketId) -> bool {
        let client = match again.and_then(|fd| self.processes[process].fds.get(&fd).copied()) {
            Some(file) => self.files[file].socket,
            None => {
                let id = self.socket(TcpState::Close);
                self.open(process, id);
                id
            }
        };
        if self.sockets[client].state != TcpState::Close {
            return false;
        }
        self.ports += 1;
        let port = self.ports;
        let at = self.sockets[listener].lport;
        let socket = &mut self.sockets[client];
        (socket.unread, socket.fin_unread, socket.peer) = (0, false, None);
        (socket.limit, socket.lport) = (0, 0);
        self.change(client, TcpState::SynSent, Some(process));
        (self.sockets[client].lport, self.sockets[client].rport) = (port, at);
        let full = self.sockets[listener].queue.len() > self.sockets[listener].limit as usize;
        if full || self.sockets[listener].state != TcpState::Listen {
            self.change(client, TcpState::Close, None);
            return false;
        }
        let child = self.socket(TcpState::Listen);
        let limit = self.sockets[listener].limit;
        let socket = &mut self.sockets[child];
        (socket.lport, socket.rport, socket.limit) = (at, port, limit);
        socket.waits_at = Some(listener);
        self.change(child, TcpState::SynRecv, None);
        self.change(client, TcpState::Established, None);
        self.change(child, TcpState::Established, None);
        (self.sockets[client].peer, self.sockets[child].peer) = (Some(child), Some(client));
        for id in [client, child] {
            self.sockets[id].was_connected = true;
            self.sockets[id].acked_ns = self.now;
        }
        self.sockets[listener].queue.push(child);
        true
    }

    /// A process takes the connection that has waited longest.
    pub fn accept(&mut self, process: usize, listener: SocketId) -> Option<u32> {
        if self.sockets[listener].queue.is_empty() {
            return None;
        }
        let child = self.sockets[listener].queue.remove(0);
        self.sockets[child].waits_at = None;
        self.truth.is_accepted(child, self.now);
        Some(self.open(process, child))
    }

    /// Sends data, as long as this side may.
    pub fn send(&mut self, id: SocketId, bytes: u32, taken: bool) {
        self.now += 1_000;
        let socket = &mut self.sockets[id];
        let may = matches!(socket.state, TcpState::Established | TcpState::CloseWait);
        let Some(peer) = socket.peer.filter(|_| may && socket.file.is_some()) else { return };
        socket.bytes_sent += u64::from(bytes);
        socket.sent_ns = self.now;
        if taken {
            socket.taken = socket.bytes_sent;
            socket.acked_ns = self.now;
        }
        self.truth.sends(id, self.now, taken);
        let peer = &mut self.sockets[peer];
        if peer.state == TcpState::Established || peer.file.is_some() {
            (peer.unread, peer.received_ns) = (peer.unread.saturating_add(bytes), self.now);
        }
    }

    /// Reads all there is.
    pub fn read(&mut self, id: SocketId) {
        let socket = &mut self.sockets[id];
        if socket.file.is_some() {
            (socket.unread, socket.fin_unread) = (0, false);
        }
    }

    /// A second descriptor in the same process.
    pub fn dup(&mut self, process: usize, fd: u32) {
        if let Some(file) = self.processes[process].fds.get(&fd).copied() {
            self.files[file].references += 1;
            self.descriptor(process, file);
        }
    }

    /// Puts a descriptor into a message that nobody has received yet.
    pub fn put_in_flight(&mut self, process: usize, fd: u32) {
        if let Some(file) = self.processes[process].fds.get(&fd).copied() {
            self.files[file].references += 1;
            self.in_flight.push(file);
        }
    }

    /// A process receives a message with a descriptor.
    pub fn receive(&mut self, process: usize) {
        if let Some(file) = self.in_flight.pop() {
            self.descriptor(process, file);
        }
    }

    /// A process closes a descriptor.
    pub fn close(&mut self, process: usize, fd: u32) {
        let Some(file) = self.processes[process].fds.remove(&fd) else { return };
        self.now += 1_000;
        let socket = self.files[file].socket;
        let Process { id, fds, .. } = &self.processes[process];
        if fds.values().all(|f| *f != file) {
            let id = *id;
            self.truth.lets_go(socket, id, self.now);
        }
        self.files[file].references -= 1;
        if self.files[file].references == 0 {
            self.release(socket, process);
        }
    }

    /// The last descriptor is closed (tcp_close).
    fn release(&mut self, id: SocketId, process: usize) {
        self.truth.is_closed_by(id, self.processes[process].id.pid, self.now);
        match self.sockets[id].state {
            TcpState::Listen => {
                self.change_closing(id, TcpState::Close, process);
                for child in std::mem::take(&mut self.sockets[id].queue) {
                    self.sockets[child].waits_at = None;
                    self.abort(child);
                }
            }
            TcpState::Close => {}
            TcpState::SynSent => self.change_closing(id, TcpState::Close, process),
            _ if self.sockets[id].unread > 0 => {
                self.change_closing(id, TcpState::Close, process);
                self.reset_peer(id);
            }
            TcpState::Established => {
                self.change_closing(id, TcpState::FinWait1, process);
                self.fin_arrives(id);
            }
            TcpState::CloseWait => {
                self.change_closing(id, TcpState::LastAck, process);
                self.fin_arrives(id);
            }
            _ => {}
        }
        self.sockets[id].file = None;
        self.free_if_over(id, Some(process));
    }

    /// Shuts the sending side down.
    pub fn shutdown(&mut self, process: usize, id: SocketId) {
        let next = match self.sockets[id].state {
            TcpState::Established => TcpState::FinWait1,
            TcpState::CloseWait => TcpState::LastAck,
            _ => return,
        };
        self.change(id, next, Some(process));
        self.fin_arrives(id);
    }

    /// The FIN of `id` reaches its peer, and is acknowledged.
    fn fin_arrives(&mut self, id: SocketId) {
        let Some(peer) = self.sockets[id].peer else { return };
        self.sockets[peer].fin_unread = true;
        self.sockets[peer].acked_ns = self.now;
        match self.sockets[peer].state {
            TcpState::Established => {
                self.change(peer, TcpState::CloseWait, None);
                self.change(id, TcpState::FinWait2, None);
            }
            // It closed first: it goes to TIME_WAIT, which the tracepoint shows as CLOSE.
            TcpState::FinWait2 => {
                self.over(peer);
                self.over(id);
            }
            _ => {}
        }
    }

    /// The connection is over for this end; with a descriptor the socket stays.
    fn over(&mut self, id: SocketId) {
        if self.sockets[id].state != TcpState::Close {
            self.change(id, TcpState::Close, None);
        }
        self.sockets[id].peer = None;
        self.free_if_over(id, None);
    }

    /// A reset comes from the network, for both ends: a middlebox, or keepalive that gave up.
    pub fn reset(&mut self, id: SocketId) {
        if matches!(self.sockets[id].state, TcpState::Listen | TcpState::Close) {
            return;
        }
        let peer = self.sockets[id].peer;
        self.over(id);
        if let Some(peer) = peer {
            self.over(peer);
        }
    }

    /// The peer is gone without a word; nothing comes from it any more.
    pub fn peer_vanishes(&mut self, id: SocketId) {
        self.sockets[id].peer = None;
    }

    fn reset_peer(&mut self, id: SocketId) {
        if let Some(peer) = self.sockets[id].peer.take() {
            self.over(peer);
        }
    }

    fn abort(&mut self, id: SocketId) {
        if self.sockets[id].state != TcpState::Close {
            self.change(id, TcpState::Close, None);
        }
        self.reset_peer(id);
        self.free_if_over(id, None);
    }

    fn free_if_over(&mut self, id: SocketId, closer: Option<usize>) {
        let socket = &self.sockets[id];
        let held = socket.file.is_some() || socket.waits_at.is_some();
        if socket.gone || held || socket.state != TcpState::Close {
            return;
        }
        let (view, task) = (self.view(id), self.task(closer));
        self.programs.destroy(&view, task, self.now);
        let socket = &mut self.sockets[id];
        socket.gone = true;
        self.free_addresses.push(socket.address);
        self.truth.goes(id, self.now);
    }

    fn change(&mut self, id: SocketId, new: TcpState, caller: Option<usize>) {
        self.change_as(id, new, caller, false);
    }

    fn change_closing(&mut self, id: SocketId, new: TcpState, process: usize) {
        self.change_as(id, new, Some(process), true);
    }

    /// A change of state: the programs run just before it is made.
    fn change_as(&mut self, id: SocketId, new: TcpState, caller: Option<usize>, closing: bool) {
        // No two changes at one moment: the clock counts ns.
        self.now += 1_000;
        let old = self.sockets[id].state;
        let view = View { closing, ..self.view(id) };
        let task = self.task(caller);
        if new == TcpState::Close {
            self.truth.closes(id, view.has_socket && !closing);
        }
        let missed = self.programs.missed;
        self.programs.set_state(&view, old, new, task, self.now);
        if self.programs.missed > missed {
            self.truth.is_missed(id);
        }
        self.sockets[id].state = new;
        let cookie = self.sockets[id].cookie;
        self.truth.enters(id, cookie, new, self.now);
    }

    /// Whoever is on the CPU: the caller, or somebody that a packet interrupted.
    fn task(&self, caller: Option<usize>) -> Task {
        let process = caller.unwrap_or(self.now as usize / 1_000 % self.processes.len());
        let id = self.processes[process].id;
        Task { pid: id.pid }
    }

    /// What the programs can see of a socket.
    pub fn view(&self, id: SocketId) -> View {
        let s = &self.sockets[id];
        View {
            id,
            address: s.address,
            cookie: s.cookie,
            state: s.state,
            has_socket: s.file.is_some(),
            closing: false,
            recv_q: s.unread + u32::from(s.fin_unread),
            send_q: u32::try_from(s.bytes_sent - s.taken).unwrap_or(u32::MAX),
            bytes_sent: s.bytes_sent,
            snd_una: s.taken as u32,
            sent_ago_ns: self.now - s.sent_ns,
            received_ago_ns: self.now - s.received_ns,
            acked_ago_ns: self.now - s.acked_ns,
            queue: s.queue.len() as u32,
            limit: s.limit,
            lport: s.lport,
            rport: s.rport,
            mptcp: s.mptcp,
        }
    }

    /// Sockets that exist.
    pub fn live(&self) -> impl Iterator<Item = SocketId> + '_ {
        (0..self.sockets.len()).filter(|id| !self.sockets[*id].gone)
    }
}

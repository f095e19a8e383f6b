//! A model of a host: processes with descriptors, and the TCP sockets behind them, both ends of
//! each connection. It knows the truth, and calls the modelled kernel programs where the kernel
//! would.

mod calls;

use std::collections::BTreeMap;

use tcptrace_common::state::TcpState;

use super::{
    parts::{FileId, ModelFile, ModelProcess, ModelSocket, SocketId, SocketView, Task},
    programs::Programs,
    truth::Truth,
};
use crate::engine::record::{BootNs, ProcessId};

/// The host.
#[derive(Debug)]
pub struct ModelHost {
    /// ns of the boot clock.
    pub now: BootNs,
    /// Who is alive.
    pub processes: Vec<ModelProcess>,
    /// All files that ever were.
    pub files: Vec<ModelFile>,
    /// All sockets that ever were.
    pub sockets: Vec<ModelSocket>,
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

impl ModelHost {
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
        self.processes.push(ModelProcess { id, ppid, fds: BTreeMap::new() });
        Some(self.processes.len() - 1)
    }

    /// A child, with all descriptors of its parent.
    pub fn fork(&mut self, parent: usize) -> Option<usize> {
        let ModelProcess { id, fds, .. } = self.processes[parent].clone();
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
        self.now += 1_000;
        let ModelProcess { id, fds, .. } = &mut self.processes[process];
        let fd = (3..).find(|fd| !fds.contains_key(fd)).unwrap_or(u32::MAX);
        fds.insert(fd, file);
        let id = *id;
        self.truth.holds(self.files[file].socket, id, self.now);
        fd
    }

    fn open(&mut self, process: usize, socket: SocketId) -> u32 {
        self.files.push(ModelFile { socket, references: 1 });
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
        self.sockets.push(ModelSocket {
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
        let view = SocketView { closing, ..self.view(id) };
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
    pub fn view(&self, id: SocketId) -> SocketView {
        let s = &self.sockets[id];
        SocketView {
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

//! What processes do with their sockets.

use tcptrace_common::state::TcpState;

use super::ModelHost;
use crate::source::simulation::parts::{ModelProcess, SocketId};

impl ModelHost {
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

    /// A process connects to a listener, on a new descriptor or on one of a connection that is
    /// over. False: it is refused, or has to wait.
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
        let ModelProcess { id, fds, .. } = &self.processes[process];
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
}

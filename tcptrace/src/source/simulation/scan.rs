//! A scan of the modelled host, a step at a time: anything may happen between two.

use tcptrace_common::{
    event::{Holding, KIND_HOLDING, KIND_QUEUED, Queued, Socket},
    state::TcpState,
};

use super::{
    host::ModelHost,
    parts::SocketId,
    programs::{records::describe, scan::YoungStay},
};
use crate::engine::{
    fact::{Counts, Fact, Process, Scan, Unplaced, Wire},
    record::BootNs,
    watch::Wants,
};

/// A scan under way.
#[derive(Debug)]
pub struct Running {
    scan: Scan,
    number: u32,
    wants: Wants,
    young: Vec<YoungStay>,
    phase: Phase,
    /// When its first step was made.
    pub began_ns: BootNs,
}

/// A descriptor of the host's; in the order in which a scan comes to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DescriptorId {
    pid: u32,
    fd: u32,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Adopt(Option<DescriptorId>),
    AdoptWaiting(SocketId),
    Stays(Option<SocketId>),
    Holders(Option<DescriptorId>),
    Unplaced,
    Counts,
    Done,
}

impl Running {
    /// Begins one as of now.
    pub fn begin(host: &ModelHost, number: u32, wants: Wants) -> Self {
        for stay in &wants.give_up {
            host.programs.give_up(stay.slot, stay.since_ns);
        }
        let min_age = host.programs.settings().min_age_ns;
        let young = host.programs.young();
        let young = young.filter(|stay| host.now.saturating_sub(stay.since_ns) >= min_age);
        Self {
            scan: Scan {
                now_ns: host.now,
                complete: wants.complete,
                adopted: wants.adopt,
                ..Scan::default()
            },
            number,
            young: young.collect(),
            phase: if wants.adopt { Phase::Adopt(None) } else { Phase::Stays(None) },
            wants,
            began_ns: host.now,
        }
    }

    /// Goes a step on; the facts once it is done.
    pub fn step(&mut self, host: &mut ModelHost) -> Option<Vec<Fact>> {
        self.phase = match self.phase {
            Phase::Adopt(at) => match next_descriptor(host, at) {
                Some((at, id)) => {
                    let view = host.view(id);
                    host.programs.adopt(&view, self.scan.now_ns, host.now);
                    Phase::Adopt(Some(at))
                }
                None => Phase::AdoptWaiting(0),
            },
            Phase::AdoptWaiting(at) => {
                // iter/tcp lists what is hashed: not what is over.
                let hashed = |id: &SocketId| host.sockets[*id].state != TcpState::Close;
                let next = host.live().filter(hashed).find(|id| *id >= at);
                if let Some(id) = next {
                    let view = host.view(id);
                    host.programs.adopt(&view, self.scan.now_ns, host.now);
                    Phase::AdoptWaiting(id + 1)
                } else {
                    Phase::Stays(None)
                }
            }
            Phase::Stays(at) => match host.programs.stored_after(at) {
                Some(id) => {
                    let view = host.view(id);
                    let (now, all) = (self.scan.now_ns, self.wants.complete);
                    let listed = host.programs.list(&view, self.number, now, all);
                    self.scan.sockets.0.extend(listed);
                    Phase::Stays(Some(id))
                }
                None => Phase::Holders(None),
            },
            Phase::Holders(at) => match next_descriptor(host, at) {
                Some((at, id)) => {
                    self.descriptor(host, at, id);
                    Phase::Holders(Some(at))
                }
                None => Phase::Unplaced,
            },
            Phase::Unplaced => {
                for stay in &self.young {
                    if let Some(socket) = host.programs.still(*stay) {
                        self.scan.unplaced.push(Unplaced { slot: stay.slot, socket: Wire(socket) });
                    }
                }
                if self.wants.complete {
                    self.scan.young = host.programs.young_cookies();
                }
                Phase::Counts
            }
            Phase::Counts => {
                self.scan.counts = Counts {
                    at_ns: host.now,
                    counters: Wire(host.programs.counters),
                    missed: host.programs.missed,
                    histogram: None,
                };
                Phase::Done
            }
            Phase::Done => return Some(self.facts(host)),
        };
        None
    }

    fn descriptor(&mut self, host: &mut ModelHost, at: DescriptorId, id: SocketId) {
        let DescriptorId { pid, fd } = at;
        let view = host.view(id);
        let Some(process) = host.processes.iter().find(|p| p.id.pid == pid) else { return };
        let holder = Holding {
            kind: KIND_HOLDING,
            fd,
            cookie: view.cookie,
            start_ns: process.id.start_ns,
            cgroup: 0,
            pid,
            tid: pid,
            ppid: process.ppid,
            max_backlog: view.limit,
            comm: *b"prog\0\0\0\0\0\0\0\0\0\0\0\0",
        };
        if view.state == TcpState::Listen {
            let queued = |child: &SocketId| Queued {
                kind: KIND_QUEUED,
                pad: 0,
                cookie: host.sockets[*child].cookie,
                listener: view.cookie,
            };
            self.scan.queued.0.extend(host.sockets[id].queue.iter().map(queued));
            self.scan.listeners.0.push(describe(&view));
            self.scan.holders.0.push(holder);
            return;
        }
        let min_age = host.programs.settings().min_age_ns;
        let aged = |since: &BootNs| self.scan.now_ns.saturating_sub(*since) >= min_age;
        let since = host.programs.young_since(&view, self.scan.now_ns);
        if let Some(since) = since.filter(|_| !self.young.is_empty()) {
            if aged(&since) {
                let promoted: Option<Socket> =
                    host.programs.promote(&view, self.number, self.scan.now_ns);
                self.scan.sockets.0.extend(promoted);
                self.scan.holders.0.push(holder);
            }
        } else if host.programs.asks_for(id, self.number) {
            self.scan.holders.0.push(holder);
        }
    }

    /// Whoever is gone by now has not been looked up.
    fn facts(&mut self, host: &ModelHost) -> Vec<Fact> {
        let named = |id| self.scan.holders.0.iter().any(|h| (h.pid, h.start_ns) == id);
        let processes = host.processes.iter().filter(|p| named((p.id.pid, p.id.start_ns)));
        let mut facts: Vec<Fact> = processes.map(process).collect();
        facts.push(Fact::Scan(Box::new(std::mem::take(&mut self.scan))));
        facts
    }
}

/// What is said of a process.
pub fn process(p: &super::parts::ModelProcess) -> Fact {
    Fact::Process(Box::new(Process {
        pid: p.id.pid,
        start_ns: p.id.start_ns,
        ppid: p.ppid,
        comm: "prog".to_owned(),
        ..Process::default()
    }))
}

/// The descriptor after one, by pid and number, and its socket.
fn next_descriptor(host: &ModelHost, at: Option<DescriptorId>) -> Option<(DescriptorId, SocketId)> {
    let all = host.processes.iter().flat_map(|p| {
        p.fds
            .iter()
            .map(|(fd, file)| (DescriptorId { pid: p.id.pid, fd: *fd }, host.files[*file].socket))
    });
    all.filter(|(place, _)| at.is_none_or(|at| *place > at)).min_by_key(|(place, _)| *place)
}

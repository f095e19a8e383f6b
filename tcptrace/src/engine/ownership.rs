//! Whose transitions they are, where transitions are asked for by holder. The task on the CPU says
//! it only where it made a call; for the rest, what it did before with that socket, and whose
//! listener a connection came in by, say it.

use std::collections::{HashMap, HashSet};

use tcptrace_common::{event::Socket, state::TcpState};

use super::{
    decode::Event,
    holdings::Holdings,
    processes::Processes,
    record::{Connection, Holder},
    select::Selection,
};

/// What is known of sockets' owners; it goes by the sockets whose next change is watched.
#[derive(Debug, Default)]
pub struct Ownership {
    sockets: HashMap<u64, bool>,
    /// Ports by network namespace on which the asked-for processes listen.
    ports: HashSet<(u32, u16)>,
}

/// More sockets than this are not remembered one by one: what their listener or their caller says
/// is asked again then.
const KEPT: usize = 1 << 17;

impl Ownership {
    /// Takes in who holds which sockets.
    pub fn learn(&mut self, holdings: &Holdings, selection: &Selection, processes: &Processes) {
        for (cookie, held) in &holdings.by_cookie {
            let wanted = held.iter().any(|h| wanted(h, selection, processes));
            self.sockets.insert(*cookie, wanted);
        }
    }

    /// Takes in all listeners and who holds them.
    pub fn learn_listeners(
        &mut self,
        listeners: &[Socket],
        holdings: &Holdings,
        selection: &Selection,
        processes: &Processes,
    ) {
        let held = |s: &&Socket| {
            let holders = holdings.by_cookie.get(&s.cookie);
            holders.is_some_and(|h| h.iter().any(|h| wanted(h, selection, processes)))
        };
        self.ports =
            listeners.iter().filter(held).map(|s| (s.tuple.netns, s.tuple.lport)).collect();
    }

    /// Whether the event's socket belongs to who was asked for, as far as is known by now.
    /// `states`: those that are watched, bit `1 << number`.
    pub fn owns(
        &mut self,
        event: &Event,
        selection: &Selection,
        states: u32,
        processes: &Processes,
    ) -> bool {
        let connection: &Connection = &event.change.connection;
        let came_in = || self.ports.contains(&(connection.netns, connection.local.port()));
        let owns = match self.sockets.get(&connection.cookie) {
            Some(true) => true,
            _ if event.by_call => {
                let caller = processes.caller(event.change.on_cpu_pid, None, event.time);
                wanted(&caller, selection, processes) || came_in()
            }
            Some(false) => false,
            None => came_in(),
        };
        // From a state that nobody watches no event comes.
        let ends = event.change.new == TcpState::Close || states & event.change.new.bit() == 0;
        if ends {
            self.sockets.remove(&connection.cookie);
        } else if connection.cookie != 0 && self.sockets.len() < KEPT {
            self.sockets.insert(connection.cookie, owns);
        }
        owns
    }

    /// How many sockets are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }
}

fn wanted(holder: &Holder, selection: &Selection, processes: &Processes) -> bool {
    let descends = |pid: u32, roots: &[_]| processes.descends(pid, roots);
    selection.matches_holders(std::slice::from_ref(holder), None, &descends)
}

#[cfg(test)]
mod tests {
    use tcptrace_common::event::{KIND_TRANSITION, OPEN, Transition};
    use zerocopy::FromZeros;

    use super::*;
    use crate::engine::{decode, record::ProcessId};

    fn event(cookie: u64, old: TcpState, new: TcpState) -> Event {
        let mut t = Transition::new_zeroed();
        (t.kind, t.cookie, t.protocol, t.socket) = (KIND_TRANSITION, cookie, 6, OPEN);
        (t.old, t.new, t.time_ns) = (old as u8, new as u8, 5);
        decode::transition(&t).expect("a transition")
    }

    /// Defect 4: an entry for each connection of the host stayed for ever.
    #[test]
    fn what_no_event_will_come_from_is_forgotten() {
        let mut ownership = Ownership::default();
        let id = ProcessId { pid: 7, start_ns: 0 };
        let selection = Selection { processes: vec![id], ..Selection::default() };
        let (processes, states) = (Processes::default(), TcpState::CloseWait.bit());
        for cookie in 1..=1_000 {
            for (old, new) in [
                (TcpState::Established, TcpState::CloseWait),
                (TcpState::CloseWait, TcpState::LastAck),
            ] {
                ownership.owns(&event(cookie, old, new), &selection, states, &processes);
            }
        }
        assert!(ownership.is_empty(), "{} are remembered", ownership.len());
        for cookie in 1..=2 * KEPT as u64 {
            let entered = event(cookie, TcpState::Established, TcpState::CloseWait);
            ownership.owns(&entered, &selection, states, &processes);
        }
        assert!(ownership.len() <= KEPT, "and never more than so many");
    }
}

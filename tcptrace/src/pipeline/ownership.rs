//! Whose transitions they are, where transitions are asked for by holder. The task on the CPU says
//! it only where it made a call; for the rest, what it did before with that socket, and whose
//! listener a connection came in by, say it.

use std::collections::{HashMap, HashSet};

use tcptrace_common::state::TcpState;

use crate::{
    engine::{decode::Event, record::Holder, select::Selection},
    source::live::{bpf::iter::Listing, holders, process, process::Processes},
};

/// What is known of sockets' owners; it goes by the sockets that exist.
#[derive(Debug, Default)]
pub struct Ownership {
    sockets: HashMap<u64, bool>,
    /// Ports by network namespace on which the asked-for processes listen.
    ports: HashSet<(u32, u16)>,
}

impl Ownership {
    /// Takes in a pass over all descriptors.
    pub fn learn(&mut self, listing: &Listing, selection: &Selection, processes: &Processes) {
        for (cookie, held) in holders::from_kernel(&[], &[], &listing.holders, processes).by_cookie
        {
            let wanted = held.into_iter().any(|h| wanted(&h, selection));
            self.sockets.insert(cookie, wanted);
        }
        self.learn_listeners(listing, selection, processes);
    }

    /// Takes in the listeners of a pass.
    pub fn learn_listeners(
        &mut self,
        listing: &Listing,
        selection: &Selection,
        processes: &Processes,
    ) {
        self.ports = holders::listening(
            &listing.sockets,
            &listing.holders,
            |h| wanted(h, selection),
            processes,
        );
    }

    /// Whether the event's socket belongs to who was asked for, as far as is known by now.
    pub fn owns(&mut self, event: &Event, selection: &Selection, processes: &Processes) -> bool {
        let connection = &event.change.connection;
        let came_in = || self.ports.contains(&(connection.netns, connection.local.port()));
        let owns = match self.sockets.get(&connection.cookie) {
            Some(true) => true,
            _ if event.by_call => {
                wanted(&processes.caller(event.change.on_cpu_pid, None, event.time), selection)
                    || came_in()
            }
            Some(false) => false,
            None => came_in(),
        };
        if event.change.new == TcpState::Close {
            self.sockets.remove(&connection.cookie);
        } else if connection.cookie != 0 {
            self.sockets.insert(connection.cookie, owns);
        }
        owns
    }
}

fn wanted(holder: &Holder, selection: &Selection) -> bool {
    selection.matches_holders(std::slice::from_ref(holder), None, &process::descends)
}

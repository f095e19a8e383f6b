//! Where stays are kept: slots of the nursery, and places in socket storage.

use std::cell::Cell;

use tcptrace_common::{
    event::Tuple,
    slot::{Place, Slot},
    state::TcpState,
};

use crate::{engine::record::BootNs, source::simulation::parts::SocketView};

/// From this age on a stay's state is its socket's.
const SETTLED_NS: u64 = 100_000_000;

/// A slot of the nursery.
#[derive(Debug, Default)]
pub(super) struct ModelSlot {
    pub(super) owner: Cell<u64>,
    pub(super) since: Cell<u64>,
    pub(super) cookie: Cell<u64>,
    pub(super) sent_before: Cell<u64>,
    pub(super) tuple: Cell<Tuple>,
    pub(super) protocol: Cell<u16>,
    pub(super) state: Cell<u8>,
    pub(super) has_socket: Cell<bool>,
}

impl ModelSlot {
    pub(super) fn words(&self) -> Slot<&Cell<u64>> {
        Slot { owner: &self.owner, since: &self.since }
    }

    /// Addresses are used again: the stay here may be that of an earlier socket.
    pub(super) fn is_of(&self, v: &SocketView) -> bool {
        self.cookie.get() == 0 || self.cookie.get() == v.cookie
    }

    /// Its end was missed.
    pub(super) fn is_stale(&self, v: &SocketView, since: BootNs, now: BootNs) -> bool {
        self.state.get() != v.state as u8 && now.saturating_sub(since) >= SETTLED_NS
    }
}

/// A place for a stay in socket storage.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) latest_ns: Cell<u64>,
    pub(super) earliest_ns: Cell<u64>,
    pub(super) sent_before: Cell<u64>,
    pub(super) state: Cell<u8>,
    pub(super) flags: Cell<u8>,
}

impl Kept {
    pub(super) fn place(&self) -> Place<&Cell<u64>> {
        Place(&self.latest_ns)
    }

    /// When the stay here began; one in another state than its socket is thrown out.
    pub(super) fn live(&self, state: TcpState, now: BootNs) -> Option<u64> {
        let since = self.place().since()?;
        if self.state.get() != state as u8 && now.saturating_sub(since) >= SETTLED_NS {
            self.place().end(since);
            return None;
        }
        Some(since)
    }
}

/// What a socket's storage holds.
#[derive(Debug, Default)]
pub(super) struct Storage {
    pub(super) settled: Kept,
    pub(super) moved: Kept,
    pub(super) reported_of: Cell<u64>,
    pub(super) due_ns: Cell<u64>,
    pub(super) scan: Cell<u32>,
}

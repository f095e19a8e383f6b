//! How long stays last as a rule, by listener and by remote: a mapped table of the kernel programs.

use std::{
    collections::HashMap,
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::{Btf, Ebpf, maps::MapData};
use tcptrace_common::{
    event::Socket,
    normal::{NormalOf, NormalSlot, PROBES, READY, SLOTS, slot},
};

use super::{
    mapped::Mapped,
    preflight::Refusal,
    programs::{Hook, load, map, program, refusal},
};
use crate::engine::fact::{NormalRow, Wire};

/// The table, and what of it was told already.
pub struct NormalTable {
    slots: Mapped<NormalSlot>,
    /// How many stays had ended by then.
    told: HashMap<NormalOf, u64>,
}

/// The program that fills the table.
pub const PROGRAM: &str = "normal";

/// Loads the program and maps the table.
///
/// # Errors
/// A [`Refusal`].
pub fn start(ebpf: &mut Ebpf, btf: &Btf) -> Result<NormalTable, Refusal> {
    load(program(ebpf, PROGRAM)?, Hook::Tracepoint("inet_sock_set_state"), btf)?;
    NormalTable::new(map(ebpf, "NORMALS")?).map_err(|e| refusal("the table of normal stays", &e))
}

/// Places in the table.
pub const PLACES: u32 = SLOTS as u32;

impl NormalTable {
    /// Maps the table.
    ///
    /// # Errors
    /// What mmap answers.
    pub fn new(slots: &MapData) -> io::Result<Self> {
        Ok(Self { slots: Mapped::new(slots, SLOTS)?, told: HashMap::new() })
    }

    /// What is known of where these sockets lead, as far as it was not told yet.
    pub fn news<'a>(&mut self, sockets: impl Iterator<Item = &'a Socket>) -> Vec<NormalRow> {
        let mut news = Vec::new();
        let mut last = None;
        for socket in sockets {
            let of = NormalOf::of(socket.max_backlog != 0, &socket.tuple, socket.state);
            if last.replace(of) != Some(of)
                && let Some(row) = self.row(of)
            {
                let ended = row.ended();
                if self.told.insert(of, ended) != Some(ended) {
                    news.push(row);
                }
            }
        }
        // Remotes come and go.
        if self.told.len() > SLOTS {
            self.told.clear();
        }
        news
    }

    /// `None`: no stay has ended there.
    fn row(&self, of: NormalOf) -> Option<NormalRow> {
        let words = of.words();
        let found = |index: usize| {
            let slot = self.slots.at(index);
            // SAFETY: within the mapping, aligned to 8, and touched as an atomic by all.
            let taken = unsafe { AtomicU64::from_ptr(&raw mut (*slot).taken) };
            (taken.load(Ordering::SeqCst) == READY).then(|| self.slots.read(index))
        };
        let probes: Vec<_> = (0..PROBES).filter_map(|n| found(slot(words, n))).collect();
        let Some(slot) = probes.iter().find(|slot| slot.of == words) else {
            let full = probes.len() == PROBES;
            return full.then(|| NormalRow { of: Wire(of), no_room: true, stays: Vec::new() });
        };
        let stays = (0..).zip(slot.stays).filter(|(_, n)| *n > 0).collect();
        Some(NormalRow { of: Wire(of), no_room: false, stays })
    }
}

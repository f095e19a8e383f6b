//! Who opened sockets and who read from them: what the source told of it, until a scan asks.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use tcptrace_common::event::{ACCEPTED, Origin};

use crate::engine::{
    fact::{Fact, NamedStack, Origins as Told, Records},
    origin::{self, OriginLimits},
    processes::Processes,
    record::{KnownOrigin, Opening, ProcessId, Record},
    stack::Stack,
    unknown::Reason,
};

/// Stacks that are remembered, and sockets.
const STACKS: usize = 1 << 13;
const SOCKETS: usize = 1 << 18;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Traced {
    reads: bool,
    narrowed: bool,
    full: u64,
    stacks_lost: u64,
    rings: HashSet<ProcessId>,
    by_cookie: HashMap<u64, Origin>,
    stacks: HashMap<u64, Rc<Stack>>,
    /// Each stack once, whatever its names.
    alike: HashSet<Rc<Stack>>,
}

impl Traced {
    /// Takes in what is told.
    pub fn learn(&mut self, told: &Told) {
        let Told { list, reads, narrowed, full, stacks_lost, rings } = told;
        let id = |(pid, start_ns): &(u32, u64)| ProcessId { pid: *pid, start_ns: *start_ns };
        self.rings.extend(rings.iter().map(id));
        (self.reads, self.narrowed) = (*reads, *narrowed);
        (self.full, self.stacks_lost) = (*full, *stacks_lost);
        if self.by_cookie.len() >= SOCKETS {
            self.by_cookie.clear();
        }
        self.by_cookie.extend(list.0.iter().map(|origin| (origin.cookie, *origin)));
    }

    /// The same of a stack.
    pub fn learn_stack(&mut self, named: &NamedStack) {
        if self.stacks.len() >= STACKS {
            self.stacks.clear();
            self.alike.clear();
        }
        let stack = match self.alike.get(&named.stack) {
            Some(same) => Rc::clone(same),
            None => Rc::new(named.stack.clone()),
        };
        self.alike.insert(Rc::clone(&stack));
        self.stacks.insert(named.name, stack);
    }

    /// Puts what is known into a record.
    pub fn tell(&self, record: &mut Record, processes: &Processes) {
        let limits = OriginLimits {
            reads: self.reads,
            narrowed: self.narrowed,
            full: self.full > 0,
            ring: record.holders.iter().any(|h| self.rings.contains(&h.process)),
        };
        let known = self.by_cookie.get(&record.connection.cookie);
        let missing = if self.stacks_lost > 0 { Reason::StackLost } else { Reason::StackPending };
        let stack = |name| self.stacks.get(&name).cloned().ok_or(missing);
        let moment = |raw| origin::moment(raw, processes, stack);
        let origins = known.map_or_else(KnownOrigin::default, |known| {
            let how =
                if known.flags & ACCEPTED != 0 { Opening::Accepted } else { Opening::Connected };
            KnownOrigin {
                opened: moment(&known.opened).map(|moment| (how, moment)),
                last_read: moment(&known.read),
                end_read: moment(&known.end),
            }
        });
        origin::tell(record, origins, limits, processes);
    }

    /// Forgets sockets that are gone.
    pub fn retain(&mut self, live: &HashSet<u64>) {
        self.by_cookie.retain(|cookie, _| live.contains(cookie));
    }

    /// What is known, as facts.
    pub fn known(&self) -> impl Iterator<Item = Fact> {
        let stacks = self
            .stacks
            .iter()
            .map(|(name, stack)| NamedStack { name: *name, stack: Stack::clone(stack) });
        let told = Told {
            list: Records(self.by_cookie.values().copied().collect()),
            reads: self.reads,
            narrowed: self.narrowed,
            full: self.full,
            stacks_lost: self.stacks_lost,
            rings: self.rings.iter().map(|id| (id.pid, id.start_ns)).collect(),
        };
        stacks
            .map(|named| Fact::Stack(Box::new(named)))
            .chain(std::iter::once(Fact::Origins(Box::new(told))))
    }
}

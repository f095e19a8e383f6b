//! User stacks on their way from the kernel programs to words: kept as they come, put into words
//! when a leak's origin names them.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs,
    time::{Duration, Instant},
};

use tcptrace_common::event::{Moment, Origin, UserStack};
use zerocopy::FromBytes;

use super::{bpf::origins::Origins, numbers};
use crate::{
    engine::{
        fact::{Fact, NamedStack, Origins as Told, Records, Scan},
        record::ProcessId,
        stack::Stack,
    },
    formats::descriptor::Kind,
};

/// Memory for stacks that nobody has asked for yet, bytes.
const KEPT: usize = 32 << 20;
/// Names of stacks that were put into words are remembered up to so many.
const SAID: usize = 1 << 13;
/// One scan spends no more time on words; what is left over comes with the next.
const LONGEST: Duration = Duration::from_millis(500);
/// Descriptors that are looked at for a ring.
const DESCRIPTORS: usize = 4_096;

/// Stacks by name.
#[derive(Default)]
pub struct Stacks {
    raw: HashMap<u64, Raw>,
    /// In the order in which they came.
    names: VecDeque<u64>,
    bytes: usize,
    said: HashSet<u64>,
    /// Processes that were looked at for a ring.
    looked_at: HashSet<ProcessId>,
}

/// A stack as the kernel programs handed it over.
struct Raw {
    id: ProcessId,
    ip: u64,
    sp: u64,
    fp: u64,
    lr: u64,
    chain: Box<[u64]>,
    memory: Box<[u8]>,
}

impl Raw {
    fn new(stack: &UserStack) -> Self {
        let chain = stack.chain.get(..stack.calls as usize).unwrap_or_default();
        let memory = stack.bytes.get(..stack.length as usize).unwrap_or_default();
        Self {
            id: ProcessId { pid: stack.pid, start_ns: stack.start_ns },
            ip: stack.ip,
            sp: stack.sp,
            fp: stack.fp,
            lr: stack.lr,
            chain: chain.into(),
            memory: memory.into(),
        }
    }

    fn size(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.chain) + self.memory.len()
    }
}

impl Stacks {
    /// What is to be told before a scan: the stacks that its sockets' origins name, then those.
    pub fn facts(&mut self, kept: &mut Origins, list: Vec<Origin>, scan: &Scan) -> Vec<Fact> {
        self.take_in(kept);
        let mut facts = Vec::new();
        let until = Instant::now() + LONGEST;
        for Moment { stack: name, .. } in list.iter().flat_map(|o| [o.opened, o.read, o.end]) {
            if Instant::now() >= until {
                break;
            }
            if let Some(stack) = self.words(name, until) {
                facts.push(Fact::Stack(Box::new(NamedStack { name, stack })));
            }
        }
        let rings = self.rings(&list, scan);
        // Most of the time there is nothing.
        if !list.is_empty() || !rings.is_empty() {
            facts.push(told(kept, list, rings));
        }
        facts
    }

    /// Takes the stacks in that have come.
    fn take_in(&mut self, kept: &mut Origins) {
        while let Some(bytes) = kept.take() {
            let Ok(stack) = UserStack::ref_from_bytes(&bytes) else { continue };
            let raw = Raw::new(stack);
            self.bytes += raw.size();
            if let Some(before) = self.raw.insert(stack.name, raw) {
                self.bytes -= before.size();
            } else {
                self.names.push_back(stack.name);
            }
            while self.bytes > KEPT
                && let Some(oldest) = self.names.pop_front()
            {
                self.bytes -= self.raw.remove(&oldest).map_or(0, |raw| raw.size());
            }
        }
    }

    /// A stack in words, once.
    fn words(&mut self, name: u64, _until: Instant) -> Option<Stack> {
        if name == 0 || self.said.contains(&name) {
            return None;
        }
        let raw = self.raw.remove(&name)?;
        self.names.retain(|n| *n != name);
        self.bytes -= raw.size();
        if self.said.len() >= SAID {
            self.said.clear();
        }
        self.said.insert(name);
        let frames = raw
            .chain
            .iter()
            .map(|a| crate::engine::stack::Frame { offset: *a, ..Default::default() });
        Some(Stack {
            frames: frames.collect(),
            cut: Some(format!(
                "{} {:x} {:x} {:x} {:x}",
                raw.id.pid, raw.ip, raw.sp, raw.fp, raw.lr
            )),
        })
    }

    /// Holders of sockets whose opening was not seen that have an io_uring.
    fn rings(&mut self, list: &[Origin], scan: &Scan) -> Vec<(u32, u64)> {
        let seen: HashSet<u64> =
            list.iter().filter(|o| o.opened.time_ns != 0).map(|o| o.cookie).collect();
        let due: HashSet<u64> =
            scan.sockets.0.iter().map(|s| s.cookie).filter(|c| !seen.contains(c)).collect();
        let mut rings = Vec::new();
        for holder in scan.holders.0.iter().filter(|h| due.contains(&h.cookie)) {
            let id = ProcessId { pid: holder.pid, start_ns: holder.start_ns };
            if self.looked_at.len() < SAID && self.looked_at.insert(id) && has_ring(id.pid) {
                rings.push((id.pid, id.start_ns));
            }
        }
        rings
    }
}

/// Whether a process has an io_uring among its first descriptors.
fn has_ring(pid: u32) -> bool {
    let dir = format!("/proc/{pid}/fd");
    let fds = numbers(&dir).unwrap_or_default();
    fds.into_iter().take(DESCRIPTORS).any(|fd| {
        fs::read_link(format!("{dir}/{fd}"))
            .is_ok_and(|link| Kind::of_link(&link.to_string_lossy()) == Kind::Ring)
    })
}

fn told(kept: &Origins, list: Vec<Origin>, rings: Vec<(u32, u64)>) -> Fact {
    let lost = kept.lost();
    Fact::Origins(Box::new(Told {
        list: Records(list),
        reads: kept.reads,
        narrowed: kept.narrowed,
        full: lost.full,
        stacks_lost: lost.stacks_lost,
        rings,
    }))
}

/// That origins are kept, and none is known yet.
#[must_use]
pub fn none_yet(kept: &Origins) -> Fact {
    told(kept, Vec::new(), Vec::new())
}

//! User stacks on their way from the kernel programs to words: kept as they come, put into words
//! when a leak's origin names them. That takes as long as files take to be read: a thread of its
//! own does it, and a scan waits for it only a little.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs, io,
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use tcptrace_common::event::{CallMoment, Origin, UserStack};
use zerocopy::FromBytes;

use super::{
    bpf::origins::OriginMaps,
    numbers,
    symbols::{self, Symbols},
};
use crate::{
    engine::{
        fact::{Fact, NamedStack, Origins as Told, Records, Scan},
        record::ProcessId,
        stack::{Missing, Stack},
    },
    formats::descriptor::Kind,
    source,
};

/// Memory for stacks that nobody has asked for yet, bytes.
const KEPT: usize = 32 << 20;
/// Names of stacks that were asked for are remembered up to so many; processes, too.
const ASKED: usize = 1 << 13;
/// A scan waits no longer for words; what is left over comes with the next.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// One stack takes no longer.
const LONGEST: Duration = Duration::from_secs(5);
/// Descriptors that are looked at for a ring.
const DESCRIPTORS: usize = 4_096;

/// The scanner's side.
pub struct StackWords {
    orders: Sender<Order>,
    answers: Receiver<(u64, Option<Stack>)>,
    asked: HashSet<u64>,
    /// Asked and not answered.
    open: HashSet<u64>,
    /// What was told of those that may be told better, to say nothing twice.
    poor: HashMap<u64, Stack>,
    /// Asked, and no longer there.
    dropped: u64,
    /// Processes that were looked at for a ring.
    looked_at: HashSet<ProcessId>,
}

/// What the thread is told.
enum Order {
    /// A stack has come.
    Keep(u64, Raw),
    /// Words are wanted for this one.
    Words(u64),
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

impl StackWords {
    /// Starts the thread. Rights that are to be given up are given up before.
    ///
    /// # Errors
    /// What starting a thread answers.
    pub fn start() -> io::Result<Self> {
        let (orders, ordered) = channel();
        let (answer, answers) = channel();
        let work = move || {
            let mut work = Work::default();
            for order in ordered {
                match order {
                    Order::Keep(name, raw) => work.keep(name, raw),
                    Order::Words(name) => {
                        if answer.send((name, work.words(name))).is_err() {
                            return;
                        }
                    }
                }
            }
        };
        source::thread("symbols", work)?;
        let (asked, open, poor, dropped, looked_at) = Default::default();
        Ok(Self { orders, answers, asked, open, poor, dropped, looked_at })
    }

    /// What is to be told before a scan: the stacks that its sockets' origins name, then those.
    pub fn facts(&mut self, kept: &mut OriginMaps, list: Vec<Origin>, scan: &Scan) -> Vec<Fact> {
        self.take_in(kept);
        for CallMoment { stack: name, .. } in list.iter().flat_map(|o| [o.opened, o.read, o.end]) {
            self.ask(name);
        }
        let mut facts = self.answers();
        let rings = self.rings(&list, scan);
        // Most of the time there is nothing.
        if !list.is_empty() || !rings.is_empty() {
            facts.push(told(kept, list, rings, self.dropped));
        }
        facts
    }

    /// Takes the stacks in that have come.
    fn take_in(&mut self, kept: &mut OriginMaps) {
        while let Some(bytes) = kept.take() {
            if let Ok(stack) = UserStack::ref_from_bytes(&bytes) {
                // A thread that panicked has ended the program.
                let _ = self.orders.send(Order::Keep(stack.name, Raw::new(stack)));
            }
        }
    }

    fn ask(&mut self, name: u64) {
        if self.asked.len() >= ASKED {
            self.asked.clear();
        }
        if name != 0 && self.asked.insert(name) {
            self.open.insert(name);
            let _ = self.orders.send(Order::Words(name));
        }
    }

    /// The answers that have come, or come soon.
    fn answers(&mut self) -> Vec<Fact> {
        let until = Instant::now() + LONGEST_WAIT;
        let mut facts = Vec::new();
        while !self.open.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            let Ok((name, stack)) = self.answers.recv_timeout(left) else { break };
            self.open.remove(&name);
            match stack {
                Some(stack) => {
                    if may_be_told_better(&stack) {
                        self.asked.remove(&name);
                        if self.poor.len() >= ASKED {
                            self.poor.clear();
                        }
                        if self.poor.get(&name) == Some(&stack) {
                            continue;
                        }
                        self.poor.insert(name, stack.clone());
                    }
                    facts.push(Fact::Stack(Box::new(NamedStack { name, stack })));
                }
                // It may come later, when it is handed over again.
                None => {
                    self.dropped += 1;
                    self.asked.remove(&name);
                }
            }
        }
        facts
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
            if self.looked_at.len() < ASKED && self.looked_at.insert(id) && has_ring(id.pid) {
                rings.push((id.pid, id.start_ns));
            }
        }
        rings
    }
}

/// The thread's side.
#[derive(Default)]
struct Work {
    symbols: Symbols,
    raw: HashMap<u64, Raw>,
    /// In the order in which they came.
    names: VecDeque<u64>,
    bytes: usize,
}

impl Work {
    fn keep(&mut self, name: u64, raw: Raw) {
        self.symbols.see(raw.id);
        self.bytes += raw.size();
        match self.raw.insert(name, raw) {
            Some(before) => self.bytes -= before.size(),
            None => self.names.push_back(name),
        }
        while self.bytes > KEPT
            && let Some(oldest) = self.names.pop_front()
        {
            self.bytes -= self.raw.remove(&oldest).map_or(0, |raw| raw.size());
        }
    }

    /// A stack in words; then it is forgotten, if there are none better to come.
    fn words(&mut self, name: u64) -> Option<Stack> {
        let Raw { id, ip, sp, fp, lr, ref chain, ref memory } = *self.raw.get(&name)?;
        let raw = symbols::Raw { ip, sp, fp, lr, chain, memory };
        let stack = self.symbols.stack(id, &raw, LONGEST);
        if !may_be_told_better(&stack) {
            self.names.retain(|n| *n != name);
            self.bytes -= self.raw.remove(&name).map_or(0, |raw| raw.size());
        }
        Some(stack)
    }
}

/// Whether it is worth asking again when a leak is next told of: a perf map may be written
/// meanwhile, and what took too long is known by then.
fn may_be_told_better(stack: &Stack) -> bool {
    let later = |why: &Missing| {
        matches!(why, Missing::NoPerfMap { .. } | Missing::NotInPerfMap { .. } | Missing::Time)
    };
    stack.frames.iter().filter_map(|frame| frame.unknown.as_ref()).any(later)
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

fn told(kept: &OriginMaps, list: Vec<Origin>, rings: Vec<(u32, u64)>, dropped: u64) -> Fact {
    let lost = kept.lost();
    Fact::Origins(Box::new(Told {
        list: Records(list),
        reads: kept.reads,
        narrowed: kept.narrowed,
        full: lost.full,
        stacks_lost: lost.stacks_lost + dropped,
        rings,
    }))
}

/// That origins are kept, and none is known yet.
#[must_use]
pub fn none_yet(kept: &OriginMaps) -> Fact {
    told(kept, Vec::new(), Vec::new(), 0)
}

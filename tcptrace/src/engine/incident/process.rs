//! A process's story: how many leaks it has, since when, how fast it gains more, and when it runs
//! out of descriptors.

use std::{collections::HashMap, rc::Rc};

use super::{
    counting::{self, Counting, OfProcess, VERDICTS},
    series::{AtProcess, Series},
};
use crate::engine::{
    blocked::blockage::{Kept, Unserved},
    fact::Process,
    forecast::{NoForecast, estimate::Estimate},
    language::{Language, language},
    record::{BootNs, Holder, ProcessId, Record, Since},
    usage::InUse,
    watch::{WaitsOf, Watch},
};

/// A process that held a socket, or its listener. Text may hold anything.
#[derive(Clone, Debug)]
pub struct ProcessStory {
    /// The process, as it was seen first; the descriptor means nothing here.
    pub holder: Holder,
    /// Its command line, as far as it is kept; empty: unknown, or hidden by the process.
    pub command: Rc<str>,
    /// What it is written in, as far as its name tells.
    pub language: Option<Language>,
    /// When it was seen first.
    pub seen_ns: BootNs,
    /// Sockets that are open.
    pub sockets_open: u64,
    /// Leaks that are open.
    pub leaks_open: u64,
    /// Leaks that have ended.
    pub leaks_resolved: u64,
    /// The most leaks that were open at once, in any sample.
    pub leaks_most: u64,
    /// Leaks whose beginning was seen, those that have ended too.
    pub leaks_new: u64,
    resolved_new: u64,
    /// Leaks by verdict, those that have ended too.
    pub by_verdict: [u64; VERDICTS],
    resolved_by_verdict: [u64; VERDICTS],
    /// When the oldest of the leaks that are open began.
    pub oldest: Option<Since>,
    /// Descriptors in use, as the host said once a minute.
    pub used: Option<u64>,
    /// Descriptors that its open leaks have.
    pub in_leaks: u64,
    /// Descriptors that it may have.
    pub limit: Option<u64>,
    /// What it waited for when a leak of it was reported first, or why that is not known.
    pub waits: Option<WaitsOf>,
    /// When it has no descriptor left if it goes on like this, by what was counted last, or where
    /// nothing was, by the ages of its leaks; or why that can't be told.
    pub full: Result<Estimate, NoForecast>,
}

impl ProcessStory {
    fn new(holder: &Holder, seen_ns: BootNs) -> Self {
        Self {
            holder: Holder { fd: None, tid: None, opener: None, ..holder.clone() },
            command: "".into(),
            language: language("", &holder.comm),
            seen_ns,
            sockets_open: 0,
            leaks_open: 0,
            leaks_resolved: 0,
            leaks_most: 0,
            leaks_new: 0,
            resolved_new: 0,
            by_verdict: [0; VERDICTS],
            resolved_by_verdict: [0; VERDICTS],
            oldest: None,
            used: None,
            in_leaks: 0,
            limit: None,
            waits: None,
            full: Err(NoForecast::TooFew),
        }
    }

    /// Leaks, those that have ended too.
    #[must_use]
    pub fn leaks(&self) -> u64 {
        self.leaks_open + self.leaks_resolved
    }

    /// What keeps it, and what became of its connections, those that have ended too: the group with
    /// most threads first.
    pub fn kept(&self) -> impl Iterator<Item = Kept> {
        let mut effect = Unserved::default();
        for (slot, n) in self.by_verdict.iter().enumerate() {
            effect.add(counting::verdict(slot), *n);
        }
        let causes = self.waits.iter().flat_map(|waits| waits.causes.iter().cloned());
        causes.map(move |cause| Kept { cause, effect })
    }

    /// Descriptors that it certainly uses: what the host said may be a minute old.
    #[must_use]
    pub fn in_use(&self) -> Option<u64> {
        self.used.map(|used| used.max(self.in_leaks))
    }

    fn learn(&mut self, process: &Process) {
        (self.used, self.limit) = (process.descriptors, process.descriptor_limit);
        if self.command.is_empty() && !process.command.is_empty() {
            let mut text = process.command.join(" ");
            text.truncate(text.floor_char_boundary(COMMAND));
            self.command = text.into();
        }
    }

    fn count(
        &mut self,
        of: &OfProcess,
        now: BootNs,
        sampled: Option<Result<Estimate, NoForecast>>,
    ) {
        (self.sockets_open, self.leaks_open, self.oldest) = (of.sockets, of.leaks, of.oldest);
        self.leaks_most = self.leaks_most.max(of.leaks);
        self.leaks_new = self.resolved_new + of.new;
        self.by_verdict = std::array::from_fn(|n| self.resolved_by_verdict[n] + of.by_verdict[n]);
        self.in_leaks = of.ages_ns.len() as u64;
        let in_use = self.in_use().unwrap_or(self.in_leaks);
        let in_use = InUse::of(Some(in_use), self.limit);
        self.full = sampled.unwrap_or_else(|| Estimate::of_leaks(&of.ages_ns, now, in_use));
    }
}

impl LookedUp<'_> {
    /// What a watch knows.
    pub fn by<R>(watch: &Watch, then: impl FnOnce(&LookedUp<'_>) -> R) -> R {
        then(&LookedUp {
            process: &|id| watch.process(id),
            waits: &|id| watch.waits_of(id).cloned(),
            full: &|id| watch.descriptors_of(id),
        })
    }
}

/// What else is known of processes.
pub struct LookedUp<'a> {
    /// What the host said of one.
    pub process: &'a dyn Fn(ProcessId) -> Option<&'a Process>,
    /// What it waits for; `None`: nobody asked.
    pub waits: &'a dyn Fn(ProcessId) -> Option<WaitsOf>,
    /// When it has no descriptor left, where its descriptors were counted.
    pub full: &'a dyn Fn(ProcessId) -> Option<Result<Estimate, NoForecast>>,
}

/// Of a command line no more than this is kept, bytes.
const COMMAND: usize = 4_096;

/// All processes, by number.
#[derive(Clone, Debug, Default)]
pub(super) struct ProcessStories {
    all: Vec<ProcessStory>,
    numbers: HashMap<ProcessId, u32>,
}

impl ProcessStories {
    /// More are not told apart.
    const PROCESSES: usize = 4_096;

    pub fn all(&self) -> &[ProcessStory] {
        &self.all
    }

    /// The number of a holder's process; `None`: there are too many.
    pub fn number(&mut self, holder: &Holder, seen_ns: BootNs) -> Option<u32> {
        if let Some(number) = self.numbers.get(&holder.process) {
            return Some(*number);
        }
        if self.all.len() >= Self::PROCESSES {
            return None;
        }
        let number = u32::try_from(self.all.len()).ok()?;
        self.all.push(ProcessStory::new(holder, seen_ns));
        self.numbers.insert(holder.process, number);
        Some(number)
    }

    /// A socket has ended.
    pub fn resolved(&mut self, record: &Record) {
        for holder in record.processes().filter(|_| record.is_leak()) {
            let number = self.numbers.get(&holder.process).map(|n| *n as usize);
            if let Some(story) = number.and_then(|n| self.all.get_mut(n)) {
                story.leaks_resolved += 1;
                story.resolved_new += u64::from(counting::is_new(record));
                story.resolved_by_verdict[counting::slot(record.verdict)] += 1;
            }
        }
    }

    /// Takes in what is open at `now`; of those with most, what a moment tells.
    pub fn sample(
        &mut self,
        counting: &Counting,
        now: BootNs,
        looked_up: &LookedUp<'_>,
    ) -> Vec<AtProcess> {
        let none = OfProcess::default();
        let mut list = Vec::new();
        for (number, story) in self.all.iter_mut().enumerate() {
            let id = story.holder.process;
            let of = counting.processes.get(&id).unwrap_or(&none);
            if of.sockets > 0
                && let Some(process) = (looked_up.process)(id)
            {
                story.learn(process);
            }
            story.count(of, now, (looked_up.full)(id));
            if of.sockets > 0 {
                list.push(AtProcess {
                    process: number as u32,
                    close_wait: of.close_wait,
                    leaks: of.leaks,
                    used: story.in_use(),
                    limit: story.limit,
                });
            }
        }
        list.sort_by_key(|p| (std::cmp::Reverse((p.leaks, p.close_wait)), p.process));
        list.truncate(Series::PROCESSES);
        list.shrink_to_fit();
        for at in list.iter().filter(|at| at.leaks > 0) {
            let story = &mut self.all[at.process as usize];
            // What keeps it may become known later.
            if story.waits.as_ref().is_none_or(|waits| waits.causes.is_empty()) {
                story.waits = (looked_up.waits)(story.holder.process).or(story.waits.take());
            }
        }
        list
    }
}

//! What is asked of processes once, when they are found to leak.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use crate::{
    engine::{
        blocked::{
            blockage::{Blockage, blockages},
            reading::Reading,
        },
        record::{ProcessId, Record},
        verdict::Verdict,
        waiting::Waiting,
    },
    formats::threads::Threads,
};

/// More processes than these are not asked about.
const MOST: usize = 1_024;
/// More readings than these are not kept: one may tell of tens of thousands of threads.
const READINGS: usize = 64;

/// What a process waited for.
#[derive(Clone, Debug)]
pub struct WaitsOf {
    /// Its threads in groups, or why nothing is known of them.
    pub threads: Rc<Result<Threads, &'static str>>,
    /// What keeps it, most threads first; none: nothing, as far as could be read.
    pub causes: Rc<[Blockage]>,
}

/// Processes and what their threads waited in.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Asked about, because of leaks with this verdict.
    about: HashSet<(ProcessId, Option<Verdict>)>,
    wanted: Vec<ProcessId>,
    /// The first answer, which is the nearest to when it began.
    answers: HashMap<ProcessId, Waiting>,
    /// What is concluded from the answers.
    waits: HashMap<ProcessId, WaitsOf>,
    /// The readings that show what keeps a process: of each the first.
    readings: Vec<Reading>,
}

impl Asked {
    /// A leak was reported: its holders are asked about, once for each kind of leak.
    pub fn want(&mut self, record: &Record) {
        for holder in &record.holders {
            let about = (holder.process, record.verdict);
            if self.about.len() < MOST && self.about.insert(about) {
                self.wanted.push(holder.process);
            }
        }
    }

    /// Those that are to be asked about now.
    pub fn take_wanted(&mut self) -> Vec<ProcessId> {
        let mut wanted = std::mem::take(&mut self.wanted);
        wanted.dedup();
        wanted
    }

    /// Takes in an answer.
    pub fn learn(&mut self, waiting: &Waiting) {
        let id = ProcessId { pid: waiting.pid, start_ns: waiting.start_ns };
        if self.answers.len() < MOST && !self.answers.contains_key(&id) {
            let threads = Rc::new(waiting.groups());
            self.waits.insert(id, WaitsOf { threads, causes: Rc::default() });
            self.answers.insert(id, waiting.clone());
        }
    }

    /// Takes in what processes wait for.
    pub fn learn_more(&mut self, reading: &Reading) {
        if self.readings.len() == READINGS {
            return;
        }
        let mut news = false;
        for id in reading.asked().map(|process| process.id()) {
            // Something that keeps it was found before.
            let Some(of) = self.waits.get_mut(&id).filter(|of| of.causes.is_empty()) else {
                continue;
            };
            of.causes = blockages(reading, id).into();
            news |= !of.causes.is_empty();
        }
        if news {
            self.readings.push(reading.clone());
        }
    }

    /// What a process waited for; `None`: there is no answer.
    pub fn waits_of(&self, id: ProcessId) -> Option<&WaitsOf> {
        self.waits.get(&id)
    }

    /// All answers.
    pub fn all(&self) -> impl Iterator<Item = &Waiting> {
        self.answers.values()
    }

    /// The readings that are kept, in the order in which they came.
    pub fn readings(&self) -> impl Iterator<Item = &Reading> {
        self.readings.iter()
    }
}

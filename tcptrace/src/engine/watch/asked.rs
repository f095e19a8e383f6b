//! What is asked of processes once, when they are found to leak.

use std::collections::{HashMap, HashSet};

use crate::engine::{
    record::{ProcessId, Record},
    verdict::Verdict,
    waiting::Waiting,
};

/// More processes than these are not asked about.
const MOST: usize = 1_024;

/// Processes and what their threads waited in.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Asked about, because of leaks with this verdict.
    about: HashSet<(ProcessId, Option<Verdict>)>,
    wanted: Vec<ProcessId>,
    /// The first answer, which is the nearest to when it began.
    answers: HashMap<ProcessId, Waiting>,
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
        if self.answers.len() < MOST {
            self.answers.entry(id).or_insert_with(|| waiting.clone());
        }
    }

    /// The answer, if there is one.
    pub fn get(&self, id: ProcessId) -> Option<&Waiting> {
        self.answers.get(&id)
    }

    /// All answers.
    pub fn all(&self) -> impl Iterator<Item = &Waiting> {
        self.answers.values()
    }
}

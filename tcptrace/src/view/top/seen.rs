//! What the core knows, as of one moment.

use std::{collections::HashMap, rc::Rc};

use super::rows::Row;
use crate::engine::{
    fact::Process,
    forecast::{NoForecast, estimate::Estimate},
    pages::Knows,
    record::{BootNs, ProcessId, Record},
    update::Lost,
    watch::{WaitsOf, Watch},
};

/// What the core knew at one moment.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// That moment, ns of the boot clock.
    pub now: BootNs,
    /// Sockets that were reported and have not ended.
    pub sockets: Vec<Rc<Record>>,
    /// The processes that hold them.
    pub processes: HashMap<ProcessId, Process>,
    /// What they waited for when a leak of theirs was reported first.
    pub waits: HashMap<ProcessId, WaitsOf>,
    /// When they have no descriptor left, of those that are sampled.
    pub full: HashMap<ProcessId, Result<Estimate, NoForecast>>,
    /// Sockets that were reported since the start.
    pub stuck: u64,
    /// Of those: ended.
    pub resolved: u64,
    /// What could not be seen.
    pub lost: Lost,
    /// In TIME_WAIT, where that is asked for and was counted.
    pub time_wait: Option<u64>,
}

impl Seen {
    /// All of it, as of `now`.
    #[must_use]
    pub fn of(watch: &Watch, now: BootNs) -> Self {
        let sockets: Vec<Rc<Record>> = watch.rows().map(Rc::clone).collect();
        let (mut processes, mut waits, mut full) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut last = None;
        for holder in sockets.iter().flat_map(|record| &record.holders) {
            let id = holder.process;
            if last.replace(id) == Some(id) || processes.contains_key(&id) {
                continue;
            }
            full.extend(watch.descriptors_of(id).map(|estimate| (id, estimate)));
            if let Some(process) = watch.process(id) {
                processes.insert(id, process.clone());
                waits.extend(watch.waits_of(id).map(|of| (id, of.clone())));
            }
        }
        let totals = watch.totals();
        Self {
            now,
            sockets,
            processes,
            waits,
            full,
            stuck: totals.stuck,
            resolved: totals.resolved,
            lost: totals.lost,
            time_wait: watch.in_time_wait(),
        }
    }

    /// When the process of a row has no descriptor left.
    #[must_use]
    pub fn full(&self, row: &Row) -> Option<Estimate> {
        let holder = row.oldest.holders.first().filter(|_| row.same_holders)?;
        self.full.get(&holder.process)?.ok()
    }

    /// Descriptors that the process of a row has, and may have.
    #[must_use]
    pub fn descriptors(&self, row: &Row) -> Option<(u64, Option<u64>)> {
        let holder = row.oldest.holders.first().filter(|_| row.same_holders)?;
        let process = self.processes.get(&holder.process)?;
        Some((process.descriptors?, process.descriptor_limit))
    }
}

impl Knows for Seen {
    fn process(&self, id: ProcessId) -> Option<&Process> {
        self.processes.get(&id)
    }

    fn waits_of(&self, id: ProcessId) -> Option<&WaitsOf> {
        self.waits.get(&id)
    }

    fn descriptors_of(&self, id: ProcessId) -> Option<Result<Estimate, NoForecast>> {
        self.full.get(&id).copied()
    }
}

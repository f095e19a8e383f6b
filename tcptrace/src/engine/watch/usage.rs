//! What fills up: samples of what processes with leaks and the host have in use, and when there is
//! none left.

use std::{collections::HashMap, rc::Rc};

use super::{Said, Watch};
use crate::engine::{
    fact::{InUse, Usage},
    forecast::{
        Between, NoForecast, Sampled, Samples,
        told::{Forecast, SOON_NS, What},
    },
    leakers::Leakers,
    record::{BootNs, HolderSource, ProcessId, Record},
    report,
    update::Update,
};

/// Processes that are sampled: those with most leaks.
const PROCESSES: usize = 32;
/// Samples are so far apart at least, ns.
const EVERY_NS: u64 = 1_000_000_000;
/// So much longer for each row that must be looked through, ns: a thousandth of a CPU.
const EACH_NS: u64 = 50_000;

/// All samples.
#[derive(Debug, Default)]
pub(super) struct Uses {
    asked_ns: Option<BootNs>,
    processes: HashMap<ProcessId, Use>,
    files: Use,
}

/// Of one thing.
#[derive(Debug, Default)]
struct Use {
    samples: Samples,
    limit: u64,
    /// How long was left when that was said last, ns.
    said_ns: Option<u64>,
}

impl Use {
    fn add(&mut self, at_ns: BootNs, now: InUse) {
        self.samples.add(Sampled { at_ns, value: now.used });
        self.limit = now.limit;
    }

    fn forecast(&mut self, what: impl FnOnce() -> What) -> Result<Forecast, NoForecast> {
        // RLIM_INFINITY.
        if self.limit == u64::MAX {
            return Err(NoForecast::NoLimit);
        }
        let pace = self.samples.pace()?;
        let full_at = pace.full_at(self.limit)?;
        let Between { min, est, max } = pace.per_hour;
        // From a float, too large is the largest.
        let per_hour =
            Between { min: min.floor() as u64, est: est.round() as u64, max: max.ceil() as u64 };
        let used = self.samples.last().map_or(0, |last| last.value);
        Ok(Forecast { what: what(), used, limit: self.limit, per_hour, full_at })
    }

    /// What is to be said now: at first, and whenever half of the time left has gone since.
    fn news(&mut self, now: BootNs, what: impl FnOnce() -> What) -> Option<Forecast> {
        let forecast = self.forecast(what).ok()?;
        let left = forecast.left(now).est;
        let due = left < SOON_NS && self.said_ns.is_none_or(|said| left <= said / 2);
        // What is full is said once.
        let due = due && self.said_ns != Some(0);
        self.said_ns = if due { Some(left) } else { self.said_ns };
        Some(forecast).filter(|_| due)
    }
}

impl Watch {
    /// Whose descriptors are to be counted now; `None`: nothing is.
    pub(super) fn due_samples(&mut self, now: BootNs) -> Option<Vec<ProcessId>> {
        let rows = self.tracker.rows();
        let apart = EVERY_NS.max(EACH_NS.saturating_mul(rows.len() as u64));
        let asked = self.uses.asked_ns;
        if rows.len() == 0 || asked.is_some_and(|asked| now < asked.saturating_add(apart)) {
            return None;
        }
        self.uses.asked_ns = Some(now);
        let mut leakers = Leakers::default();
        rows.for_each(|record| leakers.add(record));
        Some(leakers.worst(PROCESSES).into_iter().map(|leaker| leaker.holder.process).collect())
    }

    /// Takes in what was counted at `now`.
    pub(super) fn usage(&mut self, now: BootNs, usage: &Usage, said: &mut Vec<Said>) {
        let mut news = Vec::new();
        let mut before = std::mem::take(&mut self.uses.processes);
        // A recording may claim any number of them.
        for process in usage.processes.iter().take(PROCESSES) {
            let id = process.id();
            let mut of = before.remove(&id).unwrap_or_default();
            of.add(now, process.descriptors);
            news.extend(of.news(now, || self.descriptors_of(id, now)));
            self.uses.processes.insert(id, of);
        }
        if let Some(files) = usage.files {
            self.uses.files.add(now, files);
            news.extend(self.uses.files.news(now, || What::FileTable));
        }
        for forecast in news {
            self.say(now, Update::Forecast(Box::new(forecast)), said);
        }
    }

    fn descriptors_of(&self, id: ProcessId, now: BootNs) -> What {
        let held = |record: &&Rc<Record>| {
            record.holder_source == HolderSource::FdTable
                && record.holders.iter().any(|holder| holder.process == id)
        };
        let sockets = report::count(self.rows().filter(held).map(|record| &**record), now);
        What::Descriptors { process: self.processes.caller(id.pid, None, BootNs::MAX), sockets }
    }

    /// What will be full within a day, the first of it first.
    pub(super) fn forecasts(&mut self, now: BootNs) -> Vec<Forecast> {
        let mut uses = std::mem::take(&mut self.uses);
        let mut list: Vec<Forecast> = uses
            .processes
            .iter_mut()
            .filter_map(|(id, of)| of.forecast(|| self.descriptors_of(*id, now)).ok())
            .chain(uses.files.forecast(|| What::FileTable).ok())
            .filter(|forecast| forecast.left(now).est < SOON_NS)
            .collect();
        self.uses = uses;
        let pid = |f: &Forecast| match &f.what {
            What::Descriptors { process, .. } => process.process.pid,
            What::FileTable => 0,
        };
        list.sort_by_key(|forecast| (forecast.full_at.est, pid(forecast)));
        list
    }
}

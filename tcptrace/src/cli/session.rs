//! A watch from its first fact to its last word: what `watch`, `record` and `replay` share.

use std::io;

use super::{leaks::Leaks, warn};
use crate::{
    engine::{
        fact::Timed,
        incident::Incident,
        record::BootNs,
        reports::Reports,
        update::Update,
        watch::{Plan, Said, Watch},
    },
    prose::time::human,
    view::{Clock, View},
};

/// The core, and who is told what it says.
pub struct Session {
    /// The core.
    pub watch: Watch,
    view: Box<dyn View>,
    /// Who tells sockets together; `None`: a line a socket.
    reports: Option<Reports>,
    said: Vec<Said>,
    /// What a report is made of, where one is.
    incident: Option<Box<Incident>>,
}

/// Room for what is said at once, usually.
const KEPT: usize = 1_024;

impl Session {
    /// One that knows nothing yet.
    pub fn new(plan: Plan, view: Box<dyn View>, reports: Option<Reports>) -> Self {
        Self { watch: Watch::new(plan), view, reports, said: Vec::new(), incident: None }
    }

    /// The same, with what a report is made of gathered on the way.
    pub fn with_incident(self, incident: Option<Incident>) -> Self {
        Self { incident: incident.map(Box::new), ..self }
    }

    /// What a report is made of, and the clock that its times are shown by.
    pub fn incident(&mut self) -> Option<(&Incident, &Clock)> {
        self.incident.as_deref().map(|incident| (incident, &*self.view.clock()))
    }

    /// The same, when all has been said.
    pub fn into_incident(mut self) -> (Option<Incident>, Clock) {
        (self.incident.map(|incident| *incident), self.view.clock().clone())
    }

    /// From `now` on stays of this age are reported, ns.
    pub fn set_min_age(&mut self, min_age_ns: u64, now: BootNs) {
        self.watch.set_min_age(min_age_ns, now);
        if let Some(reports) = &mut self.reports {
            reports.set_min_age(min_age_ns);
        }
    }

    /// Takes in facts that were handed over at once. Whether a leak was reported.
    pub fn take(&mut self, facts: impl IntoIterator<Item = Timed>) -> bool {
        let Self { watch, said, .. } = self;
        facts.into_iter().for_each(|fact| watch.take(&fact, said));
        let leak = |said: &Said| matches!(&said.update, Update::Stuck(record) if record.is_leak());
        self.said.iter().any(leak)
    }

    /// What was said of it, and is not shown yet; and the clock by which it will be.
    pub fn said(&mut self) -> (&[Said], &Clock) {
        (&self.said, &*self.view.clock())
    }

    /// Shows what that means, at `now`, and hands it to the reader.
    pub fn show(&mut self, now: BootNs) -> io::Result<()> {
        if let Some(incident) = &mut self.incident {
            self.said.iter().for_each(|said| incident.take(said));
            incident.sample(now, &self.watch);
        }
        self.group(now);
        for Said { time, update } in self.said.drain(..) {
            if let Update::Clock(offset_ns) = update {
                if let Some(step) = self.view.clock().set(offset_ns) {
                    let way = if step < 0 { "back" } else { "forward" };
                    let by = human(step.unsigned_abs());
                    warn(&format!("the clock was set {way} by {by}: times follow it, ages do not"));
                }
            } else {
                self.view.update(time, &update)?;
            }
        }
        // A scan may have said a hundred thousand things.
        self.said.shrink_to(KEPT);
        self.view.flush()
    }

    /// Shows nothing of it: it was before what is asked for.
    pub fn pass_over(&mut self, now: BootNs) {
        self.group(now);
        self.said.retain(|said| matches!(said.update, Update::Clock(_)));
        for said in self.said.drain(..) {
            if let Update::Clock(offset_ns) = said.update {
                self.view.clock().set(offset_ns);
            }
        }
    }

    /// Shows the last word, at `now`.
    pub fn finish(&mut self, now: BootNs) -> io::Result<()> {
        self.watch.finish(now, &mut self.said);
        let shown = self.show(now);
        if let Some(incident) = &mut self.incident {
            incident.sample_now(now, &self.watch);
        }
        shown
    }

    /// The leaks so far.
    pub fn found(&self) -> Leaks {
        let totals = self.watch.totals();
        Leaks { open: totals.leaks_open, all: totals.leaks }
    }

    /// Puts reports of groups in the place of those of their sockets, before all else that was
    /// said.
    fn group(&mut self, now: BootNs) {
        let Some(reports) = &mut self.reports else { return };
        self.said.retain(|said| !reports.take(&said.update));
        let news = reports.flush(now).into_iter();
        let news = news.map(|report| Said { time: now, update: Update::Report(Box::new(report)) });
        self.said.splice(..0, news);
    }
}

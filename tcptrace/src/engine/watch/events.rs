//! Changes of state as the kernel programs sent them.

use tcptrace_common::state::TcpState;

use super::{Said, Watch};
use crate::engine::{
    assemble,
    decode::Event,
    normal::Normal,
    record::Record,
    tracker::Outcome,
    unknown::Reason,
    update::{Change, Update},
};

impl Watch {
    pub(super) fn event(&mut self, event: &Event, said: &mut Vec<Said>) {
        if self.is_done() {
            return;
        }
        if self.plan.transitions && !event.destroyed && self.is_streamed(event) {
            self.say(event.time, Update::Transition(event.change.clone()), said);
        }
        if !self.plan.selection.matches_connection(&event.change.connection) {
            return;
        }
        if let Some(beside) = &mut self.beside {
            beside.ended(event, self.plan.listed_from_ns());
        }
        if event.ghost {
            self.losses.ghost();
        }
        let normal = self.normal_of_ended(event);
        let from_ns = self.plan.reported_from_ns(normal.and_then(Result::ok));
        let outcome = self.tracker.event(event, from_ns);
        if !matches!(outcome, Outcome::Unreported) {
            self.early.remove(&event.change.connection.cookie);
        }
        match outcome {
            Outcome::Say(update) => self.say(event.time, update, said),
            Outcome::Unreported => self.ended_unseen(event, normal, said),
            Outcome::Silence => {}
        }
    }

    /// What is normal for a stay that ended, as the scan that listed it last knew, if one did.
    fn normal_of_ended(&self, event: &Event) -> Option<Result<Normal, Reason>> {
        if !self.plan.by_normal {
            return None;
        }
        let Change { connection, old, .. } = &event.change;
        let listed = self.early.get(&connection.cookie).and_then(|(record, _)| record.normal);
        Some(listed.map_or_else(|| self.normals.of_ended(connection, *old), Ok))
    }

    /// Whether a transition is asked for.
    fn is_streamed(&mut self, event: &Event) -> bool {
        let Change { connection, .. } = &event.change;
        let Self { plan, processes, ownership, .. } = self;
        (plan.watches(event.change.old) || plan.watches(event.change.new))
            && plan.selection.matches_connection(connection)
            && match ownership {
                Some(ownership) => ownership.owns(event, &plan.selection, plan.states, processes),
                None => true,
            }
    }

    /// A stay that passed min-age and ended between two scans: reported as it can still be known.
    fn ended_unseen(
        &mut self,
        event: &Event,
        normal: Option<Result<Normal, Reason>>,
        said: &mut Vec<Said>,
    ) {
        if !self.plan.watches(event.change.old) {
            return;
        }
        let early = self.early.remove(&event.change.connection.cookie);
        let closed = self.plan.states & TcpState::Close.bit() != 0;
        let seen = early.map(|(record, _)| record).filter(|r| r.state == event.change.old);
        let mut record = assemble::ended(event, self.host.all_processes, !closed);
        assemble::note_normal(&mut record, normal);
        // Its end may say more of it than a scan could.
        if let Some(seen) = seen.filter(|_| record.is_shown()) {
            return self.ended_early(seen, event, said);
        }
        let closer = event.closed_by.as_ref();
        let closer = closer.map(|c| self.processes.caller(c.pid, Some(&c.comm), event.time));
        let held = Record { holders: closer.into_iter().collect(), ..record.clone() };
        if !self.asks_for(&held) {
            return;
        }
        if let Some(update) = self.tracker.stuck(record, 0) {
            self.say(event.time, update, said);
        }
        if let Outcome::Say(update) = self.tracker.event(event, 0) {
            self.say(event.time, update, said);
        }
    }

    /// The same of one that a scan had listed when it was too young: as that saw it.
    fn ended_early(&mut self, record: Record, event: &Event, said: &mut Vec<Said>) {
        if !self.asks_for(&record) {
            return;
        }
        if let Some(update) = self.tracker.stuck_at(record, 0, event.time) {
            self.say(event.time, update, said);
        }
        if let Outcome::Say(update) = self.tracker.event(event, 0) {
            self.say(event.time, update, said);
        }
    }
}

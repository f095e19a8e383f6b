//! Pages on a process, a group of sockets, a socket: what `tcptrace explain` says, from what a
//! watch knows.

use std::{cmp::Reverse, collections::BTreeMap, rc::Rc};

use super::{
    blocked::blockage::{Blockage, Kept, Unserved},
    fact::Process,
    forecast::{NoForecast, estimate::Estimate},
    language::{Language, language},
    name::file_name,
    record::{BootNs, Holder, ProcessId, Record},
    report::{self, About, Explanation, ProcessReport},
    stack::threads::LeftAlone,
    stories::stories,
    update::Update,
    usage::InUse,
    verdict::Verdict,
    watch::{WaitsOf, Watch},
};

/// What is known of processes, besides their sockets.
pub trait Knows {
    /// A process, as of the last scan that told of it.
    fn process(&self, id: ProcessId) -> Option<&Process>;
    /// What it waited for when a leak of it was reported first, where that was asked.
    fn waits_of(&self, id: ProcessId) -> Option<&WaitsOf>;
    /// When it has no descriptor left, or why that isn't told. `None`: it is not sampled.
    fn descriptors_of(&self, id: ProcessId) -> Option<Result<Estimate, NoForecast>>;
}

impl Knows for Watch {
    fn process(&self, id: ProcessId) -> Option<&Process> {
        self.process(id)
    }

    fn waits_of(&self, id: ProcessId) -> Option<&WaitsOf> {
        self.waits_of(id)
    }

    fn descriptors_of(&self, id: ProcessId) -> Option<Result<Estimate, NoForecast>> {
        self.descriptors_of(id)
    }
}

/// Processes that a page tells of; more are only counted.
const PROCESSES: usize = 3;

/// What pages are made of, besides their sockets.
#[derive(Clone, Copy)]
pub struct PageBasis<'a> {
    /// What is known of processes.
    pub knows: &'a dyn Knows,
    /// Now.
    pub now: BootNs,
    /// Sockets of a group that are listed one by one, the oldest first.
    pub listed: usize,
    /// Who can tell what a watch does not know.
    pub elsewhere: &'static str,
}

impl PageBasis<'_> {
    /// On one socket.
    #[must_use]
    pub fn of_socket(&self, record: &Rc<Record>) -> Vec<Update> {
        let Some(verdict) = record.verdict else { return vec![Update::Socket(Rc::clone(record))] };
        let language = self.language_of(record);
        let about = About::Socket(Rc::clone(record));
        let role = record.role;
        vec![Update::Explanation(Box::new(Explanation { verdict, about, language, role }))]
    }

    /// On sockets with something in common, the oldest first, and on these processes.
    #[must_use]
    pub fn of_group(&self, members: &[&Rc<Record>], processes: &[&Holder]) -> Vec<Update> {
        let mut updates = Vec::new();
        let id = |holder: &Holder| (holder.process.pid, holder.process.start_ns);
        let processes: BTreeMap<_, _> = processes.iter().map(|h| (id(h), *h)).collect();
        for holder in processes.into_values().take(PROCESSES) {
            updates.push(Update::Process(Box::new(self.process(holder, members))));
        }
        let stories = stories(members.iter().copied());
        if !stories.is_empty() {
            updates.push(Update::Stories(stories));
        }
        let listed = members.iter().take(self.listed);
        updates.extend(listed.map(|record| Update::Socket(Rc::clone(record))));
        let mut verdicts: Vec<(Verdict, u64, &Rc<Record>)> = Vec::new();
        for record in members {
            let Some(verdict) = record.verdict else { continue };
            match verdicts.iter_mut().find(|(v, ..)| *v == verdict) {
                Some((_, n, _)) => *n += 1,
                None => verdicts.push((verdict, 1, record)),
            }
        }
        verdicts.sort_by_key(|(_, n, _)| Reverse(*n));
        updates.extend(verdicts.into_iter().map(|(verdict, n, record)| {
            let language = self.language_of(record);
            let about = About::Sockets(n);
            let alike = members.iter().filter(|r| r.verdict == Some(verdict));
            let role = report::role_of(alike.map(|r| &***r));
            Update::Explanation(Box::new(Explanation { verdict, about, language, role }))
        }));
        updates
    }

    /// What is known of a holder.
    fn process(&self, holder: &Holder, members: &[&Rc<Record>]) -> ProcessReport {
        let Self { knows, now, elsewhere, .. } = *self;
        let known = knows.process(holder.process);
        let (used, limit) = known.map_or((None, None), |p| (p.descriptors, p.descriptor_limit));
        let leaks: Vec<&Rc<Record>> = members.iter().copied().filter(|r| r.is_leak()).collect();
        // What waits in a queue has no descriptor.
        let held = leaks.iter().filter(|r| r.listener.is_none());
        let ages: Vec<u64> = held.map(|r| r.age(now).min_ns).collect();
        let by_ages = || Estimate::of_leaks(&ages, now, InUse::of(used, limit));
        let waits = knows.waits_of(holder.process);
        let with_effect = |cause: &Blockage| {
            let effect = Unserved::count(&cause.workers, members.iter().map(|r| &***r));
            Kept { cause: cause.clone(), effect }
        };
        ProcessReport {
            process: holder.clone(),
            command: known.map(|p| p.command.clone()).unwrap_or_default(),
            parent: None,
            used: used.ok_or("not known here"),
            limit: limit.ok_or("not known here"),
            sockets: report::count(members.iter().map(|r| &***r), now),
            leaks: leaks.len() as u64,
            full: knows.descriptors_of(holder.process).unwrap_or_else(by_ages),
            listeners: Vec::new(),
            overflows: Err(elsewhere),
            threads: waits.map_or(Err(elsewhere), |waits| waits.threads.as_ref().clone()),
            kept: waits.map_or(Err(elsewhere), |w| Ok(w.causes.iter().map(with_effect).collect())),
            stacks: Err(LeftAlone::NotAskedFor),
        }
    }

    /// What its holder is written in, as far as a command line or a name tells.
    fn language_of(&self, record: &Record) -> Option<Language> {
        let holder = record.holders.first()?;
        let command = |process: &Process| Some(process.command.first()?.clone());
        let program = self.knows.process(holder.process).and_then(command).unwrap_or_default();
        language(file_name(&program), &holder.comm)
    }
}

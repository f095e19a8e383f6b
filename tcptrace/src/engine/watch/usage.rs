//! What fills up: samples of what processes with leaks, the host and network namespaces have in
//! use, and when there is none left.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashSet},
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

use tcptrace_common::state::TcpState;

use super::{Said, Watch};
use crate::engine::{
    forecast::{
        NoForecast, Sampled, Samples,
        estimate::Estimate,
        told::{Forecast, SOON_NS, What},
    },
    leakers::Leakers,
    record::{Age, BootNs, Connection, HolderSource, ProcessId, Record},
    report::{self, Count},
    update::Update,
    usage::{InUse, NetnsName, NetworkUsage, PortsUsage, Usage},
};

/// Processes that are sampled: those with most leaks.
const PROCESSES: usize = 32;
/// Other things that are. A recording may claim any number of them.
const THINGS: usize = 1_024;
/// Samples are so far apart at least, ns.
const EVERY_NS: u64 = 1_000_000_000;
/// So much longer for each row that must be looked through, ns: a thousandth of a CPU.
const EACH_NS: u64 = 50_000;

/// Something is estimated again after this at the latest, ns.
const LATEST_NS: u64 = 8_000_000_000;

/// All samples.
#[derive(Debug, Default)]
pub(super) struct Uses {
    asked_ns: Option<BootNs>,
    things: BTreeMap<Thing, Use>,
}

/// What is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Thing {
    Descriptors(ProcessId),
    FileTable,
    Ports(NetnsName, IpAddr, SocketAddr),
    AcceptQueue(NetnsName, SocketAddr),
    Conntrack(NetnsName),
    Memory,
}

/// Samples of one thing.
#[derive(Debug, Default)]
struct Use {
    samples: Samples,
    limit: u64,
    /// What was estimated since the last sample: screens ask for it again and again.
    estimated: Cell<Option<Result<Estimate, NoForecast>>>,
    /// Connections by state number, where they are known.
    states: Vec<(u8, u64)>,
    /// How long was left when that was said last, ns.
    said_ns: Option<u64>,
    /// Estimated again from then on.
    next_ns: BootNs,
}

impl Use {
    fn add(&mut self, at_ns: BootNs, now: InUse) {
        self.samples.add(Sampled { at_ns, value: now.used });
        self.limit = now.limit;
        self.estimated.take();
    }

    fn estimate(&self) -> Result<Estimate, NoForecast> {
        let estimate =
            self.estimated.get().unwrap_or_else(|| Estimate::of(&self.samples, self.limit));
        self.estimated.set(Some(estimate));
        estimate
    }

    /// What is to be said now: at first, and whenever half of the time left has gone since.
    fn news(&mut self, now: BootNs) -> Option<Estimate> {
        if now < self.next_ns {
            return None;
        }
        // Some thousand slopes are not sorted for each sample, but as soon as that may matter.
        let estimate = self.estimate();
        let soon = estimate.map_or(self.samples.span_ns() / 8, |e| e.left(now).est / 16);
        self.next_ns = now.saturating_add(soon.min(LATEST_NS));
        let estimate = estimate.ok()?;
        let left = estimate.left(now).est;
        let due = left < SOON_NS && self.said_ns.is_none_or(|said| left <= said / 2);
        // What is full is said once.
        let due = due && self.said_ns != Some(0);
        self.said_ns = if due { Some(left) } else { self.said_ns };
        Some(estimate).filter(|_| due)
    }
}

impl Uses {
    /// What is of that kind and was not seen this time begins anew.
    fn retain(&mut self, of_kind: impl Fn(&Thing) -> bool, seen: &HashSet<Thing>) {
        self.things.retain(|thing, _| !of_kind(thing) || seen.contains(thing));
    }
}

/// What is collected of one fact.
struct Taking<'a> {
    uses: &'a mut Uses,
    now: BootNs,
    seen: HashSet<Thing>,
    news: Vec<(Thing, Estimate)>,
}

impl<'a> Taking<'a> {
    fn new(uses: &'a mut Uses, now: BootNs) -> Self {
        Self { uses, now, seen: HashSet::new(), news: Vec::new() }
    }

    fn take(&mut self, thing: Thing, in_use: InUse) -> Option<&mut Use> {
        let known = &mut self.uses.things;
        if known.len() >= THINGS && !known.contains_key(&thing) {
            return None;
        }
        self.seen.insert(thing);
        let of = known.entry(thing).or_default();
        of.add(self.now, in_use);
        self.news.extend(of.news(self.now).map(|estimate| (thing, estimate)));
        Some(of)
    }
}

impl Watch {
    /// Whose descriptors are to be counted now, and all else with them; `None`: nothing is.
    pub(super) fn due_samples(&mut self, now: BootNs) -> Option<Vec<ProcessId>> {
        let rows = self.tracker.rows();
        let apart = EVERY_NS.max(EACH_NS.saturating_mul(rows.len() as u64));
        let asked = self.uses.asked_ns;
        if asked.is_some_and(|asked| now < asked.saturating_add(apart)) {
            return None;
        }
        self.uses.asked_ns = Some(now);
        let mut leakers = Leakers::default();
        rows.for_each(|record| leakers.add(record));
        Some(leakers.worst(PROCESSES).into_iter().map(|leaker| leaker.holder.process).collect())
    }

    /// Takes in what was counted at `now`.
    pub(super) fn usage(&mut self, now: BootNs, usage: &Usage, said: &mut Vec<Said>) {
        let mut taking = Taking::new(&mut self.uses, now);
        for process in usage.processes.iter().take(PROCESSES) {
            taking.take(Thing::Descriptors(process.id()), process.descriptors);
        }
        if let Some(files) = usage.files {
            taking.take(Thing::FileTable, files);
        }
        let Taking { uses, seen, news, .. } = taking;
        uses.retain(|thing| matches!(thing, Thing::Descriptors(_)), &seen);
        self.foretell(now, news, said);
    }

    /// The same of what network namespaces have: of those that are asked for.
    pub(super) fn network_usage(
        &mut self,
        now: BootNs,
        usage: &NetworkUsage,
        said: &mut Vec<Said>,
    ) {
        let selection = &self.plan.selection;
        // Whoever asks for some processes only is told of no others.
        let of_all = !selection.asks_for_holders();
        let asked = |netns, local, remote| {
            let c = Connection { cookie: 0, netns, local, remote, mptcp: false };
            of_all && selection.matches_connection(&c)
        };
        let mut taking = Taking::new(&mut self.uses, now);
        if let Some(memory) = usage.memory {
            taking.take(Thing::Memory, memory);
        }
        let mut counted = HashSet::new();
        for at in &usage.places {
            let (place, netns) = (at.place, at.place.netns);
            if let Some(conntrack) = at.conntrack {
                taking.take(Thing::Conntrack(place), conntrack);
            }
            for queue in at.queues.iter().filter(|q| asked(netns, q.local, q.local)) {
                taking.take(Thing::AcceptQueue(place, queue.local), queue.queue);
            }
            let Some(ports) = &at.ports else { continue };
            counted.insert(place);
            let source = |p: &PortsUsage| SocketAddr::new(p.source, 0);
            for usage in ports.iter().filter(|p| asked(netns, source(p), p.to)) {
                let thing = Thing::Ports(place, usage.source, usage.to);
                if let Some(of) = taking.take(thing, usage.ports) {
                    of.states.clone_from(&usage.states);
                }
            }
        }
        let Taking { uses, seen, news, .. } = taking;
        let of_kind = |thing: &Thing| match thing {
            Thing::AcceptQueue(..) | Thing::Conntrack(_) => true,
            Thing::Ports(place, ..) => counted.contains(place),
            _ => false,
        };
        uses.retain(of_kind, &seen);
        self.foretell(now, news, said);
    }

    fn foretell(&mut self, now: BootNs, news: Vec<(Thing, Estimate)>, said: &mut Vec<Said>) {
        for (thing, estimate) in news {
            if let Some(what) = self.what(thing, now) {
                self.say(now, Update::Forecast(Box::new(Forecast { what, estimate })), said);
            }
        }
    }

    fn what(&self, thing: Thing, now: BootNs) -> Option<What> {
        let of = self.uses.things.get(&thing)?;
        Some(match thing {
            Thing::Descriptors(id) => {
                let process = self.processes.caller(id.pid, None, BootNs::MAX);
                What::Descriptors { process, sockets: self.sockets_of(id, now) }
            }
            Thing::FileTable => What::FileTable,
            Thing::Ports(place, source, to) => {
                let states = of.states.iter().filter_map(|(state, count)| {
                    let state = TcpState::from_number(*state)?;
                    // The kernel does not tell how old they are.
                    let oldest = Age { min_ns: 0, max_ns: None };
                    Some(Count { state, verdict: None, count: *count, oldest })
                });
                What::Ports { place, source, to, sockets: states.collect() }
            }
            Thing::AcceptQueue(place, local) => What::AcceptQueue { place, local },
            Thing::Conntrack(place) => What::Conntrack { place },
            Thing::Memory => What::Memory,
        })
    }

    fn sockets_of(&self, id: ProcessId, now: BootNs) -> Vec<Count> {
        let held = |record: &&Rc<Record>| {
            record.holder_source == HolderSource::FdTable
                && record.holders.iter().any(|holder| holder.process == id)
        };
        report::count(self.rows().filter(held).map(|record| &**record), now)
    }

    /// What will be full within a day, the first of it first.
    #[must_use]
    pub fn forecasts(&self, now: BootNs) -> Vec<Forecast> {
        let things = self.uses.things.iter();
        let mut soon: Vec<(Thing, Estimate)> = things
            .filter_map(|(thing, of)| Some((*thing, of.estimate().ok()?)))
            .filter(|(_, estimate)| estimate.left(now).est < SOON_NS)
            .collect();
        soon.sort_by_key(|(thing, estimate)| (estimate.full_at.est, *thing));
        let forecast =
            |(thing, estimate)| Some(Forecast { what: self.what(thing, now)?, estimate });
        soon.into_iter().filter_map(forecast).collect()
    }

    /// Descriptors that the process has in use, and may have, as counted last; `None`: it is not
    /// sampled.
    #[must_use]
    pub fn descriptors_in_use(&self, id: ProcessId) -> Option<InUse> {
        let of = self.uses.things.get(&Thing::Descriptors(id))?;
        Some(InUse { used: of.samples.last()?.value, limit: of.limit })
    }

    /// When the process has no descriptor left, or why that isn't told. `None`: it is not sampled.
    #[must_use]
    pub fn descriptors_of(&self, id: ProcessId) -> Option<Result<Estimate, NoForecast>> {
        Some(self.uses.things.get(&Thing::Descriptors(id))?.estimate())
    }
}

//! Scans of what is live, on a thread of their own: however long one takes, events are taken in and
//! views are drawn meanwhile.

use std::{
    collections::{HashMap, HashSet},
    io, iter,
    sync::mpsc::{self, Receiver, Sender},
    thread::JoinHandle,
    time::Duration,
};

use tcptrace_common::{
    event::{Holding, NO_MEMORY, Socket},
    state::TcpState,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    boot_now,
    bpf::{iter::Listing, nursery::Young, scans::Scans},
    cpu_time, holders,
    lookup::Lookup,
    memory,
    origins::StackWords,
    usage::Gauges,
};
use crate::{
    engine::{
        fact::{Counts, Fact, Records, Scan, Timed, Unplaced, Wire},
        record::{BootNs, Connection, ProcessId},
        select::Selection,
        watch::Wants,
    },
    source,
};

/// What scans are for.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Holders are looked for where a socket of these is due.
    pub selection: Selection,
    /// Younger stays are left alone, ns.
    pub min_age_ns: u64,
    /// Each scan lists the listeners and who holds them, whether anything is due or not.
    pub listeners: bool,
    /// The kernel's pids are the host's: its list of descriptors can be used.
    pub kernel_names_processes: bool,
}

/// What one scan found.
#[derive(Debug)]
pub struct Scanned {
    /// Facts about processes and cgroups, the scan last.
    pub facts: Vec<Timed>,
    /// CPU time that it took. A scan that others keep from the CPU takes long and costs no more.
    pub cost: Duration,
}

/// A scan that is asked for.
#[derive(Debug)]
struct Order {
    now_ns: BootNs,
    min_age_ns: u64,
    wants: Wants,
}

/// The thread that scans.
pub struct Scanner {
    orders: Option<Sender<Order>>,
    results: UnboundedReceiver<io::Result<Scanned>>,
    thread: Option<JoinHandle<()>>,
    min_age_ns: u64,
}

/// A stay that no descriptor leads to is looked for again when its age has doubled, but not sooner
/// than after this.
const FIRST_RETRY_NS: u64 = 1_000_000_000;
/// So many orphans are looked up one by one in a scan.
const LOOK_UPS: usize = 256;
/// A scan of so many sockets leaves megabytes behind.
const LARGE: usize = 1_000;

impl Scanner {
    /// Starts the thread. Rights that are to be given up are given up before.
    ///
    /// # Errors
    /// What starting a thread answers.
    pub fn start(mut scans: Scans, scope: Scope, gauges: Gauges) -> io::Result<Self> {
        let stacks = scans.origins().is_some().then(StackWords::start).transpose()?;
        let (orders, ordered) = mpsc::channel();
        let (found, results) = unbounded_channel();
        let min_age_ns = scope.min_age_ns;
        let work = move || Work::new(scans, scope, gauges, stacks).run(&ordered, &found);
        // A thread that panicked says so where its first result is waited for.
        let thread = source::thread("scanner", work)?;
        Ok(Self { orders: Some(orders), results, thread: Some(thread), min_age_ns })
    }

    /// From the next scan on younger stays are left alone, ns; not less than what the programs were
    /// loaded with.
    pub fn set_min_age(&mut self, min_age_ns: u64) {
        self.min_age_ns = min_age_ns;
    }

    /// Begins a scan as of `now_ns`. One at a time.
    pub fn begin(&mut self, now_ns: BootNs, wants: Wants) {
        // A thread that has ended says so where its result is waited for.
        if let Some(orders) = &self.orders {
            let _ = orders.send(Order { now_ns, min_age_ns: self.min_age_ns, wants });
        }
    }

    /// Waits for the scan that was begun.
    ///
    /// # Errors
    /// What the kernel answers; that the thread is gone.
    ///
    /// # Panics
    /// As the thread did.
    pub async fn done(&mut self) -> io::Result<Scanned> {
        match self.results.recv().await {
            Some(result) => result,
            None => {
                if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
                    std::panic::resume_unwind(panic);
                }
                Err(io::Error::other("the thread that scans is gone"))
            }
        }
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread has.
struct Work {
    scans: Scans,
    scope: Scope,
    lookup: Lookup,
    /// Stays in the nursery that no descriptor leads to, and when to try again.
    unplaced: HashMap<Young, BootNs>,
    gauges: Gauges,
    stacks: Option<StackWords>,
}

impl Work {
    fn new(scans: Scans, scope: Scope, gauges: Gauges, stacks: Option<StackWords>) -> Self {
        let (lookup, unplaced) = (Lookup::default(), HashMap::new());
        Self { scans, scope, lookup, unplaced, gauges, stacks }
    }

    fn run(&mut self, ordered: &Receiver<Order>, found: &UnboundedSender<io::Result<Scanned>>) {
        while let Ok(order) = ordered.recv() {
            let before = cpu_time();
            let scanned = self.scan(&order);
            let large = scanned.as_ref().is_ok_and(|(_, scan)| scan.sockets.0.len() >= LARGE);
            let result = scanned.map(|(facts, scan)| {
                let at = boot_now();
                let facts = facts.into_iter().chain(iter::once(Fact::Scan(Box::new(scan))));
                let facts = facts.map(|fact| Timed { at, fact }).collect();
                Scanned { facts, cost: cpu_time().saturating_sub(before) }
            });
            if found.send(result).is_err() {
                return;
            }
            if large {
                memory::give_back();
            }
        }
    }

    fn scan(&mut self, order: &Order) -> io::Result<(Vec<Fact>, Scan)> {
        let Order { now_ns, min_age_ns, wants } = order;
        let now_ns = *now_ns;
        self.scope.min_age_ns = *min_age_ns;
        self.scans.set_min_age(*min_age_ns);
        for stay in &wants.give_up {
            self.scans.nursery().give_up(stay.slot, stay.since_ns);
        }
        if wants.adopt {
            self.scans.adopt_by_descriptor(now_ns)?;
            // Of this network namespace, those that nobody has accepted too.
            self.scans.adopt_by_namespace().run()?;
        }
        let young = self.young(now_ns);
        let listed = self.scans.stays(now_ns, wants.complete)?;
        let mut skipped = listed.skipped;
        let (mut sockets, mut origins) = (listed.sockets, listed.origins);
        let mut scan =
            Scan { now_ns, complete: wants.complete, adopted: wants.adopt, ..Scan::default() };
        let handshakes = self.gauges.handshakes();
        let unanswered = handshakes.iter().flatten().any(|all| !all.unanswered.0.is_empty());
        let due = unanswered || sockets.iter().any(|s| self.asks_for(s));
        if due || self.scope.listeners || !young.is_empty() {
            let listing = self.scans.holders(now_ns, !young.is_empty())?;
            skipped += listing.skipped;
            origins.extend(listing.origins);
            let (listeners, promoted): (Vec<Socket>, Vec<Socket>) =
                listing.sockets.into_iter().partition(|s| s.state == TcpState::Listen as u8);
            scan.unplaced = self.unplaced(&young, now_ns);
            sockets.extend(without_repeats(promoted, &mut scan.unplaced));
            scan.holders.0 = if self.scope.kernel_names_processes {
                listing.holders
            } else {
                let suspects = scan.unplaced.iter().map(|u| u.socket.0);
                let suspects: Vec<Socket> = sockets.iter().copied().chain(suspects).collect();
                holders::by_proc(&suspects, &listeners).holders
            };
            (scan.listeners, scan.queued) = (Records(listeners), Records(listing.queued));
        }
        if wants.complete {
            scan.young = self.scans.nursery().cookies().filter(|cookie| *cookie != 0).collect();
        }
        scan.sockets = Records(sockets);
        scan.counts = counts(&self.scans, wants.complete || wants.histogram);
        let mut facts = self.context(&scan);
        facts.extend(handshakes.map(Fact::Handshakes));
        facts.extend(wants.usage.iter().flat_map(|wanted| self.gauges.facts(wanted)));
        if let Some((kept, stacks)) = self.scans.origins().zip(self.stacks.as_mut()) {
            facts.extend(stacks.facts(kept, origins, &scan));
        }
        if let Some(normals) = self.scans.normals() {
            let unplaced = scan.unplaced.iter().map(|u| &u.socket.0);
            let news = normals.news(scan.sockets.0.iter().chain(unplaced));
            if !news.is_empty() {
                facts.push(Fact::Normals(news));
            }
        }
        if skipped > 0 {
            facts.push(Fact::Skipped { count: skipped });
        }
        Ok((facts, scan))
    }

    fn asks_for(&self, s: &Socket) -> bool {
        let connection = Connection::new(s.cookie, &s.tuple, s.protocol);
        self.scope.selection.matches_connection(&connection)
    }

    /// The stays in the nursery that have aged and are not known to lead nowhere, or not lately.
    fn young(&mut self, now: BootNs) -> Vec<Young> {
        let aged = self.scans.nursery().aged(now, self.scope.min_age_ns);
        let aged: HashSet<Young> = aged.collect();
        self.unplaced.retain(|young, _| aged.contains(young));
        let try_now = |young: &Young| self.unplaced.get(young).is_none_or(|next| now >= *next);
        aged.into_iter().filter(try_now).collect()
    }

    /// Those of them that are still there after the scan of the descriptors: none leads to them.
    fn unplaced(&mut self, young: &[Young], now: BootNs) -> Vec<Unplaced> {
        let (mut list, mut looked_up) = (Vec::new(), 0);
        for young in young {
            let Some(mut socket) = self.scans.nursery().still(young) else { continue };
            if looked_up < LOOK_UPS {
                looked_up += usize::from(self.gauges.look_up(&mut socket));
            }
            let age = now.saturating_sub(socket.latest_ns);
            self.unplaced.insert(*young, now + age.max(FIRST_RETRY_NS));
            let (slot, _) = self.scans.nursery().place(young);
            list.push(Unplaced { slot, socket: Wire(socket) });
        }
        list
    }

    /// What is known of the processes and cgroups that a scan names.
    fn context(&mut self, scan: &Scan) -> Vec<Fact> {
        let mut facts = Vec::new();
        let mut last = None;
        for Holding { pid, start_ns, .. } in &scan.holders.0 {
            let id = ProcessId { pid: *pid, start_ns: *start_ns };
            if last.replace(id) != Some(id) {
                self.lookup.process(id, &mut facts);
            }
        }
        let mut last = 0;
        for cgroup in scan.sockets.0.iter().map(|s| s.cgroup) {
            if std::mem::replace(&mut last, cgroup) != cgroup {
                self.lookup.cgroup(cgroup, &mut facts);
            }
        }
        facts
    }
}

/// Stays that scans found by a descriptor. Where the kernel has no memory to move one, it is still
/// in the nursery and comes with each scan: then it counts when it is its turn, and once.
fn without_repeats(found: Vec<Socket>, unplaced: &mut Vec<Unplaced>) -> Vec<Socket> {
    let (stayed, mut moved): (Vec<Socket>, Vec<Socket>) =
        found.into_iter().partition(|s| s.flags & NO_MEMORY != 0);
    for socket in stayed {
        if let Some(at) = unplaced.iter().position(|u| u.socket.0.cookie == socket.cookie) {
            unplaced.swap_remove(at);
            moved.push(socket);
        }
    }
    moved
}

/// Who has a descriptor for any matching socket, before anything is reported.
///
/// # Errors
/// What the kernel answers.
pub fn who_holds(scans: &mut Scans, now_ns: BootNs) -> io::Result<Vec<Fact>> {
    let Listing { sockets, holders, queued, .. } = scans.descriptors(now_ns)?;
    let mut facts = Vec::new();
    let mut lookup = Lookup::default();
    for Holding { pid, start_ns, .. } in &holders {
        lookup.process(ProcessId { pid: *pid, start_ns: *start_ns }, &mut facts);
    }
    facts.push(Fact::Scan(Box::new(Scan {
        now_ns,
        only_holders: true,
        listeners: Records(sockets),
        holders: Records(holders),
        queued: Records(queued),
        ..Scan::default()
    })));
    Ok(facts)
}

/// What was counted so far.
fn counts(scans: &Scans, histogram: bool) -> Counts {
    let counts = scans.counts();
    Counts {
        counters: Wire(counts.counters()),
        missed: counts.missed(),
        histogram: histogram.then(|| Box::new(Wire(counts.histogram()))),
        at_ns: boot_now(),
    }
}

#[cfg(test)]
mod tests {
    use tcptrace_common::event::UNPLACED;
    use zerocopy::FromZeros;

    use super::*;

    #[test]
    fn without_memory_it_is_found_once_and_by_its_descriptor() {
        let socket = |cookie, flags| Socket { cookie, flags, ..Socket::new_zeroed() };
        let unplaced = |cookie| Unplaced { slot: 0, socket: Wire(socket(cookie, UNPLACED)) };
        let found = vec![socket(1, 0), socket(2, NO_MEMORY), socket(3, NO_MEMORY)];
        // 2 and 4 are due, 3 was said not long ago.
        let mut left = vec![unplaced(2), unplaced(4)];
        let cookies =
            without_repeats(found, &mut left).iter().map(|s| s.cookie).collect::<Vec<_>>();
        assert_eq!(cookies, [1, 2]);
        assert_eq!(left.iter().map(|u| u.socket.0.cookie).collect::<Vec<_>>(), [4]);
    }
}

//! Scans: what is live and due, who holds it, and whether all that was reported still exists.

use std::collections::{HashMap, HashSet};

use tcptrace_common::{event::Socket, state::TcpState};

use super::{Said, Watch};
use crate::engine::{
    assemble,
    decode::Event,
    fact::{Counts, Scan, Unplaced},
    holdings::{self, Holdings},
    record::{BootNs, Connection, Record},
};

/// What ended while a scan was under way: the scan may have listed it before.
#[derive(Debug, Default)]
pub(super) struct Beside {
    ends: HashMap<u64, BootNs>,
    /// More ended than are remembered.
    overflowed: bool,
}

/// Ends beside one scan that are remembered.
const ENDS: usize = 1 << 16;

impl Beside {
    /// Remembers the end of a stay that a scan may list.
    pub fn ended(&mut self, event: &Event, min_age_ns: u64) {
        let may_be_listed = event
            .change
            .stayed
            .is_none_or(|stayed| stayed.max_ns.is_none_or(|max| max >= min_age_ns));
        if !may_be_listed {
            return;
        }
        if self.ends.len() < ENDS {
            self.ends.insert(event.change.connection.cookie, event.time);
        } else {
            self.overflowed = true;
        }
    }

    /// Whether the stay that was listed is known to be over.
    fn is_over(&self, socket: &Socket) -> bool {
        self.ends.get(&socket.cookie).is_some_and(|end| socket.latest_ns <= *end)
    }
}

impl Watch {
    pub(super) fn scan(&mut self, scan: &Scan, said: &mut Vec<Said>) {
        let now = scan.now_ns;
        let beside = self.beside.take().unwrap_or_default();
        let mut holdings = holdings::of_scan(
            &scan.listeners.0,
            &scan.queued.0,
            &scan.holders.0,
            &self.processes,
            self.host.all_processes,
        );
        self.passing.counted().iter().for_each(|all| holdings.count_handshakes(all));
        self.learn_owners(scan, &holdings);
        if scan.only_holders {
            return;
        }
        if let Some(update) = self.losses.take_in(scan, beside.overflowed) {
            self.say(now, update, said);
        }
        self.counts(&scan.counts);
        if scan.sockets.0.iter().any(|s| s.state == TcpState::Close as u8) {
            self.losses.ghost();
        }
        for socket in scan.sockets.0.iter().filter(|s| !beside.is_over(s)) {
            self.found(socket, &mut holdings, now, said);
        }
        // One that could not be moved for want of memory is in both lists: a descriptor leads to
        // it.
        let placed: HashSet<u64> = scan.sockets.0.iter().map(|s| s.cookie).collect();
        let led_to = |u: &&Unplaced| placed.contains(&u.socket.0.cookie);
        let unplaced = scan.unplaced.iter().filter(|u| !led_to(u));
        for unplaced in unplaced.filter(|u| !beside.is_over(&u.socket.0)) {
            self.found_unplaced(unplaced, &mut holdings, now, said);
        }
        self.found_handshakes(&mut holdings, now, said);
        if scan.complete {
            self.reconcile(scan, said);
        }
        self.report_early(now, said);
    }

    /// Whether stays are listed that are too young.
    fn keeps_early(&self) -> bool {
        self.plan.by_normal || self.plan.listed_from_ns() < self.plan.min_age_ns
    }

    /// Reports what has come of age since it was listed, as it was seen then.
    fn report_early(&mut self, now: BootNs, said: &mut Vec<Said>) {
        let plan = &self.plan;
        let of_age = |(record, _): &(Record, u32)| {
            now >= record.latest_ns.saturating_add(plan.reported_from_ns(record.normal))
        };
        let mut due: Vec<(Record, u32)> =
            self.early.extract_if(|_, early| of_age(early)).map(|(_, early)| early).collect();
        due.sort_by_key(|(record, _)| (record.latest_ns, record.connection.cookie));
        for (record, una) in due {
            if self.asks_for(&record)
                && let Some(update) = self.tracker.stuck_at(record, una, now)
            {
                self.say(now, update, said);
            }
        }
    }

    /// Takes in what was counted since the start.
    pub(super) fn counts(&mut self, counts: &Counts) {
        self.counters = counts.counters.0;
        if let Some(histogram) = &counts.histogram {
            self.histogram = Some(Box::new(histogram.0));
        }
        self.losses.count(counts);
    }

    fn learn_owners(&mut self, scan: &Scan, holdings: &Holdings) {
        let Some(ownership) = &mut self.ownership else { return };
        let selection = &self.plan.selection;
        if scan.only_holders {
            ownership.learn(holdings, selection, &self.processes);
        }
        ownership.learn_listeners(&scan.listeners.0, holdings, selection, &self.processes);
    }

    /// A stay that a scan listed: judged, and said if it is asked for and due.
    pub(super) fn found(
        &mut self,
        socket: &Socket,
        holdings: &mut Holdings,
        now: BootNs,
        said: &mut Vec<Said>,
    ) {
        let connection = Connection::new(socket.cookie, &socket.tuple, socket.protocol);
        // What began after the scan did is the next one's.
        let began = socket.latest_ns > now;
        let normal = self.plan.by_normal.then(|| self.normals.of(socket));
        let from_ns = self.plan.reported_from_ns(normal.and_then(Result::ok));
        // What was reported stays so, whatever min-age is now.
        let young = now.saturating_sub(socket.latest_ns) < from_ns
            && !self.tracker.has_reported(socket.cookie, socket.latest_ns);
        let state = TcpState::from_number(socket.state);
        let watched = state.is_none_or(|state| self.plan.watches(state));
        let asked_for = watched && self.plan.selection.matches_connection(&connection);
        if self.is_done() || began || young && !self.keeps_early() || !asked_for {
            return;
        }
        let cgroup = self.cgroups.get(&socket.cgroup).cloned();
        let stalled_ns = self.tracker.stalled(socket.cookie, socket.snd_una, now);
        let mut record = assemble::record(socket, holdings, cgroup, stalled_ns, now);
        assemble::note_normal(&mut record, normal);
        if young {
            self.tell_origins(&mut record);
            self.early.insert(socket.cookie, (record, socket.snd_una));
            return;
        }
        self.early.remove(&socket.cookie);
        if self.tracker.doubts(&record) {
            return;
        }
        self.tracker.remember(&mut record);
        self.tell_origins(&mut record);
        let update = if self.asks_for(&record) {
            self.tracker.stuck(record, socket.snd_una)
        } else {
            self.tracker.unwanted(record, socket.snd_una)
        };
        if let Some(update) = update {
            self.say(now, update, said);
        }
    }

    fn tell_origins(&self, record: &mut Record) {
        if let Some(origins) = &self.origins {
            origins.tell(record, &self.processes);
        }
    }

    /// A stay that no descriptor leads to. Its end may be among those that nobody saw: then it is
    /// given up, because better silent than wrong; and counted.
    fn found_unplaced(
        &mut self,
        unplaced: &Unplaced,
        holdings: &mut Holdings,
        now: BootNs,
        said: &mut Vec<Said>,
    ) {
        let socket = &unplaced.socket.0;
        if self.losses.may_have_missed(socket.latest_ns) {
            self.losses.give_up(unplaced.slot, socket.latest_ns);
        } else {
            self.found(socket, holdings, now, said);
        }
    }

    fn reconcile(&mut self, scan: &Scan, said: &mut Vec<Said>) {
        let listed = scan.sockets.0.iter().map(|s| s.cookie);
        let unplaced = scan.unplaced.iter().map(|u| u.socket.0.cookie);
        let listed = listed.chain(unplaced).chain(scan.young.iter().copied());
        let live: HashSet<u64> = listed.chain(self.passing.under_way()).collect();
        self.early.retain(|cookie, _| live.contains(cookie));
        if let Some(origins) = &mut self.origins {
            origins.retain(&live);
        }
        for update in self.tracker.reconcile(&live, scan.now_ns) {
            self.say(scan.now_ns, update, said);
        }
        let closed = |s: &Socket| s.state == TcpState::Close as u8;
        if !scan.sockets.0.iter().any(closed) && !self.tracker.has_ghosts() {
            self.losses.no_ghost();
        }
    }
}

//! From what was looked at to findings. Nothing is found for a number that only looks large.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use tcptrace_common::state::TcpState;

use super::{
    ABORTED_FOR_MEMORY, COOKIES_ANSWERED, COOKIES_SENT, Checkup, Descriptors, Examination,
    LISTEN_OVERFLOWS, ListenerSeen, MEMORY_PRESSURES, NamespaceSeen, RETRANSMITTED, SENT,
    SYN_QUEUE_COOKIES, SYN_QUEUE_DROPS, TIME_WAIT_OVERFLOW, TIMEOUTS,
    findings::{
        Ailment, Confidence, Diagnosis, FullQueue, Grounds, Harm, NearLimit, PortsUsed,
        ProcessLeaks, Remark, SynQueue,
    },
    percent,
    ports::Destination,
    settings::{self, Sysctl},
};
use crate::{engine::record::ProcessId, formats::ports::LocalPorts};

/// So many leaks of a process are a finding; fewer are a remark.
const LEAKS: u64 = 10;
/// So many TIME_WAIT are worth a remark.
const TIME_WAITS: u64 = 100;
/// Programs in a sandbox are left with hardly any descriptors on purpose.
const SANDBOX: u64 = 16;
/// Of fewer segments a share says nothing.
const SEGMENTS: u64 = 500;

/// Whether `part` is at least so many hundredths of the whole.
fn reaches(part: u64, hundredths: u64, whole: u64) -> bool {
    u128::from(part) * 100 >= u128::from(whole) * u128::from(hundredths)
}

/// What is said of an examination.
#[must_use]
pub fn checkup(seen: Examination) -> Checkup {
    let mut judging = Judging { findings: Vec::new(), remarks: Vec::new(), process: seen.process };
    judging.host(&seen);
    for netns in &seen.namespaces {
        judging.namespace(netns);
    }
    let Judging { mut findings, remarks, .. } = judging;
    let share = |d: &Diagnosis| d.limit.map_or(0, |limit| percent(d.value, limit));
    findings.sort_by_key(|d| (Reverse(d.harm), Reverse(share(d)), d.ailment.name(), d.netns));
    let concern = findings.iter().map(|d| (&d.ailment, d.netns));
    let settings = settings::judge(&seen, concern);
    let mut states = BTreeMap::new();
    for (state, n) in seen.namespaces.iter().flat_map(|netns| &netns.states) {
        *states.entry(*state).or_default() += n;
    }
    Checkup {
        apart_ns: seen.apart_ns,
        places: seen.namespaces.into_iter().map(|netns| (netns.inode, netns.at)).collect(),
        states,
        findings,
        remarks,
        settings,
        all_settings: false,
        unseen: seen.unseen,
    }
}

struct Judging {
    findings: Vec<Diagnosis>,
    remarks: Vec<Remark>,
    /// The one that was asked for.
    process: Option<ProcessId>,
}

/// How bad, how sure, and what it rests on.
type Weight = (Harm, Confidence, Grounds);

const fn certain(harm: Harm, basis: Grounds) -> Weight {
    (harm, Confidence::Certain, basis)
}

impl Judging {
    fn found(
        &mut self,
        (harm, confidence, basis): Weight,
        netns: Option<u32>,
        (value, limit): (u64, Option<u64>),
        ailment: Ailment,
    ) {
        self.findings.push(Diagnosis { ailment, harm, confidence, basis, netns, value, limit });
    }

    fn host(&mut self, seen: &Examination) {
        let host = &seen.host;
        for process in &seen.descriptors {
            self.descriptors(process);
        }
        self.leaks(seen);
        let limit = |sysctl, n| host.settings.nth(sysctl, n);
        if let (Ok(files), Some(max)) = (host.files, limit(Sysctl::FileMax, 0)) {
            let harm = near(files, max, 90, 98);
            if let Some(harm) = harm {
                let weight = certain(harm, Grounds::Now);
                self.found(weight, None, (files, Some(max)), Ailment::FileTable);
            }
        }
        if let (Ok(orphans), Some(max)) = (host.orphans, limit(Sysctl::MaxOrphans, 0)) {
            // One whose peer takes nothing counts twice or more (`tcp_out_of_resources`).
            if let Some(harm) = near(orphans, max, 50, 90) {
                let weight = certain(harm, Grounds::Now);
                self.found(weight, None, (orphans, Some(max)), Ailment::Orphans);
            }
        }
        let memory = (host.memory_pages, limit(Sysctl::TcpMem, 1), limit(Sysctl::TcpMem, 2));
        if let (Ok(pages), Some(pressure), Some(max)) = memory
            && pages >= pressure.max(1)
        {
            let harm = if reaches(pages, 95, max) { Harm::High } else { Harm::Medium };
            let weight = certain(harm, Grounds::Now);
            self.found(weight, None, (pages, Some(max)), Ailment::Memory { pressure });
        }
    }

    fn descriptors(&mut self, p: &Descriptors) {
        let Some(harm) = near(p.used, p.soft, 90, 98).filter(|_| p.soft >= SANDBOX) else { return };
        let (process, sockets) = (p.process.clone(), p.sockets.clone());
        let ailment = Ailment::Descriptors(NearLimit { process, hard: p.hard, sockets });
        self.found(certain(harm, Grounds::Now), None, (p.used, Some(p.soft)), ailment);
    }

    fn leaks(&mut self, seen: &Examination) {
        let (mut few, mut of) = (0, 0);
        for leaking in &seen.leaks {
            let n = leaking.leaks;
            let share = |hundredths| leaking.limit.is_some_and(|l| reaches(n, hundredths, l));
            let harm = match n {
                _ if n >= LEAKS && share(50) => Harm::High,
                1_000.. => Harm::Medium,
                _ if n >= LEAKS && share(10) => Harm::Medium,
                LEAKS.. => Harm::Low,
                _ => {
                    (few, of) = (few + n, of + 1);
                    continue;
                }
            };
            let ailment = Ailment::Leaks(ProcessLeaks {
                process: leaking.process.clone(),
                verdicts: leaking.verdicts.clone(),
                oldest_ns: leaking.oldest_ns,
                full_in_ns: leaking.full_in_ns,
            });
            let weight = (harm, Confidence::Likely, Grounds::Now);
            self.found(weight, None, (n, leaking.limit), ailment);
        }
        if few > 0 {
            self.remarks.push(Remark::FewLeaks { leaks: few, processes: of });
        }
    }

    fn namespace(&mut self, seen: &NamespaceSeen) {
        self.time_wait(seen);
        self.ports(seen);
        self.accept_queues(seen);
        self.syn_queue(seen);
        let netns = Some(seen.inode);
        let aborted = seen.rise(ABORTED_FOR_MEMORY);
        if aborted > 0 {
            let weight = certain(Harm::High, Grounds::Rate);
            self.found(weight, netns, (aborted, None), Ailment::AbortedForMemory);
        }
        if let Some(tracked) = seen.conntrack {
            let dropped = tracked.dropped.filter(|n| *n > 0);
            let harm = match dropped {
                Some(_) => Some((Harm::High, Grounds::Rate)),
                None => near(tracked.count, tracked.max, 80, 95).map(|harm| (harm, Grounds::Now)),
            };
            if let Some((harm, basis)) = harm {
                let numbers = (tracked.count, Some(tracked.max));
                let ailment = Ailment::Conntrack { dropped };
                self.found(certain(harm, basis), netns, numbers, ailment);
            }
        }
        let (sent, again) = (seen.rise(SENT), seen.rise(RETRANSMITTED));
        if sent >= SEGMENTS && reaches(again, 5, sent) {
            let timeouts = seen.rise(TIMEOUTS);
            let weight = (Harm::Medium, Confidence::Likely, Grounds::Rate);
            self.found(weight, netns, (again, None), Ailment::Loss { sent, timeouts });
        }
        if seen.settings.number(Sysctl::TwRecycle).is_some_and(|on| on > 0) {
            let weight = certain(Harm::High, Grounds::Now);
            self.found(weight, netns, (1, None), Ailment::Recycle);
        }
        let past = [
            LISTEN_OVERFLOWS,
            SYN_QUEUE_COOKIES,
            SYN_QUEUE_DROPS,
            TIME_WAIT_OVERFLOW,
            ABORTED_FOR_MEMORY,
            MEMORY_PRESSURES,
        ];
        let past = past.into_iter().filter(|name| seen.rise(name) == 0);
        let counters: Vec<(&str, u64)> =
            past.map(|name| (name, seen.after.get(name))).filter(|(_, n)| *n > 0).collect();
        if !counters.is_empty() {
            self.remarks.push(Remark::History { netns: seen.inode, counters });
        }
    }

    fn time_wait(&mut self, seen: &NamespaceSeen) {
        let count = seen.time_wait.unwrap_or_else(|_| seen.count(TcpState::TimeWait));
        let limit = seen.settings.number(Sysctl::MaxTwBuckets);
        let without = seen.rise(TIME_WAIT_OVERFLOW);
        let weight = match limit {
            _ if without > 0 => certain(Harm::Medium, Grounds::Rate),
            Some(limit) if limit > 0 && reaches(count, 95, limit) => {
                certain(Harm::Low, Grounds::Now)
            }
            _ => {
                if count >= TIME_WAITS {
                    self.remarks.push(Remark::TimeWait { netns: seen.inode, count, limit });
                }
                return;
            }
        };
        let numbers = (count, limit);
        self.found(weight, Some(seen.inode), numbers, Ailment::TimeWait { without });
    }

    fn ports(&mut self, seen: &NamespaceSeen) {
        let Some(ephemeral) = seen.settings.local_ports() else { return };
        let listening: BTreeSet<u16> = seen.listeners.iter().map(|l| l.local.port()).collect();
        let available = u64::from(ephemeral.available(&listening).max(1));
        let setting = |sysctl| seen.settings.number(sysctl);
        let mut found = false;
        for to in &seen.destinations {
            let reused = to.reuses(setting(Sysctl::TwReuse), setting(Sysctl::Timestamps));
            let used = to.used(reused);
            let Some(harm) = near(used, available, 80, 95) else {
                // The fullest comes first, and is enough of a remark.
                if !found && reaches(to.used(false), 10, available) {
                    found = true;
                    let (netns, used) = (seen.inode, ports_used(to, &ephemeral));
                    self.remarks.push(Remark::Ports { netns, used, available, reused });
                }
                continue;
            };
            found = true;
            // Ports that somebody took with bind() are taken, too, and do not show.
            let sure = if used >= available { Confidence::Certain } else { Confidence::Likely };
            let weight = (harm, sure, Grounds::Now);
            let ailment = Ailment::Ports(ports_used(to, &ephemeral));
            self.found(weight, Some(seen.inode), (used, Some(available)), ailment);
        }
    }

    /// Whether it is held by who was asked for, if somebody was.
    fn concerns(&self, listener: &ListenerSeen) -> bool {
        self.process.is_none_or(|id| listener.processes.iter().any(|p| p.pid == id.pid))
    }

    fn accept_queues(&mut self, seen: &NamespaceSeen) {
        let overflows = seen.rise(LISTEN_OVERFLOWS);
        let dropping = seen.listeners.iter().filter(|l| l.dropped > 0).count();
        let somaxconn = seen.settings.number(Sysctl::Somaxconn);
        for l in &seen.listeners {
            if !self.concerns(l) {
                continue;
            }
            let dropped = if overflows > 0 { l.dropped } else { 0 };
            let weight = match l.was_full() {
                (_, true) if dropped > 0 => certain(Harm::High, Grounds::Rate),
                (true, true) if l.given_up > 0 => certain(Harm::High, Grounds::Now),
                (true, true) => certain(Harm::Medium, Grounds::Now),
                // A listener counts what it drops for other reasons, too.
                _ if dropped > 0 && dropping == 1 => certain(Harm::Medium, Grounds::Rate),
                _ if dropped > 0 => (Harm::Medium, Confidence::Likely, Grounds::Rate),
                // Who came first is accepted first: nobody was, for as long.
                _ if l.given_up > 0 => certain(Harm::Medium, Grounds::Now),
                _ => continue,
            };
            let ailment = Ailment::AcceptQueue(FullQueue {
                local: l.local,
                queue: l.queue,
                dropped,
                given_up: l.given_up,
                at_somaxconn: somaxconn.is_some_and(|max| u64::from(l.limit) >= max),
                processes: l.processes.clone(),
            });
            let numbers = (l.queue.1.into(), Some(l.limit.into()));
            self.found(weight, Some(seen.inode), numbers, ailment);
        }
    }

    fn syn_queue(&mut self, seen: &NamespaceSeen) {
        let (full, dropped) = (seen.rise(SYN_QUEUE_COOKIES), seen.rise(SYN_QUEUE_DROPS));
        // 2: cookies are sent always, be the queue full or not.
        if full == 0 && dropped == 0 || seen.settings.number(Sysctl::Syncookies) == Some(2) {
            return;
        }
        let worst = seen.listeners.iter().filter(|l| l.half_open > 0).max_by_key(|l| l.half_open);
        if worst.is_some_and(|l| !self.concerns(l)) {
            return;
        }
        let (cookies, answered) = (seen.rise(COOKIES_SENT), seen.rise(COOKIES_ANSWERED));
        let slow_accept = worst.is_some_and(|l| l.was_full().0 || l.was_full().1);
        let sure = if slow_accept || reaches(answered, 50, cookies.max(1)) {
            Confidence::Likely
        } else {
            Confidence::Possible
        };
        let harm = if dropped > 0 { Harm::High } else { Harm::Medium };
        let ailment = Ailment::SynQueue(SynQueue {
            local: worst.map(|l| l.local),
            half_open: worst.map_or(0, |l| l.half_open),
            backlog: worst.map_or(0, |l| l.limit),
            cookies,
            answered,
            dropped,
            slow_accept,
            processes: worst.map(|l| l.processes.clone()).unwrap_or_default(),
        });
        let weight = (harm, sure, Grounds::Rate);
        self.found(weight, Some(seen.inode), (full.saturating_add(dropped), None), ailment);
    }
}

/// How bad it is to be so near to a limit, by the shares from which on it is.
fn near(value: u64, limit: u64, medium: u64, high: u64) -> Option<Harm> {
    match value {
        0 => None,
        _ if reaches(value, high, limit) => Some(Harm::High),
        _ if reaches(value, medium, limit) => Some(Harm::Medium),
        _ => None,
    }
}

fn ports_used(to: &Destination, ephemeral: &LocalPorts) -> PortsUsed {
    PortsUsed {
        source: to.source,
        destination: to.to,
        open: to.open,
        time_wait: to.time_wait,
        range: (*ephemeral.range.start(), *ephemeral.range.end()),
        processes: to.processes.clone(),
    }
}

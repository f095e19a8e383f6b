//! How much is in use of what may run out: descriptors and files from `/proc`, ports, queues and
//! connection tracking from the network namespaces that were looked up before rights were given up.

use std::{
    collections::{BTreeSet, HashSet},
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
    time::Duration,
};

use tcptrace_common::{
    event::{HAS_SOCKET, HAS_TCP, KEEPALIVE, NO_TIMER, Socket, UNPLACED},
    state::TcpState,
};

use super::{
    boot_now, cpu_time, limits, netns::Netns, netstat, process, sock_diag::SockDiag, text,
    time_wait,
};
use crate::{
    engine::{
        fact::Fact,
        handshakes::{HandshakeCounter, Handshakes},
        record::{BootNs, Connection, ProcessId},
        select::Selection,
        time_wait::{Bounds, TimeWaits},
        usage::{
            InUse, NetnsName, NetworkUsage, PlaceUsage, PortsUsage, ProcessUsage, QueueUsage,
            Usage,
            ports::{FEW, PortCounter, PortRules},
        },
    },
    formats::{
        ports::LocalPorts,
        sock_diag::{Detail, TCP},
        sysctl,
    },
    source::live::netns,
};

/// Network namespaces that are looked at, at most.
const PLACES: usize = 16;
/// Looking at them takes at most this share of a CPU.
const SHARE: u32 = 250;
/// Orphans: closed by their process, and not over.
const CLOSED: u32 = TcpState::FinWait1.bit()
    | TcpState::FinWait2.bit()
    | TcpState::Closing.bit()
    | TcpState::LastAck.bit();
/// How full queues are is told of listeners, and of who waits to get in.
const QUEUES: u32 = TcpState::Listen.bit() | TcpState::SynRecv.bit();
/// Handshakes are looked at this often at most, ns: a SYN-ACK is sent again after a second.
const HANDSHAKES_NS: u64 = 500_000_000;
/// A file is no longer: a setting has a line, `netstat` some thousand characters.
const LONGEST: usize = 16_384;

/// Takes samples.
#[derive(Debug, Default)]
pub struct Gauges {
    places: Vec<Gauge>,
    /// Of which ends TIME_WAIT is counted, where it is.
    time_wait: Option<Selection>,
    /// Handshakes are counted.
    handshakes: bool,
    next_handshakes_ns: BootNs,
    next_ns: BootNs,
    /// How many descriptors there are need not be counted, see [`descriptors`].
    sized: bool,
    /// The same of counting descriptors one by one.
    next_count_ns: BootNs,
}

impl Gauges {
    /// Of those network namespaces that are asked for, or else of this one: others, it would keep
    /// from ending. Where its states are among `states` (bit `1 << number`), what no event tells of
    /// is counted, too.
    #[must_use]
    pub fn open(asked_for: &[Netns], states: u32, selection: &Selection) -> Self {
        let own = Netns::of(Path::new("/proc/thread-self/ns/net")).ok();
        let here = own.as_ref().map_or(0, |own| own.inode);
        let wanted = if asked_for.is_empty() { own.as_slice() } else { asked_for };
        let wanted = &wanted[..wanted.len().min(PLACES)];
        let (places, _) = netns::each(wanted, |netns| Gauge::open(netns, netns.inode == here));
        let sized = descriptors(std::process::id()).is_some();
        let of_processes = selection.asks_for_holders();
        let time_wait = states & TcpState::TimeWait.bit() != 0 && !of_processes;
        Self {
            places,
            time_wait: time_wait.then(|| selection.clone()),
            handshakes: states & QUEUES != 0,
            sized,
            ..Self::default()
        }
    }

    /// What is in use now: of these processes, as far as they are there and it can be read, and of
    /// all else.
    pub fn facts(&mut self, wanted: &[ProcessId]) -> Vec<Fact> {
        let (mut facts, now) = (Vec::new(), boot_now());
        if self.sized || now >= self.next_count_ns {
            let before = cpu_time();
            facts.push(usage(wanted, self.sized));
            self.next_count_ns = after(now, cpu_time().saturating_sub(before));
        }
        if now >= self.next_ns {
            let before = cpu_time();
            // What nobody can get into any more is not kept alive.
            self.places.retain(|gauge| gauge.netns.exists());
            let asked = self.time_wait.as_ref();
            let read = self.places.iter_mut().map(|gauge| gauge.read(asked));
            let (places, waits): (Vec<PlaceUsage>, Vec<Option<TimeWaits>>) = read.unzip();
            facts.push(Fact::NetworkUsage(Box::new(NetworkUsage { memory: memory(), places })));
            facts.extend(asked.and_then(|asked| together(asked, waits)));
            self.next_ns = after(now, cpu_time().saturating_sub(before));
        }
        facts
    }

    /// Handshakes under way, if it is time to look. That takes longer, the more sockets there are.
    pub fn handshakes(&mut self) -> Option<Vec<Handshakes>> {
        let now = boot_now();
        if !self.handshakes || now < self.next_handshakes_ns {
            return None;
        }
        let before = cpu_time();
        let seen = self.places.iter_mut().filter_map(|gauge| gauge.handshakes().ok()).collect();
        let cost = cpu_time().saturating_sub(before);
        self.next_handshakes_ns = after(now, cost).max(now.saturating_add(HANDSHAKES_NS));
        Some(seen)
    }

    /// Fills in what sock_diag knows of a connection that no descriptor leads to, if its program
    /// has closed it and its network namespace is looked at: timers, queues, windows. False: it was
    /// not asked.
    pub fn look_up(&mut self, orphan: &mut Socket) -> bool {
        let gauge = self.places.iter_mut().find(|g| g.place.netns == orphan.tuple.netns);
        let Some(gauge) = gauge.filter(|_| 1 << orphan.state & CLOSED != 0) else { return false };
        // What became another's, or is in another state by now, is the next scan's.
        if let Ok(Some(now)) = gauge.diag.find(orphan, 0)
            && now.state == orphan.state
            && now.flags & HAS_TCP != 0
        {
            let of_it = HAS_TCP | KEEPALIVE | NO_TIMER;
            let mut flags = orphan.flags & !of_it | now.flags & of_it;
            if now.flags & HAS_SOCKET == 0 {
                // It is not merely that none was found: there is no descriptor.
                flags &= !(HAS_SOCKET | UNPLACED);
            }
            *orphan = Socket {
                flags,
                pending: now.pending,
                retransmits: now.retransmits,
                probes: now.probes,
                snd_wnd: now.snd_wnd,
                recv_q: now.recv_q,
                send_q: now.send_q,
                sent_ago_ns: now.sent_ago_ns,
                acked_ago_ns: now.acked_ago_ns,
                received_ago_ns: now.received_ago_ns,
                ..*orphan
            };
        }
        true
    }
}

/// TIME_WAIT in all places together; `None`: it is not known of one of them.
fn together(asked: &Selection, waits: Vec<Option<TimeWaits>>) -> Option<Fact> {
    let mut all = TimeWaits::default();
    for waits in waits {
        all.add(waits?);
    }
    all.sort();
    all.shorten();
    Some(Fact::TimeWaits { of: asked.ends(), all: Box::new(all) })
}

/// When what took so long may be done again.
fn after(now: BootNs, cost: Duration) -> BootNs {
    now.saturating_add(u64::try_from((cost * SHARE).as_nanos()).unwrap_or(u64::MAX))
}

/// Descriptors in use. From 6.2 on the directory's size is the number of its entries
/// (`proc_fd_getattr`, fs/proc/fd.c); before that it is 0.
pub fn descriptors(pid: u32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/fd")).ok().map(|m| m.len()).filter(|n| *n > 0)
}

fn usage(wanted: &[ProcessId], sized: bool) -> Fact {
    let of = |id: &ProcessId| {
        let descriptors = if sized {
            let text = text(&format!("/proc/{}/limits", id.pid)).ok()?;
            InUse { used: descriptors(id.pid)?, limit: limits::open_files(&text)?.soft }
        } else {
            let counted = limits::of_process(id.pid);
            InUse::of(counted.used.ok(), counted.soft.ok())?
        };
        // If it is another by now, these are not its numbers.
        process::find(id.pid).filter(|now| id.is_same(*now))?;
        Some(ProcessUsage { pid: id.pid, start_ns: id.start_ns, descriptors })
    };
    let host = limits::of_host();
    let files = InUse::of(host.used.ok(), host.limit.ok());
    Fact::Usage(Box::new(Usage { processes: wanted.iter().filter_map(of).collect(), files }))
}

/// Pages of TCP's buffers; `None` outside the initial network namespace, which alone has the limit.
fn memory() -> Option<InUse> {
    let limit = text("/proc/sys/net/ipv4/tcp_mem").ok()?;
    let limit = limit.split_whitespace().nth(2)?.parse().ok()?;
    let used = sysctl::sockstat(&text("/proc/thread-self/net/sockstat").ok()?, "TCP", "mem")?;
    Some(InUse { used, limit })
}

/// One network namespace. Its files stay open: from outside, a path does not lead to them.
#[derive(Debug)]
struct Gauge {
    place: NetnsName,
    netns: Netns,
    diag: SockDiag,
    sockstat: [Option<File>; 2],
    conntrack: [Option<File>; 2],
    /// Range, reserved ports, reuse of TIME_WAIT, timestamps.
    ports: [Option<File>; 4],
    time_waits_limit: Option<File>,
    netstat: Option<File>,
    /// Cookies of the handshakes that were told one by one.
    unanswered: HashSet<u64>,
}

impl Gauge {
    fn open(netns: &Netns, own: bool) -> io::Result<Self> {
        let file = |path: String| File::open(path).ok();
        let net = |name| file(format!("/proc/thread-self/net/{name}"));
        let track = |name| file(format!("/proc/sys/net/netfilter/nf_conntrack_{name}"));
        let ipv4 = |name| file(format!("/proc/sys/net/ipv4/{name}"));
        Ok(Self {
            place: NetnsName { netns: netns.inode, own },
            netns: netns.clone(),
            diag: SockDiag::open(netns.inode, boot_now)?,
            sockstat: ["sockstat", "sockstat6"].map(net),
            conntrack: ["count", "max"].map(track),
            ports: [
                "ip_local_port_range",
                "ip_local_reserved_ports",
                "tcp_tw_reuse",
                "tcp_timestamps",
            ]
            .map(ipv4),
            time_waits_limit: ipv4("tcp_max_tw_buckets"),
            netstat: net("netstat"),
            unanswered: HashSet::new(),
        })
    }

    /// What is in use, and TIME_WAIT of these ends, where that is asked for and known.
    fn read(&mut self, waits_of: Option<&Selection>) -> (PlaceUsage, Option<TimeWaits>) {
        let [count, max] = self.conntrack.each_ref().map(|file| number(file.as_ref()));
        let conntrack = InUse::of(count, max);
        let listeners = self.diag.dump(TCP, TcpState::Listen.bit(), Detail::Ends);
        let listeners = listeners.map(|dump| dump.sockets);
        let waits = waits_of.zip(listeners.as_ref().ok());
        let waits = waits.and_then(|(of, listeners)| self.time_waits(listeners, of));
        let listeners = listeners.unwrap_or_default();
        let waiting = listeners.iter().filter(|s| s.backlog > 0);
        let queues = waiting.map(|s| QueueUsage {
            local: Connection::new(s.cookie, &s.tuple, s.protocol).local,
            queue: InUse { used: s.backlog.into(), limit: u64::from(s.max_backlog) + 1 },
        });
        let queues = queues.collect();
        let listening = listeners.iter().map(|s| s.tuple.lport).collect();
        let ports = self.ports(listening);
        self.diag.rest();
        (PlaceUsage { place: self.place, conntrack, queues, ports }, waits)
    }

    fn handshakes(&mut self) -> io::Result<Handshakes> {
        let cookies = self.netstat.as_ref().and_then(contents);
        let cookies = cookies.and_then(|text| netstat::cookies_of(&text));
        let mut all = HandshakeCounter::new(self.place.netns, cookies, &self.unanswered);
        let take = &mut |socket: &Socket| {
            all.take(socket);
            false
        };
        self.diag.pick(TcpState::SynRecv.bit(), Detail::Connection, take)?;
        let all = all.counted();
        self.diag.rest();
        self.unanswered = all.unanswered.0.iter().map(|socket| socket.cookie).collect();
        Ok(all)
    }

    fn time_waits(&mut self, listeners: &[Socket], of: &Selection) -> Option<TimeWaits> {
        let limit = number(self.time_waits_limit.as_ref());
        let bounds = Bounds { ports: self.local_ports(), limit };
        time_wait::count(&mut self.diag, bounds, listeners, of).ok()
    }

    fn local_ports(&self) -> Option<LocalPorts> {
        let [range, reserved, ..] = self.ports.each_ref().map(Option::as_ref);
        let reserved = reserved.and_then(contents).unwrap_or_default();
        LocalPorts::parse(&contents(range?)?, &reserved)
    }

    /// Ports by destination. The kernel goes through all its sockets for that: so not where there
    /// are too few of them to use many.
    fn ports(&mut self, listening: BTreeSet<u16>) -> Option<Vec<PortsUsage>> {
        let [_, _, tw_reuse, timestamps] = self.ports.each_ref().map(Option::as_ref);
        let rules = PortRules {
            ports: self.local_ports()?,
            tw_reuse: number(tw_reuse),
            timestamps: number(timestamps),
        };
        if self.sockets()?.saturating_mul(FEW) < u64::from(rules.ports.count()) {
            return Some(Vec::new());
        }
        let mut counter = PortCounter::new(&rules, listening);
        self.diag.each(&mut |c, state| counter.take(c, state)).ok()?;
        Some(counter.counted())
    }

    /// Connections of both families, TIME_WAIT too. Listeners are among them.
    fn sockets(&self) -> Option<u64> {
        let [v4, v6] = self.sockstat.each_ref().map(|file| file.as_ref().and_then(contents));
        let v4 = v4?;
        let of = |name| sysctl::sockstat(&v4, "TCP", name);
        let v6 = v6.and_then(|text| sysctl::sockstat(&text, "TCP6", "inuse")).unwrap_or(0);
        Some(of("inuse")?.saturating_add(of("tw")?).saturating_add(v6))
    }
}

/// A file, read again from its beginning.
fn contents(file: &File) -> Option<String> {
    let mut bytes = [0; LONGEST];
    let n = file.read_at(&mut bytes, 0).ok()?;
    Some(String::from_utf8_lossy(&bytes[..n]).into_owned())
}

fn number(file: Option<&File>) -> Option<u64> {
    contents(file?)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_network_namespace_is_read() {
        let mut gauges = Gauges::open(&[], u32::MAX, &Selection::default());
        let facts = gauges.facts(&[]);
        let [Fact::Usage(usage), Fact::NetworkUsage(network), waits] = &facts[..] else {
            panic!("{facts:?}");
        };
        let Fact::TimeWaits { all, .. } = waits else { panic!("{waits:?}") };
        assert!(all.places.len() <= 1, "one place, if any are there: {all:?}");
        assert!(usage.files.is_some_and(|files| files.used > 0), "{usage:?}");
        let [place] = &network.places[..] else { panic!("{network:?}") };
        assert!(place.place.own && place.ports.is_some(), "{place:?}");
        assert_eq!(gauges.facts(&[]).len(), 1, "looking has its share of the time and no more");
    }

    #[test]
    fn nobody_is_kept_from_ending() {
        let mut gauges = Gauges::open(&[], 0, &Selection::default());
        gauges.places[0].netns.inode = 1;
        let facts = gauges.facts(&[]);
        let Some(Fact::NetworkUsage(network)) = facts.last() else { panic!("{facts:?}") };
        assert!(network.places.is_empty() && gauges.places.is_empty(), "{network:?}");
    }
}

//! Two looks at this host, some time apart: counters, queues, settings, sockets, descriptors.
//! Nothing is changed.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
    thread,
    time::Duration,
};

use crate::{
    engine::{
        counted::counted,
        doctor::{
            COUNTERS, Conntrack, Descriptors, Examination, HostNumbers, ListenerSeen, NamedProcess,
            NamespaceSeen, NetCounters, Unseen, container,
            gather::{Gathered, Gathering},
            settings::{Sysctl, SysctlValues},
        },
        record::{BootNs, Connection, ProcessId},
        report::Answer,
        usage::InUse,
    },
    formats::{
        sock_diag::{Detail, TCP},
        sysctl,
    },
    source::live::{
        bpf::preflight,
        limits,
        lookup::Known,
        netns::{self, Netns},
        netstat, numbers, process,
        snapshot::{Query, Snapshot},
        sock_diag::SockDiag,
        text,
    },
};

use tcptrace_common::{event::Socket, state::TcpState};

/// What is to be looked at.
#[derive(Debug)]
pub struct Order {
    /// Which sockets: all states, those of the network namespaces that are selected.
    pub query: Query,
    /// One process only: what has a process is told of no other.
    pub process: Option<ProcessId>,
    /// The time between the two looks.
    pub apart: Duration,
    /// Leaks count from this age on, ns.
    pub min_age_ns: u64,
}

/// Looks twice.
///
/// # Errors
/// What sock_diag answers: no sockets can be seen at all.
pub fn examine(order: Order) -> io::Result<(Examination, BootNs)> {
    let Order { query, process, apart, min_age_ns } = order;
    let clock = query.clock;
    let scope = query.selection.netns.clone();
    let places = places(&scope);
    if places.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, NO_WAY));
    }
    let mut unseen = Vec::new();
    let (first, _) = netns::each(&places, |place| First::look(place, clock));
    let first: HashMap<u32, First> = first.into_iter().map(|look| (look.inode, look)).collect();
    let began = clock();
    thread::sleep(apart);
    let (second, failed) = netns::each(&places, |place| Second::look(place, clock));
    let apart_ns = clock().saturating_sub(began);
    for (place, e) in &failed {
        let why = e.to_string();
        let what = format!("network namespace {}", place.path.display());
        unseen.push(Unseen { what, why, hides: true });
    }
    let mut snapshot = Snapshot::take(query)?;
    let sockets = |why| Unseen { what: "sockets".into(), why, hides: true };
    unseen.extend(snapshot.missing.drain(..).map(sockets));
    let mut scanned = Gathering::default();
    for look in &second {
        let ephemeral = look.seen.settings.local_ports();
        scanned.namespaces.insert(look.seen.inode, Gathered::new(ephemeral));
    }
    let now = snapshot.now;
    snapshot.records().for_each(|record| scanned.add(&record, now, min_age_ns));
    let host = host(&mut unseen);
    let mut leaks = scanned.leaks();
    leaks.retain(|l| process.is_none_or(|id| id.pid == l.process.pid));
    for leaking in &mut leaks {
        let limits = limits::of_process(leaking.process.pid);
        leaking.limit = limits.soft.ok();
        leaking.foretell(InUse::of(limits.used.ok(), leaking.limit), now, min_age_ns);
    }
    let descriptors = descriptors(&scope, process, &scanned.sockets, &mut unseen);
    let namespaces = second.into_iter().map(|look| look.with(&first, &mut scanned, &snapshot));
    let namespaces: Vec<NamespaceSeen> = namespaces.collect();
    remaining(&namespaces, &mut unseen);
    let seen = Examination { apart_ns, process, host, namespaces, descriptors, leaks, unseen };
    Ok((seen, now))
}

/// What is said of a namespace that only a descriptor leads to.
const NO_WAY: &str = "no process is in that network namespace, and it is not mounted: there is no \
                      way into it";

fn places(scope: &[u32]) -> Vec<Netns> {
    let (mut places, _) = netns::all();
    places.retain(|place| scope.is_empty() || scope.contains(&place.inode));
    places
}

/// What is never seen, and what this host hides.
fn remaining(namespaces: &[NamespaceSeen], unseen: &mut Vec<Unseen>) {
    for blind in namespaces.iter().filter(|seen| seen.after.0.is_empty()) {
        let what = format!("counters of network namespace {}", blind.inode);
        let why = "/proc/PID/net/netstat can't be read there".into();
        unseen.push(Unseen { what, why, hides: true });
    }
    if namespaces.iter().all(|seen| seen.conntrack.is_none()) {
        unseen.push(Unseen {
            what: "connection tracking".into(),
            why: "not in this kernel, or its module is not loaded".into(),
            hides: false,
        });
    }
    if process::some_hidden() {
        let what = "other users' processes".into();
        unseen.push(Unseen { what, why: process::HIDDEN.into(), hides: true });
    }
    unseen.push(Unseen {
        what: "ports taken by bind() without a connection".into(),
        why: "the kernel does not list them; connect() finds so many ports less".into(),
        hides: false,
    });
}

/// Listeners by cookie.
fn listeners(place: &Netns, clock: fn() -> BootNs) -> io::Result<Vec<Socket>> {
    let mut diag = SockDiag::open(place.inode, clock)?;
    Ok(diag.dump(TCP, TcpState::Listen.bit(), Detail::Listener)?.sockets)
}

/// The counters of the calling thread's network namespace.
fn counters() -> NetCounters {
    // Not /proc/net, which is the main thread's.
    let file = |name| text(&format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    let all = file("netstat") + &file("snmp");
    let number =
        |(group, name): &(&str, &'static str)| Some((*name, netstat::field(&all, group, name)?));
    NetCounters(COUNTERS.iter().filter_map(number).collect())
}

/// Packets that connection tracking dropped.
fn untracked() -> Option<u64> {
    sysctl::conntrack(&text("/proc/thread-self/net/stat/nf_conntrack").ok()?, "drop")
}

/// The first look at a network namespace.
struct First {
    inode: u32,
    counters: NetCounters,
    /// Queue and drops by cookie.
    listeners: HashMap<u64, Socket>,
    untracked: Option<u64>,
}

impl First {
    fn look(place: &Netns, clock: fn() -> BootNs) -> io::Result<Self> {
        let listeners = listeners(place, clock)?.into_iter().map(|s| (s.cookie, s)).collect();
        let (counters, untracked) = (counters(), untracked());
        Ok(Self { inode: place.inode, counters, listeners, untracked })
    }
}

/// The second.
struct Second {
    seen: NamespaceSeen,
    listeners: Vec<Socket>,
    untracked: Option<u64>,
}

impl Second {
    fn look(place: &Netns, clock: fn() -> BootNs) -> io::Result<Self> {
        let listeners = listeners(place, clock)?;
        let settings = settings(|sysctl| !sysctl.is_hosts());
        let sockstat = text("/proc/thread-self/net/sockstat").unwrap_or_default();
        let time_wait = sysctl::sockstat(&sockstat, "TCP", "tw");
        let number = |name| text(&path(name)).ok()?.trim().parse().ok();
        let tracked = number("net.netfilter.nf_conntrack_count");
        let seen = NamespaceSeen {
            inode: place.inode,
            at: place.path.display().to_string(),
            time_wait: time_wait.ok_or("/proc/net/sockstat does not say"),
            after: counters(),
            conntrack: tracked
                .zip(settings.number(Sysctl::ConntrackMax))
                .map(|(count, max)| Conntrack { count, max, dropped: None }),
            settings,
            ..NamespaceSeen::default()
        };
        Ok(Self { seen, listeners, untracked: untracked() })
    }

    /// Together with the first look, and with what a scan has shown.
    fn with(
        self,
        first: &HashMap<u32, First>,
        scanned: &mut Gathering,
        snapshot: &Snapshot,
    ) -> NamespaceSeen {
        let Self { mut seen, listeners, untracked } = self;
        let first = first.get(&seen.inode);
        // Of a namespace that is new since then all is of this time.
        seen.before = first.map(|look| look.counters.clone()).unwrap_or_default();
        if let Some(tracked) = &mut seen.conntrack {
            let before = first.and_then(|look| look.untracked);
            tracked.dropped = untracked.zip(before).map(|(now, then)| now.saturating_sub(then));
        }
        let gathered = scanned.namespaces.remove(&seen.inode).unwrap_or_default();
        let listener = |s: &Socket| {
            let before = first.and_then(|look| look.listeners.get(&s.cookie));
            let holders = snapshot.holdings.by_cookie.get(&s.cookie).map_or(&[][..], Vec::as_slice);
            let mut listener = ListenerSeen {
                local: Connection::new(s.cookie, &s.tuple, s.protocol).local,
                queue: (before.map(|then| then.backlog), s.backlog),
                limit: s.max_backlog,
                dropped: before.map_or(0, |then| s.drops.wrapping_sub(then.drops)).into(),
                half_open: 0,
                given_up: 0,
                processes: NamedProcess::all(holders),
            };
            gathered.complete(&mut listener);
            listener
        };
        seen.listeners = listeners.iter().map(listener).collect();
        (seen.states, seen.keepalive) = (gathered.states.clone(), gathered.keepalive);
        seen.destinations = gathered.destinations();
        seen
    }
}

fn path(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

/// Settings as the calling thread's network namespace has them.
fn settings(wanted: impl Fn(Sysctl) -> bool) -> SysctlValues {
    let read = |sysctl: Sysctl| match text(&path(sysctl.name())) {
        Ok(text) => Ok(sysctl::words(&text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err("not in this kernel"),
        Err(_) => Err("not permitted"),
    };
    let all = Sysctl::ALL.into_iter().filter(|sysctl| wanted(*sysctl));
    let values = all.map(|sysctl| (sysctl, read(sysctl))).collect();
    // Negative: a namespace shares the initial one's table.
    let hashed = text(&path("net.ipv4.tcp_ehash_entries")).ok();
    let hashed = hashed.and_then(|text| text.trim().parse::<i64>().ok()).map(i64::unsigned_abs);
    SysctlValues { values, hashed }
}

/// What there is once. TCP's memory and orphans have their settings in the initial network
/// namespace only.
fn host(unseen: &mut Vec<Unseen>) -> HostNumbers {
    let mut settings = settings(Sysctl::is_hosts);
    let incomplete = |settings: &SysctlValues| settings.values.values().any(Result::is_err);
    if incomplete(&settings) {
        let all = netns::all().0;
        let (there, _) = netns::each(&all, |_| Ok(self::settings(Sysctl::is_hosts)));
        settings = there.into_iter().find(|there| !incomplete(there)).unwrap_or(settings);
    }
    for (sysctl, value) in &mut settings.values {
        if let Err(why) = value {
            if matches!(sysctl, Sysctl::MaxOrphans | Sysctl::TcpMem) {
                *why = "only the host's own network namespace has it, and that can't be entered";
            }
            unseen.push(Unseen { what: sysctl.name().into(), why: (*why).into(), hides: true });
        }
    }
    let sockstat = text("/proc/thread-self/net/sockstat").unwrap_or_default();
    let number = |name| -> Answer {
        sysctl::sockstat(&sockstat, "TCP", name).ok_or("/proc/net/sockstat does not say")
    };
    HostNumbers {
        kernel: preflight::release().and_then(|release| sysctl::version(&release)),
        orphans: number("orphan"),
        memory_pages: number("mem"),
        files: limits::of_host().used,
        settings,
    }
}

/// Descriptors of the process that is asked for, or else of all processes in these namespaces.
fn descriptors(
    scope: &[u32],
    process: Option<ProcessId>,
    sockets: &HashMap<ProcessId, BTreeMap<TcpState, u64>>,
    unseen: &mut Vec<Unseen>,
) -> Vec<Descriptors> {
    let sockets: HashMap<u32, &BTreeMap<TcpState, u64>> =
        sockets.iter().map(|(id, states)| (id.pid, states)).collect();
    let pids = match process {
        Some(id) => vec![id.pid],
        None => numbers("/proc").unwrap_or_default(),
    };
    let within = |pid: u32| {
        let netns = || Netns::of(Path::new(&format!("/proc/{pid}/ns/net")));
        scope.is_empty() || netns().is_ok_and(|netns| scope.contains(&netns.inode))
    };
    let (mut all, mut refused) = (Vec::new(), 0);
    for pid in pids.into_iter().filter(|pid| within(*pid)) {
        let limits::DescriptorLimits { used, soft, hard } = limits::of_process(pid);
        let (Ok(used), Ok(soft), Ok(hard)) = (used, soft, hard) else {
            refused += u64::from(process::find(pid).is_some());
            continue;
        };
        // Kernel threads have none.
        if used == 0 {
            continue;
        }
        let sockets = sockets.get(&pid).map(|states| (*states).clone()).unwrap_or_default();
        let Some(process) = named(pid, used, soft) else { continue };
        all.push(Descriptors { process, used, soft, hard, sockets });
    }
    if refused > 0 {
        let what = format!("descriptors of {}", counted(refused, "process", "processes"));
        let why = "not permitted: run as root, or with CAP_SYS_PTRACE".into();
        unseen.push(Unseen { what, why, hides: true });
    }
    all
}

/// What a process is called; what people call it, where it may be named. `None`: it is gone.
fn named(pid: u32, used: u64, soft: u64) -> Option<NamedProcess> {
    let (id, comm) = process::find_with_name(pid)?;
    let (mut name, mut inside) = (comm.to_string(), None);
    if used >= soft / 2 {
        let mut known = Known::default();
        known.learn(id);
        let context = known.processes().context(id);
        name = context.name.map_or(name, |called| called.to_string());
        inside = container(context.cgroups.as_deref());
    }
    Some(NamedProcess { pid, comm: comm.to_string(), name, container: inside })
}

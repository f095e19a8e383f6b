//! An incident that never was, of as many sockets as are asked for: facts as a tracer would have
//! sent them in three hours, taken in by the core.

use jiff::Timestamp;
use tcptrace::{
    engine::{
        fact::{Counts, Fact, Host, NamedStack, Origins, Process, Records, Scan, Timed, Wire},
        incident::{Incident, about::Provenance},
        stack::{Code, Frame, Stack},
        watch::{Plan, Watch},
    },
    view::Clock,
};
use tcptrace_common::{
    counters::{Counters, Histogram},
    event::{
        ACCEPTED, CLOSING, CONNECTED, CallMoment, HAS_SOCKET, HAS_TCP, Holding, KIND_HOLDING,
        KIND_ORIGIN, KIND_QUEUED, KIND_SOCKET, KIND_TRANSITION, Origin, Queued, Socket, Transition,
    },
    state::TcpState,
};
use zerocopy::FromZeros;

const SECOND: u64 = 1_000_000_000;
/// The boot clock when it begins.
const BEGAN: u64 = 900_000 * SECOND;
/// Scans, and how far they are apart.
const SCANS: u64 = 240;
const APART: u64 = 45 * SECOND;
/// The listener that nobody takes connections from.
const LISTENER: u64 = 7;

/// Programs: pid, command name, command line, port.
const PROGRAMS: [(u32, &str, &str, u16); 5] = [
    (4711, "java", "/usr/bin/java -Xmx4g -jar shop-api.jar --port 8080", 8080),
    (2203, "python3", "/usr/bin/python3 -m tornado.web --port 8888", 8888),
    (1188, "thrift-pool", "/opt/pool/thrift-pool --workers 8", 9090),
    (3090, "crawler", "/usr/bin/php crawler.php", 0),
    (1501, "prefork", "/usr/sbin/prefork -c /etc/prefork.conf", 8443),
];

/// What an incident is made of.
pub struct Made {
    /// What is told.
    pub incident: Incident,
    /// The clock for it.
    pub clock: Clock,
}

/// So many sockets; `name`: what one of the programs calls itself, in place of its own name.
pub fn made(sockets: u64, name: Option<&str>) -> Made {
    let plan = Plan { states: TcpState::CloseWait.bit(), min_age_ns: SECOND, ..Plan::default() };
    let words = ["tcptrace", "watch", "--duration", "3h", "--report", "leak.html"];
    let made = Provenance {
        host: Some("shop-7.example".to_owned()),
        kernel: Some("6.12.48-amd64".to_owned()),
        tool: "tcptrace 0.1.0".to_owned(),
        command: words.map(str::to_owned).to_vec(),
        missing: Vec::new(),
    };
    let mut incident = Incident::of_watch(made, &plan);
    let mut watch = Watch::new(plan);
    let mut said = Vec::new();
    let mut take = |at: u64, fact: Fact| {
        watch.take(&Timed { at, fact }, &mut said);
        said.drain(..).for_each(|said| incident.take(&said));
        incident.sample(at, &watch);
    };
    take(BEGAN, Fact::Host(Host { kernel: "6.12.48-amd64".to_owned(), all_processes: true }));
    for (stack, calls) in (1..).zip(stacks(name)) {
        take(BEGAN, Fact::Stack(Box::new(NamedStack { name: stack, stack: calls })));
    }
    let mut open = [0; PROGRAMS.len()];
    for nth in 0..SCANS {
        let (from, now) = (BEGAN + nth * APART, BEGAN + (nth + 1) * APART);
        let new = sockets * nth / SCANS..sockets * (nth + 1) / SCANS;
        if nth.is_multiple_of(2) {
            for (program, open) in open.iter().enumerate() {
                take(now, Fact::Process(Box::new(process(program, *open, name))));
            }
        }
        let count = new.end - new.start;
        let mut scan = Scan { now_ns: now, counts: counts(now, nth), ..Scan::default() };
        scan.listeners.0.push(listener());
        scan.holders.0.push(holding(LISTENER, 2, 4, name));
        for (place, n) in new.enumerate() {
            // Old enough for the scan to tell of it.
            let since = from + (APART - 2 * SECOND) * place as u64 / count.max(1);
            list(n, since, now, &mut scan, &mut open, name);
        }
        let list = scan.sockets.0.iter().filter_map(origin).collect();
        let told = Origins { list: Records(list), reads: true, ..Origins::default() };
        take(now, Fact::Origins(Box::new(told)));
        take(now, Fact::Scan(Box::new(scan)));
        // Of those of some scans ago, one in twenty was closed.
        let Some(before) = nth.checked_sub(6) else { continue };
        let old = sockets * before / SCANS..sockets * (before + 1) / SCANS;
        for n in old.filter(|n| n % 20 == 19) {
            take(now + n % APART, Fact::Change(Wire(closed(n, now + n % APART))));
            open[0] -= 1;
        }
    }
    let end = BEGAN + (SCANS + 1) * APART;
    watch.finish(end, &mut said);
    said.drain(..).for_each(|said| incident.take(&said));
    incident.sample_now(end, &watch);
    let now: Timestamp = "2026-11-24T12:40:00Z".parse().expect("a time");
    Made { incident, clock: Clock::new(now, BEGAN, true) }
}

/// Where programs open and read: two of the first's, one of the fourth's, which says its name.
fn stacks(name: Option<&str>) -> [Stack; 3] {
    let frame = |function: &str, file: Option<(&str, u32)>, code| Frame {
        function: Some(function.to_owned()),
        file: file.map(|(file, _)| file.to_owned()),
        line: file.map(|(_, line)| line),
        code,
        ..Frame::default()
    };
    let accepts = [
        frame("accept", None, Code::Library),
        frame("Acceptor.run", Some(("Acceptor.java", 129)), Code::Own),
        frame("Thread.run", None, Code::Library),
    ];
    let reads = [
        frame("read", None, Code::Library),
        frame("Checkout.fetch", Some(("Checkout.java", 88)), Code::Own),
        frame("Worker.run", Some(("Worker.java", 31)), Code::Own),
    ];
    let connects = [
        frame("connect", None, Code::Library),
        frame(name.unwrap_or("fetch_page"), Some((name.unwrap_or("crawler.php"), 12)), Code::Own),
    ];
    [accepts.to_vec(), reads.to_vec(), connects.to_vec()].map(|frames| Stack { frames, cut: None })
}

/// Where a socket comes from, if that was seen.
fn origin(s: &Socket) -> Option<Origin> {
    let n = s.cookie - cookie(0);
    let program = program(n);
    let call = |stack: u64, before: u64| {
        let pid = PROGRAMS[program].0;
        let mut comm = [0; 16];
        comm[..6].copy_from_slice(format!("exec-{}", n % 4).as_bytes());
        CallMoment {
            time_ns: s.latest_ns - before,
            stack,
            start_ns: u64::from(pid) * SECOND,
            pid,
            tid: pid + 1 + (n % 4) as u32,
            comm,
        }
    };
    let mut origin = Origin::new_zeroed();
    (origin.kind, origin.cookie) = (KIND_ORIGIN, s.cookie);
    match program {
        0 => {
            origin.flags = ACCEPTED;
            (origin.opened, origin.read, origin.end) = (call(1, 900), call(2, 500), call(2, 0));
        }
        3 => (origin.flags, origin.opened) = (CONNECTED, call(3, 900)),
        _ => return None,
    }
    Some(origin)
}

fn process(program: usize, open: u64, name: Option<&str>) -> Process {
    let (pid, comm, command, _) = PROGRAMS[program];
    let comm = if program == 3 { name.unwrap_or(comm) } else { comm };
    Process {
        pid,
        start_ns: u64::from(pid) * SECOND,
        ppid: 1,
        comm: comm.to_owned(),
        command: match name {
            Some(name) if program == 3 => vec![name.repeat(1 + (1 << 16) / name.len().max(1))],
            _ => command.split(' ').map(str::to_owned).collect(),
        },
        cgroups: Some(format!("0::/system.slice/{comm}.service\n")),
        descriptors: Some(180 + open),
        descriptor_limit: Some(if open < 4_000 { 4_096 } else { 65_536 }),
        ..Process::default()
    }
}

fn counts(at_ns: u64, nth: u64) -> Counts {
    let mut counters = Counters::new_zeroed();
    (counters.seen, counters.filtered) = (nth * 90_000, nth * 89_000);
    (counters.emitted, counters.ring_full) = (nth * 1_000, 0);
    let mut histogram = Histogram::new_zeroed();
    histogram.stays[TcpState::CloseWait as usize][7] = nth * 11_000;
    let histogram = Some(Box::new(Wire(histogram)));
    Counts { at_ns, counters: Wire(counters), missed: nth / 100, histogram }
}

fn listener() -> Socket {
    let mut s = socket(0, 0, 0);
    (s.cookie, s.state) = (LISTENER, TcpState::Listen as u8);
    (s.backlog, s.max_backlog, s.drops) = (129, 128, 4_010);
    (s.tuple.rport, s.tuple.lport, s.tuple.raddr) = (0, PROGRAMS[2].3, [0; 16]);
    s
}

fn holding(cookie: u64, program: usize, fd: u32, name: Option<&str>) -> Holding {
    let (pid, comm, ..) = PROGRAMS[program];
    let comm = if program == 3 { name.unwrap_or(comm) } else { comm };
    let mut h = Holding::new_zeroed();
    (h.kind, h.cookie, h.pid, h.tid, h.fd) = (KIND_HOLDING, cookie, pid, pid, fd);
    (h.start_ns, h.ppid) = (u64::from(pid) * SECOND, 1);
    let length = comm.len().min(15);
    h.comm[..length].copy_from_slice(&comm.as_bytes()[..length]);
    h
}

/// Which program's a socket is.
fn program(n: u64) -> usize {
    match n % 20 {
        12..15 => 1,
        15 => 2,
        16 => 3,
        17 => 4,
        _ => 0,
    }
}

fn cookie(n: u64) -> u64 {
    1_000 + n
}

fn socket(n: u64, since: u64, now: u64) -> Socket {
    let mut s = Socket::new_zeroed();
    (s.kind, s.cookie, s.state, s.protocol) =
        (KIND_SOCKET, cookie(n), TcpState::CloseWait as u8, 6);
    (s.flags, s.earliest_ns, s.latest_ns, s.inode) =
        (HAS_SOCKET | HAS_TCP, since, since, 90_000 + n as u32);
    (s.sent_ago_ns, s.acked_ago_ns) = (u64::MAX, now.saturating_sub(since));
    s.received_ago_ns = now.saturating_sub(since);
    s.max_backlog = 128;
    let address = |last: [u8; 4]| {
        let mut all = [0; 16];
        (all[10], all[11]) = (255, 255);
        all[12..].copy_from_slice(&last);
        all
    };
    // A few peers have most of it.
    let peer = [0, 0, 0, 0, 1, 1, 2, 2, 3, (n / 10 % 97) as u8][(n % 10) as usize];
    s.tuple.laddr = address([10, 0, 0, 7]);
    s.tuple.raddr = address([10, 0, 3, 10 + peer]);
    (s.tuple.netns, s.tuple.lport) = (4_026_531_840, PROGRAMS[program(n)].3);
    s.tuple.rport = (20_000 + n * 7 % 40_000) as u16;
    s
}

fn list(n: u64, since: u64, now: u64, scan: &mut Scan, open: &mut [u64; 5], name: Option<&str>) {
    let (program, mut s) = (program(n), socket(n, since, now));
    match n % 20 {
        12..15 => s.recv_q = 513,
        15 => {
            (s.flags, s.inode, s.recv_q) = (HAS_TCP, 0, 90);
            let queued = Queued { kind: KIND_QUEUED, pad: 0, cookie: s.cookie, listener: LISTENER };
            scan.queued.0.push(queued);
        }
        16 => {
            (s.recv_q, s.max_backlog) = (1, 0);
            (s.tuple.lport, s.tuple.rport) = (s.tuple.rport, 80);
        }
        18 => s.state = TcpState::Close as u8,
        _ => {}
    }
    // The listener's connections have no descriptor.
    if n % 20 != 15 {
        open[program] += 1;
        scan.holders.0.push(holding(s.cookie, program, (180 + open[program]) as u32, name));
        if n % 20 == 17 {
            scan.holders.0.push(holding(s.cookie, 1, 9, name));
        }
    }
    scan.sockets.0.push(s);
}

fn closed(n: u64, time_ns: u64) -> Transition {
    let mut t = Transition::new_zeroed();
    let s = socket(n, 1, 1);
    (t.kind, t.time_ns, t.cookie, t.protocol) = (KIND_TRANSITION, time_ns, cookie(n), 6);
    (t.earliest_ns, t.latest_ns, t.socket) = (1, 1, CLOSING);
    (t.old, t.new, t.tuple) = (TcpState::CloseWait as u8, TcpState::LastAck as u8, s.tuple);
    (t.pid, t.sent_ago_ns) = (PROGRAMS[0].0, u64::MAX);
    t.comm[..4].copy_from_slice(b"java");
    t
}

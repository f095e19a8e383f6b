//! However much there is, so many series.

use std::rc::Rc;

use tcptrace_common::{
    event::{HAS_SOCKET, HAS_TCP, Holding, KIND_HOLDING, KIND_SOCKET, Socket},
    state::TcpState,
};
use zerocopy::FromZeros;

use super::*;
use crate::{
    engine::{
        fact::{Fact, Host, Process, Records, Scan, Timed},
        record::{
            Holder,
            tests::{holder, leak},
        },
        update::Update,
        watch::{Plan, Said},
    },
    formats::cgroup::Cgroups,
};

const SECOND: u64 = 1_000_000_000;

/// A watch that has scanned as many sockets of as many processes, each with a name of its own; what
/// was counted; and how many series that makes.
fn series(sockets: u32, processes: u32) -> (Accounts, String, usize) {
    let states = TcpState::CloseWait.bit();
    let mut watch = Watch::new(Plan { states, min_age_ns: SECOND, ..Plan::default() });
    let mut accounts = Accounts::new(50);
    let mut said = Vec::new();
    let mut scan = Scan { now_ns: 100 * SECOND, complete: true, ..Scan::default() };
    let mut facts = vec![Fact::Host(Host { kernel: String::new(), all_processes: true })];
    for pid in 1..=processes {
        let comm = format!("job-{pid}");
        let process = Process { pid, start_ns: 1, comm, ..Process::default() };
        facts.push(Fact::Process(Box::new(process)));
    }
    for n in 0..sockets {
        let (mut s, mut h) = (Socket::new_zeroed(), Holding::new_zeroed());
        (s.kind, s.cookie, s.state, s.protocol) =
            (KIND_SOCKET, u64::from(n) + 1, TcpState::CloseWait as u8, 6);
        (s.flags, s.earliest_ns, s.latest_ns) = (HAS_SOCKET | HAS_TCP, 50 * SECOND, 50 * SECOND);
        (s.recv_q, s.inode) = (1, n + 1);
        s.tuple.raddr[12..].copy_from_slice(&n.to_be_bytes());
        let pid = n % processes + 1;
        (h.kind, h.cookie, h.pid, h.tid, h.fd, h.start_ns) =
            (KIND_HOLDING, u64::from(n) + 1, pid, pid, 4, 1);
        let comm = format!("job-{pid}");
        h.comm[..comm.len()].copy_from_slice(comm.as_bytes());
        scan.sockets.0.push(s);
        scan.holders.0.push(h);
    }
    scan.holders = Records(scan.holders.0);
    facts.push(Fact::Scan(Box::new(scan)));
    for fact in facts {
        watch.take(&Timed { at: 100 * SECOND, fact }, &mut said);
    }
    said.iter().for_each(|said| accounts.take(said));
    let clock = Clock::new(jiff::Timestamp::UNIX_EPOCH, 0, true);
    let around = Around { memory: Some(1), overflows: Some(0), ..Around::default() };
    let text = metrics(&watch, &accounts, &clock, 100 * SECOND, &around, Exposition::Text);
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    (accounts, text, series)
}

#[test]
fn series_stay_flat_whatever_the_number_of_processes_and_remotes() {
    let (_, text, few) = series(500, 100);
    assert!(text.contains("tcptrace_leaks{workload=\"other\"} 250\n"), "{text}");
    let (accounts, text, many) = series(100_000, 20_000);
    // docs/fleet.md says how many.
    assert_eq!((many, few), (322, 322), "{text}");
    assert_eq!((accounts.told_apart().len(), accounts.sharing()), (50, 19_950));
    let value = |line: &str| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
    let leaks = text.lines().filter(|line| line.starts_with("tcptrace_leaks{")).filter_map(value);
    assert_eq!(leaks.sum::<u64>(), 100_000, "none is left out");
    assert!(text.contains("tcptrace_workloads_other 19950\n"), "overflow is counted");
    assert!(text.len() < 64 << 10, "{} bytes", text.len());
}

/// Whoever calls itself as a unit is called has no series of its own: a scrape must not have one
/// twice.
#[test]
fn a_name_that_two_workloads_have_is_one_series() {
    let mut accounts = Accounts::new(50);
    let unit = Some(Rc::new(Cgroups::parse("0::/system.slice/nginx.service\n")));
    for (cookie, cgroups) in [(1, unit), (2, None)] {
        let mut record = leak();
        record.connection.cookie = cookie;
        record.holders = vec![Holder { comm: "nginx.service".into(), cgroups, ..holder(7, 4) }];
        let update = Update::Stuck(Rc::new(record));
        accounts.take(&Said { time: cookie, update });
    }
    assert_eq!(accounts.told_apart().len(), 2);
    let watch = Watch::new(Plan::default());
    let clock = Clock::new(jiff::Timestamp::UNIX_EPOCH, 0, true);
    let text = metrics(&watch, &accounts, &clock, 9, &Around::default(), Exposition::OpenMetrics);
    let of = |name: &str| {
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let [stuck] = &of("tcptrace_stuck_total{")[..] else { panic!("{text}") };
    assert!(stuck.contains("workload=\"nginx.service\"") && stuck.contains("} 2 # {cookie=\"2\"}"));
    assert_eq!(of("tcptrace_workload_info{").len(), 2, "it says of each what it is");
}

use proptest::prelude::*;

use super::{
    findings::{Ailment, Confidence, Grounds, Harm, Remark},
    judge::checkup,
    settings::Sysctl,
    *,
};

/// Settings as Linux 6.18 makes them on a machine of 24 GiB.
fn settings() -> SysctlValues {
    let values = [
        (Sysctl::TwReuse, "2"),
        (Sysctl::MaxTwBuckets, "131072"),
        (Sysctl::Timestamps, "1"),
        (Sysctl::LocalPortRange, "32768 60999"),
        (Sysctl::LocalReservedPorts, ""),
        (Sysctl::Somaxconn, "4096"),
        (Sysctl::Syncookies, "1"),
        (Sysctl::MaxOrphans, "131072"),
        (Sysctl::TcpMem, "287901 383868 575802"),
        (Sysctl::FileMax, "2466177"),
    ];
    let mut values: BTreeMap<Sysctl, Result<String, &str>> =
        values.map(|(sysctl, text)| (sysctl, Ok(text.to_owned()))).into();
    values.insert(Sysctl::TwRecycle, Err("not in this kernel"));
    SysctlValues { values, hashed: Some(262_144) }
}

pub(crate) fn healthy() -> Examination {
    let namespace = NamespaceSeen { time_wait: Ok(0), settings: settings(), ..namespace(7) };
    Examination {
        apart_ns: 2_000_000_000,
        host: HostNumbers {
            kernel: Some((6, 18)),
            orphans: Ok(12),
            memory_pages: Ok(1_000),
            files: Ok(5_000),
            settings: settings(),
        },
        namespaces: vec![namespace],
        ..Examination::default()
    }
}

fn namespace(inode: u32) -> NamespaceSeen {
    NamespaceSeen { inode, ..NamespaceSeen::default() }
}

pub(crate) fn named(pid: u32) -> NamedProcess {
    NamedProcess { pid, comm: "nginx".to_owned(), name: "nginx".to_owned(), container: None }
}

pub(crate) fn counters(of: &[(&'static str, u64)]) -> NetCounters {
    NetCounters(of.iter().copied().collect())
}

pub(crate) fn listener(queue: (u32, u32), limit: u32) -> ListenerSeen {
    ListenerSeen {
        local: "0.0.0.0:80".parse().expect("an end"),
        queue: (Some(queue.0), queue.1),
        limit,
        dropped: 0,
        half_open: 0,
        given_up: 0,
        processes: vec![named(4711)],
    }
}

pub(crate) fn destination(to: &str, open: u64, time_wait: u64) -> Destination {
    let source = "10.0.0.1".parse().expect("an address");
    let to = to.parse().expect("an end");
    Destination { source, to, open, time_wait, processes: Vec::new() }
}

/// The one finding.
pub(crate) fn only(seen: Examination) -> Diagnosis {
    let mut found = checkup(seen).findings;
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

pub(crate) fn of_namespace(change: impl FnOnce(&mut NamespaceSeen)) -> Examination {
    let mut seen = healthy();
    change(&mut seen.namespaces[0]);
    seen
}

#[test]
fn nothing_is_found_where_nothing_is() {
    let said = checkup(healthy());
    assert!(said.findings.is_empty() && said.remarks.is_empty(), "{said:#?}");
    assert!(said.settings.iter().all(|s| s.changed != Some(true)), "{:#?}", said.settings);
    assert!(checkup(Examination::default()).findings.is_empty(), "nothing known is nothing found");
}

#[test]
fn time_wait_is_no_finding() {
    let many = of_namespace(|n| {
        n.time_wait = Ok(30_000);
        n.states.insert(TcpState::TimeWait, 30_000);
        n.destinations = vec![destination("10.0.0.2:80", 50, 20_000)];
    });
    let said = checkup(many);
    assert!(said.findings.is_empty(), "{:#?}", said.findings);
    assert!(matches!(
        said.remarks[0],
        Remark::TimeWait { count: 30_000, limit: Some(131_072), .. }
    ));
    assert!(matches!(&said.remarks[1], Remark::Ports { reused: false, .. }));
}

#[test]
fn time_wait_that_finds_no_room() {
    let without = only(of_namespace(|n| n.after = counters(&[(TIME_WAIT_OVERFLOW, 3)])));
    assert_eq!((without.harm, without.basis), (Harm::Medium, Grounds::Rate));
    let full = only(of_namespace(|n| n.time_wait = Ok(131_000)));
    assert_eq!((full.harm, full.limit), (Harm::Low, Some(131_072)));
}

#[test]
fn ports_are_used_up_by_destination() {
    let full = |reuse: &str, to: &str| {
        of_namespace(|n| {
            n.settings.values.insert(Sysctl::LocalPortRange, Ok("32768 32867".to_owned()));
            n.settings.values.insert(Sysctl::TwReuse, Ok(reuse.to_owned()));
            n.destinations = vec![destination(to, 4, 96), destination("10.0.0.3:80", 50, 4)];
        })
    };
    let found = only(full("2", "10.0.0.2:80"));
    assert_eq!((found.harm, found.confidence), (Harm::High, Confidence::Certain));
    assert_eq!((found.value, found.limit), (100, Some(100)));
    for (reuse, to) in [("1", "10.0.0.2:80"), ("2", "127.0.0.1:80")] {
        let said = checkup(full(reuse, to));
        assert!(said.findings.is_empty(), "TIME_WAIT is taken again: {:#?}", said.findings);
    }
}

#[test]
fn ports_in_use_by_open_connections_are_not_reused() {
    let found = only(of_namespace(|n| {
        n.settings.values.insert(Sysctl::LocalPortRange, Ok("32768 32867".to_owned()));
        n.settings.values.insert(Sysctl::LocalReservedPorts, Ok("32768-32777".to_owned()));
        n.destinations = vec![destination("127.0.0.1:5432", 80, 0)];
    }));
    assert_eq!((found.harm, found.value, found.limit), (Harm::Medium, 80, Some(90)));
    assert_eq!(found.confidence, Confidence::Likely, "bind() may have taken others");
}

#[test]
fn a_queue_that_is_not_empty_is_no_full_one() {
    for queue in [(0, 100), (100, 128), (128, 128), (0, 129)] {
        let said = checkup(of_namespace(|n| n.listeners = vec![listener(queue, 128)]));
        assert!(said.findings.is_empty(), "{queue:?}: {:#?}", said.findings);
    }
}

#[test]
fn a_full_accept_queue() {
    let full = |dropped, given_up| {
        only(of_namespace(|n| {
            n.listeners = vec![ListenerSeen { dropped, given_up, ..listener((129, 129), 128) }];
            n.after = counters(&[(LISTEN_OVERFLOWS, dropped)]);
        }))
    };
    assert_eq!((full(0, 0).harm, full(0, 0).basis), (Harm::Medium, Grounds::Now));
    assert_eq!((full(0, 3).harm, full(0, 3).basis), (Harm::High, Grounds::Now));
    let dropping = full(5, 0);
    assert_eq!((dropping.harm, dropping.basis), (Harm::High, Grounds::Rate));
}

/// A listener counts what it drops for other reasons, too.
#[test]
fn drops_without_an_overflow_are_none() {
    let listeners = || vec![ListenerSeen { dropped: 9, ..listener((1, 0), 128) }];
    let said = checkup(of_namespace(|n| n.listeners = listeners()));
    assert!(said.findings.is_empty(), "{:#?}", said.findings);
    let found = only(of_namespace(|n| {
        n.listeners = listeners();
        n.after = counters(&[(LISTEN_OVERFLOWS, 9)]);
    }));
    assert_eq!((found.harm, found.basis), (Harm::Medium, Grounds::Rate));
}

#[test]
fn nobody_accepts() {
    let stuck = ListenerSeen { given_up: 2, ..listener((2, 2), 128) };
    let found = only(of_namespace(|n| n.listeners = vec![stuck]));
    assert_eq!((found.harm, found.confidence), (Harm::Medium, Confidence::Certain));
}

#[test]
fn a_flood_a_burst_and_a_slow_accept() {
    let found = |queue, answered| {
        let seen = of_namespace(|n| {
            n.listeners = vec![ListenerSeen { half_open: 128, ..listener(queue, 128) }];
            let rose = [(SYN_QUEUE_COOKIES, 50), (COOKIES_SENT, 50), (COOKIES_ANSWERED, answered)];
            n.after = counters(&rose);
        });
        let found = checkup(seen).findings;
        found.into_iter().find(|d| d.ailment.name() == "syn-queue").expect("it is found")
    };
    let (flood, burst, slow) = (found((0, 0), 1), found((0, 0), 49), found((129, 129), 0));
    assert_eq!(flood.confidence, Confidence::Possible, "nothing on this host can tell");
    assert_eq!([burst.confidence, slow.confidence], [Confidence::Likely; 2]);
    let cause = |d: &Diagnosis| match &d.ailment {
        Ailment::SynQueue(syn) => (syn.answered, syn.slow_accept),
        _ => (0, false),
    };
    assert_eq!([cause(&flood), cause(&burst), cause(&slow)], [(1, false), (49, false), (0, true)]);
    let always = of_namespace(|n| {
        n.settings.values.insert(Sysctl::Syncookies, Ok("2".to_owned()));
        n.after = counters(&[(SYN_QUEUE_COOKIES, 50), (COOKIES_SENT, 50)]);
    });
    assert!(checkup(always).findings.is_empty(), "cookies for everybody show nothing");
}

#[test]
fn counters_of_the_past_are_remarks() {
    let past = counters(&[(LISTEN_OVERFLOWS, 3_000), (SYN_QUEUE_COOKIES, 7)]);
    let said = checkup(of_namespace(|n| (n.before, n.after) = (past.clone(), past.clone())));
    assert!(said.findings.is_empty(), "{:#?}", said.findings);
    assert!(matches!(&said.remarks[..], [Remark::History { counters, .. }] if counters.len() == 2));
}

#[test]
fn descriptors_near_the_limit_of_the_running_process() {
    let process = |used, soft| {
        let sockets = BTreeMap::from([(TcpState::CloseWait, used)]);
        let process = named(4711);
        let descriptors = vec![Descriptors { process, used, soft, hard: 4_096, sockets }];
        Examination { descriptors, ..healthy() }
    };
    assert_eq!(only(process(1_020, 1_024)).harm, Harm::High);
    assert_eq!(only(process(940, 1_024)).harm, Harm::Medium);
    for (used, soft) in [(800, 1_024), (5, 5), (4, 0), (900, u64::MAX)] {
        assert!(checkup(process(used, soft)).findings.is_empty(), "{used} of {soft}");
    }
}

/// What is too young to be known is no sign that it has stopped.
#[test]
fn when_a_leaking_process_is_full() {
    let second = 1_000_000_000;
    let mut leaking = Leaking::new(named(4711));
    leaking.ages_ns = (10..60).map(|age| age * second).collect();
    let in_use = InUse::of(Some(60), Some(160));
    leaking.foretell(in_use, 1_000 * second, 10 * second);
    let left = leaking.full_in_ns.expect("one a second");
    assert!(left.min <= left.est && left.est.abs_diff(90 * second) < 4 * second, "{left:?}");
}

#[test]
fn leaks_by_how_many_and_what_is_left() {
    let leaking = |leaks, limit| {
        let process = named(4711);
        let (oldest_ns, verdicts) = (90_000_000_000, BTreeMap::from([(Verdict::UnreadFin, leaks)]));
        let limit = Some(limit);
        let leaks = vec![Leaking { leaks, oldest_ns, verdicts, limit, ..Leaking::new(process) }];
        Examination { leaks, ..healthy() }
    };
    for (leaks, limit, harm) in [
        (600, 1_024, Harm::High),
        (120, 1_024, Harm::Medium),
        (1_000, 1_000_000, Harm::Medium),
        (10, 1_024, Harm::Low),
    ] {
        assert_eq!(only(leaking(leaks, limit)).harm, harm, "{leaks} of {limit}");
    }
    let said = checkup(leaking(9, 10));
    assert!(said.findings.is_empty(), "{:#?}", said.findings);
    assert_eq!(said.remarks, [Remark::FewLeaks { leaks: 9, processes: 1 }]);
}

#[test]
fn limits_of_the_host() {
    let host = |change: fn(&mut HostNumbers)| {
        let mut seen = healthy();
        change(&mut seen.host);
        only(seen)
    };
    assert_eq!(host(|h| h.files = Ok(2_460_000)).harm, Harm::High);
    assert_eq!(host(|h| h.orphans = Ok(70_000)).harm, Harm::Medium);
    assert_eq!(host(|h| h.memory_pages = Ok(400_000)).harm, Harm::Medium);
    assert_eq!(host(|h| h.memory_pages = Ok(575_802)).harm, Harm::High);
    let tracked = |count, dropped| {
        only(of_namespace(|n| n.conntrack = Some(Conntrack { count, max: 100, dropped })))
    };
    assert_eq!((tracked(85, Some(0)).harm, tracked(85, None).basis), (Harm::Medium, Grounds::Now));
    assert_eq!(
        (tracked(50, Some(4)).harm, tracked(50, Some(4)).basis),
        (Harm::High, Grounds::Rate)
    );
    let aborted = only(of_namespace(|n| n.after = counters(&[(ABORTED_FOR_MEMORY, 1)])));
    assert_eq!(aborted.harm, Harm::High);
    let lost = |again| {
        checkup(of_namespace(|n| n.after = counters(&[(SENT, 1_000), (RETRANSMITTED, again)])))
    };
    assert!(lost(49).findings.is_empty());
    assert_eq!(lost(50).findings[0].ailment.name(), "packet-loss");
}

#[test]
fn tw_recycle_breaks_clients_behind_nat() {
    let on =
        of_namespace(|n| drop(n.settings.values.insert(Sysctl::TwRecycle, Ok("1".to_owned()))));
    assert_eq!(only(on).ailment, Ailment::Recycle);
}

#[test]
fn settings_that_somebody_changed_or_that_matter() {
    let mut seen = of_namespace(|n| {
        n.settings.values.insert(Sysctl::Somaxconn, Ok("128".to_owned()));
        n.listeners = vec![listener((129, 129), 128)];
    });
    seen.namespaces.push(NamespaceSeen { settings: settings(), ..namespace(8) });
    let said = checkup(seen);
    let of = |netns, sysctl| {
        let found = said.settings.iter().find(|s| s.netns == netns && s.sysctl == sysctl);
        found.unwrap_or_else(|| panic!("{sysctl:?} in {netns:?}"))
    };
    let ours = of(Some(7), Sysctl::Somaxconn);
    assert_eq!((ours.changed, ours.matters), (Some(true), true));
    assert_eq!(ours.here, settings::Here::AtLimit(1, 1));
    let other = of(Some(8), Sysctl::Somaxconn);
    assert_eq!((other.changed, other.matters), (Some(false), false));
    let memory = of(None, Sysctl::TcpMem);
    assert_eq!((memory.changed, memory.default.value()), (None, None), "computed from memory");
    assert_eq!(of(None, Sysctl::MaxOrphans).changed, Some(false), "computed, and known how");
    assert_eq!(of(Some(7), Sysctl::TwRecycle).value, Err("not in this kernel"));
}

#[test]
fn one_process_is_told_of_its_own_queues() {
    let asked = |pid| {
        let mut seen = of_namespace(|n| n.listeners = vec![listener((129, 129), 128)]);
        seen.process = Some(ProcessId { pid, start_ns: 1 });
        checkup(seen).findings.len()
    };
    assert_eq!((asked(4711), asked(4712)), (1, 0));
}

fn any_counters() -> impl Strategy<Value = NetCounters> {
    proptest::collection::vec(any::<u64>(), COUNTERS.len()).prop_map(|numbers| {
        NetCounters(COUNTERS.iter().map(|(_, name)| *name).zip(numbers).collect())
    })
}

prop_compose! {
    pub(crate) fn any_examination()(
        before in any_counters(), after in any_counters(), numbers: [u64; 12], queue: (u32, u32),
        values: Vec<String>, asked: Option<u32>,
    ) -> Examination {
        let [orphans, pages, files, time_wait, open, waiting, used, soft, leaks, dropped, ..] =
            numbers;
        let [.., count, max] = numbers;
        let mut seen = of_namespace(|n| {
            (n.before, n.after, n.time_wait) = (before, after, Ok(time_wait));
            n.destinations = vec![destination("10.0.0.2:80", open / 2, waiting / 2)];
            let given_up = dropped;
            n.listeners = vec![ListenerSeen { given_up, dropped, ..listener(queue, 128) }];
            n.conntrack = Some(Conntrack { count, max, dropped: Some(used) });
            for (sysctl, value) in Sysctl::ALL.into_iter().zip(values) {
                n.settings.values.insert(sysctl, Ok(value));
            }
        });
        (seen.host.orphans, seen.host.memory_pages, seen.host.files) =
            (Ok(orphans), Ok(pages), Ok(files));
        let sockets = BTreeMap::from([(TcpState::Close, leaks)]);
        seen.descriptors = vec![Descriptors { process: named(1), used, soft, hard: soft, sockets }];
        let (process, verdicts, limit) = (named(1), BTreeMap::new(), Some(soft));
        seen.leaks =
            vec![Leaking { leaks, oldest_ns: leaks, verdicts, limit, ..Leaking::new(process) }];
        seen.process = asked.map(|pid| ProcessId { pid, start_ns: 1 });
        seen
    }
}

proptest! {
    #[test]
    fn the_worst_comes_first(seen in any_examination()) {
        let said = checkup(seen);
        prop_assert!(said.findings.is_sorted_by_key(|d| std::cmp::Reverse(d.harm)));
    }

    /// However much there is: far from every limit, and with no counter rising, nothing is found.
    #[test]
    fn no_alarm_far_from_limits(
        time_wait in 0_u64..65_000, open in 0_u64..10_000, queue in 0_u32..=128,
        used in 0_u64..800, past in any_counters(), leaks in 0_u64..10,
    ) {
        let mut seen = of_namespace(|n| {
            (n.before, n.after, n.time_wait) = (past.clone(), past, Ok(time_wait));
            n.destinations = vec![destination("10.0.0.2:80", open, 10_000)];
            n.listeners = vec![listener((queue, 128 - queue), 128)];
        });
        let process = named(1);
        let (soft, sockets) = (1_024, BTreeMap::new());
        seen.descriptors = vec![Descriptors { process, used, soft, hard: soft, sockets }];
        let limit = Some(soft);
        seen.leaks = vec![Leaking { leaks, oldest_ns: 1, limit, ..Leaking::new(named(1)) }];
        let said = checkup(seen);
        prop_assert!(said.findings.is_empty(), "{:#?}", said.findings);
    }
}

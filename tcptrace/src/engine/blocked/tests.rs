use proptest::prelude::*;

use super::{
    awaited::Takes,
    blockage::{Blockage, Claim, Kept, Unserved, blockages},
    chain::{ChainEnd, LONGEST},
    reading::{
        HeldBy, OtherEnd, ReadEntry, ReadList, ReadLock, ReadObject, ReadProcess, ReadWhat,
        Reading, TcpEnd,
    },
};
use crate::engine::{
    record::ProcessId,
    verdict::Verdict,
    waiting::{On, Waiting, WaitingThread, WaitsIn},
};

/// What a thread is in.
#[derive(Clone, Copy, Debug)]
enum In {
    Reads(&'static str),
    Connects(&'static str),
    Accepts,
    Epoll,
    Futex(u64),
    Sleeps,
    Runs,
    Polls,
    Waits4,
}

fn on(target: &str) -> On {
    let kind = match target.split(':').next() {
        Some("pipe") => "pipe",
        _ => "socket",
    };
    On { kind: kind.to_owned(), target: target.to_owned() }
}

fn thread(tid: u32, place: In) -> WaitingThread {
    let call = |name: &str, first| WaitsIn::In { name: name.to_owned(), first, second: 0 };
    let (call, on) = match place {
        In::Reads(target) => (call("read", 5), Some(on(target))),
        In::Connects(target) => (call("connect", 5), Some(on(target))),
        In::Accepts => (call("accept4", 3), Some(on("socket:[1]"))),
        In::Epoll => (call("epoll_pwait", 4), None),
        In::Futex(address) => (call("futex", address), None),
        In::Sleeps => (call("clock_nanosleep", 0), None),
        In::Runs => (WaitsIn::Running, None),
        In::Polls => (call("ppoll", 0x7f00), None),
        In::Waits4 => (call("wait4", 0), None),
    };
    WaitingThread { tid, comm: "t".to_owned(), state: 'S', wchan: None, call, on }
}

/// A process whose threads are numbered from its pid on.
fn process(pid: u32, threads: &[In]) -> ReadProcess {
    let threads: Vec<WaitingThread> =
        (pid..).zip(threads).map(|(tid, place)| thread(tid, *place)).collect();
    let of = threads.len() as u64;
    ReadProcess {
        waiting: Waiting { pid, start_ns: pid.into(), of, threads, unknown: None },
        comm: format!("p{pid}"),
        ..ReadProcess::default()
    }
}

fn held(pid: u32) -> HeldBy {
    HeldBy { pid, start_ns: pid.into(), fd: 9 }
}

fn tcp(target: &str, remote: &str, other: OtherEnd) -> ReadObject {
    connection(target, &format!("10.0.0.1:{}", 40_000 + target.len()), remote, other)
}

/// One that got data 41 s ago.
pub(crate) fn connection(target: &str, local: &str, remote: &str, other: OtherEnd) -> ReadObject {
    let end = TcpEnd {
        netns: 1,
        local: local.parse().expect("an end"),
        remote: remote.parse().expect("an end"),
        state: 1,
        recv_q: 0,
        send_q: 0,
        received_ago_ns: Some(41_000_000_000),
        sent_ago_ns: Some(42_000_000_000),
        times_unknown: None,
        other,
    };
    ReadObject { target: target.to_owned(), what: ReadWhat::Tcp(Box::new(end)) }
}

fn here(pids: &[u32]) -> OtherEnd {
    let held = pids.iter().map(|pid| held(*pid)).collect();
    OtherEnd::Here { state: 1, recv_q: 0, accepted: true, held }
}

fn pipe(target: &str, writers: &[u32], readers: &[u32]) -> ReadObject {
    let of = |pids: &[u32]| pids.iter().map(|pid| held(*pid)).collect();
    let what = ReadWhat::Pipe { writers: of(writers), readers: of(readers) };
    ReadObject { target: target.to_owned(), what }
}

/// One whose first process was asked about.
fn reading(processes: Vec<ReadProcess>, objects: Vec<ReadObject>) -> Reading {
    Reading { at_ns: 7, asked: 1, processes, objects, cut: None }
}

fn of(reading: &Reading, pid: u32) -> Vec<Blockage> {
    blockages(reading, ProcessId { pid, start_ns: pid.into() })
}

fn pids(blockage: &Blockage) -> Vec<u32> {
    blockage.links.iter().map(|link| link.process.id.pid).collect()
}

const REMOTE: &str = "10.0.0.5:9000";

#[test]
fn an_event_loop_that_waits_for_a_silent_peer() {
    let reading = reading(
        vec![process(10, &[In::Reads("socket:[5]")])],
        vec![tcp("socket:[5]", REMOTE, OtherEnd::Elsewhere)],
    );
    let [found] = &of(&reading, 10)[..] else { panic!("one finding") };
    assert_eq!((found.threads, found.of, found.takes), (1, 1, Takes::Not));
    assert_eq!((pids(found), &found.end), (vec![10], &ChainEnd::Remote));
    let kept = |never_accepted| Kept {
        cause: found.clone(),
        effect: Unserved { never_accepted, unread: 0 },
    };
    assert_eq!((kept(2).claim(), kept(2).is_told(), kept(0).is_told()), (Claim::Why, true, false));
}

#[test]
fn who_waits_for_events_or_connections_is_not_blamed() {
    for idle in [&[In::Epoll][..], &[In::Accepts], &[In::Runs], &[In::Accepts, In::Epoll], &[]] {
        let reading = reading(vec![process(10, idle)], Vec::new());
        assert_eq!(of(&reading, 10), [], "{idle:?}");
    }
    // One of many that sleeps, or waits for a lock that may be a condition, keeps nobody.
    let threads = [In::Accepts, In::Sleeps, In::Futex(1), In::Epoll];
    assert_eq!(of(&reading(vec![process(10, &threads)], Vec::new()), 10), []);
}

/// The claim is as strong as what the other threads were in.
#[test]
fn a_claim_is_no_stronger_than_its_evidence() {
    for (others, takes, more) in [
        (&[In::Reads("socket:[5]")][..], Takes::Not, 0),
        (&[In::Sleeps], Takes::Not, 0),
        (&[In::Futex(1)], Takes::Maybe, 0),
        (&[In::Accepts], Takes::Yes, 0),
        (&[In::Runs], Takes::Yes, 0),
        // What its epoll instance has is not known.
        (&[In::Epoll], Takes::Yes, 0),
        (&[], Takes::Yes, 1),
    ] {
        let mut asked = process(10, &[&[In::Reads("socket:[5]")], others].concat());
        asked.waiting.of += more;
        let objects = vec![tcp("socket:[5]", REMOTE, OtherEnd::Elsewhere)];
        let found = of(&reading(vec![asked], objects), 10);
        assert_eq!(found[0].takes, takes, "{others:?} and {more} more");
    }
    // An epoll instance without a listener, and with one.
    for (listener, takes) in [(false, Takes::Maybe), (true, Takes::Yes)] {
        let mut asked = process(10, &[In::Reads("socket:[5]"), In::Epoll]);
        asked.lists = vec![ReadList { tid: 11, entries: Vec::new(), of: 3, listener }];
        let objects = vec![tcp("socket:[5]", REMOTE, OtherEnd::Elsewhere)];
        assert_eq!(of(&reading(vec![asked], objects), 10)[0].takes, takes);
    }
}

#[test]
fn one_that_polls_one_connection_waits_for_it() {
    let list = |of, fds: u32| ReadList {
        tid: 10,
        entries: (0..fds)
            .map(|fd| ReadEntry { fd, on: Some(on("socket:[5]")), reads: true, writes: false })
            .collect(),
        of,
        listener: false,
    };
    let objects = || vec![tcp("socket:[5]", REMOTE, OtherEnd::Elsewhere)];
    let with = |list| {
        let asked = ReadProcess { lists: vec![list], ..process(10, &[In::Polls]) };
        of(&reading(vec![asked], objects()), 10)
    };
    assert_eq!(with(list(1, 1))[0].end, ChainEnd::Remote);
    assert_eq!(with(list(3, 3)), [], "an event loop");
    assert_eq!(with(list(0, 0))[0].end, ChainEnd::Itself, "it sleeps");
}

/// A waits for data from B, which reads a pipe of C, which sleeps.
#[test]
fn a_chain_of_three() {
    let reading = reading(
        vec![
            process(10, &[In::Reads("socket:[5]")]),
            process(20, &[In::Reads("pipe:[6]")]),
            process(30, &[In::Sleeps]),
        ],
        vec![tcp("socket:[5]", REMOTE, here(&[20])), pipe("pipe:[6]", &[30], &[20])],
    );
    let [found] = &of(&reading, 10)[..] else { panic!("one finding") };
    assert_eq!((pids(found), &found.end), (vec![10, 20, 30], &ChainEnd::Itself));
    assert!(found.links.iter().all(|link| link.sure && link.is_all()));
}

#[test]
fn how_a_chain_ends() {
    let end = |threads: &[In]| {
        let reading = reading(
            vec![process(10, &[In::Reads("socket:[5]")]), process(20, threads)],
            vec![
                tcp("socket:[5]", REMOTE, here(&[20])),
                tcp("socket:[77]", REMOTE, OtherEnd::Unknown("why".to_owned())),
            ],
        );
        of(&reading, 10)[0].end.clone()
    };
    assert!(matches!(end(&[In::Epoll, In::Accepts]), ChainEnd::Idle(party) if party.id.pid == 20));
    assert!(matches!(end(&[In::Runs]), ChainEnd::Runs(party) if party.id.pid == 20));
    assert_eq!(end(&[In::Sleeps]), ChainEnd::Itself);
    assert_eq!(end(&[In::Reads("socket:[77]")]), ChainEnd::Unknown("why".to_owned()));
    let unread = reading(
        vec![process(10, &[In::Reads("socket:[5]")])],
        vec![tcp("socket:[5]", REMOTE, here(&[20]))],
    );
    assert!(matches!(&of(&unread, 10)[0].end, ChainEnd::Unknown(why) if why.contains("20")));
}

#[test]
fn circles() {
    let two = |a: &[In], b: &[In]| {
        let reading = reading(
            vec![process(10, a), process(20, b)],
            vec![
                tcp("socket:[5]", REMOTE, here(&[20])),
                tcp("socket:[6]", "10.0.0.1:8080", here(&[10])),
            ],
        );
        let [found] = &of(&reading, 10)[..] else { panic!("one finding") };
        (pids(found), found.end.clone())
    };
    let (a, b) = (In::Reads("socket:[5]"), In::Reads("socket:[6]"));
    assert_eq!(two(&[a], &[b]), (vec![10, 20], ChainEnd::Cycle { to: 0, whole: true }));
    // Another thread of one of them may break it.
    assert_eq!(two(&[a, In::Epoll], &[b]), (vec![10, 20], ChainEnd::Cycle { to: 0, whole: false }));
    assert_eq!(
        two(&[a], &[b, In::Accepts]),
        (vec![10, 20], ChainEnd::Cycle { to: 0, whole: false })
    );
    // One that waits for a pipe which only it can write into.
    let own =
        reading(vec![process(10, &[In::Reads("pipe:[6]")])], vec![pipe("pipe:[6]", &[10], &[10])]);
    assert_eq!(of(&own, 10)[0].end, ChainEnd::Cycle { to: 0, whole: true });
}

/// All workers wait for a lock; the one that has it waits for a silent peer.
#[test]
fn a_pool_behind_a_lock() {
    let threads = [In::Futex(1), In::Futex(1), In::Futex(1), In::Reads("socket:[5]")];
    let objects = || vec![tcp("socket:[5]", REMOTE, OtherEnd::Elsewhere)];
    let locks = (10..13).map(|tid| ReadLock { tid, owner: 13 }).collect();
    let named = ReadProcess { locks, ..process(10, &threads) };
    let [found] = &of(&reading(vec![named], objects()), 10)[..] else { panic!("one finding") };
    assert_eq!((found.threads, found.of, found.takes), (3, 4, Takes::Not));
    assert_eq!((pids(found), &found.end), (vec![10, 10], &ChainEnd::Remote));
    assert_eq!((found.links[1].tids.clone(), found.links[1].sure), (vec![13], true));
    // Without an owner that is known, it is one of the others, if it is a lock at all.
    let unnamed = of(&reading(vec![process(10, &threads)], objects()), 10);
    let by_lock = unnamed.iter().find(|f| f.threads == 3).expect("those that wait for the lock");
    assert_eq!((by_lock.links[1].sure, by_lock.takes), (false, Takes::Maybe));
    // Two locks, taken in turn by two threads.
    let locks = vec![ReadLock { tid: 10, owner: 11 }, ReadLock { tid: 11, owner: 10 }];
    let turn = ReadProcess { locks, ..process(10, &[In::Futex(1), In::Futex(2)]) };
    let [found] = &of(&reading(vec![turn], Vec::new()), 10)[..] else { panic!("one finding") };
    assert_eq!(found.end, ChainEnd::Cycle { to: 0, whole: true });
}

/// Processes that share a listener make one finding.
#[test]
fn workers_that_share_a_listener() {
    let worker =
        |pid, target| ReadProcess { listeners: vec![1], ..process(pid, &[In::Reads(target)]) };
    let objects = || {
        vec![
            tcp("socket:[5]", REMOTE, OtherEnd::Elsewhere),
            tcp("socket:[66]", REMOTE, OtherEnd::Elsewhere),
        ]
    };
    let mut all = reading(vec![worker(10, "socket:[5]"), worker(20, "socket:[66]")], objects());
    all.asked = 2;
    for pid in [10, 20] {
        let [found] = &of(&all, pid)[..] else { panic!("one finding") };
        let mut workers: Vec<u32> = found.workers.iter().map(|w| w.id.pid).collect();
        workers.sort_unstable();
        assert_eq!((workers, found.threads, found.takes), (vec![10, 20], 2, Takes::Not));
    }
    // One that waits for connections has the listener, too: it could take them.
    all.processes.push(ReadProcess { listeners: vec![1], ..process(30, &[In::Accepts]) });
    all.asked = 3;
    assert_eq!(of(&all, 10)[0].takes, Takes::Yes);
    assert_eq!(of(&all, 30)[0].workers.len(), 2, "what keeps those that share its work");
}

/// Threads that serve one client each wait for the clients of one listener.
#[test]
fn a_pool_that_idle_clients_use_up() {
    let mut objects = vec![
        tcp("socket:[5]", "10.0.0.8:1001", OtherEnd::Elsewhere),
        tcp("socket:[6]", "10.0.0.9:1002", OtherEnd::Elsewhere),
    ];
    for object in &mut objects {
        if let ReadWhat::Tcp(end) = &mut object.what {
            end.local = "10.0.0.1:8080".parse().expect("an end");
        }
    }
    let threads = [In::Reads("socket:[5]"), In::Reads("socket:[6]")];
    let [found] = &of(&reading(vec![process(10, &threads)], objects), 10)[..] else {
        panic!("one finding")
    };
    assert_eq!((found.threads, found.links[0].peers), (2, 2));
}

#[test]
fn a_connection_that_waits_to_be_accepted_and_a_child() {
    let queued = OtherEnd::Here { state: 10, recv_q: 1, accepted: false, held: vec![held(20)] };
    let parent = ReadProcess { children: vec![held(30)], ..process(20, &[In::Waits4]) };
    let reading = reading(
        vec![process(10, &[In::Connects("socket:[5]")]), parent, process(30, &[In::Sleeps])],
        vec![tcp("socket:[5]", REMOTE, queued)],
    );
    let [found] = &of(&reading, 10)[..] else { panic!("one finding") };
    assert_eq!((pids(found), &found.end), (vec![10, 20, 30], &ChainEnd::Itself));
}

/// A parent that waits for any of its children does not wait for the one that waits for it.
#[test]
fn any_of_several_children_is_no_circle() {
    let parent = ReadProcess { children: vec![held(10), held(30)], ..process(20, &[In::Waits4]) };
    let reading = reading(
        vec![process(10, &[In::Reads("pipe:[1]")]), parent, process(30, &[In::Sleeps])],
        vec![pipe("pipe:[1]", &[20], &[10])],
    );
    let [found] = &of(&reading, 10)[..] else { panic!("one finding") };
    assert_eq!((pids(found), &found.end), (vec![10, 20], &ChainEnd::Itself));
}

#[test]
fn a_long_chain_is_cut() {
    const TARGETS: [&str; 12] = [
        "pipe:[0]",
        "pipe:[1]",
        "pipe:[2]",
        "pipe:[3]",
        "pipe:[4]",
        "pipe:[5]",
        "pipe:[6]",
        "pipe:[7]",
        "pipe:[8]",
        "pipe:[9]",
        "pipe:[10]",
        "pipe:[11]",
    ];
    let all = (0..).zip(TARGETS);
    let processes =
        all.clone().map(|(n, target)| process(10 + 10 * n, &[In::Reads(target)])).collect();
    let objects = all.map(|(n, target)| pipe(target, &[20 + 10 * n], &[10 + 10 * n])).collect();
    let found = of(&reading(processes, objects), 10);
    assert_eq!((found[0].links.len(), &found[0].end), (LONGEST, &ChainEnd::Long));
}

#[test]
fn what_becomes_of_connections() {
    let mut effect = Unserved::default();
    for verdict in Verdict::ALL {
        effect.add(Some(verdict), 1);
    }
    assert_eq!(effect, Unserved { never_accepted: 1, unread: 2 });
}

fn places() -> impl Strategy<Value = In> {
    const TARGETS: [&str; 6] =
        ["pipe:[0]", "pipe:[1]", "pipe:[2]", "socket:[3]", "socket:[4]", "socket:[5]"];
    prop_oneof![
        (0usize..6).prop_map(|n| In::Reads(TARGETS[n])),
        (3usize..6).prop_map(|n| In::Connects(TARGETS[n])),
        (0u64..3).prop_map(In::Futex),
        Just(In::Accepts),
        Just(In::Epoll),
        Just(In::Sleeps),
        Just(In::Runs),
        Just(In::Polls),
        Just(In::Waits4),
    ]
}

proptest! {
    /// Whatever waits for whatever: it ends, is bounded, names no thread twice, and says of no
    /// process that all of its threads wait where one takes connections.
    #[test]
    fn any_processes(
        threads in proptest::collection::vec(proptest::collection::vec(places(), 0..5), 1..8),
        ends in proptest::collection::vec(proptest::collection::vec(0u32..9, 0..3), 6),
        owners in proptest::collection::vec((0u32..8, 0u32..8), 0..4),
        asked in 1u64..9,
    ) {
        let pid = |n: u32| 10 + 10 * n;
        let processes: Vec<ReadProcess> = (0..).zip(&threads).map(|(n, places)| {
            let locks =
                owners.iter().map(|(a, b)| ReadLock { tid: pid(n) + a, owner: pid(n) + b });
            let locks = locks.filter(|lock| lock.tid != lock.owner).collect();
            let children = ends[0].iter().map(|n| held(pid(*n))).collect();
            ReadProcess { locks, children, listeners: vec![1], ..process(pid(n), places) }
        }).collect();
        let objects = (0..6).zip(&ends).map(|(n, ends)| {
            let pids: Vec<u32> = ends.iter().map(|n| pid(*n)).collect();
            match n {
                0..3 => pipe(&format!("pipe:[{n}]"), &pids, &pids),
                _ => tcp(&format!("socket:[{n}]"), REMOTE, here(&pids)),
            }
        }).collect();
        let reading = Reading { asked, ..reading(processes, objects) };
        for process in &reading.processes {
            for found in blockages(&reading, process.id()) {
                prop_assert!((1..=LONGEST).contains(&found.links.len()));
                prop_assert!(found.threads <= found.of && found.threads > 0);
                let mut seen = std::collections::HashSet::new();
                for tid in found.links.iter().flat_map(|link| &link.tids) {
                    prop_assert!(seen.insert(*tid), "thread {} twice", tid);
                }
                if let ChainEnd::Cycle { to, .. } = found.end {
                    prop_assert!(to < found.links.len());
                }
                let sharing = reading.asked().filter(|p| p.id() != process.id()).chain([process]);
                let accepts = sharing.flat_map(|p| &p.waiting.threads).any(|thread| {
                    matches!(&thread.call, WaitsIn::In { name, .. } if name == "accept4")
                });
                prop_assert!(!accepts || found.takes == Takes::Yes);
            }
        }
    }
}

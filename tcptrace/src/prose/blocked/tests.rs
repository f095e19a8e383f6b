use super::*;
use crate::engine::{
    blocked::{
        blockage::{Unserved, blockages},
        reading::{ReadProcess, Reading},
        tests::connection,
    },
    record::ProcessId,
    waiting::{On, Waiting, WaitingThread, WaitsIn},
};

fn thread(tid: u32, call: &str, target: Option<&str>) -> WaitingThread {
    let on = target.map(|target| On { kind: "socket".to_owned(), target: target.to_owned() });
    WaitingThread {
        tid,
        comm: "w".to_owned(),
        state: 'S',
        wchan: None,
        call: WaitsIn::In { name: call.to_owned(), first: 7, second: 0 },
        on,
    }
}

fn process(pid: u32, threads: Vec<WaitingThread>) -> ReadProcess {
    let of = threads.len() as u64;
    ReadProcess {
        waiting: Waiting { pid, start_ns: 1, of, threads, unknown: None },
        comm: "shop".to_owned(),
        ..ReadProcess::default()
    }
}

/// What is said of the first process.
fn said(processes: Vec<ReadProcess>, other: OtherEnd, effect: Unserved) -> Vec<String> {
    let pid = processes[0].waiting.pid;
    let objects = vec![connection("socket:[5]", "10.0.0.1:40000", "10.0.0.5:9000", other)];
    let reading = Reading { at_ns: 1, asked: 1, processes, objects, cut: None };
    let found = blockages(&reading, ProcessId { pid, start_ns: 1 });
    lines(&Kept { cause: found.into_iter().next().expect("a finding"), effect })
}

fn waiting(n: u32) -> Vec<WaitingThread> {
    (0..n).map(|tid| thread(10 + tid, "recvfrom", Some("socket:[5]"))).collect()
}

fn finding(threads: Vec<WaitingThread>, never_accepted: u64, unread: u64) -> String {
    let effect = Unserved { never_accepted, unread };
    said(vec![process(10, threads)], OtherEnd::Elsewhere, effect).swap_remove(0)
}

const SILENT: &str = "data from 10.0.0.5:9000 (ESTABLISHED, silent for 41s)";

#[test]
fn cause_and_effect_in_a_sentence() {
    for (threads, never, unread, expected) in [
        (
            1,
            20,
            3,
            "its only thread waits for DATA: that is why 20 connections were never \
                    accepted and 3 are unread.",
        ),
        (2, 1, 0, "both threads wait for DATA: that is why 1 connection was never accepted."),
        (8, 0, 1, "all 8 threads wait for DATA: that is why 1 connection is unread."),
        (3, 0, 0, "all 3 threads wait for DATA."),
    ] {
        let expected = format!("shop[10]: {}", expected.replace("DATA", SILENT));
        assert_eq!(finding(waiting(threads), never, unread), expected);
    }
    let with = |call| [waiting(2), vec![thread(30, call, None)]].concat();
    assert_eq!(
        finding(with("futex"), 2, 0),
        format!(
            "shop[10]: 2 of 3 threads wait for {SILENT}, and none waits for connections: that is \
             likely why 2 connections were never accepted."
        )
    );
    // Who takes connections has another reason for those that it has not taken.
    assert_eq!(
        finding(with("accept4"), 2, 1),
        format!("shop[10]: 2 of 3 threads wait for {SILENT}; meanwhile 1 connection is unread.")
    );
}

#[test]
fn how_it_leads_to_its_end() {
    let none = Unserved::default();
    let remote = said(vec![process(10, waiting(1))], OtherEnd::Elsewhere, none);
    assert_eq!(
        remote[1..],
        [
            "recvfrom on fd 7: 10.0.0.1:40000 to 10.0.0.5:9000, open for at least 42s, last data received \
             41s ago and sent 42s ago.",
            "10.0.0.5:9000 is not on this host, by its addresses: look for the cause there.",
        ]
    );
    let held = vec![HeldBy { pid: 20, start_ns: 1, fd: 4 }];
    let here = OtherEnd::Here { state: 1, recv_q: 7, accepted: true, held };
    for (thread, expected) in [
        (
            thread(20, "epoll_wait", None),
            "10.0.0.5:9000 is shop[20] on this host, and has 7 bytes unread: it is idle, its \
             threads wait for events, connections or work. Calls do not show why it does not \
             answer.",
        ),
        (
            WaitingThread { call: WaitsIn::Running, ..thread(20, "", None) },
            "10.0.0.5:9000 is shop[20] on this host, and has 7 bytes unread: it runs, and may be \
             at work on the answer.",
        ),
        (
            thread(20, "nanosleep", None),
            "10.0.0.5:9000 is shop[20] on this host, and has 7 bytes unread; its only thread \
             sleeps for a time that it chose.",
        ),
        (
            WaitingThread { state: 'T', ..thread(20, "read", None) },
            "10.0.0.5:9000 is shop[20] on this host, and has 7 bytes unread; its only thread is \
             stopped by a signal or a debugger.",
        ),
    ] {
        let both = vec![process(10, waiting(1)), process(20, vec![thread])];
        assert_eq!(said(both, here.clone(), none)[2], expected);
    }
}

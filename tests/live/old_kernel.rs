//! Kernels before Linux 5.12: `watch` refuses, `snapshot` and `explain` work from sock_diag and
//! /proc and say what they do not see. Listed on such kernels only.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{
    needs::release,
    snapshot::snapshot,
    support::netns::Netns,
    tests,
    tracer::{DEADLINE, Pair, Unaccepted, holder_pids, netns, run},
};

tests![
    watch_refuses_in_one_line,
    watch_refuses_before_it_selects,
    snapshot_names_the_holder,
    snapshot_names_a_listener,
    snapshot_says_what_it_does_not_see,
    explain_gives_a_page,
    a_leak_fails_a_script_that_asks,
];

fn refused(args: &[&str]) -> String {
    let (status, out, err) = run(&[&["watch"], args].concat());
    assert_eq!((status.code(), out.as_str(), err.lines().count()), (Some(4), "", 1), "{err}");
    err
}

fn watch_refuses_in_one_line() {
    let err = refused(&["--duration", "1s"]);
    for part in [&release(), "5.12", "socket storage", "cookies"] {
        assert!(err.contains(part), "{part:?} is missing: {err}");
    }
}

fn watch_refuses_before_it_selects() {
    let ns = netns();
    let path = ns.path();
    refused(&[
        "--netns",
        path.to_str().expect("plain"),
        "--format",
        "json",
        "--transitions",
        "--state",
        "all",
    ]);
}

/// Looks until there is one socket: a FIN needs a moment to arrive.
fn only(ns: &Netns) -> Value {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (sockets, _) = snapshot(ns, &[]);
        if let [socket] = &sockets[..] {
            return socket.clone();
        }
        assert!(Instant::now() < deadline, "one socket wanted: {sockets:#?}");
    }
}

fn snapshot_names_the_holder() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.client.tell(&format!("send {} 100", pair.connected)).expect("sends");
    pair.client_closes();
    let socket = only(&ns);
    assert_eq!(
        (holder_pids(&socket), &socket["holders"][0]["fd"], &socket["holder_source"]),
        (vec![u64::from(pair.server.pid())], &json!(pair.served), &json!("fd-table"))
    );
    assert_eq!(
        (&socket["verdict"], &socket["evidence"]["recv_q"]),
        (&json!("unread-data"), &json!(101))
    );
    assert_eq!((&socket["role"], &socket["netns"]), (&json!("server"), &json!(ns.inode())));
}

fn snapshot_names_a_listener() {
    let ns = netns();
    let mut queue = Unaccepted::new(&ns, 8);
    queue.clients_give_up(1);
    let socket = only(&ns);
    assert_eq!(
        (&socket["verdict"], holder_pids(&socket)),
        (&json!("never-accepted"), vec![u64::from(queue.server.pid())])
    );
    assert_eq!(
        (&socket["listener"]["queue"], &socket["listener"]["limit"]),
        (&json!(1), &json!(8))
    );
}

fn snapshot_says_what_it_does_not_see() {
    let (status, _, err) = run(&["snapshot"]);
    assert_eq!((status.code(), err.lines().count()), (Some(0), 1), "{err}");
    assert!(err.contains("ghost-fd") && err.contains(&release()), "{err}");
    assert_eq!(run(&["snapshot", "--no-bpf"]).2, "", "who asks for no BPF is told nothing");
}

fn explain_gives_a_page() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let cookie = only(&ns)["cookie"].clone();
    let (status, page, _) = run(&["explain", &pair.server.pid().to_string()]);
    assert_eq!(status.code(), Some(0));
    for text in ["TCP sockets (1 leak)", "unread-fin", "queue 0 of 8", "what doesn't help"] {
        assert!(page.contains(text), "{text:?} is missing:\n{page}");
    }
    let (status, page, _) = run(&["explain", &format!("cookie:{cookie}")]);
    assert_eq!(status.code(), Some(0));
    assert!(
        page.contains(&format!("[{}]: descriptor {}", pair.server.pid(), pair.served)),
        "{page}"
    );
}

fn a_leak_fails_a_script_that_asks() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    only(&ns);
    let path = ns.path();
    let (status, _, _) =
        run(&["snapshot", "--fail-on-leak", "--netns", path.to_str().expect("plain")]);
    assert_eq!(status.code(), Some(3));
}

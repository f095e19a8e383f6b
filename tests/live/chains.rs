//! What keeps processes from their work, from process to process: locks, pipes, queues, circles.

use serde_json::json;

use crate::{
    blocked::{first, kept, pids, text},
    tests,
    tracer::{netns, start},
};

tests![
    a_pool_behind_a_lock,
    a_chain_of_three_processes,
    a_unix_socket,
    a_cycle,
    nobody_takes_the_connection,
    workers_that_share_a_listener,
];

/// Six threads wait for a lock, whose owner waits for a silent peer.
fn a_pool_behind_a_lock() {
    let ns = netns();
    let (mut server, mut backend) = (start(&ns), start(&ns));
    let behind = backend.number("listen 127.0.0.1:0 8").expect("listens");
    let at = backend.address(&format!("address {behind}")).expect("an address");
    let fd = server.number(&format!("connect {at}")).expect("connects");
    backend.number(&format!("accept {behind}")).expect("accepts");
    server.tell(&format!("pool {fd} 6")).expect("begins");
    let waits_for = if cfg!(target_env = "gnu") { "mutex" } else { "futex" };
    let found = kept(server.pid(), |found| {
        // On a slow machine a reading may end before it comes to the connection.
        found.iter().any(|f| {
            // Who has the lock is known to glibc's alone: of musl's, any other thread may.
            f["links"][0]["waits_for"] == waits_for
                && f["threads"] == 6
                && (f["links"][1]["connection"].is_object() || !cfg!(target_env = "gnu"))
        })
    });
    let finding = found.iter().find(|f| f["links"][0]["waits_for"] == waits_for).expect("it");
    let owner = &finding["links"][1];
    assert_eq!((&owner["pid"], &owner["waits_for"]), (&json!(server.pid()), &json!("data")));
    assert_eq!(owner["sure"], json!(cfg!(target_env = "gnu")), "only a known owner is certain");
    assert_eq!(owner["tids"].as_array().map(Vec::len), Some(1));
    if cfg!(target_env = "gnu") {
        assert_eq!(owner["connection"]["remote"], json!(at.to_string()));
        assert!(owner["held_by"] == json!([backend.pid()]), "{finding:#}");
    }
    let text = text(finding);
    assert!(text.contains("6 of 8 threads wait for a lock"), "{text}");
}

/// One waits for data from a second, which reads a pipe, into which only a third can write, which
/// sleeps.
fn a_chain_of_three_processes() {
    let ns = netns();
    let (mut a, mut b) = (start(&ns), start(&ns));
    let listener = b.number("listen 127.0.0.1:0 8").expect("listens");
    let at = b.address(&format!("address {listener}")).expect("an address");
    let reads = b.number("pipe").expect("a pipe");
    let writes = b.number("pipe-end").expect("its other end");
    let c = b.number("fork-sleeping").expect("forks");
    b.tell(&format!("close {writes}")).expect("closes");
    // After the fork: only the second one has it.
    let fd = a.number(&format!("connect {at}")).expect("connects");
    b.number(&format!("accept {listener}")).expect("accepts");
    b.leave_with(&format!("read {reads}")).expect("is told");
    a.leave_with(&format!("recv {fd} 10")).expect("is told");
    let chain: Vec<u64> = [a.pid(), b.pid(), c].map(u64::from).into();
    let found = kept(a.pid(), |found| {
        found.first().is_some_and(|f| pids(f) == chain && f["links"][2]["waits_for"] == "time")
    });
    assert_eq!(found[0]["end"], "itself");
    let text = text(&found[0]);
    assert!(
        text.contains(&format!("{at} is "))
            && text.contains("The other end of the pipe is in ")
            && text.contains("its only thread sleeps for a time that it chose."),
        "{text}"
    );
}

/// The other end of a unix socket, in a child that sleeps.
fn a_unix_socket() {
    let mut a = start(&netns());
    let ours = a.number("unix").expect("a pair");
    let theirs = a.number("pipe-end").expect("its other end");
    let child = a.number("fork-sleeping").expect("forks");
    a.tell(&format!("close {theirs}")).expect("closes");
    a.leave_with(&format!("recv {ours} 10")).expect("is told");
    let chain: Vec<u64> = [a.pid(), child].map(u64::from).into();
    let found = kept(a.pid(), |found| found.first().is_some_and(|f| pids(f) == chain));
    assert_eq!(
        (&found[0]["end"], &found[0]["links"][0]["waits_for"]),
        (&json!("itself"), &json!("data"))
    );
    let text = text(&found[0]);
    assert!(text.contains("data from the other end of a unix socket"), "{text}");
}

/// Two processes wait for one another.
fn a_cycle() {
    let ns = netns();
    let (mut a, mut b) = (start(&ns), start(&ns));
    let listener = b.number("listen 127.0.0.1:0 8").expect("listens");
    let at = b.address(&format!("address {listener}")).expect("an address");
    let from_a = a.number(&format!("connect {at}")).expect("connects");
    let at_b = b.number(&format!("accept {listener}")).expect("accepts");
    a.leave_with(&format!("recv {from_a} 10")).expect("is told");
    b.leave_with(&format!("recv {at_b} 10")).expect("is told");
    let round: Vec<u64> = [a.pid(), b.pid()].map(u64::from).into();
    let found = kept(a.pid(), |found| {
        found.first().is_some_and(|f| f["end"] == "cycle" && pids(f) == round)
    });
    assert_eq!(found[0]["cycle_to"], 0);
    let text = text(&found[0]);
    let said = format!("[{}] waits for ", a.pid());
    assert!(text.contains("That closes a circle: ") && text.contains(&said), "{text}");
    assert!(text.contains("None goes on by itself, unless a timeout ends its wait."), "{text}");
}

/// The backend's own queue: nobody has accepted the connection that everything waits for.
fn nobody_takes_the_connection() {
    let ns = netns();
    let (mut server, mut backend) = (start(&ns), start(&ns));
    let behind = backend.number("listen 127.0.0.1:0 8").expect("listens");
    let at = backend.address(&format!("address {behind}")).expect("an address");
    let fd = server.number(&format!("connect {at}")).expect("connects");
    server.number(&format!("send {fd} 10")).expect("sends");
    server.leave_with(&format!("recv {fd} 10")).expect("is told");
    let finding = first(server.pid(), "data");
    let connection = &finding["links"][0]["connection"];
    assert_eq!(
        (&connection["peer_accepted"], &connection["peer_recv_q"]),
        (&json!(false), &json!(10))
    );
    assert_eq!(finding["links"][0]["held_by"], json!([backend.pid()]));
    assert!(text(&finding).contains("has not accepted this connection"), "{finding:#}");
}

/// Two processes have one listener and wait for the same backend: one finding names both.
fn workers_that_share_a_listener() {
    let ns = netns();
    let (mut parent, mut backend) = (start(&ns), start(&ns));
    let behind = backend.number("listen 127.0.0.1:0 8").expect("listens");
    let at = backend.address(&format!("address {behind}")).expect("an address");
    let fd = parent.number(&format!("connect {at}")).expect("connects");
    backend.number(&format!("accept {behind}")).expect("accepts");
    parent.number("listen 127.0.0.1:0 8").expect("listens");
    // The child sleeps: it takes no connections either.
    let child = parent.number("fork-sleeping").expect("forks");
    parent.leave_with(&format!("recv {fd} 10")).expect("is told");
    let finding = first(parent.pid(), "data");
    assert_eq!((&finding["claim"], &finding["threads"]), (&json!("why"), &json!(1)));
    let both = kept(child, |found| found.len() == 2);
    let workers: Vec<u64> =
        both.iter().map(|f| f["workers"][0]["pid"].as_u64().expect("a pid")).collect();
    assert_eq!(workers, [u64::from(parent.pid()), u64::from(child)], "the child's page, too");
}

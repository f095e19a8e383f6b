//! How stays end, and who ended them.

use serde_json::json;

use crate::{
    tests,
    tracer::{Pair, Tracer, Unaccepted, holder_pids, netns, start},
};

tests![
    the_end_of_the_listener_is_nobodys_close,
    a_shutdown_is_no_close,
    a_listener_that_is_closed,
    a_reset_leaves_a_ghost,
    a_reset_of_what_nobody_closed,
    a_ghost_connects_again,
    a_ghost_of_mptcp,
    closed_in_time,
    every_stay_with_min_age_0,
];

fn the_end_of_the_listener_is_nobodys_close() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    let mut queue = Unaccepted::new(&ns, 8);
    queue.clients_give_up(1);
    tracer.next("stuck");
    queue.server.tell(&format!("close {}", queue.listener)).expect("closes");
    let resolved = tracer.next("resolved");
    assert_eq!(resolved["closed_by"], json!(null));
    assert!(
        resolved["unknown"]["closed_by"].as_str().is_some_and(|why| why.contains("listener")),
        "{resolved}"
    );
}

fn a_shutdown_is_no_close() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms", "--state", "close_wait,last_ack"]);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    tracer.next("stuck");
    pair.server.tell(&format!("shutdown {}", pair.served)).expect("shuts down");
    let resolved = tracer.wait_for("the end of CLOSE_WAIT", |e| {
        e["event"] == "resolved" && e["state"] == "CLOSE_WAIT"
    });
    assert_eq!(resolved["closed_by"], json!(null), "the descriptor is still open");
    // Both sides are done, the connection is gone, and the descriptor is there.
    let ghost = tracer.next("stuck");
    assert_eq!((&ghost["verdict"], &ghost["cookie"]), (&json!("ghost-fd"), &resolved["cookie"]));
    assert_eq!(holder_pids(&ghost), [u64::from(pair.server.pid())]);
    pair.server_closes();
    assert_eq!(tracer.next("resolved")["closed_by"]["pid"], pair.server.pid());
}

/// The connection was never in CLOSE_WAIT, and its descriptor is a leak all the same.
fn a_reset_of_what_nobody_closed() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    let mut pair = Pair::new(&ns);
    pair.client.tell(&format!("reset {}", pair.connected)).expect("resets");
    let ghost = tracer.next("stuck");
    assert_eq!((&ghost["verdict"], &ghost["state"]), (&json!("ghost-fd"), &json!("CLOSE")));
    assert_eq!(holder_pids(&ghost), [u64::from(pair.server.pid())]);
    pair.server_closes();
    assert_eq!(tracer.next("resolved")["cookie"], ghost["cookie"]);
}

fn a_listener_that_is_closed() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms", "--state", "listen"]);
    let mut server = start(&ns);
    let listener = server.number("listen 127.0.0.1:0 8").expect("listens");
    let stuck = tracer.next("stuck");
    assert_eq!(holder_pids(&stuck), [u64::from(server.pid())]);
    server.tell(&format!("close {listener}")).expect("closes");
    let resolved = tracer.next("resolved");
    assert_eq!(
        (&resolved["cookie"], &resolved["closed_by"]["pid"]),
        (&stuck["cookie"], &json!(server.pid()))
    );
    let (summary, _) = tracer.finish();
    assert_eq!(summary["lost"]["ring_full"], 0);
    assert_eq!(
        (summary["stuck"].as_u64(), summary["leaks"].as_u64()),
        (Some(1), Some(0)),
        "to listen is no leak"
    );
}

fn a_reset_leaves_a_ghost() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    let mut pair = Pair::new(&ns);
    let first = {
        pair.client.tell(&format!("shutdown {}", pair.connected)).expect("half-closes");
        tracer.next("stuck")
    };
    // Unread data make the close a reset.
    pair.server.tell(&format!("send {} 10", pair.served)).expect("sends");
    pair.client_closes();
    let ghost = tracer.wait_for("a ghost", |e| e["event"] == "stuck" && e["state"] == "CLOSE");
    assert_eq!((&ghost["cookie"], &ghost["verdict"]), (&first["cookie"], &json!("ghost-fd")));
    assert_eq!(holder_pids(&ghost), [u64::from(pair.server.pid())]);
    pair.server_closes();
    let resolved = tracer.next("resolved");
    assert_eq!(resolved["cookie"], first["cookie"]);
    assert_eq!(resolved["closed_by"]["pid"], pair.server.pid());
    assert_eq!(tracer.finish().0["stuck"], 1, "one story from the first stay to the end");
}

/// The descriptor of a connection that was reset may serve for another one: the ghost is gone,
/// whatever states are watched.
fn a_ghost_connects_again() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    let mut pair = Pair::new(&ns);
    pair.client.tell(&format!("shutdown {}", pair.connected)).expect("half-closes");
    pair.server.tell(&format!("send {} 10", pair.served)).expect("sends");
    pair.client_closes();
    let ghost = tracer.wait_for("a ghost", |e| e["event"] == "stuck" && e["state"] == "CLOSE");
    let listener = pair.client.number("listen 127.0.0.1:0 8").expect("listens");
    let address = pair.client.address(&format!("address {listener}")).expect("an address");
    pair.server.tell(&format!("reconnect {} {address}", pair.served)).expect("connects");
    let resolved = tracer.next("resolved");
    assert_eq!(
        (&resolved["cookie"], &resolved["state"]),
        (&ghost["cookie"], &json!("CLOSE")),
        "{resolved}"
    );
    let why = resolved["unknown"]["closed_by"].as_str();
    assert_eq!(
        why,
        Some("the program used the descriptor for a new connection"),
        "the change was seen: {resolved}"
    );
    assert_eq!(tracer.finish().0["still_open"], 0);
}

/// MPTCP's own socket is no TCP socket: its end is another one.
fn a_ghost_of_mptcp() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    let (mut server, mut client) = (start(&ns), start(&ns));
    let listener = server.number("listen-mptcp 127.0.0.1:0 8").expect("listens");
    let address = server.address(&format!("address {listener}")).expect("an address");
    let connected = client.number(&format!("connect-mptcp {address}")).expect("connects");
    let served = server.number(&format!("accept {listener}")).expect("accepts");
    // The first bytes both ways: from now on both ends know that it is MPTCP.
    client.tell(&format!("send {connected} 10")).expect("sends");
    server.tell(&format!("recv {served} 10")).expect("receives");
    client.tell(&format!("shutdown {connected}")).expect("half-closes");
    let first = tracer.next("stuck");
    // Unread data make the close a reset.
    server.tell(&format!("send {served} 10")).expect("sends");
    client.tell(&format!("close {connected}")).expect("closes");
    let ghost = tracer.wait_for("a ghost", |e| e["event"] == "stuck" && e["state"] == "CLOSE");
    assert_eq!((&ghost["cookie"], &ghost["verdict"]), (&first["cookie"], &json!("ghost-fd")));
    assert_eq!(
        (&ghost["protocol"], holder_pids(&ghost)),
        (&json!("mptcp"), vec![u64::from(server.pid())])
    );
    server.tell(&format!("close {served}")).expect("closes");
    let resolved = tracer.next("resolved");
    assert_eq!(resolved["cookie"], first["cookie"]);
    assert_eq!(resolved["closed_by"]["pid"], server.pid());
}

fn closed_in_time() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "2s"]);
    let mut brief = Pair::new(&ns);
    brief.client_closes();
    brief.server_closes();
    // One that stays shows that the other would have been seen by now.
    let mut long = Pair::new(&ns);
    long.client_closes();
    let stuck = tracer.next("stuck");
    assert_eq!(holder_pids(&stuck), [u64::from(long.server.pid())]);
    assert_eq!(tracer.finish().0["stuck"], 1);
}

fn every_stay_with_min_age_0() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "0"]);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    pair.server_closes();
    let stuck = tracer.next("stuck");
    let resolved = tracer.next("resolved");
    assert_eq!(stuck["cookie"], resolved["cookie"]);
    assert_eq!(resolved["closed_by"]["pid"], pair.server.pid());
}

//! Small twins of the production stories that `cargo xtask stories` plays with the real software:
//! who, why, which side, and exactly as many as there are.

use std::collections::BTreeMap;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use crate::{
    doctor,
    snapshot::snapshot,
    support::{actor::Actor, netns::Netns},
    tests,
    tracer::{Pair, Tracer, holder_pids, netns, run, start},
};

tests![
    the_pool_that_ran_dry,
    the_crawler_that_never_releases,
    the_parent_that_kept_the_descriptor,
    the_queue_that_overflows,
    the_load_balancer_gives_up,
    the_broker_and_the_stuck_client,
    the_slow_download_after_a_shutdown,
    too_many_open_files,
    a_hundred_thousand_time_wait,
];

/// A server listening on an address of its own.
fn listening(ns: &Netns, address: &str, backlog: u32) -> (Actor, u32, String) {
    let mut server = start(ns);
    let listener = server.number(&format!("listen {address}:0 {backlog}")).expect("listens");
    let address = server.tell(&format!("address {listener}")).expect("an address");
    (server, listener, address)
}

/// Waits for `count` different sockets, and for one more that leaks then: by that time there were
/// no others.
fn exactly(ns: &Netns, mut tracer: Tracer, count: usize) -> Vec<Value> {
    let mut found = BTreeMap::new();
    while found.len() < count {
        let stuck = tracer.next("stuck");
        found.insert(stuck["cookie"].as_u64().expect("a cookie"), stuck);
    }
    let mut later = Pair::new(ns);
    later.client_closes();
    let server = u64::from(later.server.pid());
    tracer.wait_for("the last one", |e| e["event"] == "stuck" && holder_pids(e) == [server]);
    let (summary, _) = tracer.finish();
    assert_eq!(summary["stuck"], count + 1, "none invented");
    found.into_values().collect()
}

fn verdicts(found: &[Value]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for record in found {
        *counts.entry(record["verdict"].as_str().expect("a verdict")).or_insert(0) += 1;
    }
    counts
}

/// Two workers sit in read() of idle clients; a third client was accepted before, asked, and gave
/// up; further ones are in the queue.
fn the_pool_that_ran_dry() {
    let ns = netns();
    let tracer = Tracer::watch(&ns, &["--min-age", "300ms"]);
    let (mut server, listener, address) = listening(&ns, "127.0.0.1", 8);
    let mut clients = start(&ns);
    let mut connect = || clients.number(&format!("connect {address}")).expect("connects");
    let (idle, other, waiting) = (connect(), connect(), connect());
    let queued = [connect(), connect(), connect()];
    for _ in [idle, other, waiting] {
        server.number(&format!("accept {listener}")).expect("accepts");
    }
    for fd in [waiting].into_iter().chain(queued) {
        clients.tell(&format!("send {fd} 100")).expect("asks");
        clients.tell(&format!("close {fd}")).expect("gives up");
    }
    let found = exactly(&ns, tracer, 4);
    assert_eq!(verdicts(&found), BTreeMap::from([("never-accepted", 3), ("unread-data", 1)]));
    for record in &found {
        assert_eq!(
            (holder_pids(record), &record["role"]),
            (vec![u64::from(server.pid())], &json!("server"))
        );
        if record["verdict"] == "never-accepted" {
            let listener = &record["listener"];
            assert_eq!(
                (&listener["queue"], &listener["limit"], &listener["local"]),
                (&json!(3), &json!(8), &json!(address))
            );
        }
    }
}

/// Two sites answer 404 and close; the crawler read one answer whole, of one the head, of one
/// nothing, and closes none.
fn the_crawler_that_never_releases() {
    let ns = netns();
    let tracer = Tracer::watch(&ns, &["--min-age", "300ms"]);
    let mut crawler = start(&ns);
    for (site, reads) in [("127.0.0.2", [1000, 100]), ("127.0.0.3", [0, 1000])] {
        let (mut server, listener, address) = listening(&ns, site, 8);
        for read in reads {
            let fetched = crawler.number(&format!("connect {address}")).expect("connects");
            let served = server.number(&format!("accept {listener}")).expect("accepts");
            crawler.tell(&format!("send {fetched} 10")).expect("asks");
            server.tell(&format!("recv {served} 10")).expect("reads the request");
            server.tell(&format!("send {served} 200")).expect("answers");
            server.tell(&format!("close {served}")).expect("closes");
            if read > 0 {
                crawler.tell(&format!("recv-fin {fetched} {read}")).expect("reads");
            }
        }
    }
    let found = exactly(&ns, tracer, 4);
    assert_eq!(verdicts(&found), BTreeMap::from([("eof-not-closed", 2), ("unread-data", 2)]));
    let mut remotes = BTreeMap::new();
    for record in &found {
        assert_eq!(
            (holder_pids(record), &record["role"]),
            (vec![u64::from(crawler.pid())], &json!("client"))
        );
        let remote = record["remote"].as_str().and_then(|r| r.split(':').next()).expect("a remote");
        *remotes.entry(remote.to_owned()).or_insert(0) += 1;
    }
    assert_eq!(remotes, BTreeMap::from([("127.0.0.2".to_owned(), 2), ("127.0.0.3".to_owned(), 2)]));
}

/// The child serves and lets go; the parent still has what it accepted.
fn the_parent_that_kept_the_descriptor() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "300ms"]);
    let (mut parent, listener, address) = listening(&ns, "127.0.0.1", 8);
    let mut client = start(&ns);
    let connected = client.number(&format!("connect {address}")).expect("connects");
    let served = parent.number(&format!("accept {listener}")).expect("accepts");
    let child = parent.number("fork").expect("forks");
    client.tell(&format!("close {connected}")).expect("closes");
    let both = tracer.next("stuck");
    assert_eq!(both["verdict"], "inherited-fd");
    assert_eq!(both["holders"].as_array().map(Vec::len), Some(2));
    parent.tell(&format!("end {child}")).expect("the child ends");
    let alone =
        tracer.wait_for("the parent alone", |e| e["event"] == "stuck" && holder_pids(e).len() == 1);
    assert_eq!(
        (holder_pids(&alone), &alone["verdict"]),
        (vec![u64::from(parent.pid())], &json!("inherited-fd"))
    );
    assert_eq!(
        (&alone["former_holders"][0]["pid"], &alone["holders"][0]["opener"]),
        (&json!(child), &json!(true))
    );
    parent.tell(&format!("close {served}")).expect("closes");
    assert_eq!(tracer.next("resolved")["closed_by"]["pid"], parent.pid());
    assert_eq!(tracer.finish().0["stuck"], 1);
}

fn the_queue_that_overflows() {
    let ns = netns();
    let tracer = Tracer::watch(&ns, &["--min-age", "300ms"]);
    let (server, _, address) = listening(&ns, "127.0.0.1", 4);
    let mut clients = start(&ns);
    let connected: Vec<u32> =
        (0..5).map(|_| clients.number(&format!("connect {address}")).expect("connects")).collect();
    // The queue is full: this one gets no answer.
    clients.number(&format!("connect-later {address}")).expect("sends a SYN");
    for fd in connected {
        clients.tell(&format!("close {fd}")).expect("gives up");
    }
    let found = exactly(&ns, tracer, 5);
    assert_eq!(verdicts(&found), BTreeMap::from([("never-accepted", 5)]));
    for record in &found {
        let listener = &record["listener"];
        assert_eq!(
            (&listener["pid"], &listener["queue"], &listener["limit"]),
            (&json!(server.pid()), &json!(5), &json!(4))
        );
    }
    assert!(found.iter().any(|r| r["listener"]["drops"].as_u64() >= Some(1)), "{found:#?}");
}

/// Two backends block in their loops; the balancer times out, closes, and moves the load on.
fn the_load_balancer_gives_up() {
    let ns = netns();
    let tracer = Tracer::watch(&ns, &["--min-age", "300ms"]);
    let mut balancer = start(&ns);
    let mut backends = Vec::new();
    for _ in 0..2 {
        let (mut backend, listener, address) = listening(&ns, "127.0.0.1", 128);
        let asked: Vec<u32> = (0..6)
            .map(|_| {
                let fd = balancer.number(&format!("connect {address}")).expect("connects");
                balancer.tell(&format!("send {fd} 300")).expect("asks");
                fd
            })
            .collect();
        // The loop takes two and blocks in the handler of the first.
        for _ in 0..2 {
            backend.number(&format!("accept {listener}")).expect("accepts");
        }
        for fd in asked {
            balancer.tell(&format!("close {fd}")).expect("gives up");
        }
        backends.push(backend);
    }
    let found = exactly(&ns, tracer, 12);
    assert_eq!(verdicts(&found), BTreeMap::from([("never-accepted", 8), ("unread-data", 4)]));
    for backend in &backends {
        let its = found.iter().filter(|r| holder_pids(r) == [u64::from(backend.pid())]).count();
        assert_eq!(its, 6, "each backend has its own, and the balancer none");
    }
    assert!(found.iter().all(|r| r["role"] == "server"));
}

/// The broker closes a client that keeps silent; the client never looks.
fn the_broker_and_the_stuck_client() {
    let ns = netns();
    let tracer = Tracer::watch(&ns, &["--min-age", "300ms"]);
    let (mut broker, listener, address) = listening(&ns, "127.0.0.1", 8);
    let mut client = start(&ns);
    let connected = client.number(&format!("connect {address}")).expect("connects");
    let served = broker.number(&format!("accept {listener}")).expect("accepts");
    client.tell(&format!("send {connected} 14")).expect("CONNECT");
    broker.tell(&format!("recv {served} 14")).expect("reads it");
    broker.tell(&format!("send {served} 4")).expect("CONNACK");
    client.tell(&format!("recv {connected} 4")).expect("reads it");
    broker.tell(&format!("close {served}")).expect("keepalive timed out");
    let found = exactly(&ns, tracer, 1);
    assert_eq!(
        (holder_pids(&found[0]), &found[0]["role"]),
        (vec![u64::from(client.pid())], &json!("client"))
    );
    assert_eq!(
        (&found[0]["verdict"], &found[0]["remote"]),
        (&json!("unread-fin"), &json!(address))
    );
}

/// The client has asked, says that it will send no more, and takes its time to read.
fn the_slow_download_after_a_shutdown() {
    let ns = netns();
    let mut asked = Tracer::watch(&ns, &["--min-age", "300ms", "--verdict", "half-close-in-use"]);
    let mut silent = Tracer::watch(&ns, &["--min-age", "300ms"]);
    let (mut server, listener, address) = listening(&ns, "127.0.0.1", 8);
    let mut client = start(&ns);
    let connected = client.number(&format!("connect {address}")).expect("connects");
    let served = server.number(&format!("accept {listener}")).expect("accepts");
    client.tell(&format!("send {connected} 100")).expect("asks");
    client.tell(&format!("shutdown {connected}")).expect("will send no more");
    server.tell(&format!("recv {served} 100")).expect("reads the request");
    while server.number(&format!("try-send {served} 100000")).expect("sends") > 0 {}
    // Twice the age, and still at it.
    for _ in 0..2 {
        let seen = asked.next("stuck");
        assert!(seen["evidence"]["send_q"].as_u64() > Some(0), "{seen}");
    }
    // Who leaks later is reported, so the other one was looked at.
    let mut later = Pair::new(&ns);
    later.client_closes();
    assert_eq!(holder_pids(&silent.next("stuck")), [u64::from(later.server.pid())]);
    assert_eq!(silent.finish().0["stuck"], 1);
}

/// "Too many open files": what leaks takes the descriptors, one by one, until accept() fails; and
/// ending the connections gives none back.
fn too_many_open_files() {
    const LIMIT: u64 = 40;
    let (ns, mut server) = doctor::inhabited();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    let listener = server.number("listen 127.0.0.1:0 64").expect("listens");
    let address = server.tell(&format!("address {listener}")).expect("an address");
    let pid = Pid::from_raw(server.pid().cast_signed());
    let limit = Rlimit { current: Some(LIMIT), maximum: Some(LIMIT) };
    prlimit(pid, Resource::Nofile, limit).expect("root may");
    let mut clients = start(&ns);
    let mut served = Vec::new();
    let refused = loop {
        let connected = clients.number(&format!("connect {address}")).expect("connects");
        clients.tell(&format!("close {connected}")).expect("gives up");
        match server.number(&format!("accept {listener}")) {
            Ok(fd) => served.push(fd),
            Err(e) => break e.to_string(),
        }
        assert!(served.len() < 100, "the limit is {LIMIT}");
    };
    assert!(refused.contains("Too many open files"), "{refused}");

    // The watch has said whose they are.
    for _ in &served {
        let stuck = tracer.wait_for("a leak", |e| e["event"] == "stuck" && !e["holders"].is_null());
        assert_eq!(holder_pids(&stuck)[0], u64::from(server.pid()));
    }
    let named = doctor::wait_for(&ns, &["--min-age", "0"], "descriptors", |_| true);
    assert_eq!(
        (&named["harm"], &named["processes"][0]["pid"]),
        (&json!("high"), &json!(server.pid())),
        "{named}"
    );

    // The connections end, the descriptors don't.
    let server_pid = server.pid().to_string();
    let path = ns.path();
    let args = ["close", "--yes", "--json", "--min-age", "0", "--rate", "1000"];
    let scope = ["--pid", &server_pid, "--netns", path.to_str().expect("a plain path")];
    let (status, out, err) = run(&[&args[..], &scope].concat());
    assert_eq!(status.code(), Some(0), "{err}");
    let lines = out.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
    let still_held: usize = lines
        .filter(|l| l["event"] == "closed")
        .map(|l| l["still_held"].as_array().map_or(0, Vec::len))
        .sum();
    assert_eq!(still_held, served.len(), "{out}");
    server.number(&format!("accept {listener}")).expect_err("none is free");

    // Its own close() is what helps.
    server.tell(&format!("close {}", served[0])).expect("closes");
    let connected = clients.number(&format!("connect {address}")).expect("connects");
    server.number(&format!("accept {listener}")).expect("one is free");
    clients.tell(&format!("close {connected}")).expect("closes");
    tracer.finish();
}

/// A client uses up its ports to one server: TIME_WAIT, by design, and no leak; who tunes
/// tcp_fin_timeout changes nothing.
fn a_hundred_thousand_time_wait() {
    let (ns, _somebody) = doctor::inhabited();
    let tracer = Tracer::watch(&ns, &["--min-age", "200ms", "--fail-on-leak"]);
    // On loopback the kernel would take them again after a second.
    doctor::set(&ns, "ipv4/tcp_tw_reuse", "0");
    doctor::set(&ns, "ipv4/tcp_fin_timeout", "5");
    let (used, server) = doctor::use_up(&ns);
    let (_, summary) = snapshot(&ns, &["--state", "time_wait", "--group-by", "remote"]);
    let told = &summary["time_wait"]["by_destination"][0];
    assert_eq!(told["destination"], server.to_string(), "{summary}");
    assert_eq!((&told["used"], &told["ports"]), (&json!(used), &json!(used)), "{told}");
    let listed = doctor::wait_for(&ns, &[], "ephemeral-ports", |_| true);
    assert_eq!(listed["harm"], "high", "{listed}");
    let help = &listed["no_help"];
    assert!(help.as_str().is_some_and(|text| text.contains("tcp_fin_timeout")), "{listed}");
    let (summary, status) = tracer.finish();
    assert_eq!((summary["leaks"].as_u64(), status.code()), (Some(0), Some(0)), "no leak");
}

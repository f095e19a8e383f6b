//! States other than CLOSE_WAIT: what is wrong with a socket there, and what is not.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    snapshot::snapshot,
    support::netns::{Netns, join},
    tests,
    tracer::{DEADLINE, Pair, Tracer, holder_pids, load, netns, start},
};

tests![
    a_full_queue_and_who_waits_before_it,
    who_is_at_work_is_nothing,
    handshakes_that_nobody_finishes,
    peers_that_do_not_answer_and_do_not_read,
    fins_that_nobody_acknowledges,
    a_watch_says_the_same,
    a_connect_that_failed,
    time_wait_is_counted,
];

/// Looks until as many sockets have the verdict.
fn with_verdict(ns: &Netns, verdict: &str, count: usize, within: Duration) -> Vec<Value> {
    let deadline = Instant::now() + within;
    loop {
        let (sockets, _) = snapshot(ns, &["--verdict", verdict]);
        if sockets.len() == count {
            return sockets;
        }
        let all = || snapshot(ns, &["--state", "established,syn_sent,fin_wait1,fin_wait2"]).0;
        assert!(Instant::now() < deadline, "{count} {verdict}: {sockets:#?} of {:#?}", all());
    }
}

/// With a limit of 0, one connection fills the queue; further SYNs are dropped.
fn a_full_queue_and_who_waits_before_it() {
    let ns = netns();
    let (mut server, mut client) = (start(&ns), start(&ns));
    let listener = server.number("listen 127.0.0.1:0 0").expect("listens");
    let address = server.address(&format!("address {listener}")).expect("an address");
    for _ in 0..3 {
        client.number(&format!("connect-later {address}")).expect("sends a SYN");
    }
    let full = &with_verdict(&ns, "queue-full", 1, DEADLINE)[0];
    assert_eq!(
        (&full["state"], &full["listener"]["queue"], &full["listener"]["limit"]),
        (&json!("LISTEN"), &json!(1), &json!(0))
    );
    assert_eq!(full["holders"][0]["pid"], server.pid());
    assert_eq!(full["listener"]["handshakes"], 0, "SYNs are dropped before that");
    assert!(full["listener"]["syncookies_sent"].is_u64(), "{full}");
    let waiting = with_verdict(&ns, "no-answer", 2, DEADLINE);
    for socket in &waiting {
        assert_eq!(socket["remote"], address.to_string());
        assert_eq!(socket["holders"][0]["pid"], client.pid());
        let evidence = &socket["evidence"];
        assert!(evidence["retransmits"].as_u64() >= Some(1), "{socket}");
        assert_eq!(evidence["timer"], "retransmit");
        assert!(evidence["last_ack_recv_ms"].is_null(), "there was none: {socket}");
    }
    // Drops are counted by the listener that made them.
    let full = &with_verdict(&ns, "queue-full", 1, DEADLINE)[0];
    assert!(full["listener"]["drops"].as_u64() >= Some(2), "{full}");
    server.number(&format!("accept {listener}")).expect("accepts");
    with_verdict(&ns, "queue-full", 0, DEADLINE);
}

/// An idle listener, a connection at work, one that has shut down its half just now, and a
/// TIME_WAIT; each is there for who asks for its state.
fn who_is_at_work_is_nothing() {
    let ns = netns();
    let mut half_closed = Pair::new(&ns);
    half_closed.client.tell(&format!("shutdown {}", half_closed.connected)).expect("half-closes");
    let mut over = Pair::new(&ns);
    over.server_closes();
    over.client_closes();
    let _open = Pair::new(&ns);
    let by_name = |state: &str, verdict: Value, count| {
        let deadline = Instant::now() + DEADLINE;
        let sockets = loop {
            let (sockets, summary) = snapshot(&ns, &["--state", state]);
            if sockets.len() == count {
                assert_eq!(summary["leaks"], 0);
                break sockets;
            }
            assert!(Instant::now() < deadline, "{state}: {sockets:#?}");
        };
        assert!(sockets.iter().all(|s| s["verdict"] == verdict), "{sockets:#?}");
        if verdict.is_null() {
            let why = sockets[0]["unknown"]["verdict"].as_str().expect("a reason");
            assert!(why.starts_with("nothing is wrong"), "{why}");
        }
    };
    by_name("established", Value::Null, 2);
    by_name("listen", Value::Null, 3);
    by_name("fin_wait2", Value::Null, 1);
    by_name("time_wait", json!("closed-first"), 1);
    let (sockets, summary) = snapshot(&ns, &["--state", "all"]);
    let states: Vec<&Value> = sockets.iter().map(|s| &s["state"]).collect();
    assert_eq!(states, [&json!("CLOSE_WAIT")], "{sockets:#?}");
    assert_eq!(summary["states"]["LISTEN"], 3, "it is counted all the same");
}

/// Runs ip(8) in a namespace.
fn ip(ns: &Netns, args: &[&str]) {
    let mut command = Command::new("ip");
    command.args(args);
    ns.enter_in(&mut command).expect("the namespace");
    assert!(command.status().expect("ip").success(), "ip {args:?}");
}

/// Two hosts, and a way to lose all that the second one sends: it believes that the first one's
/// interface has another address.
struct Hosts {
    client: Netns,
    server: Netns,
    /// The server's.
    address: &'static str,
}

impl Hosts {
    fn new() -> Self {
        let (client, server) = (netns(), netns());
        let [_, address] = join(&client, &server).expect("joins");
        Self { client, server, address }
    }

    fn pair(&self) -> Pair {
        let listen = format!("{}:0", self.address);
        Pair::between(start(&self.server), start(&self.client), &listen, self.address)
    }

    fn lose_answers(&self) {
        let nowhere = ["lladdr", "02:00:00:00:00:07", "dev", "v1", "nud", "permanent"];
        ip(&self.server, &[&["neigh", "replace", "10.77.0.1"], &nowhere[..]].concat());
    }
}

fn handshakes_that_nobody_finishes() {
    let hosts = Hosts::new();
    let mut server = start(&hosts.server);
    let listener = server.number(&format!("listen {}:0 2", hosts.address)).expect("listens");
    let address = server.address(&format!("address {listener}")).expect("an address");
    let states = ["--state", "syn_recv,listen", "--min-age", "200ms"];
    let mut tracer = Tracer::watch(&hosts.server, &states);
    hosts.lose_answers();
    let mut client = start(&hosts.client);
    client.number(&format!("connect-later {address}")).expect("sends a SYN");
    let unfinished = &with_verdict(&hosts.server, "handshake-unfinished", 1, DEADLINE)[0];
    assert_eq!(unfinished["state"], "SYN_RECV");
    assert!(unfinished["evidence"]["retransmits"].as_u64() >= Some(1), "{unfinished}");
    assert_eq!(unfinished["listener"]["handshakes"], 1);
    assert_eq!(unfinished["listener"]["pid"], server.pid());
    with_verdict(&hosts.client, "no-answer", 1, DEADLINE);
    // Half a queue of handshakes is no full one.
    with_verdict(&hosts.server, "queue-full", 0, DEADLINE);
    client.number(&format!("connect-later {address}")).expect("sends a SYN");
    let full = &with_verdict(&hosts.server, "queue-full", 1, DEADLINE)[0];
    assert_eq!((&full["state"], &full["listener"]["handshakes"]), (&json!("LISTEN"), &json!(2)));
    // A watch says the same, though no event tells it so: and when a handshake is over, that too.
    let said = tracer.wait_for("the handshake", |e| e["cookie"] == unfinished["cookie"]);
    assert_eq!((&said["event"], &said["verdict"]), (&json!("stuck"), &unfinished["verdict"]));
    assert_eq!(said["listener"]["pid"], server.pid(), "{said}");
    let said = tracer.wait_for("the listener", |e| e["verdict"] == "queue-full");
    assert_eq!((&said["state"], &said["listener"]["handshakes"]), (&json!("LISTEN"), &json!(2)));
    server.tell(&format!("close {listener}")).expect("closes");
    let over = tracer
        .wait_for("its end", |e| e["event"] == "resolved" && e["cookie"] == unfinished["cookie"]);
    assert!(
        over["unknown"]["closed_by"].as_str().is_some_and(|s| s.contains("given up")),
        "{over}"
    );
    tracer.finish();
}

/// These take as long as their verdicts ask for.
fn peers_that_do_not_answer_and_do_not_read() {
    const LONG: Duration = Duration::from_secs(120);
    let hosts = Hosts::new();
    let (mut sends, mut asks, mut at_work) = (hosts.pair(), hosts.pair(), hosts.pair());
    asks.server.tell(&format!("keepalive {} 120", asks.served)).expect("sets keepalive");
    hosts.lose_answers();
    sends.server.tell(&format!("send {} 5", sends.served)).expect("sends");
    let here = netns();
    let (mut full, mut half_closed) = (Pair::new(&here), Pair::new(&here));
    let fill = format!("try-send {} 100000", full.served);
    while full.server.number(&fill).expect("sends") > 0 {}
    half_closed.client.tell(&format!("shutdown {}", half_closed.connected)).expect("half-closes");

    let gone = with_verdict(&hosts.server, "peer-gone", 2, LONG);
    let by_timer = |timer: &str| {
        let of = |s: &&Value| s["evidence"]["timer"] == timer;
        gone.iter().find(of).unwrap_or_else(|| panic!("{timer}: {gone:#?}"))
    };
    let data = &by_timer("retransmit")["evidence"];
    assert!(data["send_q"] == 5 && data["retransmits"].as_u64() >= Some(3), "{data}");
    let asked = &by_timer("keepalive")["evidence"];
    assert!(asked["send_q"] == 0 && asked["probes"].as_u64() >= Some(2), "{asked}");
    for socket in &gone {
        assert!(socket["evidence"]["last_ack_recv_ms"].as_f64() >= Some(30_000.0), "{socket}");
    }

    let open = &with_verdict(&here, "peer-not-closed", 1, LONG)[0];
    assert_eq!(open["holders"][0]["pid"], half_closed.client.pid());
    assert!(open["age_ms"]["min"].as_f64() >= Some(30_000.0), "{open}");

    let shut = &with_verdict(&here, "peer-not-reading", 1, LONG)[0];
    assert_eq!(shut["holders"][0]["pid"], full.server.pid());
    assert_eq!(
        (&shut["evidence"]["snd_wnd"], &shut["evidence"]["timer"]),
        (&json!(0), &json!("persist"))
    );
    let (quiet, _) = snapshot(&hosts.server, &["--state", "all"]);
    assert_eq!(quiet.len(), 2, "the third connection is in order: {quiet:#?}");
    at_work.client_closes();
    // It reads, and what was said is over.
    let unread = 1 << 20;
    let drain = format!("recv {} {unread}", full.connected);
    full.client.number(&drain).expect("reads");
    with_verdict(&here, "peer-not-reading", 0, DEADLINE);
}

fn fins_that_nobody_acknowledges() {
    let hosts = Hosts::new();
    let (mut first, mut last) = (hosts.pair(), hosts.pair());
    let mut keeps = hosts.pair();
    let states = ["--state", "fin_wait1,last_ack", "--min-age", "200ms"];
    let mut tracer = Tracer::watch(&hosts.server, &states);
    last.client_closes();
    hosts.lose_answers();
    first.server.tell(&format!("send {} 7", first.served)).expect("sends");
    first.server_closes();
    last.server_closes();
    keeps.server.tell(&format!("shutdown {}", keeps.served)).expect("shuts down");
    let sockets = with_verdict(&hosts.server, "fin-unacknowledged", 3, DEADLINE);
    for socket in &sockets {
        let held = socket["holders"] != json!([]);
        let (state, send_q) = match (&socket["state"], held) {
            (state, false) if *state == "FIN_WAIT1" => (state, 8),
            (state, _) => (state, 1),
        };
        assert!(state == "FIN_WAIT1" || state == "LAST_ACK" && !held, "{socket}");
        assert_eq!(socket["evidence"]["send_q"], send_q, "{socket}");
        assert!(socket["evidence"]["retransmits"].as_u64() >= Some(3), "{socket}");
        let also = socket["also"].as_array().expect("a list");
        assert_eq!(also.contains(&json!("orphan")), !held, "{socket}");
    }
    assert_eq!(sockets.iter().filter(|s| s["holders"] != json!([])).count(), 1);
    // A watch says the same, of those that no descriptor leads to, too.
    for socket in &sockets {
        let said = tracer.wait_for("the same", |e| {
            e["cookie"] == socket["cookie"] && e["verdict"] == "fin-unacknowledged"
        });
        for same in ["state", "also", "holder_source"] {
            assert_eq!(said[same], socket[same], "{said} {socket}");
        }
        assert_eq!(said["evidence"]["send_q"], socket["evidence"]["send_q"], "{said}");
    }
    tracer.finish();
}

/// A watch counts what no event tells of, and says it again when there are twice as many.
fn time_wait_is_counted() {
    let ns = netns();
    // A network namespace is found by its processes.
    let _lives_there = start(&ns);
    let mut tracer = Tracer::watch(&ns, &["--state", "time_wait"]);
    let all = Tracer::watch(&ns, &["--state", "all", "--lport", "1"]);
    load(&ns, 40);
    // Counted while the load went on, or after it.
    let first = tracer.next("time_wait");
    let count = |e: &Value| e["time_wait"]["count"].as_u64().expect("a count");
    assert!((1..=40).contains(&count(&first)), "{first}");
    load(&ns, 120);
    let again = tracer.next("time_wait");
    assert!(count(&again) >= 2 * count(&first), "{first} {again}");
    // The load's listeners are gone: all of them are the clients' own, who closed first.
    let told = &again["time_wait"];
    assert_eq!(told["by_listener"], json!([]), "{again}");
    let opened = told["by_destination"].as_array().expect("a list");
    let of_all = |l: &[Value]| l.iter().filter_map(|o| o["time_wait"].as_u64()).sum::<u64>();
    assert!(opened.len() == 100 || of_all(opened) == count(&again), "{again}");
    assert!(opened[0]["used"].as_u64() >= Some(1) && opened[0]["ports"].is_u64(), "{again}");
    assert_eq!(told["namespaces"].as_array().map(Vec::len), Some(1), "{again}");
    let (summary, _) = tracer.finish();
    assert_eq!(count(&summary), 160, "{summary}");
    assert_eq!((&summary["stuck"], &summary["leaks"]), (&json!(0), &json!(0)), "{summary}");
    // Of ends that nobody has there is none.
    let (summary, _) = all.finish();
    assert_eq!(summary["time_wait"]["count"], 0, "{summary}");
}

/// Of a listener that came after it, and of who waits for that.
fn a_watch_says_the_same() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--state", "all", "--min-age", "200ms"]);
    let (mut server, mut client) = (start(&ns), start(&ns));
    let listener = server.number("listen 127.0.0.1:0 0").expect("listens");
    let address = server.tell(&format!("address {listener}")).expect("an address");
    for _ in 0..3 {
        client.number(&format!("connect-later {address}")).expect("sends a SYN");
    }
    let full = tracer.wait_for("a full queue", |e| e["verdict"] == "queue-full");
    assert_eq!((&full["state"], &full["local"]), (&json!("LISTEN"), &json!(address)));
    assert_eq!((&full["listener"]["queue"], &full["listener"]["limit"]), (&json!(1), &json!(0)));
    assert_eq!(holder_pids(&full), [u64::from(server.pid())]);
    let waiting = tracer.wait_for("who gets no answer", |e| e["verdict"] == "no-answer");
    assert_eq!(holder_pids(&waiting), [u64::from(client.pid())]);
    let (summary, _) = tracer.finish();
    assert_eq!(summary["leaks"], 0, "nobody has failed to close: {summary}");
}

/// Nobody answered: there was no connection that could be over, and there are no times of it.
fn a_connect_that_failed() {
    let ns = netns();
    let (mut client, mut pair) = (start(&ns), Pair::new(&ns));
    let mut tracer = Tracer::watch(&ns, &["--state", "all", "--min-age", "100ms"]);
    client.number("connect-later 127.0.0.1:9").expect("sends a SYN");
    pair.client_closes();
    tracer.next("stuck");
    let (sockets, _) = snapshot(&ns, &["--state", "close"]);
    let [failed] = &sockets[..] else { panic!("{sockets:#?}") };
    assert_eq!(failed["holders"][0]["pid"], client.pid());
    assert_eq!((&failed["verdict"], &failed["remote"]), (&Value::Null, &json!("127.0.0.1:9")));
    assert_eq!(failed["unknown"]["verdict"], "it was never connected");
    assert!(failed["evidence"]["last_data_sent_ms"].is_null(), "{failed}");
    assert!(tracer.heard.iter().all(|e| e["remote"] != "127.0.0.1:9"), "{:#?}", tracer.heard);
    let (summary, _) = tracer.finish();
    assert!(summary["by_verdict"].get("ghost-fd").is_none(), "{summary}");
}

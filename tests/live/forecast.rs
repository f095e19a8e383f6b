//! What fills up, foretold and then true.

use std::{
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use tcptrace::source::live::boot_now;

use crate::{
    doctor::set,
    tests,
    tracer::{Pair, Tracer, netns, start, tcptrace},
};

tests![
    a_process_runs_out_as_was_foretold,
    ports_run_out_as_was_foretold,
    an_accept_queue_is_full_as_was_foretold,
    what_does_not_grow_is_not_foretold
];

/// Descriptors of the process that leaks.
const LIMIT: u64 = 120;
/// Between two leaks, if the machine keeps up; the forecast is held against what happens, not
/// against this.
const PACE: Duration = Duration::from_millis(300);

/// A server leaks until accept() says EMFILE. What was foretold when half of the descriptors were
/// still there, widened by as much as a tenth of the time that was left, holds that moment.
fn a_process_runs_out_as_was_foretold() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let path = dir.path().join("x.tct");
    let file = path.to_str().expect("a plain path");
    let (mut server, mut client) = (start(&ns), start(&ns));
    let pid = Pid::from_raw(server.pid().cast_signed()).expect("a pid");
    let limit = Rlimit { current: Some(LIMIT), maximum: Some(LIMIT) };
    prlimit(Some(pid), Resource::Nofile, limit).expect("it is our child");
    let listener = server.number("listen 127.0.0.1:0 8").expect("listens");
    let address = server.address(&format!("address {listener}")).expect("an address");
    let mut tracer = Tracer::watch(&ns, &["--min-age", "100ms", "--record", file]);

    let refused = loop {
        let began = Instant::now();
        let connected = client.number(&format!("connect {address}")).expect("connects");
        let accepted = server.tell(&format!("accept {listener}"));
        client.tell(&format!("close {connected}")).expect("closes");
        if let Err(e) = accepted {
            assert!(e.to_string().contains("os error 24"), "EMFILE: {e}");
            break boot_now();
        }
        thread::sleep(PACE.saturating_sub(began.elapsed()));
    };

    let of_it = |f: &Value| f["event"] == "forecast" && f["pid"] == server.pid();
    let forecast = foretold(&mut tracer, LIMIT, refused, of_it);
    assert_eq!((&forecast["what"], &forecast["limit"]), (&"descriptors".into(), &LIMIT.into()));
    assert_eq!(forecast["sockets"][0]["state"], "CLOSE_WAIT", "{forecast}");
    let (summary, status) = tracer.finish();
    assert!(status.success() && summary["forecasts"].is_array(), "{summary}");

    let output = tcptrace().args(["replay", "--json", file]).output();
    let replayed = String::from_utf8(output.expect("it runs").stdout).expect("UTF-8");
    let again = replayed.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let again: Vec<Value> = again.filter(|line| of_it(line)).collect();
    assert!(again.contains(&forecast), "a replay says the same: {again:?}");
}

/// Ports that connect() may choose from in the test's namespace.
const PORTS: u64 = 80;
/// Connections that fit into the test's queue: its backlog and one more.
const PLACES: u64 = 64;

/// Connections to one end, until connect() says EADDRNOTAVAIL.
fn ports_run_out_as_was_foretold() {
    let ns = netns();
    set(&ns, "ipv4/ip_local_port_range", &format!("40000 {}", 40_000 + PORTS - 1));
    let (mut server, mut client) = (start(&ns), start(&ns));
    server.number("listen 127.0.0.1:9000 4096").expect("listens");
    let mut tracer = Tracer::watch(&ns, &["--min-age", "100ms"]);
    let refused = loop {
        let began = Instant::now();
        if let Err(e) = client.tell("connect 127.0.0.1:9000") {
            assert!(e.to_string().contains("os error 99"), "EADDRNOTAVAIL: {e}");
            break boot_now();
        }
        thread::sleep(PACE.saturating_sub(began.elapsed()));
    };
    let of_it = |f: &Value| f["what"] == "ports" && f["remote"] == "127.0.0.1:9000";
    let forecast = foretold(&mut tracer, PORTS, refused, of_it);
    assert_eq!((&forecast["local"], &forecast["limit"]), (&"127.0.0.1".into(), &PORTS.into()));
    assert_eq!(forecast["netns"], ns.inode(), "{forecast}");
    assert_eq!(forecast["sockets"][0]["state"], "ESTABLISHED", "{forecast}");
    tracer.finish();
}

/// Connections that nobody accepts, until no more fit into the queue.
fn an_accept_queue_is_full_as_was_foretold() {
    let ns = netns();
    let (mut server, mut client) = (start(&ns), start(&ns));
    let listener = server.number(&format!("listen 127.0.0.1:0 {}", PLACES - 1)).expect("listens");
    let address = server.address(&format!("address {listener}")).expect("an address");
    let mut tracer = Tracer::watch(&ns, &["--min-age", "100ms"]);
    for _ in 0..PLACES {
        let began = Instant::now();
        client.tell(&format!("connect {address}")).expect("connects");
        thread::sleep(PACE.saturating_sub(began.elapsed()));
    }
    let full = boot_now();
    let of_it = |f: &Value| f["what"] == "accept-queue" && f["local"] == address.to_string();
    let forecast = foretold(&mut tracer, PLACES, full, of_it);
    assert_eq!((&forecast["limit"], &forecast["pid"]), (&PLACES.into(), &Value::Null));
    tracer.finish();
}

/// Leaks that are there and don't become more, while what is counted is sampled often enough.
fn what_does_not_grow_is_not_foretold() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    let mut tracer = Tracer::watch(&ns, &["--min-age", "100ms"]);
    pair.client_closes();
    tracer.next("stuck");
    // Reported again whenever its age has doubled: by then it was sampled a dozen times.
    tracer.wait_for("an old one", |e| e["age_ms"]["min"].as_f64().is_some_and(|ms| ms > 12_000.0));
    assert!(tracer.heard.iter().all(|e| e["event"] != "forecast"), "{:#?}", tracer.heard);
    let (summary, _) = tracer.finish();
    assert_eq!(summary["forecasts"], Value::Array(Vec::new()), "{summary}");
}

/// What was foretold when half of it was still free, widened by as much as a tenth of the time that
/// was left, holds the moment when it was full.
fn foretold(tracer: &mut Tracer, limit: u64, full: u64, of_it: impl Fn(&Value) -> bool) -> Value {
    let full = time_of_day(full);
    let forecast = tracer.wait_for("a forecast from before half was used", |f| {
        f["event"] == "forecast"
            && of_it(f)
            && f["used"].as_u64().is_some_and(|used| used <= limit / 2)
    });
    let (time, left) = (&forecast["time"], &forecast["left_ms"]);
    let said: jiff::Timestamp = time.as_str().and_then(|t| t.parse().ok()).expect("a time");
    let happened = (full - said.as_nanosecond()) as f64 / 1e6;
    let bound = |name: &str| left[name].as_f64().expect("a bound");
    let error = bound("est") / 10.0;
    assert!(
        bound("min") - error <= happened && happened <= bound("max") + error,
        "{happened} ms later: {forecast}"
    );
    eprintln!("full {happened:.0} ms later: {forecast}");
    forecast
}

/// The time of day at a moment of the boot clock, ns.
fn time_of_day(boot: u64) -> i128 {
    jiff::Timestamp::now().as_nanosecond() - i128::from(boot_now() - boot)
}

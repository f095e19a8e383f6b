//! What fills up, foretold and then true.

use std::{
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use tcptrace::source::live::boot_now;

use crate::{
    tests,
    tracer::{Pair, Tracer, netns, start, tcptrace},
};

tests![a_process_runs_out_as_was_foretold, what_does_not_grow_is_not_foretold];

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
    let full = time_of_day(refused);

    let of_it = |f: &Value| f["event"] == "forecast" && f["pid"] == server.pid();
    let forecast = tracer.wait_for("a forecast from before half was used", |f| {
        of_it(f) && f["used"].as_u64().is_some_and(|used| used <= LIMIT / 2)
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
    assert_eq!((&forecast["what"], &forecast["limit"]), (&"descriptors".into(), &LIMIT.into()));
    assert_eq!(forecast["sockets"][0]["state"], "CLOSE_WAIT", "{forecast}");
    eprintln!("full {happened:.0} ms later: {forecast}");
    let (summary, status) = tracer.finish();
    assert!(status.success() && summary["forecasts"].is_array(), "{summary}");

    let output = tcptrace().args(["replay", "--json", file]).output();
    let replayed = String::from_utf8(output.expect("it runs").stdout).expect("UTF-8");
    let again = replayed.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let again: Vec<Value> = again.filter(|line| of_it(line)).collect();
    assert!(again.contains(&forecast), "a replay says the same: {again:?}");
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

/// The time of day at a moment of the boot clock, ns.
fn time_of_day(boot: u64) -> i128 {
    jiff::Timestamp::now().as_nanosecond() - i128::from(boot_now() - boot)
}

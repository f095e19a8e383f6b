//! `watch --close-after`: a process beside the watch, with the rights that the watch gave up.

use std::{fs, time::Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::state_of;
use crate::{
    support::netns::Netns,
    tests,
    tracer::{DEADLINE, Pair, Tracer, Unaccepted, netns, run, tcptrace},
};

tests![
    what_lasts_is_closed,
    who_closes_has_few_rights,
    what_is_closed_early_is_left_alone,
    who_closes_is_killed,
    a_replay_says_the_same,
    the_table_has_a_line_for_it,
];

const AFTER: [&str; 5] = ["--min-age", "100ms", "--close-after", "300ms", "--yes"];

fn closed(tracer: &mut Tracer, cookie: &Value) -> Value {
    tracer.wait_for("closed", |line| line["event"] == "closed" && line["cookie"] == *cookie)
}

fn what_lasts_is_closed() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &AFTER);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let cookie = tracer.next("stuck")["cookie"].clone();
    let line = closed(&mut tracer, &cookie);
    assert_eq!((&line["how"], &line["result"]), (&json!("shutdown"), &json!("closed")));
    assert_eq!((&line["state"], &line["state_after"]), (&json!("CLOSE_WAIT"), &json!("CLOSE")));
    let held = &line["still_held"][0];
    assert_eq!((&held["pid"], &held["fd"]), (&json!(pair.server.pid()), &json!(pair.served)));
    let resolved = |tracer: &mut Tracer, cookie: &Value| {
        let find = |l: &Value| l["event"] == "resolved" && l["cookie"] == *cookie;
        let heard = tracer.heard.iter().find(|l| find(l)).cloned();
        let end = heard.unwrap_or_else(|| tracer.wait_for("resolved", find));
        assert_eq!(end["closed_by"], Value::Null);
        end["unknown"]["closed_by"].as_str().expect("why").to_owned()
    };
    // Nobody else is said to have closed it.
    let why = resolved(&mut tracer, &cookie);
    assert!(why.contains("closed by tcptrace"), "{why}");

    let mut unaccepted = Unaccepted::new(&ns, 8);
    unaccepted.clients_give_up(1);
    let stuck = tracer.wait_for("stuck", |l| l["verdict"] == "never-accepted");
    let line = closed(&mut tracer, &stuck["cookie"]);
    assert_eq!((&line["how"], &line["result"]), (&json!("destroy"), &json!("closed")));
    let why = resolved(&mut tracer, &stuck["cookie"]);
    assert!(why.contains("closed by tcptrace"), "{why}");
    assert_eq!(state_of(&ns, &stuck["cookie"]), None);
    assert!(tracer.finish().1.success());
}

fn status(pid: u64, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Some(line.expect("a field").trim().to_owned())
}

fn leak(ns: &Netns, tracer: &mut Tracer) -> (Pair, Value) {
    let mut pair = Pair::new(ns);
    pair.client_closes();
    let stuck = tracer.next("stuck");
    let line = closed(tracer, &stuck["cookie"]);
    (pair, line)
}

/// CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_ADMIN, and a filter; the watch has none of the first and
/// the last.
fn who_closes_has_few_rights() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &AFTER);
    let (_pair, line) = leak(&ns, &mut tracer);
    let helper = line["by"]["pid"].as_u64().expect("a pid");
    assert_ne!(helper, u64::from(tracer.pid()));
    let bits = |pid, field| u64::from_str_radix(&status(pid, field).expect("it runs"), 16);
    const CLOSES: u64 = 1 << 12 | 1 << 19 | 1 << 21;
    assert_eq!(bits(helper, "CapEff"), Ok(CLOSES));
    assert_eq!(bits(helper, "CapPrm"), Ok(CLOSES));
    assert_eq!(status(helper, "Seccomp").as_deref(), Some("2"));
    assert_eq!(status(helper, "NoNewPrivs").as_deref(), Some("1"));
    let watch = bits(u64::from(tracer.pid()), "CapEff").expect("bits");
    assert_eq!(watch & (1 << 12 | 1 << 21), 0, "the watch has given them up");
    assert!(tracer.finish().1.success());
    // Its input has ended: so does it. Who is to wait for it may take its time.
    let deadline = Instant::now() + DEADLINE;
    while status(helper, "State").is_some_and(|state| !state.starts_with('Z')) {
        assert!(Instant::now() < deadline, "it is still there");
    }
}

/// What its program closes in time is its program's doing.
fn what_is_closed_early_is_left_alone() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "100ms", "--close-after", "1h", "--yes"]);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    tracer.next("stuck");
    pair.server_closes();
    assert_eq!(tracer.next("resolved")["closed_by"]["pid"], pair.server.pid());
    tracer.finish();
}

fn who_closes_is_killed() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &AFTER);
    let (_pair, line) = leak(&ns, &mut tracer);
    let helper = line["by"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    let helper = helper.and_then(Pid::from_raw).expect("a pid");
    kill_process(helper, Signal::KILL).expect("it is there");
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let port = pair.address.to_string();
    let stuck = tracer.wait_for("stuck", |l| l["local"] == *port);
    pair.server_closes();
    tracer.wait_for("resolved", |l| l["cookie"] == stuck["cookie"]);
    assert!(tracer.finish().1.success(), "the watch goes on without");
}

fn a_replay_says_the_same() {
    let ns = netns();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("closed.tct");
    let file = file.to_str().expect("a plain path");
    let mut tracer = Tracer::watch(&ns, &[&AFTER[..], &["--record", file]].concat());
    let (_pair, line) = leak(&ns, &mut tracer);
    let heard = {
        assert_eq!(line["result"], "closed");
        tracer.signal(Signal::INT);
        tracer.ended();
        tracer.heard.clone()
    };
    let (code, out, err) = run(&["replay", file, "--format", "json", "--min-age", "100ms"]);
    assert!(code.success(), "{err}");
    let replayed: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(replayed, heard);
}

fn the_table_has_a_line_for_it() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let mut command = tcptrace();
    command.arg("watch").args(AFTER).args(["--duration", "3s", "--netns"]).arg(ns.path());
    let output = command.output().expect("it runs");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let line = out.lines().find(|line| line.contains("shutdown: closed")).expect(&out);
    assert!(line.contains(&format!(":{},", pair.address.port())), "{line}");
    assert!(out.contains("is still open in"), "{out}");
    assert!(err.lines().any(|line| line.contains("--close-after: closed 1")), "{err}");
    assert!(output.status.success());
}

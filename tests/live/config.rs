//! `--config`: a file in the place of flags, read again on SIGHUP while stays go on.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    agent::Agent,
    support::netns::Netns,
    tests,
    tracer::{Pair, Tracer, load, netns, tcptrace},
};

tests![
    a_file_says_what_flags_say,
    stays_go_on_when_min_age_changes,
    a_bad_file_changes_nothing,
    a_token_is_rotated,
    a_certificate_is_rotated,
    a_watch_goes_on,
    without_a_file_sighup_ends_it,
];

/// A file of settings for one network namespace.
struct File {
    dir: TempDir,
    netns: PathBuf,
    command: &'static str,
}

impl File {
    fn of(ns: &Netns, command: &'static str, rest: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let file = Self { dir, netns: ns.path(), command };
        file.write(rest);
        file
    }

    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("a path").to_owned()
    }

    fn write(&self, rest: &str) {
        let netns = self.netns.display();
        let listen = if self.command == "serve" { "listen = \"127.0.0.1:0\"\n" } else { "" };
        let text = format!("[{}]\n{listen}netns = [\"{netns}\"]\n{rest}\n", self.command);
        fs::write(self.at("tcptrace.toml"), text).expect("a file");
    }

    fn agent(&self, args: &[&str]) -> Agent {
        let mut command = tcptrace();
        command.args(["serve", "--config", &self.at("tcptrace.toml")]).args(args);
        Agent::serving(&mut command).expect("it serves")
    }

    fn watch(&self, args: &[&str]) -> Tracer {
        let mut command = tcptrace();
        command.args(["watch", "--format", "json", "--config", &self.at("tcptrace.toml")]);
        command.args(args);
        Tracer::start(command)
    }
}

fn hang_up(pid: u32) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a pid");
    kill_process(pid, Signal::HUP).expect("it runs");
}

const SUCCESSFUL: &str = "tcptrace_config_last_reload_successful";
const SUCCESS_AT: &str = "tcptrace_config_last_reload_success_timestamp_seconds";

/// Has the file read again, and waits until it was.
fn reload(agent: &Agent) {
    let before = agent.metric(SUCCESS_AT);
    assert!(before > 0.0);
    hang_up(agent.child.id());
    agent.wait("a reload", |agent| agent.metric(SUCCESS_AT) > before);
    assert_eq!(agent.metric(SUCCESSFUL), 1.0);
}

/// All of a metric's samples together.
fn sum(agent: &Agent, name: &str) -> f64 {
    let (_, body) = agent.get("/metrics");
    let samples = body.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Sockets that are stuck: each cookie, and when its stay began by what is said, ms.
fn stuck(agent: &Agent) -> Vec<(u64, f64)> {
    let page = agent.json("/api/v1/sockets");
    let began = |socket: &Value| {
        let time = socket["time"].as_str().expect("a time");
        let time: jiff::Timestamp = time.parse().expect("a time");
        let age = socket["age_ms"]["max"].as_f64().expect("an age");
        (socket["cookie"].as_u64().expect("a cookie"), time.as_microsecond() as f64 / 1e3 - age)
    };
    page["sockets"].as_array().expect("a list").iter().map(began).collect()
}

fn a_file_says_what_flags_say() {
    let ns = netns();
    let file = File::of(&ns, "serve", "min-age = \"200ms\"\nworkloads = 7\norigins = false");
    let agent = file.agent(&[]);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    agent.wait("a leak", |agent| agent.json("/api/v1/sockets")["matching"] == 1);
    assert_eq!(agent.metric(SUCCESSFUL), 1.0);
    // The command line wins.
    let late = file.agent(&["--min-age", "1h"]);
    late.wait("its first scan", |agent| agent.get("/readyz").0 == 200);
    assert_eq!(late.json("/api/v1/sockets")["matching"], 0);
    // Without a file there is nothing to tell of it.
    let plain = Agent::of(&ns, &[]);
    assert!(!plain.get("/metrics").1.contains("tcptrace_config"));
}

fn stays_go_on_when_min_age_changes() {
    let ns = netns();
    let file = File::of(&ns, "serve", "min-age = \"300ms\"");
    let agent = file.agent(&[]);
    let mut first = Pair::new(&ns);
    first.client_closes();
    agent.wait("a leak", |agent| stuck(agent).len() == 1);
    let [(cookie, began)] = stuck(&agent)[..] else { panic!("one") };

    file.write("min-age = \"1h\"");
    reload(&agent);
    let mut second = Pair::new(&ns);
    second.client_closes();
    // Scans go on meanwhile, and see both.
    let stays = "tcptrace_state_seconds_count{state=\"CLOSE_WAIT\"}";
    load(&ns, 200);
    agent.wait("stays", |agent| agent.metric(stays) >= 200.0);
    let same = |agent: &Agent| {
        let now = stuck(agent);
        let there = now.iter().find(|(of, _)| *of == cookie).expect("it is still there");
        assert!((there.1 - began).abs() < 100.0, "{} {began}", there.1);
        now.len()
    };
    assert_eq!(same(&agent), 1, "what is younger than the new min-age is not told");
    let totals =
        |agent: &Agent| (sum(agent, "tcptrace_stuck_total"), sum(agent, "tcptrace_resolved_total"));
    assert_eq!(totals(&agent), (1.0, 0.0));

    file.write("min-age = \"400ms\"\nworkloads = 3\ninterval = \"100ms\"");
    reload(&agent);
    agent.wait("the second", |agent| stuck(agent).len() == 2);
    assert_eq!((same(&agent), totals(&agent)), (2, (2.0, 0.0)));
    first.server_closes();
    agent.wait("its end", |agent| stuck(agent).len() == 1);
    assert_eq!(totals(&agent), (2.0, 1.0));
}

fn a_bad_file_changes_nothing() {
    let ns = netns();
    let file = File::of(&ns, "serve", "min-age = \"200ms\"");
    fs::write(file.at("token"), "s3cret\n").expect("a file");
    let agent = file.agent(&[]);
    for (bad, left) in [
        ("min-age = 5 parsecs", 0),
        ("min-age = \"5 parsecs\"", 1),
        ("mn-age = \"1h\"", 2),
        ("min-age = \"1h\"\ntls-cert = \"/nowhere\"", 3),
        ("min-age = \"1h\"\ntoken-file = \"/nowhere\"", 4),
        ("min-age = \"1h\"\ntls-cert = \"/nowhere\"\ntls-key = \"/nowhere\"", 5),
    ] {
        file.write(bad);
        hang_up(agent.child.id());
        agent.wait(bad, |agent| agent.metric(SUCCESSFUL) == 0.0);
        let mut pair = Pair::new(&ns);
        pair.client_closes();
        agent.wait("a leak", |agent| sum(agent, "tcptrace_stuck_total") == f64::from(left + 1));
        pair.server_closes();
        file.write("min-age = \"200ms\"");
        reload(&agent);
    }
    // A pipe that nobody writes to has it wait for nobody.
    let at = file.at("tcptrace.toml");
    fs::remove_file(&at).expect("a file");
    hang_up(agent.child.id());
    agent.wait("no file", |agent| agent.metric(SUCCESSFUL) == 0.0);
    let made = Command::new("mkfifo").arg(&at).status().expect("mkfifo runs");
    assert!(made.success());
    hang_up(agent.child.id());
    assert_eq!(agent.get("/metrics").0, 200);
}

fn a_token_is_rotated() {
    let ns = netns();
    let file = File::of(&ns, "serve", "");
    fs::write(file.at("token"), "first\n").expect("a file");
    file.write(&format!("token-file = \"{}\"", file.at("token")));
    let agent = file.agent(&[]);
    let by = |token: &str| agent.ask("/metrics", &format!("Authorization: Bearer {token}\r\n")).0;
    assert_eq!((by("first"), by("second")), (200, 401));
    fs::write(file.at("token"), "second\n").expect("a file");
    hang_up(agent.child.id());
    agent.wait("the second", |agent| agent.ask("/healthz", "").0 == 200 && by("second") == 200);
    assert_eq!(by("first"), 401);
    // An empty one opens to nobody.
    fs::write(file.at("token"), "").expect("a file");
    hang_up(agent.child.id());
    let failed = format!("{SUCCESSFUL} 0");
    let bearer = "Authorization: Bearer second\r\n";
    agent.wait("it is told", |agent| agent.ask("/metrics", bearer).1.contains(&failed));
    assert_eq!(by(""), 401);
}

fn a_certificate_is_rotated() {
    let ns = netns();
    let file = File::of(&ns, "serve", "");
    let (cert, key) = (file.at("cert.pem"), file.at("key.pem"));
    let make = |name: &str| {
        let subject = format!("/CN={name}");
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "2", "-subj", &subject, "-keyout", &key, "-out", &cert])
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("openssl runs").success());
    };
    make("first");
    file.write(&format!("tls-cert = \"{cert}\"\ntls-key = \"{key}\""));
    let agent = file.agent(&[]);
    let subject = || {
        let at = agent.at.to_string();
        let asked = Command::new("openssl")
            .args(["s_client", "-connect", &at])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        let said = String::from_utf8_lossy(&asked.expect("openssl runs").stdout).into_owned();
        let line = said.lines().find(|line| line.starts_with("subject="));
        line.unwrap_or_default().replace(' ', "")
    };
    assert_eq!(subject(), "subject=CN=first");
    make("second");
    assert_eq!(subject(), "subject=CN=first", "it is asked to");
    hang_up(agent.child.id());
    let deadline = std::time::Instant::now() + crate::tracer::DEADLINE;
    while subject() != "subject=CN=second" {
        assert!(std::time::Instant::now() < deadline, "the second certificate");
    }
}

fn a_watch_goes_on() {
    let ns = netns();
    let file = File::of(&ns, "watch", "min-age = \"300ms\"\nstate = [\"close_wait\"]");
    let mut tracer = file.watch(&[]);
    let mut first = Pair::new(&ns);
    first.client_closes();
    let told = tracer.next("stuck");
    assert_eq!(told["holders"][0]["pid"], first.server.pid());

    file.write("min-age = \"1h\"");
    hang_up(tracer.pid());
    file.write("min-age = \"500ms\"\norigins = true");
    hang_up(tracer.pid());
    let mut second = Pair::new(&ns);
    second.client_closes();
    let pid = second.server.pid();
    let other =
        tracer.wait_for("the second", |e| e["event"] == "stuck" && e["holders"][0]["pid"] == pid);
    let age = other["age_ms"]["min"].as_f64().expect("an age");
    assert!(age >= 500.0, "{age}");
    first.server_closes();
    let end = tracer.next("resolved");
    assert_eq!(end["cookie"], told["cookie"]);
    let stayed = end["stayed_ms"]["max"].as_f64().expect("a length");
    assert!(stayed >= told["age_ms"]["max"].as_f64().expect("an age"));
    let (_, status) = tracer.finish();
    assert!(status.success());
}

fn without_a_file_sighup_ends_it() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &[]);
    tracer.signal(Signal::HUP);
    let (_, status) = tracer.ended();
    assert_eq!(status.signal(), Some(libc::SIGHUP));
    let mut agent = Agent::of(&ns, &[]);
    hang_up(agent.child.id());
    let status = agent.child.wait().expect("it ends");
    assert_eq!(status.signal(), Some(libc::SIGHUP));
}

//! `tcptrace run`: how it ends, and what is said of what a command leaves behind.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tcptrace::view::json::schema;

use crate::{
    limits::as_nobody,
    support::{actor::Actor, netns::Netns},
    tests,
    tracer::{self, DEADLINE, netns, tcptrace},
};

tests![
    a_leak_that_nobody_closed,
    what_was_closed_is_not_left,
    a_ghost,
    a_listener_of_a_child_that_outlives_it,
    a_leak_of_a_child_that_outlives_it,
    a_command_that_fails_keeps_its_code,
    what_can_not_be_started,
    signals_are_sent_on,
    input_and_output_are_the_commands_own,
    junit_is_xml_and_github_a_line,
    without_rights_nothing_is_run,
];

/// An actor that `run` watches, which reports to a file.
fn actor(ns: &Netns, report: &Path, format: &str) -> Actor {
    let mut command = tcptrace();
    command.args(["run", "--min-age", "0", "--format", format]);
    command.arg("--report-file").arg(report).arg("--");
    Actor::start_by(ns, command).expect("an actor")
}

/// It ends, not before a scan could see whose its sockets are: of a process that is gone nobody can
/// tell any more.
fn leaves(actor: &mut Actor) {
    thread::sleep(Duration::from_secs(1));
    actor.leave_with("exit").expect("is told");
}

/// A connection with both ends in it: who connected, and who accepted.
fn connection(actor: &mut Actor) -> (u32, u32) {
    let listener = actor.number("listen 127.0.0.1:0 8").expect("listens");
    let address = actor.address(&format!("address {listener}")).expect("an address");
    let connected = actor.number(&format!("connect {address}")).expect("connects");
    let served = actor.number(&format!("accept {listener}")).expect("accepts");
    actor.tell(&format!("close {listener}")).expect("closes");
    (connected, served)
}

/// Waits for its end: the exit code, and what was left behind. The last line counts the others.
fn outcome(actor: &mut Actor, report: &Path) -> (Option<i32>, Vec<Value>) {
    let status = actor.ended().expect("it ends");
    let text = fs::read_to_string(report).expect("a report");
    let mut lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    lines.iter().for_each(|line| assert_eq!(schema::check(line), Ok(()), "docs/json.md"));
    let last = lines.pop().expect("a last line");
    assert_eq!(
        (&last["event"], last["left_behind"].as_u64()),
        (&"run".into(), Some(lines.len() as u64))
    );
    (status.code(), lines)
}

fn kinds(left: &[Value]) -> Vec<(&str, &str)> {
    left.iter()
        .map(|l| (l["left"].as_str().expect("a word"), l["state"].as_str().expect("a state")))
        .collect()
}

fn a_leak_that_nobody_closed() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let report = dir.path().join("left.json");
    let mut actor = actor(&ns, &report, "json");
    let (connected, served) = connection(&mut actor);
    actor.tell(&format!("close {connected}")).expect("closes");
    leaves(&mut actor);
    let (code, left) = outcome(&mut actor, &report);
    assert_eq!((code, kinds(&left)), (Some(3), vec![("closed-by-exit", "CLOSE_WAIT")]));
    assert_eq!(left[0]["netns"], ns.inode());
    let fd = left[0]["fd"].as_u64();
    assert!(fd.is_none_or(|fd| fd == u64::from(served)), "{left:?}");
}

fn what_was_closed_is_not_left() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let report = dir.path().join("left.json");
    let mut actor = actor(&ns, &report, "json");
    let (connected, served) = connection(&mut actor);
    for fd in [connected, served] {
        actor.tell(&format!("close {fd}")).expect("closes");
    }
    leaves(&mut actor);
    let (code, left) = outcome(&mut actor, &report);
    assert_eq!((code, left.len()), (Some(0), 0), "{left:?}");
}

fn a_ghost() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let report = dir.path().join("left.json");
    let mut actor = actor(&ns, &report, "json");
    let (connected, _) = connection(&mut actor);
    actor.tell(&format!("reset {connected}")).expect("resets");
    actor.tell("daemonise").expect("goes on");
    let (code, left) = outcome(&mut actor, &report);
    assert_eq!((code, kinds(&left)), (Some(3), vec![("open", "CLOSE")]));
    assert_eq!(left[0]["verdict"], "ghost-fd");
}

fn a_listener_of_a_child_that_outlives_it() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let report = dir.path().join("left.json");
    let mut actor = actor(&ns, &report, "json");
    let listener = actor.number("listen 127.0.0.1:0 8").expect("listens");
    let address = actor.address(&format!("address {listener}")).expect("an address");
    actor.tell("daemonise").expect("goes on");
    let (code, left) = outcome(&mut actor, &report);
    assert_eq!((code, kinds(&left)), (Some(3), vec![("listener", "LISTEN")]));
    assert_eq!(left[0]["local"], address.to_string());
}

fn a_leak_of_a_child_that_outlives_it() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let report = dir.path().join("left.json");
    let mut actor = actor(&ns, &report, "json");
    let (connected, _) = connection(&mut actor);
    actor.tell(&format!("close {connected}")).expect("closes");
    actor.tell("daemonise").expect("goes on");
    let (code, left) = outcome(&mut actor, &report);
    assert_eq!((code, kinds(&left)), (Some(3), vec![("open", "CLOSE_WAIT")]));
}

fn a_command_that_fails_keeps_its_code() {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)]
    {
        let (status, out, err) = tracer::run(&["run", "--", "sh", "-c", script]);
        assert_eq!((status.code(), out.as_str()), (Some(code), ""), "{script}: {err}");
    }
}

fn what_can_not_be_started() {
    for (program, code) in [("/nonexistent", 127), ("no-such-command-anywhere", 127), ("/", 126)] {
        let (status, _, err) = tracer::run(&["run", "--", program]);
        assert_eq!((status.code(), err.lines().count()), (Some(code), 1), "{err}");
        assert!(err.contains(program), "{err}");
    }
}

fn signals_are_sent_on() {
    for (name, signal) in [("INT", Signal::INT), ("TERM", Signal::TERM), ("USR1", Signal::USR1)] {
        let script = format!("trap 'exit 42' {name}; echo ready; while :; do sleep 0.01; done");
        let mut command = tcptrace();
        command.args(["run", "--", "sh", "-c", &script]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("reads");
        assert_eq!(line, "ready\n");
        let pid = Pid::from_raw(child.id().cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("it runs");
        let deadline = Instant::now() + DEADLINE;
        let ended = loop {
            if let Some(status) = child.try_wait().expect("it is our child") {
                break status;
            }
            if Instant::now() > deadline {
                child.kill().expect("it is our child");
                panic!("{name} did not end it");
            }
            thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(ended.code(), Some(42), "{name}");
    }
}

fn input_and_output_are_the_commands_own() {
    let mut child = tcptrace()
        .args(["run", "--", "sh", "-c", "cat; echo said >&2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    child.stdin.take().expect("stdin").write_all(b"\0 all of it\n").expect("writes");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"\0 all of it\n"[..]));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.starts_with("said\n") && err.contains("nothing left behind"), "{err}");
}

/// With a name that means something to XML and to GitHub.
fn left_by_a_hostile_name(format: &str) -> String {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let report = dir.path().join("left");
    let mut actor = actor(&ns, &report, format);
    let named = r"name <&\x22']]>\x01\x0a::";
    actor.tell(named).expect("a name");
    let (connected, _) = connection(&mut actor);
    actor.tell(&format!("close {connected}")).expect("closes");
    leaves(&mut actor);
    assert_eq!(actor.ended().expect("it ends").code(), Some(3));
    fs::read_to_string(&report).expect("a report")
}

fn junit_is_xml_and_github_a_line() {
    const READ: &str = "import sys, xml.etree.ElementTree as t\n\
                        root = t.parse(sys.stdin).getroot()\n\
                        cases = root.findall('testsuite/testcase')\n\
                        print(root.get('failures'), len(cases), cases[0].find('failure').get('type'), cases[0].get('name'))";
    let xml = left_by_a_hostile_name("junit");
    let mut python = Command::new("python3")
        .args(["-c", READ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is there");
    python.stdin.take().expect("stdin").write_all(xml.as_bytes()).expect("writes");
    let read = python.wait_with_output().expect("it ends");
    let read = String::from_utf8(read.stdout).expect("UTF-8");
    assert!(read.starts_with("1 1 ") && read.contains("<&\"']]>"), "{read}: {xml}");

    let said = left_by_a_hostile_name("github");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("::error title=tcptrace%3A CLOSE_WAIT never closed::"), "{said}");
}

fn without_rights_nothing_is_run() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("its owner may");
    let made = dir.path().join("made");
    let output =
        as_nobody("").args(["run", "--", "touch"]).arg(&made).output().expect("setpriv is there");
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!((output.status.code(), err.lines().count()), (Some(4), 1), "{err}");
    assert!(err.contains("CAP_BPF") && err.contains("the command was not run"), "{err}");
    assert!(!made.exists());
}

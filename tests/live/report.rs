//! Reports: written under the system call filter, for their owner alone, by a watch, by a snapshot
//! and of a recording.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
};

use serde_json::Value;

use crate::{
    recording::{Small, plain, until},
    tests,
    tracer::{Pair, Tracer, netns, tcptrace},
};

tests![
    a_watch_leaves_a_report,
    a_report_without_a_reader,
    a_report_without_room,
    a_report_of_a_recording,
    a_report_of_a_snapshot,
    no_report_of_what_did_not_begin,
];

/// The rows of a page's table, by cookie.
fn rows(page: &str) -> Vec<Value> {
    let (_, after) = page.split_once("id=\"data\">").expect("a page");
    let (data, _) = after.split_once("</script>").expect("its end");
    let data: Value = serde_json::from_str(data).expect("JSON");
    let mut rows = data["rows"].as_array().expect("rows").clone();
    rows.sort_by_key(|row| row[0].to_string());
    rows
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn a_watch_leaves_a_report() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let path = dir.path().join("x.html");
    fs::write(&path, "an older report\n".repeat(1 << 16)).expect("written");
    let (mut staying, mut ended) = (Pair::new(&ns), Pair::new(&ns));
    let mut tracer = Tracer::watch(&ns, &["--min-age", "100ms", "--report", plain(&path)]);
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else reads it, from the beginning");
    staying.client_closes();
    ended.client_closes();
    tracer.next("stuck");
    tracer.next("stuck");
    assert!(read(&path).starts_with("an older report"), "it stays until there is a new one");
    ended.server_closes();
    tracer.next("resolved");
    // What threads wait in is asked after the first report: some scans later it is known.
    for _ in 0..3 {
        tracer.next("stuck");
    }
    let (_, status) = tracer.finish();
    assert_eq!(status.code(), Some(0));
    let page = read(&path);
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "whole");
    let (open, closer) = (staying.server.pid(), ended.server.pid());
    assert!(page.contains(&format!("[{open}] does not close its connections: it holds the only")));
    let by = page.split("closed by ").nth(1).expect("by whom");
    assert!(by.split('"').next().is_some_and(|by| by.ends_with(&format!("[{closer}]"))));
    assert!(page.contains("What its threads waited in"), "what threads waited in");
    assert_eq!(rows(&page).len(), 2);
}

/// Who reads the lines has seen enough: the report is for somebody else.
fn a_report_without_a_reader() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let path = dir.path().join("x.md");
    let mut pair = Pair::new(&ns);
    let mut command = tcptrace();
    command.args(["watch", "--each", "--min-age", "100ms", "--report", plain(&path), "--netns"]);
    command.arg(ns.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut said = String::new();
    let mut stderr = BufReader::new(child.stderr.take().expect("stderr"));
    while !said.contains("watching ") {
        assert!(stderr.read_line(&mut said).expect("stderr") > 0, "{said}");
    }
    drop(child.stdout.take());
    pair.client_closes();
    until("it ends", || child.try_wait().expect("it is ours").is_some());
    assert_eq!(child.wait().expect("it ended").code(), Some(0));
    let ticket = read(&path);
    let pid = pair.server.pid();
    assert!(ticket.contains(&format!("\\[{pid}\\] does not close its connections")), "{ticket}");
}

fn a_report_without_room() {
    let (ns, disk) = (netns(), Small::new("size=16k"));
    let path = disk.0.path().join("x.html");
    let args = ["watch", "--duration", "200ms", "--report", plain(&path), "--netns"];
    let output = tcptrace().args(args).arg(ns.path()).output().expect("it runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{said}");
    let line = format!("tcptrace: --report {}: the report is not whole: No space", plain(&path));
    assert!(said.lines().last().is_some_and(|last| last.starts_with(&line)), "{said}");
}

fn a_report_of_a_recording() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let file = |name: &str| dir.path().join(name);
    let (live, recording, later) = (file("live.html"), file("x.tct"), file("later.html"));
    let args = ["--min-age", "100ms", "--report", plain(&live), "--record", plain(&recording)];
    let mut tracer = Tracer::watch(&ns, &args);
    let mut pairs = [Pair::new(&ns), Pair::new(&ns), Pair::new(&ns)];
    pairs.iter_mut().for_each(Pair::client_closes);
    for _ in &pairs {
        tracer.next("stuck");
    }
    pairs[0].server_closes();
    tracer.next("resolved");
    tracer.finish();
    let command = ["report", plain(&recording), "-o", plain(&later)];
    let output = tcptrace().args(command).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let told = |page: &Path| -> Vec<Vec<Value>> {
        // Cookie, ends, state, verdict, and the ages: what the page's own dictionary does not name.
        let kept = [0, 1, 3, 4, 5, 6, 13, 14, 15];
        rows(&read(page)).iter().map(|row| kept.map(|n| row[n].clone()).to_vec()).collect()
    };
    assert_eq!(told(&later), told(&live), "a recording tells what the watch told");
    assert_eq!(told(&later).len(), 3);
    // Against itself nothing has changed.
    let copy = file("copy.tct");
    let mut args = vec!["watch", "--duration", "300ms", "--record", plain(&copy), "--netns"];
    let namespace = ns.path();
    args.push(plain(&namespace));
    assert!(tcptrace().args(args).status().expect("it runs").success());
    let output =
        tcptrace().args(["report", plain(&recording), plain(&copy)]).output().expect("it runs");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("| all leaks | 3 | 0 |"), "{said}");
    let three = ["report", plain(&recording), plain(&copy), plain(&recording)];
    let output = tcptrace().args(three).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "the same file twice");
}

fn a_report_of_a_snapshot() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let path = dir.path().join("x.html");
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let args = ["snapshot", "--report", plain(&path), "--netns"];
    let output = tcptrace().args(args).arg(ns.path()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let page = read(&path);
    let pid = pair.server.pid();
    assert!(page.contains(&format!("[{pid}] does not close its connections: it holds the only")));
    assert!(
        page.contains("One snapshot does not show how fast")
            && page.contains("What its threads waited in")
    );
    assert_eq!(rows(&page).len(), 1);
}

fn no_report_of_what_did_not_begin() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.html");
    for args in [&["watch", "--netns", "/nonexistent"][..], &["watch", "--btf", "/dev/null"]] {
        let output = tcptrace().args(args).args(["--report", plain(&path)]).output();
        assert!(!output.expect("it runs").status.success());
        assert!(!path.exists(), "{args:?}: an empty report is left behind");
    }
}

//! Formats, ends, and names that are not to be trusted.

use std::{
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use rustix::process::Signal;

use crate::{
    tests,
    tracer::{Pair, Tracer, netns, tcptrace},
};

tests![
    a_table_fits_80_columns,
    ends_can_be_pasted_into_explain,
    many_leaks_are_a_few_lines,
    csv_columns_are_the_commands_own,
    csv_has_a_header_and_one_row_an_event,
    names_do_not_steer_the_terminal,
    colour_only_when_asked_for,
    ends_by_duration,
    ends_by_count,
    ends_by_sigterm,
    leaks_fail_a_script_that_asks,
    leaks_that_were_resolved_fail_who_asks_for_any,
    a_listener_fails_no_script,
    leaks_count_when_the_reader_goes,
];

const BRIEF: [&str; 2] = ["--min-age", "100ms"];

/// What `watch` prints of one leak and its end, in a format.
fn printed(name: &str, args: &[&str]) -> String {
    let ns = netns();
    let path = ns.path();
    let mut pair = Pair::new(&ns);
    pair.server.tell(&format!("name {name}")).expect("renames itself");
    pair.client_closes();
    let mut child = tcptrace()
        .args([
            "watch",
            "--min-age",
            "100ms",
            "--count",
            "1",
            "--netns",
            path.to_str().expect("plain"),
        ])
        .args(args)
        .env("COLUMNS", "80")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tcptrace starts");
    let mut out = String::new();
    child.stdout.take().expect("stdout").read_to_string(&mut out).expect("UTF-8");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    out
}

fn a_table_fits_80_columns() {
    let out = printed("abc", &[]);
    assert!(out.lines().all(|l| l.chars().count() <= 80), "{out}");
    let lines: Vec<&str> = out.lines().collect();
    let column =
        |word: &str, line: &str| line.find(word).unwrap_or_else(|| panic!("no {word} in {line:?}"));
    assert_eq!(column("VERDICT", lines[0]), column("unread-fin", lines[1]));
    assert_eq!(column("HOLDER", lines[0]), column("abc[", lines[1]));
    assert!(out.contains("1 stuck, 0 resolved, 1 still open"), "{out}");
    assert!(out.contains("unread-fin:\n  the process has read all data"), "what to do: {out}");
}

/// What tables show can be handed to explain.
fn ends_can_be_pasted_into_explain() {
    let ns = netns();
    let path = ns.path();
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    for (width, each) in [("80", "--group-by=none"), ("132", "--each"), ("132", "--utc")] {
        let mut watch = tcptrace();
        watch.args(["watch", "--min-age", "100ms", "-n", "1", each, "--netns"]).arg(&path);
        let output = watch.env("COLUMNS", width).output().expect("it runs");
        let out = String::from_utf8(output.stdout).expect("UTF-8");
        let row = out.lines().nth(1).expect("a row");
        let is_socket = |word: &&str| word.contains(",127.0.0.1:") || word.starts_with("cookie:");
        let socket = row.split_whitespace().find(is_socket).unwrap_or_else(|| panic!("{row}"));
        let page = tcptrace().args(["explain", socket]).output().expect("it runs");
        let page = String::from_utf8(page.stdout).expect("UTF-8");
        assert!(page.contains(&format!("[{}]", pair.server.pid())), "{row}: {page}");
    }
}

/// 300 leaks of one process are a few lines, and the last screen says whose they are.
fn many_leaks_are_a_few_lines() {
    let ns = netns();
    let mut pairs: Vec<Pair> = vec![Pair::new(&ns)];
    let server = &mut pairs[0].server;
    let listener = server.number("listen 127.0.0.1:0 512").expect("listens");
    let address = server.address(&format!("address {listener}")).expect("an address");
    let clients = || {
        ns.enter().expect("the namespace");
        (0..300).for_each(|_| drop(std::net::TcpStream::connect(address).expect("connects")));
    };
    std::thread::scope(|scope| scope.spawn(clients).join()).expect("clients come and go");
    for _ in 0..300 {
        server.number(&format!("accept {listener}")).expect("accepts");
    }
    let pid = server.pid();
    let mut child = tcptrace()
        .args(["watch", "--min-age", "100ms", "--count", "900", "--netns"])
        .arg(ns.path())
        .env("COLUMNS", "80")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tcptrace starts");
    let mut out = String::new();
    child.stdout.take().expect("stdout").read_to_string(&mut out).expect("UTF-8");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let rows = out.lines().take_while(|line| !line.is_empty()).count();
    assert!((2..20).contains(&rows), "{out}");
    assert!(out.contains(&format!("[{pid}] holds all 300 leaks")), "{out}");
    assert!(out.contains(&format!("Next: tcptrace explain {pid}")), "{out}");
}

/// Each command has the columns that it can fill, and a page has none.
fn csv_columns_are_the_commands_own() {
    let header = |args: &[&str]| {
        let output = tcptrace().args(args).args(["--format", "csv"]).output().expect("it runs");
        let out = String::from_utf8(output.stdout).expect("UTF-8");
        out.lines().next().unwrap_or_default().to_owned()
    };
    let pid = std::process::id().to_string();
    let snapshot = header(&["snapshot", "-p", &pid]);
    assert!(snapshot.contains("group_by") && !snapshot.contains("closed_by_pid"), "{snapshot}");
    assert_eq!(
        header(&["check"]),
        "event,time,name,ok,found,needed_for,lost_without,remedy,counts"
    );
    let page = tcptrace().args(["explain", &pid, "--format", "csv"]).output().expect("it runs");
    assert_eq!((page.status.code(), page.stdout.len()), (Some(2), 0));
}

fn csv_has_a_header_and_one_row_an_event() {
    let out = printed("=cmd|calc", &["--format", "csv"]);
    let mut reader = csv::Reader::from_reader(out.as_bytes());
    let headers = reader.headers().expect("a header").clone();
    let rows: Vec<csv::StringRecord> =
        reader.records().map(|r| r.expect("a row of the same width")).collect();
    let get = |row: &csv::StringRecord, name: &str| {
        let at = headers.iter().position(|h| h == name).expect("a column");
        row.get(at).expect("a field").to_owned()
    };
    assert_eq!(rows.iter().map(|r| get(r, "event")).collect::<Vec<_>>(), ["stuck", "summary"]);
    assert_eq!(get(&rows[0], "verdict"), "unread-fin");
    assert!(
        get(&rows[0], "holders").starts_with("'=cmd|calc["),
        "no formula: {}",
        get(&rows[0], "holders")
    );
}

fn names_do_not_steer_the_terminal() {
    for format in ["table", "json", "csv"] {
        // An escape sequence, a line end, C1's CSI, and a byte that is not UTF-8.
        let out =
            printed("\\x1b[31m\\nx\\xc2\\x9b2J\\xff", &["--format", format, "--color", "never"]);
        let bad = out.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(bad, None, "{format}: {out:?}");
        assert!(!out.contains("\nx"), "{format}: {out:?}");
    }
}

fn colour_only_when_asked_for() {
    assert!(!printed("plain", &[]).contains('\u{1b}'), "a pipe is no terminal");
    assert!(printed("plain", &["--color", "always"]).contains("\u{1b}["));
}

fn ends_by_duration() {
    let ns = netns();
    let (summary, status) = Tracer::watch(&ns, &["--duration", "1s"]).ended();
    assert_eq!((summary["event"].as_str(), status.code()), (Some("summary"), Some(0)));
}

fn ends_by_count() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "100ms", "--count", "2"]);
    let mut pairs: Vec<Pair> = (0..3).map(|_| Pair::new(&ns)).collect();
    pairs.iter_mut().for_each(Pair::client_closes);
    let (summary, status) = tracer.ended();
    assert_eq!((summary["event"].as_str(), status.code()), (Some("summary"), Some(0)));
    assert_eq!(tracer.heard.iter().filter(|e| e["event"] == "stuck").count(), 2);
}

fn ends_by_sigterm() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &[]);
    tracer.signal(Signal::TERM);
    let (summary, status) = tracer.ended();
    assert_eq!((summary["event"].as_str(), status.code()), (Some("summary"), Some(0)));
}

fn leaks_fail_a_script_that_asks() {
    let ns = netns();
    let flags = [&[][..], &["--fail-on-leak"], &["--fail-on-leak=any"]];
    let mut tracers = flags.map(|flag| Tracer::watch(&ns, &[&BRIEF[..], flag].concat()));
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    for tracer in &mut tracers {
        tracer.next("stuck");
    }
    let codes = tracers.map(|tracer| tracer.finish().1.code());
    assert_eq!(codes, [Some(0), Some(3), Some(3)], "it is open");
}

fn leaks_that_were_resolved_fail_who_asks_for_any() {
    let ns = netns();
    let flags = [&["--fail-on-leak=open"][..], &["--fail-on-leak=any"]];
    let mut tracers = flags.map(|flag| Tracer::watch(&ns, &[&BRIEF[..], flag].concat()));
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    for tracer in &mut tracers {
        tracer.next("stuck");
    }
    pair.server_closes();
    for tracer in &mut tracers {
        tracer.next("resolved");
    }
    let codes = tracers.map(|tracer| tracer.finish().1.code());
    assert_eq!(codes, [Some(0), Some(3)]);
}

/// What is reported, and is no leak, fails no script.
fn a_listener_fails_no_script() {
    let ns = netns();
    for flag in ["--fail-on-leak=open", "--fail-on-leak=any"] {
        let args = [&BRIEF[..], &["--state", "listen,close_wait", flag]].concat();
        let mut tracer = Tracer::watch(&ns, &args);
        let _pair = Pair::new(&ns);
        assert_eq!(tracer.next("stuck")["state"], "LISTEN");
        assert_eq!(tracer.finish().1.code(), Some(0));
    }
}

/// `tcptrace watch --fail-on-leak | head -1`
fn leaks_count_when_the_reader_goes() {
    let ns = netns();
    let path = ns.path();
    for (flag, expected) in [("--fail-on-leak", 3), ("--utc", 0)] {
        let mut pair = Pair::new(&ns);
        pair.client_closes();
        let mut child = tcptrace()
            .args(["watch", "--format", "json", flag, "--netns"])
            .arg(&path)
            .args(BRIEF)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("tcptrace starts");
        let mut line = String::new();
        let mut reader = BufReader::new(child.stdout.take().expect("stdout"));
        reader.read_line(&mut line).expect("a line");
        assert!(line.contains("\"stuck\""), "{line}");
        drop(reader);
        // It is told of what comes next, which it can't hand on.
        assert_eq!(child.wait().expect("it ends").code(), Some(expected), "{flag}");
    }
}

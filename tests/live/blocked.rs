//! What keeps processes from their work: real processes that wait for one another, on loopback in
//! network namespaces of their own.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    recording::{plain, until},
    support::{actor::Actor, netns::Netns},
    tests,
    tracer::{DEADLINE, Tracer, netns, run, start, tcptrace},
};

tests![
    a_blocking_call_to_a_silent_backend,
    a_call_with_a_timeout,
    a_watch_says_what_keeps_it,
    a_watch_knows_times_at_home,
    a_report_says_what_keeps_it,
    top_says_what_keeps_it,
    a_real_event_loop,
    a_peer_in_another_namespace,
    an_idle_event_loop_is_not_blamed,
];

/// A server whose only thread reads from a backend, which does not answer; clients wait.
struct Kept {
    server: Actor,
    backend: Actor,
    /// Keeps the connection open that the server has accepted.
    _client: Actor,
    /// The server's end of the connection to the backend, and its descriptor.
    own_end: String,
    fd: u32,
    /// The backend's end.
    at: SocketAddr,
}

impl Kept {
    /// `call` is what the server waits in for the backend.
    fn new(ns: &Netns, call: &str) -> Self {
        Self::between([start(ns), start(ns), start(ns)], call)
    }

    fn between([mut server, mut backend, mut client]: [Actor; 3], call: &str) -> Self {
        let behind = backend.number("listen 127.0.0.1:0 8").expect("listens");
        let at = backend.address(&format!("address {behind}")).expect("an address");
        let fd = server.number(&format!("connect {at}")).expect("connects");
        backend.number(&format!("accept {behind}")).expect("accepts");
        let own_end = server.tell(&format!("address {fd}")).expect("an address");
        let listener = server.number("listen 127.0.0.1:0 32").expect("listens");
        let front = server.address(&format!("address {listener}")).expect("an address");
        let accepted = client.number(&format!("connect {front}")).expect("connects");
        server.number(&format!("accept {listener}")).expect("accepts");
        for _ in 0..3 {
            let gives_up = client.number(&format!("connect {front}")).expect("connects");
            client.tell(&format!("close {gives_up}")).expect("closes");
        }
        client.tell(&format!("close {accepted}")).expect("closes");
        server.leave_with(&call.replace("FD", &fd.to_string())).expect("is told");
        Self { server, backend, _client: client, own_end, fd, at }
    }
}

/// What `explain` says keeps a process, once it is so.
pub fn kept(pid: u32, is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (_, out, err) = run(&["explain", &format!("pid:{pid}"), "--format", "json"]);
        let first = out.lines().next().unwrap_or_default();
        let page: Value = serde_json::from_str(first).unwrap_or_default();
        let found = page["blocked"].as_array().cloned().unwrap_or_default();
        if is_so(&found) && page["event"] == "process" {
            return found;
        }
        assert!(Instant::now() < deadline, "{err}{page:#}");
    }
}

/// Waits for the first finding that waits for this.
pub fn first(pid: u32, waits_for: &str) -> Value {
    let is_so = |found: &[Value]| {
        found.first().is_some_and(|first| first["links"][0]["waits_for"] == waits_for)
    };
    kept(pid, is_so).swap_remove(0)
}

pub fn text(finding: &Value) -> String {
    let lines = finding["text"].as_array().expect("words").iter();
    lines.map(|line| line.as_str().expect("a line")).collect::<Vec<_>>().join("\n")
}

/// Whom it leads to, without repetitions.
pub fn pids(finding: &Value) -> Vec<u64> {
    let links = finding["links"].as_array().expect("links").iter();
    let mut pids: Vec<u64> = links.map(|link| link["pid"].as_u64().expect("a pid")).collect();
    pids.dedup();
    pids
}

fn explains(kept: &Kept, finding: &Value) {
    let connection = &finding["links"][0]["connection"];
    assert_eq!(
        (&connection["local"], &connection["remote"], &connection["state"]),
        (&json!(kept.own_end), &json!(kept.at.to_string()), &json!("ESTABLISHED"))
    );
    assert_eq!(finding["links"][0]["fd"], kept.fd);
    assert_eq!(
        (&finding["claim"], &finding["never_accepted"], &finding["unread"]),
        (&json!("why"), &json!(3), &json!(1))
    );
    // The other end, on the same host.
    assert_eq!(finding["links"][0]["held_by"], json!([kept.backend.pid()]));
    let chain = [kept.server.pid(), kept.backend.pid()].map(u64::from);
    assert_eq!(pids(finding)[..2], chain);
    let text = text(finding);
    let what = format!("waits for data from {} (ESTABLISHED", kept.at);
    assert!(text.contains("its only thread") && text.contains(&what), "{text}");
    assert!(
        text.contains("that is why 3 connections were never accepted and 1 is unread."),
        "{text}"
    );
    assert!(text.contains(&format!("{} is ", kept.at)), "{text}");
}

fn a_blocking_call_to_a_silent_backend() {
    let ns = netns();
    let waits = Kept::new(&ns, "recv FD 10");
    let found = kept(waits.server.pid(), |found| {
        found.first().is_some_and(|f| f["never_accepted"] == 3 && f["unread"] == 1)
    });
    explains(&waits, &found[0]);
    let connection = &found[0]["links"][0]["connection"];
    assert!(connection["last_data_recv_ms"].as_f64().is_some(), "{connection}");
    assert!(connection["age_ms"]["min"].as_f64().is_some(), "{connection}");
    let (status, page, _) = run(&["explain", &format!("pid:{}", waits.server.pid())]);
    assert_eq!(status.code(), Some(0));
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains("what keeps it") && page.contains(", silent for "), "{page}");
    assert!(page.contains("that is why 3 connections were never accepted"), "{page}");
}

/// Libraries that read with a timeout wait in poll(), for one descriptor.
fn a_call_with_a_timeout() {
    let ns = netns();
    let waits = Kept::new(&ns, "poll FD");
    let found = kept(waits.server.pid(), |found| {
        found.first().is_some_and(|f| f["never_accepted"] == 3 && f["unread"] == 1)
    });
    explains(&waits, &found[0]);
}

/// A watch that has read what threads wait for, and its last line: how long that takes is not
/// known, so it is given more time until it was enough.
fn watched(ns: &Netns, args: &[&str]) -> Value {
    let path = ns.path();
    watched_with(&[&["--netns", plain(&path)], args].concat())
}

fn watched_with(args: &[&str]) -> Value {
    let deadline = Instant::now() + DEADLINE;
    for turn in 4.. {
        let mut tracer = Tracer::unscoped(&[&["--min-age", "100ms"], args].concat());
        for _ in 0..turn {
            tracer.next("stuck");
        }
        tracer.hear(Duration::from_millis(200) * turn);
        let (summary, _) = tracer.finish();
        if summary["blocked"].as_array().is_some_and(|found| !found.is_empty()) {
            return summary;
        }
        assert!(Instant::now() < deadline, "{summary:#}");
        // A recording is never overwritten.
        for file in args.iter().filter(|arg| arg.ends_with(".tct")) {
            let _ = std::fs::remove_file(file);
        }
    }
    unreachable!("it is found or the time is over")
}

/// The watch's last line and screen, and the same of its recording.
fn a_watch_says_what_keeps_it() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let path = dir.path().join("x.tct");
    let waits = Kept::new(&ns, "recv FD 10");
    let summary = watched(&ns, &["--record", plain(&path)]);
    let [finding] = &summary["blocked"].as_array().expect("findings")[..] else {
        panic!("one finding: {summary:#}")
    };
    explains(&waits, finding);
    // A running watch can't ask about another network namespace than its own.
    let connection = &finding["links"][0]["connection"];
    assert_eq!(connection["last_data_recv_ms"], Value::Null);
    assert!(connection["times_unknown"].as_str().is_some_and(|why| why.contains("explain")));

    let (_, replayed, _) = run(&["replay", plain(&path), "--format", "json"]);
    let last: Value = serde_json::from_str(replayed.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["blocked"], summary["blocked"], "a replay says the same");
    let (_, screen, _) = run(&["replay", plain(&path)]);
    let screen = screen.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(screen.contains("what keeps it, as of"), "{screen}");
    assert!(screen.contains("that is why 3 connections were never accepted"), "{screen}");
}

/// Of its own network namespace a running watch knows the times, too.
fn a_watch_knows_times_at_home() {
    let actor = || Actor::start(None).expect("it starts");
    let waits = Kept::between([actor(), actor(), actor()], "poll FD");
    let summary = watched_with(&["--pid", &waits.server.pid().to_string()]);
    let finding = &summary["blocked"][0];
    explains(&waits, finding);
    let connection = &finding["links"][0]["connection"];
    assert!(connection["last_data_recv_ms"].as_f64().is_some(), "{connection}");
    assert!(text(finding).contains(", silent for "), "{finding:#}");
}

fn a_report_says_what_keeps_it() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let path = dir.path().join("x.tct");
    let waits = Kept::new(&ns, "recv FD 10");
    watched(&ns, &["--record", plain(&path)]);
    let read = |name: &str| {
        let to = dir.path().join(name);
        let (status, _, err) = run(&["report", plain(&path), "-o", plain(&to)]);
        assert_eq!(status.code(), Some(0), "{err}");
        std::fs::read_to_string(Path::new(&to)).expect("a report")
    };
    let (page, ticket) = (read("x.html"), read("x.md"));
    for text in [&page, &ticket] {
        assert!(text.contains("that is why 3 connections were never accepted"), "{text}");
        assert!(text.contains(&waits.at.to_string()), "{text}");
    }
}

/// The page of a row; what a terminal would show is tested elsewhere.
fn top_says_what_keeps_it() {
    use tcptrace::{
        engine::watch::{Plan, Watch},
        source::recording::file::Recording,
        view::top::seen::Seen,
    };
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let path = dir.path().join("x.tct");
    let waits = Kept::new(&ns, "recv FD 10");
    watched(&ns, &["--record", plain(&path)]);
    let mut recording = Recording::open(&[path]).expect("it opens");
    let (mut watch, mut said, mut now) = (Watch::new(Plan::default()), Vec::new(), 0);
    while let Some(batch) = recording.next_batch().expect("it is whole") {
        batch.facts.iter().for_each(|fact| watch.take(fact, &mut said));
        now = batch.now;
    }
    let seen = Seen::of(&watch, now);
    let of_server = seen.waits.iter().find(|(id, _)| id.pid == waits.server.pid());
    let (_, of_server) = of_server.expect("it is known what it waits for");
    assert_eq!(of_server.causes[0].links[0].process.id.pid, waits.server.pid());
    assert!(of_server.threads.is_ok());
}

/// A program as one writes it: an event loop that calls a backend with a blocking library.
const LOOP: &str = r#"
import selectors, socket, sys
backend = ("127.0.0.1", int(sys.argv[1]))
listener = socket.create_server(("127.0.0.1", 0), backlog=32)
loop = selectors.DefaultSelector()
loop.register(listener, selectors.EVENT_READ)
print(listener.getsockname()[1], flush=True)
while True:
    for key, _ in loop.select():
        if key.fileobj is listener:
            loop.register(listener.accept()[0], selectors.EVENT_READ)
        elif key.fileobj.recv(100):
            upstream = socket.create_connection(backend)
            upstream.settimeout(600)
            upstream.sendall(b"question")
            upstream.recv(100)
        else:
            loop.unregister(key.fileobj)
            key.fileobj.close()
"#;

/// It ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn a_real_event_loop() {
    let ns = netns();
    let (mut backend, mut client) = (start(&ns), start(&ns));
    let behind = backend.number("listen 127.0.0.1:0 8").expect("listens");
    let at = backend.address(&format!("address {behind}")).expect("an address");
    let mut command = Command::new("python3");
    command.args(["-c", LOOP, &at.port().to_string()]).stdout(Stdio::piped());
    ns.enter_in(&mut command).expect("a namespace");
    let mut program = Program(command.spawn().expect("it starts"));
    let mut port = String::new();
    let out = program.0.stdout.take().expect("its output");
    BufReader::new(out).read_line(&mut port).expect("its port");
    let pid = program.0.id();
    // While it waits for events, nothing keeps it.
    let idle = kept(pid, |found| found.is_empty());
    assert_eq!(idle, Vec::<Value>::new());

    let front = format!("127.0.0.1:{}", port.trim());
    let asks = client.number(&format!("connect {front}")).expect("connects");
    client.tell(&format!("send {asks} 5")).expect("asks");
    backend.number(&format!("accept {behind}")).expect("the program calls it");
    first(pid, "data");
    for _ in 0..20 {
        let gives_up = client.number(&format!("connect {front}")).expect("connects");
        client.tell(&format!("close {gives_up}")).expect("closes");
    }
    client.tell(&format!("close {asks}")).expect("closes");
    let found = kept(pid, |found| {
        found.first().is_some_and(|f| f["never_accepted"] == 20 && f["unread"] == 1)
    });
    let said = text(&found[0]);
    assert!(
        said.contains(&format!("waits for data from {at} (ESTABLISHED, silent for "))
            && said.contains("that is why 20 connections were never accepted and 1 is unread."),
        "{said}"
    );
    assert_eq!(found[0]["links"][0]["held_by"], json!([backend.pid()]));
    // The question is there, and nobody has read it.
    assert_eq!(found[0]["links"][0]["connection"]["peer_recv_q"], 8);
}

/// Two namespaces of one host: who has the other end there.
fn a_peer_in_another_namespace() {
    let (here, there) = (netns(), netns());
    let addresses = crate::support::netns::join(&here, &there).expect("a pair of interfaces");
    let (mut server, mut backend) = (start(&here), start(&there));
    let behind = backend.number(&format!("listen {}:0 8", addresses[1])).expect("listens");
    let at = backend.address(&format!("address {behind}")).expect("an address");
    let fd = server.number(&format!("connect {at}")).expect("connects");
    backend.number(&format!("accept {behind}")).expect("accepts");
    let listener = server.number("listen 127.0.0.1:0 8").expect("listens");
    let front = server.address(&format!("address {listener}")).expect("an address");
    let mut client = start(&here);
    let gives_up = client.number(&format!("connect {front}")).expect("connects");
    client.tell(&format!("close {gives_up}")).expect("closes");
    server.leave_with(&format!("recv {fd} 10")).expect("is told");
    let explained = first(server.pid(), "data");
    // A watch has entered none of the two: it reads files about them.
    let summary = watched(&here, &[]);
    for finding in [&explained, &summary["blocked"][0]] {
        assert_eq!(finding["links"][0]["held_by"], json!([backend.pid()]), "{finding:#}");
        assert_eq!(finding["links"][0]["connection"]["peer_on_this_host"], true);
    }
}

fn an_idle_event_loop_is_not_blamed() {
    let ns = netns();
    let (mut server, mut client) = (start(&ns), start(&ns));
    let listener = server.number("listen 127.0.0.1:0 8").expect("listens");
    let front = server.address(&format!("address {listener}")).expect("an address");
    let connected = client.number(&format!("connect {front}")).expect("connects");
    let accepted = server.number(&format!("accept {listener}")).expect("accepts");
    // Only the listener is in it: what the client leaves behind is forgotten.
    server.leave_with(&format!("epoll {listener}")).expect("is told");
    client.tell(&format!("close {connected}")).expect("closes");
    until("it waits for events", || {
        let (_, page, _) = run(&["explain", &format!("pid:{}", server.pid())]);
        page.contains("epoll")
    });
    let found = kept(server.pid(), |_| true);
    assert_eq!(found, Vec::<Value>::new(), "fd {accepted} leaks, and nothing keeps the server");
    let mut command = tcptrace();
    command.args([
        "watch",
        "--min-age",
        "100ms",
        "--duration",
        "2s",
        "--format",
        "json",
        "--netns",
    ]);
    let output = command.arg(ns.path()).output().expect("it runs");
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    let last: Value = serde_json::from_str(out.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&last["leaks"], &last["blocked"]), (&json!(1), &json!([])));
}

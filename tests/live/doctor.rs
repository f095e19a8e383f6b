//! What ails a network namespace: each ailment for real, and named; and what only looks alarming.

use std::{
    fs, io,
    io::Read,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Command, Output},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tcptrace::view::json::schema;

use crate::{
    healthy::Ends,
    limits::as_nobody,
    support::{actor::Actor, netns::Netns},
    tests,
    tracer::{DEADLINE, Unaccepted, netns, start, tcptrace},
};

tests![
    ports_to_one_destination_are_used_up,
    ports_in_time_wait_that_are_taken_again,
    time_wait_has_no_room,
    a_full_accept_queue,
    nobody_accepts,
    hardly_any_descriptors_left,
    connections_that_are_not_closed,
    settings_of_each_namespace,
    a_page_for_people,
    what_may_not_be_looked_at_is_said,
];

/// What `doctor --format json` said.
#[derive(Debug)]
pub struct Said {
    pub findings: Vec<Value>,
    pub remarks: Vec<Value>,
    pub settings: Vec<Value>,
    pub unseen: Vec<Value>,
    pub summary: Value,
    pub code: Option<i32>,
}

impl Said {
    fn of(args: &[&str]) -> Self {
        Self::heard(tcptrace(), args)
    }

    fn heard(mut command: Command, args: &[&str]) -> Self {
        command.args(["doctor", "--format", "json"]).args(args);
        let Output { status, stdout, stderr } = command.output().expect("it runs");
        assert_eq!(String::from_utf8_lossy(&stderr), "", "all is on stdout");
        let out = String::from_utf8(stdout).expect("UTF-8");
        let mut lines: Vec<Value> =
            out.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        lines.iter().for_each(|line| assert_eq!(schema::check(line), Ok(()), "docs/json.md"));
        let summary = lines.pop().expect("a summary");
        let all = |event: &str| lines.iter().filter(|l| l["event"] == event).cloned().collect();
        let (findings, remarks) = (all("finding"), all("remark"));
        let (settings, unseen) = (all("setting"), all("not_looked_at"));
        let counted = summary["findings"].as_u64();
        assert_eq!(counted, Some(u64::try_from(Vec::len(&findings)).expect("a count")));
        Self { findings, remarks, settings, unseen, summary, code: status.code() }
    }

    /// Of one namespace.
    pub fn within(ns: &Netns, args: &[&str]) -> Self {
        let path = ns.path();
        let scope = ["--netns", path.to_str().expect("a plain path")];
        let apart = if args.contains(&"--for") { &[][..] } else { &["--for", "200ms"] };
        Self::of(&[&scope, apart, args].concat())
    }

    fn setting(&self, name: &str) -> &Value {
        let found = self.settings.iter().find(|s| s["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {:#?}", self.settings))
    }
}

/// Looks until a finding of that name fits.
pub fn wait_for(ns: &Netns, args: &[&str], name: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let said = Said::within(ns, args);
        let found = said.findings.iter().find(|f| f["name"] == name && fits(f));
        if let Some(found) = found {
            return found.clone();
        }
        assert!(Instant::now() < deadline, "no {name}: {said:#?}");
    }
}

/// A namespace and a process in it: others are found by nobody.
pub fn inhabited() -> (Netns, Actor) {
    let ns = netns();
    let somebody = start(&ns);
    (ns, somebody)
}

/// Does something in a namespace, on a thread of its own.
pub fn inside<T: Send>(ns: &Netns, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let there = scope.spawn(|| {
            ns.enter().expect("enters");
            work()
        });
        there.join().expect("it does not panic")
    })
}

pub fn set(ns: &Netns, name: &str, value: &str) {
    let path = format!("/proc/sys/net/{name}");
    inside(ns, || fs::write(path, value).expect("the namespace is the test's own"));
}

/// A connection that its client closes first.
fn short(listener: &TcpListener, to: SocketAddr) -> io::Result<()> {
    let mut client = TcpStream::connect(to)?;
    let (mut served, _) = listener.accept()?;
    client.shutdown(Shutdown::Write)?;
    served.read_to_end(&mut Vec::new())?;
    drop(served);
    client.read_to_end(&mut Vec::new()).map(drop)
}

/// Uses up a hundred ports to one destination; returns how many were, and where it is.
pub fn use_up(ns: &Netns) -> (u64, SocketAddr) {
    set(ns, "ipv4/ip_local_port_range", "40000 40099");
    inside(ns, || {
        let listener = TcpListener::bind("127.0.0.1:8080").expect("listens");
        let to = listener.local_addr().expect("an address");
        let mut made = 0;
        loop {
            match short(&listener, to) {
                Ok(()) => made += 1,
                Err(e) if e.raw_os_error() == Some(libc::EADDRNOTAVAIL) => return (made, to),
                Err(e) => panic!("{e}"),
            }
            // More than there are, where a second has passed and they may be taken again.
            assert!(made <= 1_000, "they are taken again and again");
        }
    })
}

fn ports_to_one_destination_are_used_up() {
    let (ns, _somebody) = inhabited();
    set(&ns, "ipv4/tcp_tw_reuse", "0");
    let (made, to) = use_up(&ns);
    assert_eq!(made, 100);
    let said = Said::within(&ns, &["--fail-on", "high"]);
    let [found] = &said.findings[..] else { panic!("one finding wanted: {said:#?}") };
    assert_eq!(
        [&found["name"], &found["harm"], &found["confidence"], &found["basis"]],
        ["ephemeral-ports", "high", "certain", "now"]
    );
    assert_eq!((&found["value"], &found["limit"]), (&json!(100), &json!(100)));
    assert_eq!(found["netns"], json!(ns.inode()));
    let text = |field: &str| found[field].as_str().expect("a text");
    assert!(text("found").contains(&format!("from 127.0.0.1 to {to} are taken")), "{found}");
    assert!(text("remedy").starts_with("Keep connections open"), "{found}");
    assert!(text("no_help").contains("tcp_fin_timeout"), "{found}");
    assert_eq!((said.code, &said.summary["worst"]), (Some(3), &json!("high")));
    let range = said.setting("net.ipv4.ip_local_port_range");
    assert_eq!([&range["changed"], &range["matters"]], [true, true], "{range}");
    // To another destination there are all of them.
    inside(&ns, || {
        let other = TcpListener::bind("127.0.0.1:8081").expect("listens");
        TcpStream::connect(other.local_addr().expect("an address")).expect("connects");
    });
}

/// On loopback the kernel takes ports in TIME_WAIT again, after a second: no alarm then.
fn ports_in_time_wait_that_are_taken_again() {
    let (ns, _somebody) = inhabited();
    let (_, to) = use_up(&ns);
    let said = Said::within(&ns, &[]);
    assert!(said.findings.is_empty(), "{said:#?}");
    let remark = |name| said.remarks.iter().find(|r| r["name"] == name);
    let ports = remark("ephemeral-ports").expect("a remark");
    assert!(ports["text"].as_str().is_some_and(|t| t.contains("tcp_tw_reuse")), "{ports}");
    inside(&ns, || {
        let listener = TcpListener::bind("127.0.0.1:8080").expect("listens");
        let deadline = Instant::now() + DEADLINE;
        while let Err(e) = short(&listener, to) {
            assert!(Instant::now() < deadline, "no port is taken again: {e}");
        }
    });
}

/// What finds no room closes without waiting.
fn time_wait_has_no_room() {
    let (ns, _somebody) = inhabited();
    set(&ns, "ipv4/tcp_max_tw_buckets", "5");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            ns.enter().expect("enters");
            let listener = TcpListener::bind("127.0.0.1:8080").expect("listens");
            let to = listener.local_addr().expect("an address");
            while !over.load(Ordering::Relaxed) {
                short(&listener, to).expect("a connection");
                thread::sleep(Duration::from_millis(10));
            }
        });
        let _ends = Ends(&over);
        let found =
            wait_for(&ns, &["--for", "500ms"], "time-wait-overflow", |f| f["basis"] == "rate");
        assert_eq!([&found["harm"], &found["confidence"]], ["medium", "certain"]);
        assert_eq!(found["limit"], json!(5));
        assert_eq!(found["netns"], json!(ns.inode()));
    });
}

fn a_full_accept_queue() {
    let ns = netns();
    let mut queue = Unaccepted::new(&ns, 2);
    for _ in 0..3 {
        queue.client.number(&format!("connect {}", queue.address)).expect("connects");
    }
    let full = wait_for(&ns, &[], "accept-queue", |_| true);
    assert_eq!((&full["value"], &full["limit"]), (&json!(3), &json!(2)));
    assert_eq!(full["processes"][0]["pid"], json!(queue.server.pid()));
    let found = full["found"].as_str().expect("a text");
    assert!(found.starts_with(&format!("the accept queue of {} is full", queue.address)));
    // A fourth asks, and asks again.
    queue.client.number(&format!("connect-later {}", queue.address)).expect("sends a SYN");
    let dropping = wait_for(&ns, &["--for", "1s"], "accept-queue", |f| f["basis"] == "rate");
    assert_eq!([&dropping["harm"], &dropping["confidence"]], ["high", "certain"]);
    // It is told of who has it, and of nobody else.
    let of = |pid: u32| Said::of(&[&pid.to_string(), "--for", "100ms"]).findings.len();
    assert_eq!((of(queue.server.pid()), of(queue.client.pid())), (1, 0));
}

fn nobody_accepts() {
    let ns = netns();
    let mut queue = Unaccepted::new(&ns, 100);
    queue.clients_give_up(3);
    let found = wait_for(&ns, &["--min-age", "100ms"], "accept-queue", |_| true);
    assert_eq!([&found["harm"], &found["confidence"]], ["medium", "certain"]);
    assert_eq!((&found["value"], &found["limit"]), (&json!(3), &json!(100)));
    assert!(Said::within(&ns, &[]).findings.is_empty(), "not for a moment");
}

fn hardly_any_descriptors_left() {
    const LIMIT: u64 = 64;
    let ns = netns();
    let mut server = start(&ns);
    let pid = Pid::from_raw(server.pid().cast_signed()).expect("a pid");
    let limit = Rlimit { current: Some(LIMIT), maximum: Some(4 * LIMIT) };
    prlimit(Some(pid), Resource::Nofile, limit).expect("root may");
    while server.number("bind 127.0.0.1:0").is_ok() {}
    let found = wait_for(&ns, &[], "descriptors", |_| true);
    assert_eq!([&found["harm"], &found["confidence"]], ["high", "certain"]);
    // It may have some that were above the limit before.
    assert!(found["value"].as_u64() >= Some(LIMIT) && found["limit"] == LIMIT, "{found}");
    assert_eq!(found["processes"][0]["pid"], json!(server.pid()));
    let remedy = found["remedy"].as_str().expect("a text");
    assert!(remedy.contains(&format!("prlimit --pid {} --nofile=N:256", server.pid())), "{remedy}");
}

fn connections_that_are_not_closed() {
    const LEAKS: usize = 12;
    let ns = netns();
    let (mut server, mut client) = (start(&ns), start(&ns));
    let listener = server.number("listen 127.0.0.1:0 20").expect("listens");
    let address = server.address(&format!("address {listener}")).expect("an address");
    for _ in 0..LEAKS {
        let connected = client.number(&format!("connect {address}")).expect("connects");
        server.number(&format!("accept {listener}")).expect("accepts");
        client.tell(&format!("close {connected}")).expect("closes");
    }
    for args in [&["--min-age", "0"][..], &["--min-age", "0", "--no-bpf"]] {
        let found = wait_for(&ns, args, "leaks", |f| f["value"] == json!(LEAKS));
        assert_eq!([&found["harm"], &found["confidence"]], ["low", "likely"], "{found}");
        assert_eq!(found["processes"][0]["pid"], json!(server.pid()));
        assert_eq!(found["evidence"][0], "by verdict: 12 unread-fin");
    }
    assert!(Said::within(&ns, &[]).findings.is_empty(), "they may be closed in a moment");
}

/// Each namespace has its own, and the host some: read where they are.
fn settings_of_each_namespace() {
    let ((one, _in_one), (other, _in_other)) = (inhabited(), inhabited());
    let elsewhere = netns();
    set(&one, "ipv4/tcp_fin_timeout", "17");
    let inode = one.inode().to_string();
    let (one, other) = (Said::within(&one, &[]), Said::within(&other, &[]));
    assert!(one.summary["netns_paths"][&inode].is_string(), "{}", one.summary);
    let of = |said: &Said| {
        let setting = said.setting("net.ipv4.tcp_fin_timeout");
        (setting["value"].clone(), setting["default"].clone(), setting["changed"].clone())
    };
    assert_eq!(of(&one), (json!("17"), json!("60"), json!(true)));
    assert_eq!(of(&other), (json!("60"), json!("60"), json!(false)));
    // Also for who is in a namespace that has no such setting.
    let mut command = tcptrace();
    elsewhere.enter_in(&mut command).expect("enters");
    let from_elsewhere = Said::heard(command, &["--for", "50ms"]);
    assert!(from_elsewhere.setting("net.ipv4.tcp_mem")["value"].is_string());
    let memory = one.setting("net.ipv4.tcp_mem");
    assert_eq!(memory["default_is"], "computed from memory", "{memory}");
    assert!(memory["value"].is_string() && memory["netns"].is_null(), "{memory}");
}

fn a_page_for_people() {
    let ns = netns();
    let mut queue = Unaccepted::new(&ns, 1);
    for _ in 0..2 {
        queue.client.number(&format!("connect {}", queue.address)).expect("connects");
    }
    wait_for(&ns, &[], "accept-queue", |_| true);
    let mut command = tcptrace();
    command.args(["doctor", "--for", "100ms", "--netns"]).arg(ns.path()).env("COLUMNS", "80");
    let out = String::from_utf8(command.output().expect("it runs").stdout).expect("UTF-8");
    assert!(out.lines().all(|l| l.chars().count() <= 80), "{out}");
    assert!(out.starts_with("1 finding: 1 medium\n"), "{out}");
    for part in ["what helps", "what won't", "how sure", "Settings", "Not looked at"] {
        assert!(out.contains(part), "{part}: {out}");
    }
}

fn what_may_not_be_looked_at_is_said() {
    let said = Said::heard(as_nobody(""), &["--for", "50ms"]);
    let why = |what: &str| {
        let told =
            said.unseen.iter().find(|u| u["what"].as_str().is_some_and(|w| w.contains(what)));
        told.and_then(|u| u["why"].as_str()).unwrap_or_else(|| panic!("no {what} in {said:#?}"))
    };
    assert!(why("descriptors of").contains("CAP_SYS_PTRACE"));
    let hides = said.unseen.iter().find(|u| u["hides"] == true);
    assert!(hides.is_some(), "{:#?}", said.unseen);
    assert_eq!(said.summary["not_looked_at"], json!(said.unseen.len()));
}

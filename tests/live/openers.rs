//! `--origins` on every kernel that tcptrace runs on: whose calls are looked at, what is told where
//! reads can't be traced, and that a replay says the same. The programs are the tests' own actors;
//! `origins` has real ones, with their functions.

use std::{fs, path::Path, process::Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    support::{cgroup::Cgroup, netns::Netns},
    tests,
    tracer::{DEADLINE, Pair, Tracer, netns, start, tcptrace},
};

tests![
    both_ends_of_a_connection,
    nothing_unasked,
    of_one_process_and_of_its_children,
    of_a_cgroup,
    who_accepted_and_let_go,
    there_before_the_start,
    nobody_accepted_it,
    both_ends_of_mptcp,
    a_replay_says_the_same,
];

/// Whether this kernel traces reads (`sock_recv_length`, 6.3).
fn traces_reads() -> bool {
    let btf = fs::read("/sys/kernel/btf/vmlinux").expect("this kernel has BTF");
    let name = b"\0btf_trace_sock_recv_length\0";
    btf.windows(name.len()).any(|window| window == name)
}

fn watch(ns: &Netns, more: &[&str]) -> Tracer {
    Tracer::watch(ns, &[&["--origins", "--min-age", "300ms"], more].concat())
}

/// Its report, the first or a later one: functions of so large a program are looked up for longer
/// than the first waits for.
fn leak_of(tracer: &mut Tracer, pid: u32) -> Value {
    let looked_up = |moment: &Value| !moment.is_object() || moment["frames"].is_array();
    tracer.wait_for("its leak", |event| {
        event["event"] == "stuck"
            && event["holders"][0]["pid"] == pid
            && ["origin", "last_read", "end_read"].iter().all(|field| looked_up(&event[*field]))
    })
}

/// The innermost call that is the actor's own, or the library's, has a name.
fn expect_call(moment: &Value, pid: u32, function: &str) {
    assert_eq!((&moment["pid"], &moment["thread"]), (&pid.into(), &pid.into()), "{moment:#}");
    assert_eq!(moment["process"], moment["name"], "its only thread: {moment:#}");
    let frames = moment["frames"].as_array().unwrap_or_else(|| panic!("no frames: {moment:#}"));
    let named = |f: &Value| f["function"].as_str().is_some_and(|name| name.contains(function));
    assert!(frames.iter().any(named), "no {function}: {moment:#}");
}

fn both_ends_of_a_connection() {
    let ns = netns();
    let mut tracer = watch(&ns, &[]);
    let mut pair = Pair::new(&ns);
    let (served, connected) = (pair.served, pair.connected);
    pair.client.tell(&format!("send {connected} 5")).expect("sends");
    pair.server.tell(&format!("recv {served} 5")).expect("reads");
    pair.client_closes();
    pair.server.tell(&format!("recv-fin {served} 1")).expect("reads the end");
    let (pid, read) = (pair.server.pid(), traces_reads());
    let leak = leak_of(&mut tracer, pid);
    assert_eq!(leak["origin"]["how"], "accept", "{leak:#}");
    expect_call(&leak["origin"], pid, "act");
    assert_eq!(leak["holders"][0]["opener"], true, "{leak:#}");
    for field in ["last_read", "end_read"] {
        if read {
            expect_call(&leak[field], pid, "act");
            assert!(leak["unknown"][field].is_null(), "{leak:#}");
        } else {
            let why = leak["unknown"][field].as_str().expect("a reason");
            assert!(leak[field].is_null() && why.contains("6.3"), "{leak:#}");
        }
    }

    // The other way round: who connected is left with it.
    let mut pair = Pair::new(&ns);
    pair.server_closes();
    let pid = pair.client.pid();
    let leak = leak_of(&mut tracer, pid);
    assert_eq!((&leak["origin"]["how"], &leak["role"]), (&"connect".into(), &"client".into()));
    expect_call(&leak["origin"], pid, "act");
    assert!(leak["last_read"].is_null() && leak["end_read"].is_null(), "{leak:#}");
}

/// The application's own sockets, not their subflows.
fn both_ends_of_mptcp() {
    let ns = netns();
    let mut tracer = watch(&ns, &[]);
    for server_leaks in [true, false] {
        let (mut server, mut client) = (start(&ns), start(&ns));
        let listener = server.number("listen-mptcp 127.0.0.1:0 8").expect("listens");
        let address = server.address(&format!("address {listener}")).expect("an address");
        let connected = client.number(&format!("connect-mptcp {address}")).expect("connects");
        let served = server.number(&format!("accept {listener}")).expect("accepts");
        let (leaking, how) = if server_leaks {
            client.tell(&format!("close {connected}")).expect("closes");
            (&server, "accept")
        } else {
            server.tell(&format!("close {served}")).expect("closes");
            (&client, "connect")
        };
        let leak = leak_of(&mut tracer, leaking.pid());
        assert_eq!((&leak["protocol"], &leak["origin"]["how"]), (&"mptcp".into(), &how.into()));
        expect_call(&leak["origin"], leaking.pid(), "act");
    }
}

fn nothing_unasked() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "300ms"]);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let leak = leak_of(&mut tracer, pair.server.pid());
    for field in ["origin", "last_read", "end_read"] {
        assert!(leak.get(field).is_none() && leak["unknown"].get(field).is_none(), "{leak:#}");
    }
}

fn of_one_process_and_of_its_children() {
    let ns = netns();
    let [server, other] = [start(&ns), start(&ns)];
    let pid = server.pid().to_string();
    let mut tracer = watch(&ns, &["--pid", &pid, "--children"]);
    let mut pair = Pair::between(server, start(&ns), "127.0.0.1:0", "127.0.0.1");
    pair.client_closes();
    let leak = leak_of(&mut tracer, pair.server.pid());
    expect_call(&leak["origin"], pair.server.pid(), "act");
    // One that was not asked for, and hands its connection to one that was: who that is was not
    // looked at.
    drop(other);
    let ancestor = std::process::id().to_string();
    let mut tracer = watch(&ns, &["--pid", &ancestor, "--children"]);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let leak = leak_of(&mut tracer, pair.server.pid());
    expect_call(&leak["origin"], pair.server.pid(), "act");
}

fn of_a_cgroup() {
    let [mine, other] = ["origins", "others"].map(|n| Cgroup::new(n).expect("root may"));
    let ns = netns();
    let path = mine.path().to_str().expect("plain").to_owned();
    let mut tracer = watch(&ns, &["--cgroup", &path]);
    let server = start(&ns);
    mine.take("below", &server).expect("moves");
    let mut pair = Pair::between(server, start(&ns), "127.0.0.1:0", "127.0.0.1");
    pair.client_closes();
    let leak = leak_of(&mut tracer, pair.server.pid());
    expect_call(&leak["origin"], pair.server.pid(), "act");

    // Opened elsewhere, and moved in afterwards.
    let server = start(&ns);
    other.take("", &server).expect("moves");
    let mut pair = Pair::between(server, start(&ns), "127.0.0.1:0", "127.0.0.1");
    mine.take("", &pair.server).expect("moves");
    pair.client_closes();
    let leak = leak_of(&mut tracer, pair.server.pid());
    let why = leak["unknown"]["origin"].as_str().unwrap_or_default();
    assert!(leak["origin"].is_null() && why.contains("wasn't selected"), "{leak:#}");
}

fn who_accepted_and_let_go() {
    let ns = netns();
    let mut tracer = watch(&ns, &["--verdict", "inherited-fd"]);
    let mut pair = Pair::new(&ns);
    let child = pair.server.number("fork").expect("forks");
    pair.server_closes();
    pair.client_closes();
    let leak = leak_of(&mut tracer, child);
    assert_eq!(leak["verdict"], "inherited-fd", "{leak:#}");
    expect_call(&leak["origin"], pair.server.pid(), "act");
    let former = &leak["former_holders"][0];
    assert_eq!((&former["pid"], &former["opener"]), (&pair.server.pid().into(), &true.into()));
    assert!(former["fd"].is_null(), "no scan saw it: {former:#}");
    assert_eq!(leak["holders"][0]["opener"], false, "{leak:#}");
}

fn there_before_the_start() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    let mut tracer = watch(&ns, &[]);
    pair.client_closes();
    let leak = leak_of(&mut tracer, pair.server.pid());
    let why = leak["unknown"]["origin"].as_str().unwrap_or_default();
    assert!(leak["origin"].is_null() && why.contains("before tracing began"), "{leak:#}");
}

fn nobody_accepted_it() {
    let ns = netns();
    let mut tracer = watch(&ns, &[]);
    let mut unaccepted = crate::tracer::Unaccepted::new(&ns, 8);
    unaccepted.clients_give_up(1);
    let leak = leak_of(&mut tracer, unaccepted.server.pid());
    assert_eq!(leak["verdict"], "never-accepted", "{leak:#}");
    for field in ["origin", "last_read", "end_read"] {
        assert!(leak[field].is_null(), "{leak:#}");
        assert_eq!(leak["unknown"][field], "nobody has accepted it", "{leak:#}");
    }
}

fn a_replay_says_the_same() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let (path, out) = (dir.path().join("x.tct"), dir.path().join("out"));
    let mut command = tcptrace();
    command.args(["watch", "--json", "--origins", "--min-age", "100ms", "--record"]).arg(&path);
    command.arg("--netns").arg(ns.path()).stderr(Stdio::piped());
    let mut child =
        command.stdout(fs::File::create(&out).expect("a file")).spawn().expect("tcptrace starts");
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("stderr"));
    let mut said = String::new();
    while !said.contains("watching ") {
        let n = std::io::BufRead::read_line(&mut stderr, &mut said).expect("stderr");
        assert!(n > 0, "it ended before it was attached: {said}");
    }
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let live = || fs::read_to_string(&out).unwrap_or_default();
    let until = std::time::Instant::now() + DEADLINE;
    while !live().contains("\"origin\":{") {
        assert!(std::time::Instant::now() < until, "no origin: {}", live());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a pid");
    kill_process(pid, Signal::INT).expect("it is there");
    assert!(child.wait().expect("it ends").success());
    assert_eq!(replayed(&path), live());
    assert!(live().contains("\"opened_in\":["), "the summary tells its story: {}", live());
}

fn replayed(path: &Path) -> String {
    let output = tcptrace().args(["replay", "--json"]).arg(path).output().expect("tcptrace runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

//! One scan: what it sees, and that it says the same with BPF and without.

use std::{process::Command, time::Instant};

use rustix::mount::{MountFlags, mount};
use serde_json::{Value, json};
use tcptrace::view::json::schema;

use crate::{
    check::own_mounts,
    needs::old_kernel,
    support::netns::Netns,
    tests,
    tracer::{DEADLINE, Pair, Unaccepted, holder_pids, netns, run, start, tcptrace},
};

tests![
    the_same_with_bpf_and_without,
    a_crawler_is_a_client,
    a_ghost,
    a_new_socket_is_no_ghost,
    totals_and_time_wait,
    groups,
    parent_and_child,
    held_outside_descriptor_tables,
    a_thread_with_its_own_descriptors,
    an_overflowing_queue,
    a_half_close_in_use_is_silent,
    keepalive_moves_one_end_of_the_interval_only,
    mptcp,
    an_exit_code_for_scripts,
    ends_with_its_reader,
    leaks_count_without_a_reader,
];

/// Runs it for a namespace: the lines before the last, and the last.
pub fn snapshot(ns: &Netns, args: &[&str]) -> (Vec<Value>, Value) {
    let path = ns.path();
    let scope = ["snapshot", "--format", "json", "--netns", path.to_str().expect("a plain path")];
    let (status, out, err) = run(&[&scope, args].concat());
    assert_eq!(status.code(), Some(0), "{err}");
    let mut lines: Vec<Value> =
        out.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    lines.iter().for_each(|line| assert_eq!(schema::check(line), Ok(()), "docs/json.md"));
    let summary = lines.pop().expect("a summary");
    assert_eq!(summary["event"], "summary");
    (lines, summary)
}

/// Looks until there are as many sockets: a FIN needs a moment to arrive.
fn settled(ns: &Netns, args: &[&str], count: usize) -> Vec<Value> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (sockets, _) = snapshot(ns, args);
        if sockets.len() == count {
            return sockets;
        }
        assert!(Instant::now() < deadline, "{count} sockets wanted: {sockets:#?}");
    }
}

/// A server that read one connection to its end, one not at all, one without its end, and never
/// accepted the fourth.
fn the_same_with_bpf_and_without() {
    let ns = netns();
    let (mut server, mut client) = (start(&ns), start(&ns));
    let listener = server.number("listen 127.0.0.1:0 8").expect("listens");
    let address = server.address(&format!("address {listener}")).expect("an address");
    let mut connect = |accept: bool| {
        let connected = client.number(&format!("connect {address}")).expect("connects");
        client.tell(&format!("send {connected} 5")).expect("sends");
        (
            connected,
            if accept { server.number(&format!("accept {listener}")).expect("accepts") } else { 0 },
        )
    };
    let all = [connect(true), connect(true), connect(true), connect(false)];
    let [(_, to_the_end), (_, unread), (_, unfinished), _] = all;
    server.number(&format!("recv {unfinished} 10")).expect("reads five bytes");
    for (connected, _) in all {
        client.tell(&format!("close {connected}")).expect("closes");
    }
    settled(&ns, &[], 4);
    // One recv() takes what is left and the FIN behind it at once: read to the end, though the
    // program was never told of it.
    assert_eq!(server.number(&format!("recv {to_the_end} 10")).expect("reads"), 5);
    let scan = |args: &[&str]| {
        let mut seen: Vec<Value> = settled(&ns, args, 4)
            .into_iter()
            .map(|s| {
                assert_eq!(holder_pids(&s), [u64::from(server.pid())]);
                assert_eq!(
                    (&s["event"], &s["role"], &s["state"]),
                    (&json!("socket"), &json!("server"), &json!("CLOSE_WAIT"))
                );
                let (min, max) = (s["age_ms"]["min"].as_f64(), s["age_ms"]["max"].as_f64());
                assert!(Some(0.0) <= min && min <= max && max < Some(60_000.0), "{}", s["age_ms"]);
                json!([
                    s["verdict"],
                    s["evidence"]["recv_q"],
                    s["evidence"]["accepted"],
                    s["holder_source"],
                    s["holders"][0]["fd"],
                    s["listener"],
                    s["cookie"]
                ])
            })
            .collect();
        seen.sort_by_key(|s| s[0].to_string());
        seen
    };
    let with = scan(&[]);
    let expect = |n: usize, verdict: &str, recv_q: u32| {
        assert_eq!((&with[n][0], &with[n][1]), (&json!(verdict), &json!(recv_q)));
    };
    expect(0, "eof-not-closed", 0);
    expect(1, "never-accepted", 6);
    expect(2, "unread-data", 6);
    expect(3, "unread-fin", 1);
    assert_eq!(
        [&with[0][4], &with[2][4], &with[3][4]],
        [&json!(to_the_end), &json!(unread), &json!(unfinished)]
    );
    let listener = &with[1][5];
    assert_eq!(
        (&listener["pid"], &listener["queue"], &listener["limit"]),
        (&json!(server.pid()), &json!(1), &json!(8))
    );
    assert_eq!(with, scan(&["--no-bpf"]));
}

/// Who connected shows by BPF only; without, it stays unknown.
fn a_crawler_is_a_client() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.server_closes();
    let with = &settled(&ns, &[], 1)[0];
    assert_eq!(
        (&with["role"], &with["remote"]),
        (&json!("client"), &json!(pair.address.to_string()))
    );
    assert_eq!(holder_pids(with), [u64::from(pair.client.pid())]);
    // The listener has other ports; it goes, so that not even its port could mislead.
    let without = &settled(&ns, &["--no-bpf"], 1)[0];
    assert_eq!(without["role"], json!(null));
    assert!(
        without["unknown"]["role"].as_str().is_some_and(|why| why.contains("BPF")),
        "{without}"
    );
}

fn reset_pair(ns: &Netns) -> Pair {
    let mut pair = Pair::new(ns);
    pair.client.tell(&format!("shutdown {}", pair.connected)).expect("half-closes");
    pair.server.tell(&format!("send {} 10", pair.served)).expect("sends");
    pair.client_closes();
    pair
}

fn a_ghost() {
    let ns = netns();
    let mut pair = reset_pair(&ns);
    let deadline = Instant::now() + DEADLINE;
    let ghost = loop {
        let (sockets, _) = snapshot(&ns, &[]);
        if let [ghost] = &sockets[..]
            && ghost["state"] == "CLOSE"
        {
            break ghost.clone();
        }
        assert!(Instant::now() < deadline, "a ghost wanted: {sockets:#?}");
    };
    assert_eq!(
        (&ghost["verdict"], &ghost["holders"][0]["fd"]),
        (&json!("ghost-fd"), &json!(pair.served))
    );
    assert_eq!(holder_pids(&ghost), [u64::from(pair.server.pid())]);
    assert!(snapshot(&ns, &["--no-bpf"]).0.is_empty(), "sock_diag does not show it");
    pair.server_closes();
    settled(&ns, &[], 0);
}

fn a_new_socket_is_no_ghost() {
    let ns = netns();
    let mut server = start(&ns);
    let bound = server.number("bind 127.0.0.1:0").expect("binds");
    let (sockets, _) = snapshot(&ns, &["--state", "close,close_wait"]);
    assert!(sockets.is_empty(), "{bound}: {sockets:#?}");
}

fn totals_and_time_wait() {
    let ns = netns();
    let mut finished = Pair::new(&ns);
    finished.server_closes();
    finished.client_closes();
    let _open = Pair::new(&ns);
    settled(&ns, &["--state", "time_wait"], 1);
    let (sockets, summary) = snapshot(&ns, &[]);
    assert!(sockets.is_empty());
    assert_eq!(summary["states"], json!({"ESTABLISHED": 2, "TIME_WAIT": 1, "LISTEN": 2}));
    let (all, summary) = snapshot(&ns, &["--state", "all,established"]);
    assert_eq!((all.len(), &summary["states"]["LISTEN"]), (0, &json!(2)), "nothing is wrong");
    assert_eq!(summary["leaks"], 0, "nothing here is a leak");
}

fn groups() {
    let ns = netns();
    let mut pairs: Vec<Pair> = (0..3).map(|_| Pair::new(&ns)).collect();
    for pair in &mut pairs {
        pair.client_closes();
    }
    settled(&ns, &[], 3);
    let by = |what| snapshot(&ns, &["--group-by", what]).0;
    assert_eq!(by("holder").len(), 3);
    assert_eq!(by("listener").len(), 3);
    let remote = by("remote");
    assert_eq!(
        (remote.len(), &remote[0]["key"], &remote[0]["count"]),
        (1, &json!("127.0.0.1"), &json!(3))
    );
    let verdict = by("verdict");
    assert_eq!(
        (&verdict[0]["key"], &verdict[0]["by_verdict"]),
        (&json!("unread-fin"), &json!({"unread-fin": 3}))
    );
    // Advice is given once, not with each of the sockets.
    let (sockets, summary) = snapshot(&ns, &[]);
    assert!(sockets.iter().all(|s| s.get("advice").is_none()), "{sockets:#?}");
    let advice = summary["advice"].as_object().expect("advice by verdict");
    assert_eq!(advice.keys().collect::<Vec<_>>(), ["unread-fin"]);
    assert!(advice["unread-fin"].as_str().is_some_and(|text| text.contains("idle")), "{summary}");
}

fn parent_and_child() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    let child = pair.server.number("fork").expect("forks");
    pair.client_closes();
    for args in [&[][..], &["--no-bpf"]] {
        let socket = &settled(&ns, args, 1)[0];
        assert_eq!(
            (&socket["verdict"], &socket["also"]),
            (&json!("inherited-fd"), &json!(["unread-fin"]))
        );
        for holder in socket["holders"].as_array().expect("holders") {
            assert_eq!(holder["opener"], json!(holder["pid"] != child), "{holder}");
        }
    }
}

/// In flight over a unix socket, or in a ring's table of files: in no process's table.
fn held_outside_descriptor_tables() {
    for how in ["post", "fix"] {
        let ns = netns();
        let mut pair = Pair::new(&ns);
        pair.server.tell(&format!("{how} {}", pair.served)).expect("leaves the table");
        pair.client_closes();
        let with = settled(&ns, &[], 1).remove(0);
        for socket in [with, without_init(&ns)] {
            assert_eq!(socket["holder_source"], "outside-fd-tables", "{how}");
            assert_eq!(socket["holders"], json!([]));
            assert!(
                socket["unknown"]["holders"].as_str().is_some_and(|why| why.contains("io_uring")),
                "{socket}"
            );
        }
    }
}

/// The one socket, as /proc alone shows it. A security module may keep even root from init's
/// descriptors, and then nothing could be concluded: init is not to be seen here.
fn without_init(ns: &Netns) -> Value {
    let hidden = || Ok(mount(c"tmpfs", c"/proc/1", c"tmpfs", MountFlags::empty(), None)?);
    let mut command = own_mounts(tcptrace(), hidden);
    command.args(["snapshot", "--no-bpf", "--format", "json", "--netns"]).arg(ns.path());
    let output = command.output().expect("it runs");
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    serde_json::from_str(out.lines().next().expect("a line")).expect("JSON")
}

fn a_thread_with_its_own_descriptors() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    let tid = pair.server.number(&format!("thread {}", pair.served)).expect("a thread");
    pair.client_closes();
    for args in [&[][..], &["--no-bpf"]] {
        let socket = &settled(&ns, args, 1)[0];
        assert_eq!(
            (holder_pids(socket), &socket["holders"][0]["tid"]),
            (vec![u64::from(pair.server.pid())], &json!(tid))
        );
    }
}

fn an_overflowing_queue() {
    let ns = netns();
    let mut queue = Unaccepted::new(&ns, 2);
    queue.clients_give_up(3);
    // The queue holds its limit and one more; the fourth is dropped, and asks again in vain.
    let mut fourth = start(&ns);
    fourth.number(&format!("connect-later {}", queue.address)).expect("sends a SYN");
    let deadline = Instant::now() + DEADLINE;
    loop {
        let sockets = settled(&ns, &["--verdict", "never-accepted"], 3);
        let waiting = &sockets[0]["listener"];
        assert_eq!((&waiting["queue"], &waiting["limit"]), (&json!(3), &json!(2)));
        if waiting["drops"].as_u64() >= Some(1) {
            break;
        }
        assert!(Instant::now() < deadline, "no drop: {waiting}");
    }
}

fn a_half_close_in_use_is_silent() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.client.tell(&format!("shutdown {}", pair.connected)).expect("half-closes");
    settled(&ns, &["--state", "close_wait"], 1);
    // The client does not read: what is sent from now on fills the queues and stays there.
    let mut server = pair.server;
    while server.number(&format!("try-send {} 100000", pair.served)).expect("sends") > 0 {}
    let (sockets, summary) = snapshot(&ns, &[]);
    assert!(sockets.is_empty(), "{sockets:#?}");
    assert_eq!(
        (&summary["states"]["CLOSE_WAIT"], &summary["half_closes_in_use"]),
        (&json!(1), &json!(1))
    );
    let asked = settled(&ns, &["--verdict", "half-close-in-use"], 1);
    assert!(asked[0]["evidence"]["send_q"].as_u64() > Some(0));
}

/// Each answer to a probe moves the end that says "at least"; the other end stays, and the truth
/// stays between them.
fn keepalive_moves_one_end_of_the_interval_only() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.server.tell(&format!("keepalive {}", pair.served)).expect("sets keepalive");
    let before = Instant::now();
    pair.client.tell(&format!("shutdown {}", pair.connected)).expect("half-closes");
    let first = settled(&ns, &[], 1).remove(0);
    // Not while a probe is being sent: the timer is armed again after that.
    let mut armed = first["evidence"]["keepalive"] == true;
    let bounds = |s: &Value| {
        (s["age_ms"]["min"].as_f64().expect("min"), s["age_ms"]["max"].as_f64().expect("max"))
    };
    let deadline = Instant::now() + DEADLINE;
    let mut last = bounds(&first);
    loop {
        let socket = settled(&ns, &[], 1).remove(0);
        armed |= socket["evidence"]["keepalive"] == true;
        let now = bounds(&socket);
        let truth = before.elapsed().as_secs_f64() * 1000.0;
        assert!(now.0 <= truth, "{now:?} claims more than {truth}");
        assert!(now.1 >= last.1, "the outer bound never falls: {last:?} {now:?}");
        if now.0 < last.0 {
            break;
        }
        last = now;
        assert!(Instant::now() < deadline, "no probe was answered");
    }
    assert!(armed, "keepalive is on");
}

fn mptcp() {
    let ns = netns();
    let (mut server, mut client) = (start(&ns), start(&ns));
    let listener = server.number("listen-mptcp 127.0.0.1:0 8").expect("listens");
    let address = server.address(&format!("address {listener}")).expect("an address");
    let connected = client.number(&format!("connect-mptcp {address}")).expect("connects");
    let served = server.number(&format!("accept {listener}")).expect("accepts");
    client.tell(&format!("close {connected}")).expect("closes");
    let socket = &settled(&ns, &[], 1)[0];
    assert_eq!(
        (&socket["protocol"], &socket["holders"][0]["fd"]),
        (&json!("mptcp"), &json!(served))
    );
    assert_eq!(holder_pids(socket), [u64::from(server.pid())]);
}

fn an_exit_code_for_scripts() {
    let ns = netns();
    let path = ns.path();
    let codes = || {
        ["--fail-on-leak", "--fail-on-leak=open", "--fail-on-leak=any"].map(|flag| {
            run(&["snapshot", flag, "--netns", path.to_str().expect("a plain path")]).0.code()
        })
    };
    assert_eq!(codes(), [Some(0); 3]);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    settled(&ns, &[], 1);
    assert_eq!(codes(), [Some(3); 3]);
}

fn ends_with_its_reader() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let path = ns.path();
    let script = format!(
        "{} snapshot --netns {} | true; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_tcptrace"),
        path.display()
    );
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash is there");
    // An old kernel's one line about what is not seen is no complaint about the pipe.
    let silent = output.stderr.is_empty() || old_kernel();
    assert_eq!((output.status.code(), silent), (Some(0), true));
}

/// A script that looks at the first line only is told of the leaks all the same.
fn leaks_count_without_a_reader() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    settled(&ns, &[], 1);
    let mut command = tcptrace();
    command.args(["snapshot", "--fail-on-leak", "--netns"]).arg(ns.path());
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = command.stdout(writer).output().expect("it runs");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

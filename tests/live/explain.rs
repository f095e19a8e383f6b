//! Pages on processes and sockets.

use std::{sync::Barrier, thread, time::Instant};

use serde_json::{Value, json};

use crate::{
    needs::old_kernel,
    support::netns::Netns,
    tests,
    tracer::{DEADLINE, Pair, Unaccepted, netns, run, start},
};

tests![
    a_process,
    a_process_as_a_page,
    a_socket_by_cookie_and_by_ends,
    read_to_the_end_in_words,
    a_full_queue,
    who_had_it_first,
    names_that_steer_terminals,
    a_process_without_sockets,
    more_threads_than_are_worth_reading,
];

/// Runs it with JSON, until the process has as many sockets as it should: a FIN needs a moment.
fn explain(target: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (status, out, err) = run(&["explain", target, "--format", "json"]);
        let lines: Vec<Value> =
            out.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        if status.code() == Some(0) && enough(&lines) {
            return lines;
        }
        assert!(Instant::now() < deadline, "{err}{lines:#?}");
    }
}

fn sockets(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|l| l["event"] == "socket").collect()
}

fn leaks(n: u64) -> impl Fn(&[Value]) -> bool {
    move |lines| lines[0]["leaks"] == n
}

fn leaky(ns: &Netns) -> Pair {
    let mut pair = Pair::new(ns);
    pair.client.tell(&format!("send {} 5", pair.connected)).expect("sends");
    pair.client_closes();
    pair
}

fn a_process() {
    let ns = netns();
    let pair = leaky(&ns);
    let lines = explain(&pair.server.pid().to_string(), leaks(1));
    let process = &lines[0];
    assert_eq!(
        (&process["event"], &process["pid"]),
        (&json!("process"), &json!(pair.server.pid()))
    );
    assert_eq!(process["ppid"], std::process::id());
    let leak =
        process["sockets"].as_array().expect("counts").iter().find(|c| c["state"] == "CLOSE_WAIT");
    let leak = leak.expect("the leak is counted");
    assert_eq!((&leak["verdict"], &leak["count"]), (&json!("unread-data"), &json!(1)));
    let listener = &process["listeners"][0];
    assert_eq!(
        (&listener["local"], &listener["limit"], &listener["full"]),
        (&json!(pair.address.to_string()), &json!(8), &json!(false))
    );
    assert_eq!(process["listen_overflows"], 0, "of its own network namespace");
    // stdin, stdout and stderr, the listener, the connection.
    assert!(process["descriptors"]["used"].as_u64() >= Some(5), "{process}");
    assert!(process["descriptors"]["limit"].as_u64() >= process["descriptors"]["used"].as_u64());
    let threads = process["threads"].as_array().expect("threads");
    assert_eq!(threads.len(), 1);
    assert!(
        threads[0]["text"].as_str().is_some_and(|t| t.contains("read on pipe fd 0")),
        "{process}"
    );
    assert_eq!(sockets(&lines).len(), 2, "the leak and the listener");
    let explanation = lines.last().expect("an explanation");
    assert_eq!(
        (&explanation["event"], &explanation["verdict"]),
        (&json!("explanation"), &json!("unread-data"))
    );
    assert!(explanation["in_code"].as_array().is_some_and(|code| code.len() >= 3), "{explanation}");
}

fn a_process_as_a_page() {
    let ns = netns();
    let pair = leaky(&ns);
    let pid = pair.server.pid().to_string();
    explain(&pid, leaks(1));
    let (status, page, err) = run(&["explain", &pid]);
    assert_eq!((status.code(), err.is_empty() || old_kernel()), (Some(0), true), "{err}");
    for text in [
        "TCP sockets (1 leak)",
        "unread-data",
        "queue 0 of 8",
        "1 of 1 threads: read on pipe",
        "look for",
        "what doesn't help",
    ] {
        assert!(page.contains(text), "{text:?} is missing:\n{page}");
    }
    assert!(!page.contains("sysctl -w") && !page.contains('\u{1b}'), "{page}");
}

fn a_socket_by_cookie_and_by_ends() {
    let ns = netns();
    let pair = leaky(&ns);
    let lines = explain(&pair.server.pid().to_string(), leaks(1));
    let leak =
        sockets(&lines).into_iter().find(|s| s["state"] == "CLOSE_WAIT").expect("the leak").clone();
    let by_cookie = explain(&format!("cookie:{}", leak["cookie"]), |lines| !lines.is_empty());
    assert_eq!((by_cookie.len(), &by_cookie[0]["cookie"]), (2, &leak["cookie"]));
    let words = by_cookie[1]["evidence"].as_array().expect("evidence");
    assert!(
        words.iter().any(|w| w.as_str().is_some_and(|w| w.contains("Recv-Q is 6"))),
        "{words:#?}"
    );
    let ends = format!(
        "{},{}",
        leak["local"].as_str().expect("local"),
        leak["remote"].as_str().expect("remote")
    );
    // Other tests' namespaces may have the same ends: ours is among them.
    let by_ends = explain(&ends, |lines| !lines.is_empty());
    assert!(sockets(&by_ends).iter().any(|s| s["cookie"] == leak["cookie"]), "{by_ends:#?}");
}

/// One recv() takes five bytes and the FIN at once, and returns five: the program may never have
/// been told of the end.
fn read_to_the_end_in_words() {
    let ns = netns();
    let mut pair = leaky(&ns);
    let lines = explain(&pair.server.pid().to_string(), leaks(1));
    let cookie = sockets(&lines)
        .into_iter()
        .find(|s| s["state"] == "CLOSE_WAIT")
        .expect("the leak")["cookie"]
        .clone();
    assert_eq!(pair.server.number(&format!("recv {} 10", pair.served)).expect("reads"), 5);
    let (status, page, _) = run(&["explain", &format!("cookie:{cookie}")]);
    assert_eq!(status.code(), Some(0));
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        page.contains("eof-not-closed")
            && page.contains("everything was read, the end of the stream too"),
        "{page}"
    );
    assert!(
        page.contains("the program not have asked again"),
        "it claims no recv() that returned 0: {page}"
    );
}

fn a_full_queue() {
    let ns = netns();
    let mut queue = Unaccepted::new(&ns, 1);
    queue.clients_give_up(2);
    queue.client.number(&format!("connect-later {}", queue.address)).expect("sends a SYN");
    let lines = explain(&queue.server.pid().to_string(), |lines| {
        lines[0]["leaks"] == 2 && lines[0]["listen_overflows"].as_u64() >= Some(1)
    });
    let listener = &lines[0]["listeners"][0];
    assert_eq!(
        (&listener["queue"], &listener["limit"], &listener["full"]),
        (&json!(2), &json!(1), &json!(true))
    );
    assert!(listener["drops"].as_u64() >= Some(1), "{listener}");
}

fn who_had_it_first() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    let child = pair.server.number("fork").expect("forks");
    pair.client_closes();
    explain(&child.to_string(), leaks(1));
    let (_, page, _) = run(&["explain", &child.to_string(), "--format", "json"]);
    let first: Value = serde_json::from_str(page.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["listeners"][0]["shared_with"], json!([pair.server.pid()]));
    let cookie = page.lines().find_map(|l| {
        let line: Value = serde_json::from_str(l).expect("JSON");
        (line["verdict"] == "inherited-fd" && line["event"] == "socket")
            .then(|| line["cookie"].clone())
    });
    let (_, page, _) = run(&["explain", &format!("cookie:{}", cookie.expect("a leak"))]);
    assert!(
        page.contains(&format!(
            "[{}]: descriptor {} (had it first)",
            pair.server.pid(),
            pair.served
        )),
        "{page}"
    );
    assert!(
        page.contains(&format!("[{child}]: descriptor {} (inherited it)", pair.served)),
        "{page}"
    );
}

fn names_that_steer_terminals() {
    let ns = netns();
    let mut pair = leaky(&ns);
    pair.server.tell("name \\x1b[2Jx\\n").expect("takes a name");
    explain(&pair.server.pid().to_string(), leaks(1));
    let (_, page, _) = run(&["explain", &pair.server.pid().to_string()]);
    assert!(page.contains("\\u{1b}[2Jx\\n") && !page.contains('\u{1b}'), "{page}");
}

fn a_process_without_sockets() {
    let idle = start(&netns());
    let (status, page, _) = run(&["explain", &idle.pid().to_string()]);
    assert_eq!(status.code(), Some(0));
    assert!(page.contains("TCP sockets (0 leaks)\n  none"), "{page}");
}

/// So many are read, and it is said that there are more.
fn more_threads_than_are_worth_reading() {
    const THREADS: usize = 2_100;
    let (all_there, end) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    let waits = || {
        all_there.wait();
        end.wait();
    };
    let (json, page) = thread::scope(|scope| {
        for _ in 0..THREADS {
            let small = thread::Builder::new().stack_size(64 << 10);
            small.spawn_scoped(scope, waits).expect("a thread");
        }
        all_there.wait();
        let pid = std::process::id().to_string();
        let said = [&["--format", "json"][..], &[]]
            .map(|format| run(&[&["explain", &pid, "--no-bpf"], format].concat()).1);
        end.wait();
        said.into()
    });
    let process: Value = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
    let count = |field: &str| process[field].as_u64().expect("a count");
    // Or fewer, where they take long.
    let (read, of) = (count("threads_read"), count("threads_in_all"));
    assert!((1..=2_000).contains(&read) && of >= THREADS as u64, "{read} of {of}");
    let listed = process["threads"].as_array().expect("groups");
    let listed = listed.iter().map(|group| group["count"].as_u64().expect("a count"));
    assert_eq!(listed.sum::<u64>(), read);
    assert!(page.contains("only the first ") && page.contains(" threads were read:"), "{page}");
}

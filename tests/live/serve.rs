//! The agent over HTTP: what it says.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    agent::Agent,
    support::cgroup::Cgroup,
    tests,
    tracer::{Pair, netns, run, start},
};

tests![
    metrics_say_what_the_watch_knows,
    pages_of_sockets,
    events_go_on_where_a_client_was,
    names_of_pods,
    a_thousand_scrapes_under_a_storm,
    what_is_refused_at_the_start,
    what_is_remembered_is_a_recording,
];

/// The command name that this test's processes have, as metrics show it.
pub fn workload() -> String {
    let comm = fs::read_to_string("/proc/self/comm").expect("a name");
    let exe = std::env::current_exe().expect("a path");
    let name = exe.file_name().expect("a name").to_string_lossy().into_owned();
    if name.starts_with(comm.trim()) { name[..15.min(name.len())].to_owned() } else { name }
}

fn metrics_say_what_the_watch_knows() {
    let ns = netns();
    let agent = Agent::of(&ns, &[]);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let labels = format!("workload=\"{}\"", workload());
    let open = format!("tcptrace_sockets{{state=\"CLOSE_WAIT\",{labels},verdict=\"unread-fin\"}}");
    agent.wait("a leak", |agent| agent.metric(&open) == 1.0);
    assert_eq!(agent.metric(&format!("tcptrace_leaks{{{labels}}}")), 1.0);
    let oldest = agent.metric(&format!("tcptrace_oldest_seconds{{state=\"CLOSE_WAIT\",{labels}}}"));
    assert!(oldest >= 0.2, "{oldest}");
    // Before Linux 6.2 they are counted one by one, a second later or more.
    let fds = format!("tcptrace_process_fds{{{labels}}}");
    agent.wait("its descriptors", |agent| agent.metric(&fds) > 0.0);
    let fds = agent.metric(&fds);
    let limit = agent.metric(&format!("tcptrace_process_fd_limit{{{labels}}}"));
    assert!(fds > 0.0 && fds < limit, "{fds} {limit}");
    let counted =
        |name: &str| format!("{name}{{state=\"CLOSE_WAIT\",{labels},verdict=\"unread-fin\"}}");
    assert_eq!(agent.metric(&counted("tcptrace_stuck_total")), 1.0);
    // The socket behind it, for who asks for OpenMetrics.
    let accept = "Accept: application/openmetrics-text; version=1.0.0\r\n";
    let (_, body) = agent.ask("/metrics", accept);
    let sockets = agent.json("/api/v1/sockets");
    let cookie = &sockets["sockets"][0]["cookie"];
    assert!(body.contains(&format!("# {{cookie=\"{cookie}\"}} 1 ")), "{cookie}: {body}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    assert_eq!(sockets["sockets"][0]["holders"][0]["pid"], pair.server.pid());

    pair.server_closes();
    agent.wait("its end", |agent| agent.metric(&counted("tcptrace_resolved_total")) == 1.0);
    assert_eq!(agent.metric(&open), 0.0);
    // All stays, the short ones too.
    crate::tracer::load(&ns, 200);
    agent.wait("stays", |agent| {
        agent.metric("tcptrace_state_seconds_count{state=\"CLOSE_WAIT\"}") >= 201.0
    });
    assert_eq!(agent.get("/healthz"), (200, "ok\n".to_owned()));
    // It ends in order.
    let pid = Pid::from_raw(agent.child.id().cast_signed()).expect("a pid");
    kill_process(pid, Signal::TERM).expect("it runs");
    let mut agent = agent;
    assert!(agent.child.wait().expect("it ends").success());
}

fn pages_of_sockets() {
    let ns = netns();
    let agent = Agent::of(&ns, &[]);
    let mut pairs: Vec<Pair> = (0..7).map(|_| Pair::new(&ns)).collect();
    pairs.iter_mut().for_each(Pair::client_closes);
    agent.wait("seven leaks", |agent| agent.json("/api/v1/sockets")["matching"] == 7);
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = agent.json(&format!("/api/v1/sockets?leaks=true&limit=3{after}"));
        assert_eq!(page["matching"], 7);
        let sockets = page["sockets"].as_array().expect("a list");
        seen.extend(sockets.iter().map(|s| s["holders"][0]["pid"].as_u64().expect("a pid")));
        let Some(next) = page["next"].as_str() else { break };
        assert_eq!(sockets.len(), 3);
        after = format!("&after={next}");
    }
    let mut held: Vec<u64> = pairs.iter().map(|pair| u64::from(pair.server.pid())).collect();
    seen.sort_unstable();
    held.sort_unstable();
    assert_eq!(seen, held, "each once");
    let pid = held[0];
    let of_one = agent.json(&format!("/api/v1/sockets?pid={pid}&state=close_wait"));
    assert_eq!((&of_one["matching"], &of_one["next"]), (&1.into(), &Value::Null));
    let none = agent.json("/api/v1/sockets?verdict=ghost-fd,inherited-fd");
    assert_eq!(none["matching"], 0);
    let groups = agent.json("/api/v1/groups?by=verdict");
    assert_eq!(groups["groups"][0]["count"], 7, "{groups}");
    for (path, told) in [
        ("/api/v1/sockets?limit=0", "limit=0: write a number from 1 to 1000"),
        ("/api/v1/sockets?state=close_weight", "no TCP state is called"),
        ("/api/v1/sockets?vrdict=x", "no such word; there are state"),
        ("/api/v1/groups?by=pid", "there are holder"),
        ("/api/v1/sockets?after=x", "what `next` of the page before says"),
    ] {
        let (status, body) = agent.get(path);
        assert!(status == 400 && body.contains(told), "{path}: {status} {body}");
    }
    for path in ["/api/v1/sockets?state=time_wait", "/api/v1/groups?state=close-wait,listen"] {
        let (status, body) = agent.get(path);
        assert!(status == 404 && body.contains("is not watched here"), "{path}: {status} {body}");
    }
    assert_eq!(agent.json("/api/v1/sockets?state=all")["matching"], 7);
    let (status, body) = agent.get("/api/v1/events?after=1");
    assert!(status == 400 && body.contains("after=1: no such word"), "{status} {body}");
    assert_eq!(agent.get("/api/v1/nothing").0, 404);
    let (status, head, _) =
        agent.raw(&format!("DELETE /metrics HTTP/1.1\r\nHost: {}\r\n", agent.at));
    assert!(status == 405 && head.contains("allow: get"), "{head}");
}

/// Kubernetes's names, from a directory as the kubelet makes it.
fn names_of_pods() {
    let uid = "0c8d1f5e-6a0b-4f57-9d5e-2b1c0e9a7f43";
    let (id, ns) = ("ab".repeat(32), netns());
    let dir = tempfile::tempdir().expect("a directory");
    for name in [format!("shop_cart-x2x7k_{uid}"), format!("no\"t_a_pod_{uid}")] {
        fs::create_dir(dir.path().join(name)).expect("made");
    }
    let slice = format!("kubepods-pod{}.slice", uid.replace('-', "_"));
    let cgroup = Cgroup::new(slice).expect("root may make cgroups");
    let server = start(&ns);
    cgroup.take_into(&format!("cri-containerd-{id}.scope"), &server).expect("moves");
    let mut pair = Pair::between(server, start(&ns), "127.0.0.1:0", "127.0.0.1");
    let agent = Agent::of(&ns, &["--pods", dir.path().to_str().expect("plain")]);
    pair.client_closes();
    let name = format!(
        "tcptrace_workload_info{{workload=\"{}\",kind=\"container\",pod_uid=\"{uid}\",\
         namespace=\"shop\",pod=\"cart-x2x7k\",runtime=\"containerd\",owner_kind=\"\",\
         owner_name=\"\"}}",
        &id[..12]
    );
    agent.wait("its name", |agent| agent.metric(&name) == 1.0);
    assert_eq!(agent.metric("tcptrace_pods_last_read_successful"), 1.0);
    let told = json!({uid: {"namespace": "shop", "name": "cart-x2x7k", "owner_kind": null,
        "owner_name": null}});
    assert_eq!(agent.json("/api/v1/sockets")["pods"], told);
    assert_eq!(agent.said(), "", "nothing is to be said of that");
    // The directory goes, and comes back: both are said, and the name stays.
    let away = dir.path().with_extension("away");
    fs::rename(dir.path(), &away).expect("moves");
    let read = "tcptrace_pods_last_read_successful";
    agent.wait("it is not there", |agent| agent.metric(read) == 0.0);
    assert_eq!(agent.metric(&name), 1.0);
    agent.wait("that is said", |agent| agent.said().contains("can't be read any more"));
    fs::rename(&away, dir.path()).expect("moves");
    agent.wait("it is back", |agent| agent.metric(read) == 1.0);
    agent.wait("that is said", |agent| agent.said().contains("names are read again"));
    assert_eq!(agent.said().matches("can't be read any more").count(), 1, "once");
}

/// Reads events until one that fits.
fn heard(stream: &mut BufReader<TcpStream>, what: &str) -> (String, Value) {
    let (mut id, mut kind) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        let n = stream.read_line(&mut line).unwrap_or_else(|e| panic!("no {what}: {e}"));
        assert!(n > 0, "it ended before {what}");
        if let Some(text) = line.strip_prefix("id: ") {
            id = text.trim().to_owned();
        } else if let Some(text) = line.strip_prefix("event: ") {
            kind = text.trim().to_owned();
        } else if let Some(data) = line.strip_prefix("data: ")
            && kind == what
        {
            return (id, serde_json::from_str(data.trim()).expect("JSON"));
        }
    }
}

fn events_go_on_where_a_client_was() {
    let ns = netns();
    let agent = Agent::of(&ns, &[]);
    let listen = |last: &str| {
        let mut stream = agent.connect();
        let last =
            if last.is_empty() { String::new() } else { format!("Last-Event-ID: {last}\r\n") };
        let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: {}\r\n{last}\r\n", agent.at);
        stream.write_all(request.as_bytes()).expect("asks");
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while !line.starts_with("retry: ") {
            line.clear();
            assert!(stream.read_line(&mut line).expect("a line") > 0, "it begins");
        }
        stream
    };
    let mut events = listen("");
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let (id, stuck) = heard(&mut events, "stuck");
    assert_eq!(stuck["holders"][0]["pid"], pair.server.pid());
    drop(events);
    // What comes while it is away it hears when it is back, once.
    pair.server_closes();
    agent.wait("its end", |agent| agent.json("/api/v1/sockets")["matching"] == 0);
    let mut events = listen(&id);
    let (_, resolved) = heard(&mut events, "resolved");
    assert_eq!(resolved["cookie"], stuck["cookie"]);
    // Of another run: it hears that, and what this one has kept.
    let mut events = listen("12345-1");
    heard(&mut events, "restarted");
    let (again, _) = heard(&mut events, "stuck");
    assert_eq!(again, id);
}

fn what_is_refused_at_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let empty = dir.path().join("empty");
    fs::write(&empty, "# nothing\n").expect("a file");
    let empty = empty.to_str().expect("a path");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    for (args, told) in [
        (&["--listen", "0.0.0.0:0"][..], "give --token-file or --tls-client-ca, or --open"),
        (&["--listen", "9095"], "write an address and a port"),
        (&["--listen", &taken], "in use"),
        (&["--token-file", "/nowhere"], "No such file"),
        (&["--token-file", empty], "no token in it"),
        (&["--tls-cert", empty, "--tls-key", empty], "no certificate in PEM"),
        (&["--workloads", "0"], "--workloads"),
    ] {
        let (status, out, err) = run(&[&["serve"], args].concat());
        assert_eq!((status.code(), out.as_str()), (Some(2), ""), "{args:?}: {err}");
        assert!(err.contains(told) && err.lines().count() == 1, "{args:?}: {err}");
    }
}

/// Scrapes in a row while connections come and go as fast as the machine makes them: each is
/// answered, the counts add up, and memory stays where it was.
fn a_thousand_scrapes_under_a_storm() {
    /// KiB.
    const MAY_GROW: u64 = 8 << 10;
    let ns = netns();
    let agent = Agent::of(&ns, &[]);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    agent.wait("a leak", |agent| agent.json("/api/v1/sockets")["matching"] == 1);
    for _ in 0..100 {
        agent.get("/metrics");
    }
    let before = agent.memory();
    let (mut seen, mut size) = (0.0, 0);
    std::thread::scope(|scope| {
        let storm = scope.spawn(|| crate::tracer::load(&ns, 60_000));
        for n in 0..1_000 {
            let (status, body) = agent.get("/metrics");
            assert_eq!(status, 200, "scrape {n}: {body}");
            let line = |name: &str| {
                let line =
                    body.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
                line.trim().parse::<f64>().expect("a number")
            };
            let now = line("tcptrace_transitions_total{outcome=\"seen\"}");
            assert!(now >= seen, "a counter that falls: {seen} {now}");
            seen = now;
            size = size.max(body.len());
        }
        storm.join().expect("the load ends");
    });
    let after = agent.memory();
    assert!(after < before + MAY_GROW, "{before} KiB before, {after} KiB after");
    assert!(size < 16 << 10, "{size} bytes");
    let leaks = format!("tcptrace_leaks{{workload=\"{}\"}}", workload());
    assert_eq!(agent.metric(&leaks), 1.0);
    agent.wait("all of them", |agent| {
        agent.metric("tcptrace_transitions_total{outcome=\"seen\"}")
            + agent.metric("tcptrace_events_lost_total{kind=\"recursion\"}")
            >= 600_000.0
    });
}

/// What an agent remembers, in a file.
fn remembered(agent: &Agent, headers: &str, path: &std::path::Path) {
    let line = "GET /api/v1/recording?last=1m HTTP/1.1";
    let (status, head, body) = agent.bytes(&format!("{line}\r\nHost: {}\r\n{headers}", agent.at));
    assert!(status == 200 && head.contains("filename=\"tcptrace.tct\""), "{head}");
    fs::write(path, body).expect("a file");
}

fn what_is_remembered_is_a_recording() {
    let ns = netns();
    let dir = tempfile::tempdir().expect("a directory");
    let (token, file) = (dir.path().join("token"), dir.path().join("tcptrace.tct"));
    fs::write(&token, "s3cret\n").expect("a file");
    let show = "Authorization: Bearer s3cret\r\n";
    let known = Agent::of(&ns, &["--token-file", token.to_str().expect("a path")]);
    let open = Agent::of(&ns, &[]);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let pid = pair.server.pid().to_string();
    let path = file.to_str().expect("a path");
    let sockets = format!("/api/v1/sockets?pid={pid}");
    for (agent, headers, has_arguments) in [(&known, show, true), (&open, "", false)] {
        agent.wait("the leak", |agent| agent.ask(&sockets, headers).1.contains("\"cookie\""));
        let answer: Value = serde_json::from_str(&agent.ask(&sockets, headers).1).expect("JSON");
        let cookie = &answer["sockets"][0]["cookie"];
        remembered(agent, headers, &file);
        let (status, out, err) = run(&["replay", path, "--json", "--pid", &pid]);
        assert_eq!((status.code(), err.contains("is missing")), (Some(0), false), "{err}");
        let events = out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let stuck: Vec<Value> = events.filter(|event| event["event"] == "stuck").collect();
        assert_eq!((stuck.len(), &stuck[0]["cookie"]), (1, cookie), "{out}");
        // Whoever shows nothing is told no arguments.
        let (_, page, _) = run(&["report", path]);
        assert!(page.contains(&format!("[{pid}]")), "{page}");
        assert_eq!(page.contains(" actor"), has_arguments, "{page}");
    }
    // It goes on: what came later is in the next one.
    pair.server_closes();
    open.wait("its end", |agent| agent.json(&sockets)["matching"] == 0);
    remembered(&open, "", &file);
    let (_, out, _) = run(&["replay", path, "--json", "--pid", &pid]);
    assert!(out.contains("\"event\":\"resolved\""), "{out}");
    let (status, told) = open.get("/api/v1/recording?last=1h");
    assert!(status == 404 && told.contains("only 10m00s are remembered"), "{told}");
    assert_eq!(open.get("/api/v1/recording?first=1h").0, 400);
    let without = Agent::of(&ns, &["--remember", "0"]);
    let (status, told) = without.get("/api/v1/recording");
    assert!(status == 404 && told.contains("--remember 0"), "{told}");
}

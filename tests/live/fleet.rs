//! Many hosts: their agents, asked together.

use serde_json::Value;
use tcptrace::view::json::schema;

use crate::{
    agent::Agent,
    tests,
    tracer::{Pair, netns, run},
};

tests![the_worst_of_two_hosts, a_host_wants_a_token, a_process_of_another_host_is_explained];

/// Lines of JSON.
fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn the_worst_of_two_hosts() {
    let (one, other) = (netns(), netns());
    let (a, b) = (Agent::of(&one, &[]), Agent::of(&other, &[]));
    let mut pairs = [Pair::new(&one), Pair::new(&other), Pair::new(&other)];
    pairs.iter_mut().for_each(Pair::client_closes);
    a.wait("a leak", |agent| agent.json("/api/v1/sockets")["matching"] == 1);
    b.wait("two leaks", |agent| agent.json("/api/v1/sockets")["matching"] == 2);
    let (first, second) = (a.at.to_string(), b.at.to_string());
    let (status, out, err) = run(&["fleet", &first, &second, "127.0.0.1:1", "--json"]);
    assert_eq!(status.code(), Some(1), "one does not answer: {out}{err}");
    let said = lines(&out);
    let (leaking, summary) = said.split_at(said.len() - 1);
    let of = |host: &str| leaking.iter().filter(|l| l["host"] == host).count();
    assert_eq!((of(&first), of(&second), leaking.len()), (1, 2, 3), "{out}");
    for line in leaking {
        assert_eq!((&line["event"], &line["leaks"]), (&"leaking".into(), &1.into()), "{line}");
        assert_eq!(line["by_verdict"]["unread-fin"], 1, "{line}");
        assert!(line["oldest_ms"].as_f64() >= Some(200.0), "{line}");
    }
    let pid = format!("[{}]", pairs[0].server.pid());
    let who = leaking.iter().find(|l| l["host"] == first.as_str()).expect("of that host");
    assert!(who["who"].as_str().is_some_and(|who| who.ends_with(&pid)), "{who}");
    let summary = &summary[0];
    assert_eq!((&summary["leaks"], &summary["hosts"]), (&3.into(), &2.into()), "{summary}");
    let silent = summary["silent"]["127.0.0.1:1"].as_str().expect("it is named");
    assert!(silent.contains("refused"), "{silent}");

    let (status, out, _) = run(&["fleet", &first, &second, "-n", "2"]);
    assert!(status.success(), "{out}");
    assert!(out.contains("and 1 more") && out.contains("3 leaks on 2 hosts"), "{out}");
    let (status, out, _) = run(&["fleet", &first, "--format", "csv"]);
    assert!(status.success() && out.lines().count() == 2, "{out}");
}

fn a_host_wants_a_token() {
    let ns = netns();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret\n").expect("a file");
    let file = file.to_str().expect("a path");
    let agent = Agent::of(&ns, &["--token-file", file]);
    let at = agent.at.to_string();
    let (status, out, _) = run(&["fleet", &at]);
    assert!(status.code() == Some(1) && out.contains("--token-file FILE"), "{out}");
    let (status, out, _) = run(&["fleet", &at, "--token-file", file]);
    assert!(status.success() && out.contains("0 leaks on 1 host"), "{out}");
    let (status, _, err) = run(&["fleet"]);
    assert!(status.code() == Some(2) && err.contains("<AGENT>"), "{err}");
    let (status, _, err) = run(&["fleet", "ftp://x"]);
    assert!(status.code() == Some(2) && err.contains("write http:// or https://"), "{err}");
    let (status, out, _) = run(&["fleet", "https://127.0.0.1:1"]);
    assert!(status.code() == Some(1), "{out}");
}

fn a_process_of_another_host_is_explained() {
    let ns = netns();
    let agent = Agent::of(&ns, &[]);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    agent.wait("a leak", |agent| agent.json("/api/v1/sockets")["matching"] == 1);
    let pid = pair.server.pid();
    let target = format!("{}:{pid}", agent.at);
    let (status, page, err) = run(&["explain", &target]);
    assert!(status.success() && err.is_empty(), "{page}{err}");
    for part in [format!("[{pid}]").as_str(), "CLOSE_WAIT", "unread-fin", "1 leak"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains('\u{1b}'), "{page}");
    // Nothing was shown: no arguments are told.
    assert!(page.contains("  command ") && !page.contains(" actor"), "{page}");
    // The same words as on the host.
    let (_, out, _) = run(&["explain", &target, "--json"]);
    let there = lines(&out);
    there.iter().for_each(|line| assert_eq!(schema::check(line), Ok(()), "docs/json.md"));
    let netns = ns.path();
    let netns = netns.to_str().expect("a path");
    let (_, out, _) = run(&["explain", &format!("pid:{pid}"), "--netns", netns, "--json"]);
    let here = lines(&out);
    // An agent does not know of sockets that are at work, as the listener.
    let events = |lines: &[Value]| -> Vec<String> {
        let stuck = lines.iter().filter(|l| l["event"] != "socket" || !l["verdict"].is_null());
        stuck.map(|l| format!("{} {}", l["event"], l["verdict"])).collect()
    };
    assert_eq!(events(&there), events(&here));
    assert_eq!((&there[0]["pid"], &there[0]["leaks"]), (&here[0]["pid"], &here[0]["leaks"]));
    let cookie = there[1]["cookie"].as_u64().expect("a cookie");
    let (status, page, _) = run(&["explain", &format!("{}:cookie:{cookie}", agent.at)]);
    assert!(status.success() && page.contains("unread-fin"), "{page}");

    let (status, _, err) = run(&["explain", &format!("{}:1", agent.at)]);
    assert!(status.code() == Some(1) && err.contains("no stuck socket of such a process"), "{err}");
    let (status, _, err) = run(&["explain", &target, "--stacks"]);
    assert!(status.code() == Some(2) && err.contains("on that host"), "{err}");
    let (status, _, err) = run(&["explain", "127.0.0.1:1:7"]);
    assert!(status.code() == Some(1) && err.contains("refused"), "{err}");
    let (status, _, err) = run(&["explain", "7", "--token-file", "/dev/null"]);
    assert!(status.code() == Some(2) && err.contains("AGENT:PID asks another"), "{err}");
}

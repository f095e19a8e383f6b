//! The load balancer's flood: nginx in front of two Tornado processes that block in their event
//! loop.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    evidence::{Scene, count_by},
    service::Service,
    tests,
    tracer::{holder_pids, tcptrace},
};

tests![two_backends_blocked, the_flood_is_recorded_and_told_later];

/// Connections to each backend that nginx has kept.
const KEPT: usize = 6;
/// What Tornado gives to listen().
const BACKLOG: usize = 4;

/// The software, as it runs.
struct Town {
    backends: [Service; 2],
    _nginx: Service,
    users: Service,
}

/// nginx has its connections to both backends, and keeps them.
fn town(scene: &Scene, dir: &Path) -> Town {
    let args = |port: &'static str| [port.to_owned(), BACKLOG.to_string(), KEPT.to_string()];
    let backends = ["8001", "8002"].map(|port| {
        let args = args(port);
        let mut backend =
            Service::script(&scene.ns, "tornado_server.py", &args.each_ref().map(String::as_str));
        backend.says("ready");
        backend
    });
    let mut nginx = Service::nginx(&scene.ns, "balancer.conf", dir);
    nginx.listens(8000);
    let mut users = Service::script(&scene.ns, "browser.py", &["8000"]);
    users.tell(&format!("meet {}", 2 * KEPT));
    assert_eq!(users.says("statuses"), format!("200:{}", 2 * KEPT));
    Town { backends, _nginx: nginx, users }
}

/// More requests than both can take; how many leaks each of the backends is left with.
fn flood(Town { backends, users, .. }: &mut Town) -> usize {
    // One request blocks both: timed out at the first backend, it is sent to the second.
    users.tell("slow 1");
    for backend in backends {
        backend.says("blocked");
    }
    assert_eq!(users.says("statuses"), "504:1");
    // More than kept connections and queues can take.
    users.tell("slow 29");
    assert_eq!(users.says("statuses"), "504:29");
    KEPT + BACKLOG + 1
}

fn two_backends_blocked() {
    let mut scene = Scene::new();
    let dir = tempfile::tempdir().expect("a directory");
    let mut town = town(&scene, dir.path());
    let each = flood(&mut town);
    let backends = &town.backends;

    // The request that blocks was read before its connection was closed; those that came over the
    // other kept connections were not; those over new ones are in the queue, which takes one
    // more than its limit.
    let expected: BTreeMap<String, usize> =
        [("unread-fin", 1), ("unread-data", KEPT - 1), ("never-accepted", BACKLOG + 1)]
            .map(|(verdict, count)| (verdict.to_owned(), count))
            .into();
    scene.leaks(2 * each, |records| {
        for (backend, port) in backends.iter().zip([8001, 8002]) {
            let address = format!("127.0.0.1:{port}");
            let own: Vec<&Value> = records.iter().filter(|r| r["local"] == address).collect();
            assert_eq!(count_by(own.iter().copied(), "verdict"), expected, "{address}");
            for r in own {
                assert_eq!(r["role"], "server", "{r}");
                assert_eq!(
                    holder_pids(r),
                    [u64::from(backend.pid())],
                    "nothing is blamed on nginx: {r}"
                );
                assert!(
                    r["remote"].as_str().is_some_and(|remote| remote.starts_with("127.0.0.9:")),
                    "{r}"
                );
                if r["verdict"] != "never-accepted" {
                    assert_eq!(
                        (&r["holder_source"], &r["listener"]),
                        (&json!("fd-table"), &Value::Null)
                    );
                    continue;
                }
                assert_eq!(
                    (&r["holder_source"], &r["listener"]["local"]),
                    (&json!("listener"), &json!(address))
                );
                assert_eq!(r["listener"]["pid"], backend.pid());
                assert_eq!(r["listener"]["queue"], BACKLOG + 1);
                assert_eq!(r["listener"]["limit"], BACKLOG);
            }
        }
    });
    let summary = scene.ends_with(2 * each);
    assert_eq!(summary["by_remote"]["127.0.0.9"], 2 * each, "the balancer stands out: {summary}");
}

/// What tcptrace says of files, when nothing of all that runs any more.
fn said(words: &[&str]) -> String {
    let mut command: Command = tcptrace();
    let output = command.args(words).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn the_flood_is_recorded_and_told_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let [before, after, page] = ["before.tct", "after.tct", "page.html"]
        .map(|name| dir.path().join(name).to_str().expect("a plain path").to_owned());
    // The flood, and then the same software without a request that blocks.
    let mut scene = Scene::recorded(Path::new(&before));
    let mut blocked = town(&scene, &dir.path().join("blocked"));
    let each = flood(&mut blocked);
    scene.leaks(2 * each, |_| {});
    let pids = blocked.backends.each_ref().map(|backend| u64::from(backend.pid()));
    let live = scene.ends_recorded(2 * each);
    drop(blocked);
    let scene = Scene::recorded(Path::new(&after));
    let healthy = town(&scene, &dir.path().join("healthy"));
    scene.ends_recorded(0);
    drop(healthy);

    assert_eq!(events(&said(&["replay", "--json", &before])), live, "as the watch said it");
    let of_one = events(&said(&["replay", "--json", &before, "--pid", &pids[0].to_string()]));
    let stuck: Vec<&Value> = of_one.iter().filter(|e| e["event"] == "stuck").collect();
    assert!(stuck.iter().all(|e| holder_pids(e) == [pids[0]] && e["local"] == "127.0.0.1:8001"));
    assert_eq!(of_one[of_one.len() - 1]["stuck"], each);
    let at_the_end = events(&said(&["snapshot", "--json", &before, "--lport", "8002"]));
    let verdicts = count_by(at_the_end.iter().filter(|e| e["event"] == "socket"), "verdict");
    assert_eq!((verdicts["never-accepted"], verdicts.values().sum::<usize>()), (BACKLOG + 1, each));
    let by_remote = said(&["replay", &before, "--group-by", "remote"]);
    assert!(by_remote.contains("127.0.0.9"), "{by_remote}");

    // What is handed over names both, says why, and blames nobody else.
    let ticket = said(&["report", &before]);
    assert!(ticket.lines().count() < 60, "{ticket}");
    for named in pids.map(|pid| format!("[{pid}]")) {
        assert!(ticket.contains(&named), "{named}: {ticket}");
    }
    assert!(ticket.contains("never-accepted") && !ticket.contains("nginx"), "{ticket}");
    said(&["report", &before, "-o", &page]);
    let page = std::fs::read_to_string(page).expect("a page");
    assert!(page.contains("tornado_server.py") && page.contains("unread-data"));
    let compared = said(&["report", &before, &after]);
    assert!(compared.contains("fixed") && !compared.contains("worse"), "{compared}");
}

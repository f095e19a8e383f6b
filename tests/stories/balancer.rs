//! The load balancer's flood: nginx in front of two Tornado processes that block in their event
//! loop.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    evidence::{Scene, count_by},
    service::Service,
    tests,
    tracer::holder_pids,
};

tests![two_backends_blocked];

/// Connections to each backend that nginx has kept.
const KEPT: usize = 6;
/// What Tornado gives to listen().
const BACKLOG: usize = 4;

fn two_backends_blocked() {
    let mut scene = Scene::new();
    let dir = tempfile::tempdir().expect("a directory");
    let args = |port: &'static str| [port.to_owned(), BACKLOG.to_string(), KEPT.to_string()];
    let mut backends = ["8001", "8002"].map(|port| {
        let args = args(port);
        let mut backend =
            Service::script(&scene.ns, "tornado_server.py", &args.each_ref().map(String::as_str));
        backend.says("ready");
        backend
    });
    let mut nginx = Service::nginx(&scene.ns, "balancer.conf", dir.path());
    nginx.listens(8000);
    let mut users = Service::script(&scene.ns, "browser.py", &["8000"]);
    users.tell(&format!("meet {}", 2 * KEPT));
    assert_eq!(users.says("statuses"), format!("200:{}", 2 * KEPT));

    // One request blocks both: timed out at the first backend, it is sent to the second.
    users.tell("slow 1");
    for backend in &mut backends {
        backend.says("blocked");
    }
    assert_eq!(users.says("statuses"), "504:1");
    // More than kept connections and queues can take.
    users.tell("slow 29");
    assert_eq!(users.says("statuses"), "504:29");

    // The request that blocks was read before its connection was closed; those that came over the
    // other kept connections were not; those over new ones are in the queue, which takes one
    // more than its limit.
    let expected: BTreeMap<String, usize> =
        [("unread-fin", 1), ("unread-data", KEPT - 1), ("never-accepted", BACKLOG + 1)]
            .map(|(verdict, count)| (verdict.to_owned(), count))
            .into();
    let each = KEPT + BACKLOG + 1;
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

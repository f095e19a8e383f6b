//! The server that doesn't come to accept(): its queue fills, and what comes then is dropped.

use serde_json::Value;

use crate::{evidence::Scene, service::Service, tests, tracer::holder_pids};

tests![a_queue_that_overflows];

fn a_queue_that_overflows() {
    let mut scene = Scene::new();
    let mut server = Service::script(&scene.ns, "stuck_listener.py", &["7000", "4"]);
    server.says("ready");
    let mut clients = Service::script(&scene.ns, "impatient.py", &["7000", "8"]);
    // A queue is full when it is longer than its limit, so it takes one more; the others get no
    // connection.
    assert_eq!(clients.says("connected"), "5");
    scene.leaks(5, |records| {
        for r in records {
            assert_eq!(r["verdict"], "never-accepted", "{r}");
            assert_eq!(r["role"], "server");
            assert_eq!(r["holder_source"], "listener");
            assert_eq!(holder_pids(r), [u64::from(server.pid())]);
            assert_eq!(r["listener"]["local"], "127.0.0.1:7000");
            assert_eq!(r["listener"]["pid"], server.pid());
            assert_eq!(
                (&r["listener"]["queue"], &r["listener"]["limit"]),
                (&Value::from(5), &Value::from(4))
            );
            assert!(
                r["listener"]["drops"].as_u64() >= Some(3),
                "a SYN of each of the others was dropped: {r}"
            );
        }
    });
    scene.ends_with(5);
}

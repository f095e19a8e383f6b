//! The pool that ran dry: Thrift servers whose threads all wait for clients that say nothing.

use serde_json::Value;

use crate::{evidence::Scene, service::Service, tests, tracer::holder_pids};

tests![a_pool_used_up, one_connection_at_a_time];

/// Clients that time out while the server is taken.
const GAVE_UP: usize = 5;

/// Starts a server, takes all its threads with `idle` connections, lets others give up.
fn used_up(scene: &Scene, kind: &str, idle: usize) -> (Service, Service) {
    let mut server = Service::script(&scene.ns, "thrift_server.py", &[kind, "16"]);
    server.says("ready");
    let mut client = Service::script(&scene.ns, "thrift_client.py", &[]);
    client.does(&format!("idle {idle}"));
    client.does(&format!("give-up {GAVE_UP}"));
    (server, client)
}

/// A thread comes free: the server takes the old requests, and answers connections that are gone.
fn set_free(mut scene: Scene, client: &mut Service, server: u32) {
    client.does("leave");
    for resolved in scene.resolved(GAVE_UP) {
        // Its answer is met by a reset, which ends the connection before close() does.
        assert!(
            resolved["closed_by"].is_null() || resolved["closed_by"]["pid"] == server,
            "{resolved}"
        );
    }
    scene.ends_with(0);
}

/// Its main thread accepts without limit and queues for the two workers: nothing waits to be
/// accepted.
fn a_pool_used_up() {
    let mut scene = Scene::new();
    let (server, mut client) = used_up(&scene, "pool", 2);
    scene.leaks(GAVE_UP, |records: &[Value]| {
        for r in records {
            assert_eq!(r["verdict"], "unread-data", "{r}");
            assert_eq!(r["role"], "server");
            assert_eq!(r["local"], "127.0.0.1:9090");
            assert_eq!(r["holder_source"], "fd-table");
            assert_eq!(holder_pids(r), [u64::from(server.pid())]);
            assert_eq!(r["listener"], Value::Null);
        }
    });
    set_free(scene, &mut client, server.pid());
}

/// TSimpleServer serves a connection to its end before it accepts another.
fn one_connection_at_a_time() {
    let mut scene = Scene::new();
    let (server, mut client) = used_up(&scene, "simple", 1);
    scene.leaks(GAVE_UP, |records: &[Value]| {
        for r in records {
            assert_eq!(r["verdict"], "never-accepted", "{r}");
            assert_eq!(r["role"], "server");
            assert_eq!(r["evidence"]["accepted"], false);
            assert_eq!(r["holder_source"], "listener");
            assert_eq!(holder_pids(r), [u64::from(server.pid())]);
            assert_eq!(r["listener"]["local"], "127.0.0.1:9090");
            assert_eq!(r["listener"]["pid"], server.pid());
            assert_eq!(
                (&r["listener"]["queue"], &r["listener"]["limit"]),
                (&Value::from(GAVE_UP), &Value::from(16))
            );
        }
    });
    set_free(scene, &mut client, server.pid());
}

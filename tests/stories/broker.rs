//! The broker and the stuck client: mosquitto closes what has been silent for too long.

use crate::{
    evidence::{Scene, count_by},
    service::Service,
    tests,
    tracer::holder_pids,
};

tests![clients_that_do_not_loop];

fn clients_that_do_not_loop() {
    let mut scene = Scene::new();
    let mut broker = Service::mosquitto(&scene.ns);
    broker.listens(1883);
    let mut client = Service::script(&scene.ns, "mqtt_client.py", &["1883"]);
    for told in ["silent", "silent", "silent", "greeted", "greeted"] {
        client.does(told);
    }
    scene.leaks(5, |records| {
        // A silent one never read the broker's CONNACK, four bytes; to a greeted one nothing came
        // after it but the end.
        let expected = [("unread-data".to_owned(), 3), ("unread-fin".to_owned(), 2)];
        assert_eq!(count_by(records, "verdict"), expected.into());
        for r in records {
            assert_eq!(r["evidence"]["recv_q"], if r["verdict"] == "unread-data" { 5 } else { 1 });
            assert_eq!(r["role"], "client", "{r}");
            assert_eq!(r["remote"], "127.0.0.1:1883");
            assert_eq!(r["holder_source"], "fd-table");
            assert_eq!(holder_pids(r), [u64::from(client.pid())]);
        }
    });
    scene.ends_with(5);
}

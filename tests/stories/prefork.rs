//! The parent that kept the descriptor: it forks a child for each connection and forgets its own.

use serde_json::json;

use crate::{evidence::Scene, service::Service, tests, tracer::holder_pids};

tests![the_child_closes_and_the_parent_does_not];

fn the_child_closes_and_the_parent_does_not() {
    let mut scene = Scene::new();
    let mut server = Service::script(&scene.ns, "prefork.py", &["7001"]);
    server.says("ready");
    let mut client = Service::script(&scene.ns, "one_request.py", &["7001"]);
    client.says("done");
    let parent = u64::from(server.pid());
    let child: u64 = server.says("child").parse().expect("a pid");

    scene.leaks(1, |records| {
        let r = &records[0];
        assert_eq!(r["verdict"], "inherited-fd", "{r}");
        // The child read to the end of the stream.
        assert_eq!(r["also"][0], "eof-not-closed");
        assert_eq!(r["role"], "server");
        assert_eq!(r["local"], "127.0.0.1:7001");
        let mut both = [parent, child];
        both.sort_unstable();
        assert_eq!(holder_pids(r), both);
        for holder in r["holders"].as_array().expect("holders") {
            assert_eq!(
                holder["opener"],
                holder["pid"] == parent,
                "the parent opened it, the child inherited: {r}"
            );
        }
    });

    // close() in the child drops a reference: no FIN is sent, and the parent is left with it.
    server.tell("close");
    server.says("closed");
    assert!(
        server.children().contains(&u32::try_from(child).expect("a pid")),
        "the child lives on"
    );
    scene.leaks(1, |records| {
        let r = &records[0];
        assert_eq!(r["role"], "server");
        assert_eq!(holder_pids(r), [parent], "{r}");
        if r["event"] == "socket" {
            // One scan can't know of a holder that let go.
            assert_eq!(r["verdict"], "eof-not-closed", "{r}");
            assert!(r["unknown"]["opener"].is_string(), "{r}");
            return;
        }
        assert_eq!(
            (&r["verdict"], &r["also"][0]),
            (&json!("inherited-fd"), &json!("eof-not-closed")),
            "{r}"
        );
        assert_eq!(r["holders"][0]["opener"], true);
        let former = r["former_holders"].as_array().expect("a list");
        let former: Vec<_> =
            former.iter().map(|h| (h["pid"].as_u64(), h["opener"].as_bool())).collect();
        assert_eq!(former, [(Some(child), Some(false))]);
    });
    scene.ends_with(1);
}

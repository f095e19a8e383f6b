//! The half-close that is meant: a client has said all it has to say, and is still being answered.

use std::fs;

use serde_json::Value;

use crate::{
    evidence::{Scene, snapshot},
    service::Service,
    tests,
    tracer::{Tracer, holder_pids},
};

tests![a_download_after_the_fin];

fn a_download_after_the_fin() {
    // The default: by then the answer must have begun, or it looks as if nobody used the
    // connection.
    let scene = Scene::with_min_age("1s");
    let mut asked =
        Tracer::watch(&scene.ns, &["--min-age", "1s", "--verdict", "half-close-in-use"]);
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(dir.path().join("pages")).expect("a directory of our own");
    // At nginx's 64 KiB a second, longer than any deadline.
    fs::write(dir.path().join("pages/large.bin"), vec![0; 16 << 20]).expect("a file");
    let mut nginx = Service::nginx(&scene.ns, "half_close.conf", dir.path());
    nginx.listens(8090);
    let mut client = Service::script(&scene.ns, "half_close.py", &["8090"]);
    client.says("half-closed");

    let seen = asked.next("stuck");
    assert_eq!(seen["verdict"], "half-close-in-use", "{seen}");
    assert_eq!(seen["role"], "server");
    assert_eq!(seen["local"], "127.0.0.1:8090");
    let &[holder] = &holder_pids(&seen)[..] else { panic!("the worker alone: {seen}") };
    assert!(nginx.children().iter().any(|&worker| u64::from(worker) == holder), "{seen}");
    // Data flow, in bursts; and by then the other watch, too, has had the time to report it. A
    // snapshot, which did not see the FIN, can tell data after it from an answer before it once
    // they are a second or two apart.
    let sent = |r: &Value| r["evidence"]["bytes_sent_since_fin"].as_u64().expect("it was traced");
    asked.wait_for("report of more data", |r| {
        r["event"] == "stuck"
            && sent(r) > sent(&seen)
            && r["age_ms"]["min"].as_f64() > Some(3_000.0)
    });
    assert_eq!(asked.finish().0["stuck"], 1);
    let found = snapshot(&scene.ns, &[]);
    assert!(found.is_empty(), "not a leak: {found:#?}");
    let found = snapshot(&scene.ns, &["--verdict", "half-close-in-use"]);
    let [r] = &found[..] else { panic!("shown when asked for: {found:#?}") };
    assert_eq!(
        (&r["verdict"], &r["role"], &r["local"]),
        (&seen["verdict"], &seen["role"], &seen["local"])
    );
    assert_eq!(holder_pids(r), [holder]);
    let summary = scene.ends_with(0);
    assert_eq!((summary["stuck"].as_u64(), summary["leaks"].as_u64()), (Some(0), Some(0)));
}

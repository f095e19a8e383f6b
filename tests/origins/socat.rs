//! socat as Debian builds it: stripped, and a process for each connection.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    build,
    scene::{Scene, expect_frames, expect_leak, expect_thread, expect_unknown, frame},
    service::Service,
    tests,
    tracer::holder_pids,
};

tests![a_program_that_never_reads, a_program_that_never_ends];

/// Why tests of this module can't run here.
pub fn missing(_: &str) -> Option<String> {
    let there = build::has("socat", "-V");
    (!there).then(|| "socat is not here (Debian: socat)".to_owned())
}

const PORT: u16 = 7000;

fn socat(scene: &Scene, args: &[&str]) -> Service {
    let mut command = Command::new("socat");
    command.args(args);
    let mut service = Service::start(&scene.ns, command);
    service.listens(PORT);
    scene.customers(PORT, 1);
    service
}

/// The child that socat forks for a connection becomes the program, which has it for its input and
/// never looks at it.
fn a_program_that_never_reads() {
    let mut scene = Scene::new();
    let service = socat(&scene, &[&format!("TCP-LISTEN:{PORT},fork"), "EXEC:sleep 1000,nofork"]);
    let leak = scene.leaks(1).remove(0);
    let child = u64::from(service.children()[0]);
    // Its input and its output.
    assert_eq!(holder_pids(&leak), [child, child], "{leak:#}");
    assert_eq!(leak["verdict"], "inherited-fd", "{leak:#}");
    assert_eq!(leak["also"], json!(["unread-data"]), "{leak:#}");
    expect_opened_by_the_parent(&leak, u64::from(service.pid()));
    assert!(leak["last_read"].is_null(), "{leak:#}");
    expect_unknown(&leak, "end_read", "hasn't been read");
    scene.ends_with(1);
}

/// The child reads the end of the stream, tells its program, and waits for that: it uses what it
/// inherited.
fn a_program_that_never_ends() {
    let mut scene = Scene::new();
    let service = socat(&scene, &["-t1000", &format!("TCP-LISTEN:{PORT},fork"), "EXEC:sleep 1000"]);
    let leak = scene.leaks(1).remove(0);
    let child = u64::from(service.children()[0]);
    expect_leak(&leak, "eof-not-closed", "server", child);
    expect_opened_by_the_parent(&leak, u64::from(service.pid()));
    for read in ["last_read", "end_read"] {
        expect_thread(&leak[read], child, "socat");
        expect_frames(&leak[read], &["read"]);
    }
    scene.ends_with(1);
}

/// Who opened it has closed its descriptor, and is named all the same.
fn expect_opened_by_the_parent(leak: &Value, parent: u64) {
    let former = leak["former_holders"].as_array().expect("a list");
    let former: Vec<_> = former.iter().map(|h| (h["pid"].as_u64(), &h["opener"])).collect();
    assert_eq!(former, [(Some(parent), &json!(true))], "{leak:#}");
    expect_thread(&leak["origin"], parent, "socat");
    // The C library has symbols; socat has none, and a build id by which they can be had.
    expect_frames(&leak["origin"], &["accept"]);
    let accept = frame(&leak["origin"], "accept");
    assert_eq!(accept["code"], "library", "{accept:#}");
    let frames = leak["origin"]["frames"].as_array().expect("frames");
    let own = frames.iter().find(|f| f["module"].as_str().is_some_and(|m| m.contains("socat")));
    let own = own.unwrap_or_else(|| panic!("{leak:#}"));
    assert!(own["function"].is_null() && own["unknown"].is_string(), "{own:#}");
}

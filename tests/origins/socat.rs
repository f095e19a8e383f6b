//! socat as Debian builds it: stripped, and a process for each connection.

use std::process::Command;

use crate::{
    build,
    scene::{Scene, expect_frames, expect_thread, frame},
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

/// The child that socat forks for a connection becomes the program, which has it for its input.
fn a_program_that_never_reads() {
    let mut scene = Scene::new();
    let service = socat(&scene, &[&format!("TCP-LISTEN:{PORT},fork"), "EXEC:sleep 1000,nofork"]);
    let leak = scene.leaks(1).remove(0);
    let child = u64::from(service.children()[0]);
    // Its input and its output.
    assert_eq!(holder_pids(&leak), [child, child], "{leak:#}");
    expect_opened_by_the_parent(&leak, u64::from(service.pid()));
    scene.ends_with(1);
}

/// The child reads the end of the stream, tells its program, and waits for that.
fn a_program_that_never_ends() {
    let mut scene = Scene::new();
    let service = socat(&scene, &["-t1000", &format!("TCP-LISTEN:{PORT},fork"), "EXEC:sleep 1000"]);
    let leak = scene.leaks(1).remove(0);
    let child = u64::from(service.children()[0]);
    assert_eq!(holder_pids(&leak), [child], "{leak:#}");
    expect_opened_by_the_parent(&leak, u64::from(service.pid()));
    expect_thread(&leak["end_read"], child, "socat");
    scene.ends_with(1);
}

fn expect_opened_by_the_parent(leak: &serde_json::Value, parent: u64) {
    assert_eq!(leak["verdict"], "inherited-fd", "{leak:#}");
    expect_thread(&leak["origin"], parent, "socat");
    // The C library has symbols; socat has a build id, by which its own can be had.
    expect_frames(&leak["origin"], &["accept"]);
    let accept = frame(&leak["origin"], "accept");
    assert_eq!(accept["code"], "library", "{accept:#}");
    let frames = leak["origin"]["frames"].as_array().expect("frames");
    let own = frames.iter().find(|f| f["module"].as_str().is_some_and(|m| m.contains("socat")));
    assert!(own.is_some_and(|own| own["function"].is_null()), "{leak:#}");
}

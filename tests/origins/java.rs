//! Java: threads have names, and a map of compiled code, written when asked, has the functions.

use std::process::Command;

use serde_json::Value;

use crate::{
    build,
    perf_map::PerfMap,
    scene::{Program, Scene, expect_frames, expect_leak, expect_thread, expect_unknown},
    tests,
};

tests![server_socket, channels, never_read, as_a_client, interpreted, a_map_that_comes_later];

/// Why tests of this module can't run here.
pub fn missing(_: &str) -> Option<String> {
    let there = build::has("javac", "-version") && build::has("jcmd", "-h");
    (!there).then(|| "no Java development kit of 17 or newer is here".to_owned())
}

/// All is compiled at its first call, by the compiler that never has to take code back, and each
/// function for itself: what is inlined into another has no name in the map.
const COMPILED: &[&str] = &[
    "-Xcomp",
    "-XX:TieredStopAtLevel=1",
    "-XX:CompileCommand=quiet",
    "-XX:CompileCommand=dontinline,Orders*::*",
];

fn orders(flags: &[&str]) -> Command {
    let classes = build::built("Orders.java", |out| {
        let mut javac = Command::new("javac");
        javac.args(["--release", "17", "-g", "-d"]).arg(out).arg(build::source("Orders.java"));
        javac
    });
    let mut java = Command::new("java");
    java.args(["-XX:+PreserveFramePointer", "-XX:+UseSerialGC", "-Xmx64m"]).args(flags);
    java.arg("-cp").arg(classes).arg("Orders");
    java
}

/// The virtual machine compiles a function when it is called, or often, and names in the map what
/// is compiled: two customers come, and what serves them is compiled and named. Then the watch
/// begins, and two more come; their records.
fn warm(how: &str) -> (Scene, Program, PerfMap, Vec<Value>) {
    let mut scene = Scene::unwatched();
    let server = scene.program(orders(COMPILED), how, 4, 0);
    scene.customers(server.port, 2);
    scene.until_accepted(&server, 2);
    let map = PerfMap::asked_of_java(server.pid);
    scene.watch();
    for old in scene.leaks(2) {
        expect_unknown(&old, "origin", "before");
    }
    scene.customers(server.port, 2);
    let leaks = scene.leaks(2);
    (scene, server, map, leaks)
}

fn reads_to_the_end(how: &str, acceptor: &str) {
    let (scene, server, map, leaks) = warm(how);
    for leak in leaks {
        expect_leak(&leak, "eof-not-closed", "server", server.pid);
        expect_thread(&leak["origin"], server.pid, acceptor);
        expect_frames(&leak["origin"], &["Orders.takeOrder", "Orders.serveOrders"]);
        expect_thread(&leak["end_read"], server.pid, "exec-3");
        expect_frames(&leak["end_read"], &["Orders$Crawler.fetch"]);
    }
    assert!(map.text().contains("Orders.serveOrders"), "{}", map.text());
    scene.ends_with(4);
}

fn server_socket() {
    reads_to_the_end("accept", "Acceptor");
}

/// The kernel keeps fifteen bytes of a thread's name.
fn channels() {
    reads_to_the_end("nio", "http-nio-8080-A");
}

fn never_read() {
    let (scene, server, _map, leaks) = warm("ignore");
    for leak in leaks {
        expect_leak(&leak, "unread-data", "server", server.pid);
        expect_frames(&leak["origin"], &["Orders.takeOrder", "Orders.serveOrders"]);
        assert!(leak["last_read"].is_null() && leak["end_read"].is_null(), "{leak:#}");
    }
    scene.ends_with(4);
}

fn as_a_client() {
    let mut scene = Scene::new();
    let client = scene.client(orders(COMPILED), 2);
    let _map = PerfMap::asked_of_java(client.pid);
    for leak in scene.leaks(2) {
        expect_leak(&leak, "eof-not-closed", "client", client.pid);
        expect_thread(&leak["origin"], client.pid, "dialer");
        expect_frames(&leak["origin"], &["Orders.dialSupplier", "Orders.dialSuppliers"]);
    }
    scene.ends_with(2);
}

/// Functions that are interpreted are all called Interpreter; the thread's name is left.
fn interpreted() {
    let mut scene = Scene::new();
    let server = scene.program(orders(&["-Xint"]), "accept", 1, 0);
    let _map = PerfMap::asked_of_java(server.pid);
    scene.customers(server.port, 1);
    let leak = scene.leaks(1).remove(0);
    expect_leak(&leak, "eof-not-closed", "server", server.pid);
    expect_thread(&leak["origin"], server.pid, "Acceptor");
    expect_frames(&leak["origin"], &["Interpreter"]);
    scene.ends_with(1);
}

/// The reason says how to get names; the next time that the leak is told of it has them.
fn a_map_that_comes_later() {
    let mut scene = Scene::new();
    let server = scene.server(orders(COMPILED), "accept", 1);
    let leak = scene.leaks(1).remove(0);
    let frames = leak["origin"]["frames"].as_array().expect("frames");
    let remedy = |f: &Value| f["unknown"].as_str().is_some_and(|why| why.contains("jcmd"));
    assert!(frames.iter().any(remedy), "{leak:#}");
    let _map = PerfMap::asked_of_java(server.pid);
    let mut older = scene.again(&leak);
    while older["origin"]["frames"].as_array().is_some_and(|frames| frames.iter().any(remedy)) {
        older = scene.again(&leak);
    }
    expect_frames(&older["origin"], &["Orders.takeOrder", "Orders.serveOrders"]);
    scene.ends_with(1);
}

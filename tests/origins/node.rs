//! Node.js: it accepts and reads in its event loop, where no function of the program is running;
//! it connects from one.

use std::process::Command;

use tempfile::TempDir;

use crate::{
    build,
    perf_map::PerfMap,
    scene::{Scene, expect_frames, expect_leak, expect_no_own, expect_thread},
    tests,
};

tests![the_event_loop_accepts, never_read, functions_connect, functions_without_a_map];

/// Why tests of this module can't run here.
pub fn missing(_: &str) -> Option<String> {
    let there = build::has("node", "--version");
    (!there).then(|| "node is not here (Debian: nodejs)".to_owned())
}

/// The command, and a folder that lives as long: V8 writes a log to where it is started.
fn orders(flags: &[&str]) -> (Command, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut node = Command::new("node");
    node.args(flags).arg(build::source("orders.js")).current_dir(folder.path());
    (node, folder)
}

/// Interpreted functions get frames of their own by the second flag.
const MAPPED: &[&str] = &["--perf-basic-prof", "--interpreted-frames-native-stack"];

fn the_event_loop_accepts() {
    let mut scene = Scene::new();
    let (node, _folder) = orders(MAPPED);
    let server = scene.server(node, "accept", 2);
    let _map = PerfMap::of(server.pid);
    for leak in scene.leaks(2) {
        expect_leak(&leak, "eof-not-closed", "server", server.pid);
        expect_thread(&leak["origin"], server.pid, "node");
        expect_frames(&leak["origin"], &["uv__server_io", "uv_run"]);
        expect_thread(&leak["end_read"], server.pid, "node");
        expect_frames(&leak["end_read"], &["uv__stream_io", "uv_run"]);
    }
    scene.ends_with(2);
}

fn never_read() {
    let mut scene = Scene::new();
    let (node, _folder) = orders(MAPPED);
    let server = scene.server(node, "ignore", 2);
    let _map = PerfMap::of(server.pid);
    for leak in scene.leaks(2) {
        expect_leak(&leak, "unread-data", "server", server.pid);
        expect_frames(&leak["origin"], &["uv__server_io", "uv_run"]);
        assert!(leak["last_read"].is_null() && leak["end_read"].is_null(), "{leak:#}");
    }
    scene.ends_with(2);
}

fn functions_connect() {
    let mut scene = Scene::new();
    let (node, _folder) = orders(MAPPED);
    let client = scene.client(node, 2);
    let _map = PerfMap::of(client.pid);
    for leak in scene.leaks(2) {
        expect_leak(&leak, "eof-not-closed", "client", client.pid);
        expect_frames(&leak["origin"], &["internalConnect", "dialSupplier", "dialSuppliers"]);
    }
    scene.ends_with(2);
}

fn functions_without_a_map() {
    let mut scene = Scene::new();
    let (node, _folder) = orders(&[]);
    let client = scene.client(node, 1);
    let leak = scene.leaks(1).remove(0);
    expect_leak(&leak, "eof-not-closed", "client", client.pid);
    expect_thread(&leak["origin"], client.pid, "node");
    expect_frames(&leak["origin"], &["TCPWrap::Connect"]);
    expect_no_own(&leak["origin"]);
    scene.ends_with(1);
}

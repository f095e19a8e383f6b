//! Go: a goroutine for each connection, which waits for something that never comes.

use std::{path::Path, process::Command};

use crate::{
    build,
    scene::{Scene, expect_frames, expect_leak, expect_thread},
    tests,
};

tests![a_goroutine_for_each, never_read, as_a_client, stripped];

/// Why tests of this module can't run here.
pub fn missing(_: &str) -> Option<String> {
    let there = build::has("go", "version");
    (!there).then(|| "go is not here (Debian: golang-go)".to_owned())
}

fn orders(flags: &[&str]) -> Command {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
    Command::new(build::built("orders.go", |out| {
        let mut go = Command::new("go");
        go.env("GOCACHE", &cache).env("GO111MODULE", "off").env("GOTOOLCHAIN", "local");
        go.arg("build").args(flags).arg("-o").arg(out).arg(build::source("orders.go"));
        go
    }))
}

fn accepts(flags: &[&str]) {
    let mut scene = Scene::new();
    let server = scene.server(orders(flags), "accept", 3);
    for leak in scene.leaks(3) {
        expect_leak(&leak, "eof-not-closed", "server", server.pid);
        // Go gives its threads no names: they have the program's.
        expect_thread(&leak["origin"], server.pid, "orders");
        expect_frames(&leak["origin"], &["takeOrder", "serveOrders", "main.main"]);
        for read in ["last_read", "end_read"] {
            expect_thread(&leak[read], server.pid, "orders");
            expect_frames(&leak[read], &["fetch"]);
        }
    }
    scene.ends_with(3);
}

fn a_goroutine_for_each() {
    accepts(&[]);
}

/// Without its symbol table and debugging information a Go program still has the table that its
/// runtime needs.
fn stripped() {
    accepts(&["-ldflags=-s -w"]);
}

fn never_read() {
    let mut scene = Scene::new();
    let server = scene.server(orders(&[]), "ignore", 2);
    for leak in scene.leaks(2) {
        expect_leak(&leak, "unread-data", "server", server.pid);
        expect_frames(&leak["origin"], &["takeOrder", "serveOrders"]);
        assert!(leak["last_read"].is_null() && leak["end_read"].is_null(), "{leak:#}");
    }
    scene.ends_with(2);
}

fn as_a_client() {
    let mut scene = Scene::new();
    let client = scene.client(orders(&[]), 2);
    for leak in scene.leaks(2) {
        expect_leak(&leak, "eof-not-closed", "client", client.pid);
        // net.Dial may connect in a goroutine of its own, without the caller's functions.
        expect_frames(&leak["origin"], &["net.(*sysDialer).dialTCP"]);
        expect_frames(&leak["end_read"], &["fetch"]);
    }
    scene.ends_with(2);
}

//! Where leaks come from, in programs that a C compiler or rustc makes here: who opened them, who
//! read them, with the functions. `cargo xtask origins` runs other languages.

#[path = "../origins/build.rs"]
pub mod build;
#[path = "../origins/scene.rs"]
#[expect(dead_code, reason = "shared with the tests of other languages")]
mod scene;

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::tests;

use scene::{
    Scene, expect_frames, expect_leak, expect_module, expect_thread, expect_unknown, frame,
};

tests![
    c_with_frame_pointers,
    c_without_frame_pointers,
    c_stripped,
    c_that_never_reads,
    c_as_a_client,
    rust_release,
    rust_as_a_client,
    passed_over_a_unix_socket,
    accepted_by_io_uring,
];

/// Why a test of this module can't run here.
pub fn missing(name: &str) -> Option<String> {
    let (program, argument) = if name.contains("rust") { ("rustc", "-V") } else { ("cc", "-v") };
    if !build::has(program, argument) {
        return Some(format!("it builds a program with {program}, which is not here"));
    }
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    (name.contains("io_uring") && disabled.is_ok_and(|value| value.trim() != "0"))
        .then(|| "io_uring is switched off here (kernel.io_uring_disabled)".to_owned())
}

/// A server that reads to the end in another thread than it accepts in.
fn read_to_the_end(program: &Path) {
    let mut scene = Scene::new();
    let server = scene.server(Command::new(program), "accept", 2);
    for leak in scene.leaks(2) {
        expect_leak(&leak, "eof-not-closed", "server", server.pid);
        expect_thread(&leak["origin"], server.pid, "orders");
        expect_frames(&leak["origin"], &["take_order", "serve_orders"]);
        for read in ["last_read", "end_read"] {
            expect_thread(&leak[read], server.pid, "crawler");
            expect_frames(&leak[read], &["fetch", "crawl"]);
        }
        let took = frame(&leak["origin"], "take_order");
        expect_module(took, program);
        assert_eq!(took["code"], "own", "{took:#}");
    }
    scene.ends_with(2);
}

fn c_with_frame_pointers() {
    read_to_the_end(&build::c("orders.c", &["-fno-omit-frame-pointer"]));
}

fn c_without_frame_pointers() {
    read_to_the_end(&build::c("orders.c", &["-fomit-frame-pointer"]));
}

/// Functions have no names; the module and its build id tell which symbols would give them.
fn c_stripped() {
    for pointers in ["-fno-omit-frame-pointer", "-fomit-frame-pointer"] {
        let program = build::c("orders.c", &[pointers, "-s"]);
        let mut scene = Scene::new();
        let server = scene.server(Command::new(&program), "accept", 1);
        let leak = scene.leaks(1).remove(0);
        expect_leak(&leak, "eof-not-closed", "server", server.pid);
        expect_thread(&leak["origin"], server.pid, "orders");
        let frames = leak["origin"]["frames"].as_array().expect("frames");
        let ours: Vec<&Value> =
            frames.iter().filter(|f| f["module"].as_str() == program.to_str()).collect();
        // take_order, serve_orders, clerk.
        assert_eq!(ours.len(), 3, "{leak:#}");
        for frame in ours {
            assert!(frame["function"].is_null(), "{frame:#}");
            assert!(frame["offset"].as_u64().is_some_and(|at| at > 0), "{frame:#}");
        }
        scene.ends_with(1);
    }
}

fn c_that_never_reads() {
    let mut scene = Scene::new();
    let program = build::c("orders.c", &["-fno-omit-frame-pointer"]);
    let server = scene.server(Command::new(program), "ignore", 2);
    for leak in scene.leaks(2) {
        expect_leak(&leak, "unread-data", "server", server.pid);
        expect_frames(&leak["origin"], &["take_order", "serve_orders"]);
        assert!(leak["last_read"].is_null() && leak["end_read"].is_null(), "{leak:#}");
    }
    scene.ends_with(2);
}

/// A client that reads to the end in another thread than it connects in.
fn connects(program: &Path) {
    let mut scene = Scene::new();
    let client = scene.client(Command::new(program), 2);
    for leak in scene.leaks(2) {
        expect_leak(&leak, "eof-not-closed", "client", client.pid);
        expect_thread(&leak["origin"], client.pid, "dialer");
        expect_frames(&leak["origin"], &["dial_supplier", "dial_suppliers"]);
        expect_thread(&leak["end_read"], client.pid, "crawler");
        expect_frames(&leak["end_read"], &["fetch", "crawl"]);
    }
    scene.ends_with(2);
}

fn c_as_a_client() {
    connects(&build::c("orders.c", &["-fomit-frame-pointer"]));
}

/// A release with line tables: files and lines, and functions that were inlined.
fn rust_release() {
    let program = build::rust("orders.rs");
    read_to_the_end(&program);
    let mut scene = Scene::new();
    let _server = scene.server(Command::new(&program), "accept", 1);
    let leak = scene.leaks(1).remove(0);
    expect_frames(&leak["origin"], &["next_customer", "take_order", "serve_orders"]);
    let inlined = frame(&leak["origin"], "next_customer");
    assert_eq!(inlined["inlined"], true, "{inlined:#}");
    let took = frame(&leak["origin"], "take_order");
    assert_eq!(took["inlined"], false, "{took:#}");
    let text = std::fs::read_to_string(build::source("orders.rs")).expect("the source");
    let line = |text: &str, what: &str| 1 + text.lines().take_while(|l| !l.contains(what)).count();
    assert!(took["file"].as_str().is_some_and(|f| f.ends_with("tests/origins/orders.rs")));
    assert_eq!(took["line"], line(&text, "next_customer(listener)?"), "{took:#}");
    assert_eq!(inlined["line"], line(&text, "listener.accept()?"), "{inlined:#}");
}

fn rust_as_a_client() {
    connects(&build::rust("orders.rs"));
}

/// The dispatcher accepted it and has closed its own descriptor; the packer was handed it.
fn passed_over_a_unix_socket() {
    let mut scene = Scene::new();
    let mut dispatcher =
        scene.server(Command::new(build::c("passing.c", &["-fomit-frame-pointer"])), "accept", 2);
    let packer: u64 = dispatcher.service.says("worker").parse().expect("a pid");
    let leaks = scene.leaks(2);
    let older = scene.again(&leaks[0]);
    for leak in leaks.into_iter().chain([older]) {
        // It was handed over, and not left to it by accident.
        expect_leak(&leak, "eof-not-closed", "server", packer);
        let former = leak["former_holders"].as_array().expect("a list");
        let former: Vec<_> = former.iter().map(|h| h["pid"].as_u64()).collect();
        assert_eq!(former, [Some(dispatcher.pid)], "{leak:#}");
        expect_thread(&leak["origin"], dispatcher.pid, "dispatcher");
        expect_frames(&leak["origin"], &["take_order", "dispatch_orders"]);
        expect_thread(&leak["end_read"], packer, "packer");
        expect_frames(&leak["end_read"], &["pack_order", "pack_orders"]);
    }
    scene.ends_with(2);
}

/// No call of accept() was made: who opened it is unknown. Its readers are not.
fn accepted_by_io_uring() {
    let mut scene = Scene::new();
    let program = build::c("uring.c", &["-fno-omit-frame-pointer"]);
    let server = scene.server(Command::new(program), "accept", 1);
    let leak = scene.leaks(1).remove(0);
    expect_leak(&leak, "eof-not-closed", "server", server.pid);
    expect_unknown(&leak, "origin", "io_uring");
    expect_frames(&leak["end_read"], &["fetch", "serve_orders"]);
    scene.ends_with(1);
}

//! Who may use whom: the dependency rule of ARCHITECTURE.md and of the table in
//! `tcptrace/src/lib.rs`.

use super::{Breaches, source::Source};

/// A folder, and what its files may name.
pub struct Layer {
    /// From the repository's root, with a slash at the end; or one file.
    pub place: &'static str,
    /// Modules of the same crate, its own included; all, where none are given.
    pub own: &'static [&'static str],
    /// Other crates.
    pub crates: Crates,
    /// Paths in the standard library that are out of bounds.
    pub never: &'static [&'static [&'static str]],
}

/// Other crates that a layer may use.
pub enum Crates {
    /// These and `core`, `alloc`.
    Only(&'static [&'static str]),
    /// All but these.
    Without(&'static [&'static str]),
}

/// Modules of `tcptrace` that tell a user something or take their orders.
const ALL: &[&str] =
    &["cli", "confine", "engine", "exit", "formats", "prose", "serve", "source", "view"];

/// What would make a result depend on anything but the arguments.
const IMPURE: &[&[&str]] = &[
    &["std", "env"],
    &["std", "fs"],
    &["std", "io", "stderr"],
    &["std", "io", "stdin"],
    &["std", "io", "stdout"],
    &["std", "net", "TcpListener"],
    &["std", "net", "TcpStream"],
    &["std", "net", "ToSocketAddrs"],
    &["std", "net", "UdpSocket"],
    &["std", "os", "unix", "net"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
    &["std", "time", "UNIX_EPOCH"],
    &["std", "dbg"],
    &["std", "eprint"],
    &["std", "eprintln"],
    &["std", "print"],
    &["std", "println"],
];

/// The rule. What no place here covers may use what it likes.
pub const LAYERS: &[Layer] = &[
    Layer {
        place: "tcptrace-common/src/",
        own: &[],
        crates: Crates::Only(&["zerocopy"]),
        never: &[],
    },
    Layer {
        place: "tcptrace-ebpf/src/",
        own: &[],
        crates: Crates::Only(&["aya_ebpf", "aya_log_ebpf", "tcptrace_common"]),
        never: &[],
    },
    Layer {
        place: "tcptrace/src/engine/",
        own: &["engine", "formats"],
        // Small, pure: bytes and numbers in, values out.
        crates: Crates::Only(&[
            "bytes",
            "crc32fast",
            "ipnet",
            "jiff",
            "postcard",
            "serde",
            "std",
            "tcptrace_common",
            "thiserror",
            "zerocopy",
        ]),
        never: IMPURE,
    },
    Layer {
        place: "tcptrace/src/formats/",
        own: &["formats"],
        // syscalls is a table of names and numbers; of serde_json and toml only what reads text.
        crates: Crates::Only(&[
            "bytes",
            "serde",
            "serde_json",
            "std",
            "syscalls",
            "tcptrace_common",
            "thiserror",
            "toml",
            "zerocopy",
        ]),
        never: IMPURE,
    },
    Layer {
        place: "tcptrace/src/prose/",
        own: &["engine", "formats", "prose"],
        crates: Crates::Only(&["std", "tcptrace_common"]),
        never: IMPURE,
    },
    Layer {
        place: "tcptrace/src/source/",
        own: &["engine", "formats", "source"],
        crates: Crates::Without(&["anstream", "anstyle", "clap", "csv", "terminal_size"]),
        never: &[],
    },
    Layer {
        place: "tcptrace/src/view/",
        own: &["engine", "formats", "prose", "view"],
        crates: Crates::Without(&["aya", "clap", "libc", "procfs", "rustix", "tokio"]),
        never: &[],
    },
    Layer {
        place: "tcptrace/src/serve/",
        own: &["engine", "formats", "prose", "serve", "view"],
        crates: Crates::Without(&["aya", "clap", "libc", "procfs", "rustix"]),
        never: &[],
    },
    Layer {
        place: "tcptrace/src/confine/",
        own: &["confine"],
        crates: Crates::Without(&["aya", "clap", "tokio"]),
        never: &[],
    },
    Layer { place: "tcptrace/src/cli/", own: ALL, crates: Crates::Without(&["aya"]), never: &[] },
];

/// Names each path that a file must not use.
pub fn check(source: &Source, breaches: &mut Breaches) {
    let Some(layer) = LAYERS.iter().find(|l| source.file.starts_with(l.place)) else { return };
    let names = &source.names;
    for named in names.paths.iter().chain(names.reexports.values()) {
        let first = named.path[0].as_str();
        let refused = match (first, named.path.get(1)) {
            ("crate", Some(module)) => {
                !layer.own.is_empty()
                    && source.modules.contains(module)
                    && !layer.own.contains(&module.as_str())
            }
            ("crate", None) => named.glob && !layer.own.is_empty(),
            ("core" | "alloc", _) => false,
            _ => match layer.crates {
                Crates::Only(these) => !these.contains(&first),
                Crates::Without(these) => these.contains(&first),
            },
        };
        // `core` and `std` are two names for one thing, as far as both have it.
        let refused = refused || layer.never.iter().any(|path| named.reaches(path));
        if refused {
            let all = if named.glob { "::*" } else { "" };
            let path = named.path.join("::");
            breaches.add(&source.file, named.line, format!("must not use {path}{all}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a file that holds this.
    fn said(file: &str, text: &str) -> Vec<String> {
        let mut breaches = Breaches::default();
        check(&Source::of(file, text).expect("Rust"), &mut breaches);
        breaches.0
    }

    #[track_caller]
    fn refused(file: &str, text: &str, path: &str) {
        let said = said(file, text);
        assert_eq!(said.len(), 1, "{text}: {said:?}");
        assert!(said[0].ends_with(&format!("must not use {path}")), "{text}: {said:?}");
    }

    const ENGINE: &str = "tcptrace/src/engine/check/call.rs";

    #[test]
    fn imports_of_each_kind() {
        refused(ENGINE, "use std::fs;", "std::fs");
        refused(ENGINE, "use std::{collections::BTreeMap, fs as files};", "std::fs");
        refused(ENGINE, "use std::{net::{IpAddr, UdpSocket}};", "std::net::UdpSocket");
        refused(ENGINE, "use ::std::{io, fs::{self}};", "std::fs");
        refused(ENGINE, "use std::*;", "std::*");
        refused(ENGINE, "use std::time::*;", "std::time::*");
        refused(ENGINE, "use crate::{engine::record, view::{json}};", "crate::view::json");
        refused(ENGINE, "use crate::*;", "crate::*");
        refused(ENGINE, "use super::super::super::cli::watch;", "crate::cli::watch");
        refused(ENGINE, "pub use crate::source::live;", "crate::source::live");
        refused(ENGINE, "use tokio::time;", "tokio::time");
        refused(ENGINE, "extern crate libc;", "libc");
        refused(ENGINE, "fn f() { use std::env; }", "std::env");
        refused(
            ENGINE,
            "mod inner { use super::super::super::super::view::text; }",
            "crate::view::text",
        );
    }

    #[test]
    fn paths_in_code() {
        refused(ENGINE, "fn f() { std::fs::read(\"x\"); }", "std::fs::read");
        refused(ENGINE, "fn f(x: &crate::view::json::Page) {}", "crate::view::json::Page");
        refused(ENGINE, "impl From<libc::timespec> for X {}", "libc::timespec");
        refused(ENGINE, "fn f() { std::thread::sleep(d) }", "std::thread::sleep");
        refused(ENGINE, "fn f() { rustix::process::getpid(); }", "rustix::process::getpid");
    }

    #[test]
    fn renamed() {
        refused(ENGINE, "use std as s; fn f() { s::fs::read(\"x\"); }", "std::fs::read");
        refused(ENGINE, "use std as s; use s::fs::File;", "std::fs::File");
        refused(ENGINE, "extern crate std as s; fn f() { s::env::args(); }", "std::env::args");
        refused(
            ENGINE,
            "use std::time; fn f() { time::Instant::now(); }",
            "std::time::Instant::now",
        );
        refused(ENGINE, "use crate as c; fn f() { c::cli::run(); }", "crate::cli::run");
    }

    #[test]
    fn macros_and_attributes() {
        refused(ENGINE, "fn f() { println!(\"x\"); }", "std::println");
        refused(ENGINE, "fn f() { std::eprintln!(\"x\"); }", "std::eprintln");
        refused(ENGINE, "fn f() { vec![std::fs::read(\"x\")]; }", "std::fs::read");
        refused(ENGINE, "macro_rules! m { () => { print!(\"x\") } }", "std::print");
        refused(ENGINE, "m!({ { crate::view::x() } });", "crate::view::x");
        refused(ENGINE, "#[derive(clap::Parser)] struct A;", "clap::Parser");
        refused(ENGINE, "#[serde(with = \"crate::view::x\")] struct A;", "crate::view::x");
    }

    #[test]
    fn what_is_allowed() {
        for text in [
            "use std::{collections::BTreeMap, net::{IpAddr, SocketAddr}, time::Duration};",
            "use crate::{engine::record::{Holder, Record}, formats::cgroup};",
            "use super::{Finding, Item}; use self::inner::X;",
            "#[cfg(test)] mod tests { use std::fs; }",
            "#[test] fn t() { std::fs::read(\"x\"); }",
            "/// `std::fs::read` would not do. println!\nfn f() { g(\"std::fs\") }",
            "fn f() { let fs = 1; Self::fs(fs); Vec::<u8>::new(); }",
            "mod clap { } fn f() { clap::x() }",
            "fn f() { writeln!(out, \"{}\", crate::engine::parse::x()); }",
        ] {
            assert_eq!(said(ENGINE, text), [""; 0], "{text}");
        }
    }

    #[test]
    fn each_layer() {
        let rules = [
            ("tcptrace-common/src/event.rs", "use std::fmt;", "std::fmt"),
            ("tcptrace-common/src/event.rs", "use aya_ebpf::bindings;", "aya_ebpf::bindings"),
            ("tcptrace-ebpf/src/sock.rs", "use zerocopy::IntoBytes;", "zerocopy::IntoBytes"),
            ("tcptrace/src/formats/stat.rs", "use crate::engine::x;", "crate::engine::x"),
            ("tcptrace/src/formats/stat.rs", "use std::fs;", "std::fs"),
            ("tcptrace/src/prose/words.rs", "use crate::view::text;", "crate::view::text"),
            ("tcptrace/src/source/live/x.rs", "use crate::view::text;", "crate::view::text"),
            ("tcptrace/src/source/live/x.rs", "use crate::prose::words;", "crate::prose::words"),
            ("tcptrace/src/source/live/x.rs", "use clap::Args;", "clap::Args"),
            ("tcptrace/src/view/csv.rs", "use crate::source::live;", "crate::source::live"),
            ("tcptrace/src/view/csv.rs", "use rustix::fs;", "rustix::fs"),
            ("tcptrace/src/confine/seccomp.rs", "use crate::engine::x;", "crate::engine::x"),
            ("tcptrace/src/cli/watch.rs", "use aya::Ebpf;", "aya::Ebpf"),
        ];
        for (file, text, path) in rules {
            refused(file, text, path);
        }
        let allowed = [
            ("tcptrace-common/src/event.rs", "use zerocopy::IntoBytes; use core::fmt;"),
            ("tcptrace-common/src/event.rs", "use crate::state::TcpState; use crate::*;"),
            ("tcptrace-ebpf/src/sock.rs", "use aya_ebpf::x; use tcptrace_common::event;"),
            ("tcptrace/src/view/csv.rs", "use crate::{engine::x, prose::y}; use csv::Writer;"),
            ("tcptrace/src/source/live/x.rs", "use aya::Ebpf; use std::fs; use tokio::time;"),
            ("tcptrace/src/cli/watch.rs", "use crate::{source::live, view, confine};"),
        ];
        for (file, text) in allowed {
            assert_eq!(said(file, text), [""; 0], "{file}");
        }
    }
}

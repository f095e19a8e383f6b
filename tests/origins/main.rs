//! Where leaks come from, in each language: real programs that leak, and which of their functions
//! and threads are named. `cargo xtask origins` brings the languages and runs them, as root; C and
//! Rust are among the live tests.

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "shared with the live tests, the demo and the benchmarks")]
mod support;

#[path = "../live/tracer.rs"]
#[expect(dead_code, reason = "shared with the live tests")]
mod tracer;

#[path = "../stories/service.rs"]
#[expect(dead_code, reason = "shared with the stories")]
mod service;

#[expect(dead_code, reason = "shared with the live tests")]
mod build;
mod go;
mod java;
mod node;
mod perf_map;
mod python;
#[expect(dead_code, reason = "shared with the live tests")]
mod scene;
mod socat;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// What a module's tests need: why it is not here, if it isn't.
type Missing = fn(&str) -> Option<String>;

fn main() -> ExitCode {
    if let Some(played) = support::actor::played() {
        return played;
    }
    let modules: [(&[Test], Missing); 5] = [
        (go::TESTS, go::missing),
        (java::TESTS, java::missing),
        (node::TESTS, node::missing),
        (python::TESTS, python::missing),
        (socat::TESTS, socat::missing),
    ];
    let trials = modules.into_iter().flat_map(|(tests, missing)| {
        tests.iter().map(move |(name, test)| {
            let why = missing(name);
            if let Some(why) = &why {
                eprintln!("SKIPPED {name}: {why}");
            }
            let run = || {
                test();
                Ok(())
            };
            Trial::test(*name, run).with_ignored_flag(why.is_some())
        })
    });
    let ended = libtest_mimic::run(&Arguments::from_args(), trials.collect());
    if ended.num_ignored > 0 {
        eprintln!("{} tests skipped, for the reasons said above", ended.num_ignored);
    }
    ended.exit_code()
}

/// A test and its name.
pub type Test = (&'static str, fn());

/// Lists functions as tests, by their names.
#[macro_export]
macro_rules! tests {
    ($($test:ident),* $(,)?) => {
        pub const TESTS: &[$crate::Test] = &[$((concat!(module_path!(), "::", stringify!($test)), $test)),*];
    };
}

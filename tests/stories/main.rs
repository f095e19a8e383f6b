//! The stories that tcptrace was made for, each with the real software that tells it: who is named,
//! and with which verdict. `cargo xtask stories` brings the software and runs them, as root.

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "shared with the live tests, the demo and the benchmarks")]
mod support;

#[path = "../live/tracer.rs"]
#[expect(dead_code, reason = "shared with the live tests")]
mod tracer;

mod balancer;
mod broker;
mod crawler;
mod evidence;
mod half_close;
mod prefork;
mod service;
mod stuck;
mod thrift;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if let Some(played) = support::actor::played() {
        return played;
    }
    let tests = [
        thrift::TESTS,
        crawler::TESTS,
        prefork::TESTS,
        stuck::TESTS,
        balancer::TESTS,
        broker::TESTS,
        half_close::TESTS,
    ];
    let trials = tests.into_iter().flatten().map(|(name, test)| {
        Trial::test(*name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(cannot_run(name))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// Whether the software is missing; then it says so, and counts as ignored.
fn cannot_run(name: &str) -> bool {
    let missing = service::cache().is_none();
    if missing {
        eprintln!("SKIPPED {name}: cargo xtask stories brings the software it needs");
    }
    missing
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

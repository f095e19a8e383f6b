//! Live tests: real sockets, real kernel, each in a network namespace of its own. They need root
//! and a kernel that loads eBPF; without, they fail, they don't skip.
//!
//! One executable without a harness, so that it can play the actors too, and be carried as it is
//! into a virtual machine.

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "shared with the demo and the benchmarks")]
mod support;

mod check;
mod ends;
mod explain;
mod leaks;
mod limits;
mod output;
mod selection;
mod snapshot;
mod stories;
mod storms;
mod tracer;

use std::{process::ExitCode, sync::RwLock};

use libtest_mimic::{Arguments, Trial};

/// Storms want the machine for themselves: they hold this for writing, all others for reading.
static MACHINE: RwLock<()> = RwLock::new(());

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("actor") {
        return match support::actor::play() {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("actor: {e}");
                ExitCode::FAILURE
            }
        };
    }
    let tests = [
        leaks::TESTS,
        ends::TESTS,
        selection::TESTS,
        limits::TESTS,
        output::TESTS,
        snapshot::TESTS,
        explain::TESTS,
        check::TESTS,
        stories::TESTS,
    ];
    let shared = tests.into_iter().flatten().map(|(name, test)| {
        Trial::test(*name, move || {
            let _machine = MACHINE.read().unwrap_or_else(|e| e.into_inner());
            test();
            Ok(())
        })
        .with_ignored_flag(cannot_run(name))
    });
    let alone = storms::TESTS.iter().map(|(name, test)| {
        Trial::test(*name, move || {
            let _machine = MACHINE.write().unwrap_or_else(|e| e.into_inner());
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), shared.chain(alone).collect()).exit_code()
}

/// Whether this machine lacks what a test needs; then it says so, and counts as ignored.
fn cannot_run(name: &str) -> bool {
    let skipped = name.ends_with("::mptcp") && !std::path::Path::new("/proc/sys/net/mptcp/enabled").exists();
    if skipped {
        eprintln!("SKIPPED {name}: this kernel has no MPTCP");
    }
    skipped
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

//! Live tests: real sockets, real kernel, each in a network namespace of its own. They need root
//! and a kernel that loads eBPF; without, they fail, they don't skip.
//!
//! One executable without a harness, so that it can play the actors too, and be carried as it is
//! into a virtual machine.

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "shared with the demo and the benchmarks")]
mod support;

mod agent;
mod ages;
mod blocked;
mod chains;
mod chaos;
mod check;
mod clients;
mod close;
mod collector;
mod config;
mod doctor;
mod ends;
mod explain;
mod faults;
mod fleet;
mod forecast;
mod healthy;
mod hidden;
#[cfg(feature = "kernel-log")]
mod kernel_log;
mod kubelet;
mod leaks;
mod lesson;
mod limits;
mod needs;
mod normal;
mod old_kernel;
mod openers;
mod origins;
mod otlp;
mod output;
mod recording;
mod report;
mod run;
mod sandbox;
mod selection;
mod serve;
#[path = "../stories/service.rs"]
#[expect(dead_code, reason = "shared with the stories")]
mod service;
mod snapshot;
mod stacks;
mod states;
mod stories;
mod storms;
mod syns;
mod top;
mod tracer;
mod untrusted;

use std::{process::ExitCode, sync::RwLock};

use libtest_mimic::{Arguments, Trial};

/// Storms want the machine for themselves, and so does who sets its clock: they hold this for
/// writing, all others for reading.
static MACHINE: RwLock<()> = RwLock::new(());

fn main() -> ExitCode {
    if let Some(played) = support::actor::played().or_else(top::played) {
        return played;
    }
    let mut tests = vec![
        chaos::TESTS,
        leaks::TESTS,
        lesson::TESTS,
        ages::TESTS,
        normal::TESTS,
        ends::TESTS,
        selection::TESTS,
        clients::TESTS,
        kubelet::TESTS,
        serve::TESTS,
        fleet::TESTS,
        otlp::TESTS,
        limits::TESTS,
        sandbox::TESTS,
        output::TESTS,
        recording::TESTS,
        report::TESTS,
        run::TESTS,
        snapshot::TESTS,
        stacks::TESTS,
        hidden::TESTS,
        explain::TESTS,
        forecast::TESTS,
        blocked::TESTS,
        chains::TESTS,
        check::TESTS,
        close::TESTS,
        close::beside::TESTS,
        close::forged::TESTS,
        close::kept::TESTS,
        close::races::TESTS,
        config::TESTS,
        doctor::TESTS,
        healthy::TESTS,
        syns::TESTS,
        states::TESTS,
        stories::TESTS,
        untrusted::TESTS,
        top::TESTS,
        faults::TESTS,
        openers::TESTS,
        origins::TESTS,
    ];
    if needs::old_kernel() {
        tests.push(old_kernel::TESTS);
    }
    #[cfg(feature = "kernel-log")]
    tests.push(kernel_log::TESTS);
    let shared = tests.into_iter().flatten().map(|(name, test)| {
        trial(name, move || {
            let _machine = MACHINE.read().unwrap_or_else(|e| e.into_inner());
            test();
        })
    });
    let alone = storms::TESTS.iter().chain(faults::ALONE).map(|(name, test)| {
        trial(name, move || {
            let _machine = MACHINE.write().unwrap_or_else(|e| e.into_inner());
            test();
        })
    });
    let trials = shared.chain(alone).collect();
    let ended = libtest_mimic::run(&Arguments::from_args(), trials);
    if ended.num_ignored > 0 {
        eprintln!("{} tests skipped, for the reasons said above", ended.num_ignored);
    }
    ended.exit_code()
}

/// What this kernel can't run says so, and counts as ignored.
fn trial(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    let missing = needs::missing(name);
    if let Some(why) = &missing {
        eprintln!("SKIPPED {name}: {why}");
    }
    let run = || {
        test();
        Ok(())
    };
    Trial::test(name, run).with_ignored_flag(missing.is_some())
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

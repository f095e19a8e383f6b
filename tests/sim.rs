//! The core against a simulated host: schedules from seeds, each held against the truth. As many as
//! `TCPTRACE_SEEDS` says, from `TCPTRACE_FROM` on; `cargo xtask sim` tries more.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use tcptrace::source::simulation::try_seed;

const SEEDS: u64 = 20_000;

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().map_or(usual, |n| n.parse().unwrap_or_else(|_| panic!("{name}={n}")))
}

#[test]
fn nothing_is_missed_and_nothing_invented() {
    let (from, count) = (number("TCPTRACE_FROM", 0), number("TCPTRACE_SEEDS", SEEDS));
    let next = AtomicU64::new(from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= from + count {
                return None;
            }
            if let Err(finding) = try_seed(seed) {
                next.store(from + count, Relaxed);
                return Some(finding);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let found = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().find_map(|t| t.join().expect("no schedule makes it panic"))
    });
    assert!(found.is_none(), "{}", found.map(|f| f.to_string()).unwrap_or_default());
}

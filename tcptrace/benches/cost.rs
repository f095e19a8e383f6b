//! What a transition costs in the kernel, by the kernel's own accounting
//! (`kernel.bpf_stats_enabled`), and what is left of the connection rate: ours, and the tools that
//! people would use instead, on the same load, turn by turn.
//!
//! `cargo xtask bench cost` installs the peers and runs this as root.

#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the live tests")]
mod support;

#[expect(dead_code, reason = "shared with the other benchmarks")]
mod common;

use std::{fs, thread, time::Duration};

use anyhow::Context;
use common::{
    Running, Table, argument,
    contenders::{self, Contender, EMPTY, NOTHING, TCPSTATES, programs},
    median,
};
use support::{load::run_load, netns::Netns};

/// Connections in one turn, after a warm-up of a tenth and half as many with the accounting on.
const CONNECTIONS: u64 = 40_000;
/// Turns for each contender; `--rounds N` for another number, `--only NAME,NAME` for some of them.
const ROUNDS: usize = 5;
/// Each connection over loopback makes five transitions on each side.
const TRANSITIONS: u64 = 10;

const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

#[derive(Default, Clone)]
struct Turn {
    /// ns of kernel programs per transition.
    ns: f64,
    /// Program runs per transition.
    runs: f64,
    /// Instructions of the programs that ran.
    instructions: f64,
    /// Connections per second.
    rate: f64,
    /// User-space CPU, µs per 1,000 transitions.
    user_us: f64,
    /// Lines it printed per transition.
    lines: f64,
}

fn main() -> anyhow::Result<()> {
    if std::env::args().any(|a| a == "--hold-empty") {
        return hold_empty();
    }
    let only = argument("--only");
    let rounds = common::rounds(ROUNDS)?;
    // What others are compared with is always there.
    let asked = |c: &Contender| {
        let asked = |only: &String| {
            [NOTHING, EMPTY].contains(&c.name) || only.split(',').any(|name| name == c.name)
        };
        only.as_ref().is_none_or(asked)
    };
    // ss has no program to account for: `host` compares it.
    let contenders: Vec<Contender> =
        contenders::all()?.into_iter().filter(|c| asked(c) && !c.name.starts_with("ss")).collect();
    let netns = Netns::new().context("making a network namespace")?;
    let mut turns: Vec<Vec<Turn>> = vec![Vec::new(); contenders.len()];
    for round in 0..rounds {
        for (contender, turns) in contenders.iter().zip(&mut turns) {
            eprintln!("round {} of {rounds}: {}", round + 1, contender.name);
            turns.push(turn(contender, &netns).with_context(|| contender.name.to_owned())?);
        }
    }
    report(&contenders, &turns)
}

/// Attaches the empty program and waits to be ended.
fn hold_empty() -> anyhow::Result<()> {
    let _loaded = tcptrace::source::live::bpf::loader::load_empty()?;
    eprintln!("attached");
    loop {
        thread::park();
    }
}

fn turn(contender: &Contender, netns: &Netns) -> anyhow::Result<Turn> {
    let before = programs();
    let mut running = contender.start()?;
    run_load(netns, CONNECTIONS / 10)?;
    let start = programs();
    let counted = {
        let _stats = Stats::on()?;
        run_load(netns, CONNECTIONS / 2)?.connections
    };
    let end = programs();
    // The rate without the accounting, which costs as much as a small program.
    let user_start = running.as_ref().map_or(Duration::ZERO, Running::cpu);
    let made = run_load(netns, CONNECTIONS)?;
    let user_end = running.as_ref().map_or(Duration::ZERO, Running::cpu);

    let transitions = (made.connections * TRANSITIONS) as f64;
    let accounted = (counted * TRANSITIONS) as f64;
    let (mut ns, mut runs, mut instructions) = (0, 0, 0);
    for (id, end) in end.iter().filter(|(id, _)| !before.contains_key(id)) {
        let start = start.get(id).copied().unwrap_or_default();
        // What runs less is a scan or a check, not of the hot path.
        if end.runs - start.runs >= counted {
            ns += end.ns - start.ns;
            runs += end.runs - start.runs;
            instructions += end.instructions;
        }
    }
    let lines = running.as_mut().map_or(0, Running::end) as f64;
    Ok(Turn {
        ns: ns as f64 / accounted,
        runs: runs as f64 / accounted,
        instructions: f64::from(instructions),
        rate: made.rate(),
        user_us: (user_end - user_start).as_secs_f64() * 1e9 / transitions,
        // Those of the warm-up and of the accounted part are among them.
        lines: lines / (transitions * 1.6),
    })
}

/// Switches the kernel's accounting on, and back to what it was.
struct Stats(String);

impl Stats {
    fn on() -> anyhow::Result<Self> {
        let before = fs::read_to_string(STATS).context(STATS)?;
        fs::write(STATS, "1").context(STATS)?;
        Ok(Self(before))
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        let _ = fs::write(STATS, self.0.trim());
    }
}

fn of(turns: &[Turn], pick: impl Fn(&Turn) -> f64) -> (f64, f64, f64) {
    median(turns.iter().map(pick).collect())
}

fn report(contenders: &[Contender], turns: &[Vec<Turn>]) -> anyhow::Result<()> {
    let find = |name: &str| {
        contenders.iter().position(|c| c.name == name).map(|n| &turns[n][..]).unwrap_or_default()
    };
    let (empty, nothing, states) = (find(EMPTY), find(NOTHING), find(TCPSTATES));
    // Each turn against the other contender's turn of the same round: the machine drifts.
    let paired = |turns: &[Turn], others: &[Turn], pick: fn(&Turn) -> f64| {
        let (ratio, low, high) =
            median(turns.iter().zip(others).map(|(t, o)| pick(t) / pick(o)).collect());
        if ratio == 0.0 || !ratio.is_finite() {
            "-".to_owned()
        } else {
            format!("{ratio:.3} [{low:.2}, {high:.2}]")
        }
    };
    let title = format!(
        "{} rounds of {CONNECTIONS} connections over loopback; medians, [lowest, highest], ratios \
         within a round",
        turns.first().map_or(0, Vec::len)
    );
    let columns = [
        "on the load",
        "ns/transition in the kernel",
        "vs empty",
        "vs tcpstates",
        "connections/s",
        "vs nothing",
        "CPU of the tool, µs/1,000 transitions",
        "lines/transition",
        "program runs/transition",
        "instructions",
    ];
    let mut table = Table::new("cost", title, &columns);
    for (contender, turns) in contenders.iter().zip(turns) {
        let (ns, low, high) = of(turns, |t| t.ns);
        let (rate, rlow, rhigh) = of(turns, |t| t.rate);
        table.row(vec![
            contender.name.to_owned(),
            format!("{ns:.0} [{low:.0}, {high:.0}]"),
            paired(turns, empty, |t| t.ns),
            paired(turns, states, |t| t.ns),
            format!("{rate:.0} [{rlow:.0}, {rhigh:.0}]"),
            paired(turns, nothing, |t| t.rate),
            format!("{:.0}", of(turns, |t| t.user_us).0),
            format!("{:.3}", of(turns, |t| t.lines).0),
            format!("{:.2}", of(turns, |t| t.runs).0),
            format!("{:.0}", of(turns, |t| t.instructions).0),
        ]);
    }
    table.print()
}

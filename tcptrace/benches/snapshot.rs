//! What a snapshot of many sockets in CLOSE_WAIT takes, with holders and verdicts: ours, and the
//! tools that people would use instead, on the same sockets, turn by turn; and how ours grows.
//!
//! `cargo xtask bench snapshot` installs the peers and runs this as root.

#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the live tests")]
mod support;

#[expect(dead_code, reason = "shared with the other benchmarks")]
mod common;

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use common::{Leaks, Table, argument, median, rounds, tcptrace};
use support::netns::Netns;

/// Sockets of the comparison, and how many processes hold them: RLIMIT_NOFILE's hard limit may be
/// no more than 20,000.
const COMPARED: (usize, usize) = (51_000, 6);
/// Sizes that show how ours grows.
const GROWTH: [(usize, usize); 4] = [(1_000, 1), (10_000, 1), COMPARED, (150_000, 10)];
/// Turns for each contender, after one that fills caches.
const ROUNDS: usize = 6;

#[derive(Clone)]
struct Contender {
    name: &'static str,
    command: Vec<String>,
}

#[derive(Clone, Copy)]
struct Turn {
    wall: Duration,
    cpu: Duration,
    /// KiB.
    resident: i64,
}

fn main() -> anyhow::Result<()> {
    if let Some(played) = common::play_leak() {
        return played;
    }
    let (only, rounds) = (argument("--only"), rounds(ROUNDS)?);
    let mut growth = Vec::new();
    for (sockets, processes) in GROWTH {
        // How ours grows says nothing of another.
        if only.is_some() && (sockets, processes) != COMPARED {
            continue;
        }
        eprintln!("{sockets} sockets over {processes} processes");
        let netns = Netns::new().context("making a network namespace")?;
        let _leaks = Leaks::make(&netns, sockets, processes)?;
        let mut contenders = contenders(&netns);
        if let Some(only) = &only {
            let (ours, mut others) = (contenders.remove(0), contenders);
            others.retain(|c| c.name.contains(&only[..]));
            ensure!(!others.is_empty(), "no contender has {only} in its name");
            contenders = [vec![ours], others].concat();
        }
        let here = (sockets, processes) == COMPARED;
        let compared = if here { contenders.len() } else { 2 };
        let mut turns = vec![Vec::new(); compared];
        for round in 0..=rounds {
            for (contender, turns) in contenders.iter().zip(&mut turns) {
                let turn = turn(contender, &netns).with_context(|| contender.name.to_owned())?;
                if round > 0 {
                    turns.push(turn);
                }
            }
        }
        if here {
            comparison(&contenders, &turns, sockets, processes)?;
        }
        growth.push((sockets, turns));
    }
    if only.is_some() { Ok(()) } else { grown(&growth) }
}

fn contenders(netns: &Netns) -> Vec<Contender> {
    let contender = |name, line: &[&str]| Contender {
        name,
        command: line.iter().map(|w| (*w).to_owned()).collect(),
    };
    let path = netns.path().display().to_string();
    let ours = [&tcptrace()[..], "snapshot", "--format", "json", "--netns", &path];
    vec![
        contender("tcptrace snapshot --format json", &ours),
        contender("the same with --no-bpf", &[&ours[..], &["--no-bpf"]].concat()),
        contender("ss -tanpoie state close-wait", &["ss", "-tanpoie", "state", "close-wait"]),
        contender("ss -tanp", &["ss", "-tanp"]),
        contender("netstat -antp", &["netstat", "-antp"]),
        contender("lsof -nP -iTCP", &["lsof", "-nP", "-iTCP"]),
    ]
}

/// Runs it to its end, in the namespace, its output thrown away.
fn turn(contender: &Contender, netns: &Netns) -> anyhow::Result<Turn> {
    let mut command = Command::new(&contender.command[0]);
    command
        .args(&contender.command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    netns.enter_in(&mut command)?;
    let began = Instant::now();
    let child = command.spawn()?;
    let pid = child.id().cast_signed();
    let mut status = 0;
    // SAFETY: all-zero bytes are a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both outlive the call, and the child is ours and not waited for elsewhere.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    let wall = began.elapsed();
    ensure!(waited == pid && libc::WIFEXITED(status), "did not end by itself");
    let time = |t: libc::timeval| {
        Duration::new(t.tv_sec.unsigned_abs(), t.tv_usec.unsigned_abs() as u32 * 1_000)
    };
    Ok(Turn { wall, cpu: time(usage.ru_utime) + time(usage.ru_stime), resident: usage.ru_maxrss })
}

fn of(turns: &[Turn], pick: impl Fn(&Turn) -> f64) -> (f64, f64, f64) {
    median(turns.iter().map(pick).collect())
}

fn wall(turn: &Turn) -> f64 {
    turn.wall.as_secs_f64() * 1_000.0
}

fn cpu(turn: &Turn) -> f64 {
    turn.cpu.as_secs_f64() * 1_000.0
}

fn mib(turn: &Turn) -> f64 {
    turn.resident as f64 / 1024.0
}

fn comparison(
    contenders: &[Contender],
    turns: &[Vec<Turn>],
    sockets: usize,
    processes: usize,
) -> anyhow::Result<()> {
    let title = format!(
        "{sockets} sockets in CLOSE_WAIT over {processes} processes, {} rounds; medians, [lowest, \
         highest], ratios within a round",
        turns[0].len()
    );
    let columns = ["", "wall, ms", "ours / theirs", "CPU, ms", "ours / theirs", "resident, MiB"];
    let mut table = Table::new("snapshot", title, &columns);
    for (contender, theirs) in contenders.iter().zip(turns) {
        let (w, low, high) = of(theirs, wall);
        let ratio = |pick: fn(&Turn) -> f64| {
            let (r, low, high) =
                median(turns[0].iter().zip(theirs).map(|(o, t)| pick(o) / pick(t)).collect());
            format!("{r:.2} [{low:.2}, {high:.2}]")
        };
        table.row(vec![
            format!("`{}`", contender.name),
            format!("{w:.0} [{low:.0}, {high:.0}]"),
            ratio(wall),
            format!("{:.0}", of(theirs, cpu).0),
            ratio(cpu),
            format!("{:.0}", of(theirs, mib).0),
        ]);
    }
    table.print()
}

fn grown(growth: &[(usize, Vec<Vec<Turn>>)]) -> anyhow::Result<()> {
    let columns =
        ["sockets", "wall, ms", "without BPF", "CPU, ms", "resident, MiB", "µs of CPU a socket"];
    let mut table = Table::new("snapshot-growth", "How a snapshot grows", &columns);
    for (sockets, turns) in growth {
        let (with, without) = (of(&turns[0], wall).0, of(&turns[1], wall).0);
        let cpu = of(&turns[0], cpu).0;
        let resident = of(&turns[0], mib).0;
        let numbers = [with, without, cpu, resident].map(|n| format!("{n:.0}"));
        let each = format!("{:.1}", cpu * 1_000.0 / *sockets as f64);
        table.row([vec![sockets.to_string()], numbers.to_vec(), vec![each]].concat());
    }
    table.print()
}

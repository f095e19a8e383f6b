//! What keeping the evidence costs: `record` beside a plain `watch`, on the same load, turn by
//! turn; how large files become; and how much faster a recording is replayed than it took.
//!
//! `cargo xtask bench record` runs this as root. Three things are recorded: a storm of short
//! connections, a storm of which every change of state is kept, and leaks that stay.

#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the live tests")]
mod support;

#[expect(dead_code, reason = "shared with the other benchmarks")]
mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use common::{Leaks, Running, Table, argument, median, tcptrace};
use support::{load::run_load, netns::Netns};

/// Connections of a storm.
const CONNECTIONS: u64 = 100_000;
/// Sockets that leak, and for how long they are recorded.
const LEAKS: usize = 1_000;
const LEAKING: Duration = Duration::from_secs(245);
/// By then each leak was reported at 1, 2, 4, 8, 16 and 32 s: from here on the file grows as it
/// will for hours, by what is scanned every minute.
const SETTLED: Duration = Duration::from_secs(65);
/// Turns; `--rounds N` for another number.
const ROUNDS: usize = 3;

/// One tool on one load.
#[derive(Clone, Copy, Default)]
struct Turn {
    /// CPU of the tool, s.
    cpu: f64,
    /// Resident memory at the end, KiB.
    resident: f64,
    /// How long it ran, s.
    took: f64,
    /// Size of the file, bytes.
    bytes: f64,
    /// What was added to it in an hour, once leaks were old, bytes.
    hourly: f64,
    /// How long a replay takes, s.
    replay: f64,
}

/// What is recorded.
struct Recorded {
    name: &'static str,
    args: &'static [&'static str],
    load: fn(&Netns) -> anyhow::Result<()>,
}

const ALL: [Recorded; 3] = [
    Recorded { name: "storm", args: &[], load: storm },
    Recorded {
        name: "storm, every change of state",
        args: &["--transitions", "--state", "all", "--min-age", "10m"],
        load: storm,
    },
    Recorded { name: "leaks", args: &[], load: leaks },
];

fn storm(netns: &Netns) -> anyhow::Result<()> {
    ensure!(run_load(netns, CONNECTIONS)?.connections == CONNECTIONS, "all of them");
    Ok(())
}

fn leaks(netns: &Netns) -> anyhow::Result<()> {
    let _leaks = Leaks::make(netns, LEAKS, 1)?;
    thread::sleep(LEAKING);
    Ok(())
}

fn main() -> anyhow::Result<()> {
    if let Some(played) = common::play_leak() {
        return played;
    }
    let only = argument("--only");
    let rounds = common::rounds(ROUNDS)?;
    let dir = tempfile::tempdir()?;
    let title = format!(
        "{rounds} rounds; storms of {CONNECTIONS} connections over loopback, {LEAKS} leaks for \
         {} s; medians, [lowest, highest], ratios within a round",
        LEAKING.as_secs()
    );
    let columns = [
        "recorded",
        "CPU of watch, s",
        "CPU of record, s",
        "more than watch, s",
        "memory, MiB (watch, record)",
        "file",
        "per",
        "took, s",
        "replay, s",
        "times faster",
    ];
    let mut table = Table::new("record", title, &columns);
    for recorded in ALL.iter().filter(|r| only.as_deref().is_none_or(|only| r.name == only)) {
        let mut pairs = Vec::new();
        for round in 0..rounds {
            eprintln!("round {} of {rounds}: {}", round + 1, recorded.name);
            let file = dir.path().join(format!("{round}.tct"));
            pairs.push((turn(recorded, None)?, turn(recorded, Some(&file))?));
        }
        table.row(row(recorded, &pairs));
        for round in 0..rounds {
            let _ = fs::remove_file(dir.path().join(format!("{round}.tct")));
        }
    }
    table.print()
}

fn row(recorded: &Recorded, pairs: &[(Turn, Turn)]) -> Vec<String> {
    let of = |pick: &dyn Fn(&(Turn, Turn)) -> f64| median(pairs.iter().map(pick).collect());
    let shown = |pick: &dyn Fn(&(Turn, Turn)) -> f64| {
        let (middle, low, high) = of(pick);
        format!("{middle:.2} [{low:.2}, {high:.2}]")
    };
    let (bytes, _, _) = of(&|(_, record)| record.bytes);
    let per = if recorded.name == "leaks" {
        let hour = of(&|(_, record)| record.hourly).0 * 1_000.0 / LEAKS as f64;
        format!("{:.2} MiB for 1,000 leaks an hour", hour / 1_048_576.0)
    } else {
        let million = bytes / CONNECTIONS as f64 * 1e6 / 1_048_576.0;
        format!("{million:.2} MiB a million connections")
    };
    let memory = |pick: &dyn Fn(&(Turn, Turn)) -> f64| of(pick).0 / 1_024.0;
    vec![
        recorded.name.to_owned(),
        shown(&|(watch, _)| watch.cpu),
        shown(&|(_, record)| record.cpu),
        shown(&|(watch, record)| record.cpu - watch.cpu),
        format!("{:.1}, {:.1}", memory(&|(w, _)| w.resident), memory(&|(_, r)| r.resident)),
        format!("{:.0} KiB", bytes / 1_024.0),
        per,
        shown(&|(_, record)| record.took),
        shown(&|(_, record)| record.replay),
        format!("{:.0}", of(&|(_, record)| record.took / record.replay).0),
    ]
}

/// One load, watched, or recorded and then replayed.
fn turn(recorded: &Recorded, file: Option<&Path>) -> anyhow::Result<Turn> {
    let netns = Netns::new().context("making a network namespace")?;
    let path = netns.path().display().to_string();
    let mut command = vec![tcptrace()];
    let says = match file {
        Some(file) => {
            command.extend(["record", "-o"].map(str::to_owned));
            command.push(file.display().to_string());
            "recording "
        }
        None => {
            command.extend(["watch", "--format", "json"].map(str::to_owned));
            "watching "
        }
    };
    command.extend(recorded.args.iter().map(|word| (*word).to_owned()));
    command.extend(["--netns".to_owned(), path]);
    let mut running = Running::start(&command, says)?;
    let began = Instant::now();
    let settled = file.map(|file| size_after(file, SETTLED));
    (recorded.load)(&netns)?;
    // What is written is written a second later at the latest.
    thread::sleep(Duration::from_secs(2));
    let (cpu, resident) = (running.cpu().as_secs_f64(), running.resident() as f64);
    let took = began.elapsed().as_secs_f64();
    running.end();
    let turn = Turn { cpu, resident, took, ..Turn::default() };
    let (Some(file), Some(settled)) = (file, settled) else { return Ok(turn) };
    let bytes = fs::metadata(file).context("the recording")?.len() as f64;
    let since = took - SETTLED.as_secs_f64();
    let hourly = match settled.try_recv() {
        Ok(before) => (bytes - before) / since * 3_600.0,
        Err(_) => f64::NAN,
    };
    let began = Instant::now();
    let mut replay = Command::new(tcptrace());
    replay.args(["replay", "--json"]).arg(file).args(recorded.args).stdout(Stdio::null());
    ensure!(replay.status()?.success(), "the replay fails");
    Ok(Turn { bytes, hourly, replay: began.elapsed().as_secs_f64(), ..turn })
}

/// How large a file is after a time, bytes.
fn size_after(file: &Path, time: Duration) -> Receiver<f64> {
    let (tell, size) = channel();
    let file = file.to_owned();
    thread::spawn(move || {
        thread::sleep(time);
        let _ = tell.send(fs::metadata(file).map_or(f64::NAN, |meta| meta.len() as f64));
    });
    size
}

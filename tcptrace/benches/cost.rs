//! What a transition costs in the kernel, by the kernel's own accounting
//! (`kernel.bpf_stats_enabled`), and what is left of the connection rate: ours, and the tools that
//! people would use instead, on the same load, turn by turn.
//!
//! `cargo xtask bench cost` installs the peers and runs this as root.

#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the live tests")]
mod support;

use std::{
    collections::HashMap,
    fs, io,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use aya::programs::loaded_programs;
use support::{load::short_connections, netns::Netns};

/// Connections in one turn, after a warm-up of a tenth and half as many with the accounting on.
const CONNECTIONS: u64 = 40_000;
/// Turns for each contender; `--rounds N` for another number, `--only NAME` for one contender.
const ROUNDS: usize = 5;
/// Each connection over loopback makes five transitions on each side.
const TRANSITIONS: u64 = 10;

const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";
const ONE_LINER: &str = "tracepoint:sock:inet_sock_set_state { printf(\"%d %s %d %d %d %d\\n\", pid, comm, args->oldstate, args->newstate, args->sport, args->dport); }";

struct Contender {
    name: &'static str,
    command: Option<Vec<String>>,
    /// What it prints once it is attached; `None`: it doesn't say, its programs show.
    says: Option<&'static str>,
}

#[derive(Default, Clone)]
struct Turn {
    /// ns of kernel programs per transition.
    ns: f64,
    /// Program runs per transition.
    runs: f64,
    /// Connections per second.
    rate: f64,
    /// User-space CPU, µs per 1,000 transitions.
    user_us: f64,
    /// Lines it printed per transition.
    lines: f64,
}

fn main() -> anyhow::Result<()> {
    let tcptrace = env!("CARGO_BIN_EXE_tcptrace");
    let this = std::env::current_exe()?.display().to_string();
    if std::env::args().any(|a| a == "--hold-empty") {
        return hold_empty();
    }
    let argument = |name: &str| std::env::args().skip_while(|a| a != name).nth(1);
    let only = argument("--only");
    let rounds = argument("--rounds").map_or(Ok(ROUNDS), |n| n.parse())?;
    let words = |line: &[&str]| Some(line.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
    // The peers want tracefs, which not every machine has mounted: they get it in a mount
    // namespace of their own.
    let traced = |line: &[&str]| {
        let mount = "mount -t tracefs none /sys/kernel/tracing 2>/dev/null; exec \"$@\"";
        words(&[&["unshare", "--mount", "sh", "-c", mount, "sh"], line].concat())
    };
    let contenders = [
        Contender { name: "nothing", command: None, says: None },
        Contender { name: "empty program", command: words(&[&this, "--hold-empty"]), says: Some("attached") },
        Contender { name: "tcptrace watch", command: words(&[tcptrace, "watch"]), says: Some("watching") },
        Contender {
            name: "tcptrace watch --transitions --state all",
            command: words(&[
                tcptrace,
                "watch",
                "--transitions",
                "--state",
                "all",
                "--min-age",
                "1m",
                "--format",
                "json",
            ]),
            says: Some("watching"),
        },
        Contender { name: "tcpstates (libbpf-tools)", command: traced(&["/usr/sbin/tcpstates"]), says: None },
        Contender { name: "bpftrace one-liner", command: traced(&["bpftrace", "-e", ONE_LINER]), says: None },
    ];
    // What others are compared with is always there.
    let asked = |c: &Contender| only.as_ref().is_none_or(|only| ["nothing", "empty program", only].contains(&c.name));
    let contenders: Vec<Contender> = contenders.into_iter().filter(asked).collect();
    let netns = Netns::new().context("making a network namespace")?;
    let mut turns: Vec<Vec<Turn>> = vec![Vec::new(); contenders.len()];
    for round in 0..rounds {
        for (contender, turns) in contenders.iter().zip(&mut turns) {
            eprintln!("round {} of {rounds}: {}", round + 1, contender.name);
            turns.push(turn(contender, &netns).with_context(|| contender.name.to_owned())?);
        }
    }
    report(&contenders, &turns);
    Ok(())
}

/// Attaches the empty program and waits to be ended.
fn hold_empty() -> anyhow::Result<()> {
    let _loaded = tcptrace::bpf::loader::load_empty()?;
    eprintln!("attached");
    loop {
        thread::park();
    }
}

fn turn(contender: &Contender, netns: &Netns) -> anyhow::Result<Turn> {
    let before = programs();
    let mut running = contender.command.as_ref().map(|c| Running::start(c, contender.says, &before)).transpose()?;
    run_load(netns, CONNECTIONS / 10)?;
    let start = programs();
    let counted = {
        let _stats = Stats::on()?;
        run_load(netns, CONNECTIONS / 2)?.connections
    };
    let end = programs();
    // The rate without the accounting, which costs as much as a small program.
    let user_start = running.as_ref().map_or(0, |r| user_us(r.child.id()));
    let made = run_load(netns, CONNECTIONS)?;
    let user_end = running.as_ref().map_or(0, |r| user_us(r.child.id()));

    let transitions = (made.connections * TRANSITIONS) as f64;
    let accounted = (counted * TRANSITIONS) as f64;
    let (mut ns, mut runs) = (0, 0);
    for (id, (end_ns, end_runs)) in end.iter().filter(|(id, _)| !before.contains_key(id)) {
        let (start_ns, start_runs) = start.get(id).copied().unwrap_or_default();
        ns += end_ns - start_ns;
        runs += end_runs - start_runs;
    }
    let lines = running.as_mut().map_or(0, Running::end) as f64;
    Ok(Turn {
        ns: ns as f64 / accounted,
        runs: runs as f64 / accounted,
        rate: made.rate(),
        user_us: (user_end - user_start) as f64 * 1_000.0 / transitions,
        // Those of the warm-up and of the accounted part are among them.
        lines: lines / (transitions * 1.6),
    })
}

fn run_load(netns: &Netns, connections: u64) -> io::Result<support::load::Made> {
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            netns.enter()?;
            short_connections(connections, 2)
        });
        load.join().map_err(|_| io::Error::other("the load panicked"))?
    })
}

/// ns and runs of every loaded program, by id.
fn programs() -> HashMap<u32, (u64, u64)> {
    let infos = loaded_programs().filter_map(Result::ok);
    infos.map(|p| (p.id(), (p.run_time().as_nanos() as u64, p.run_count()))).collect()
}

struct Running {
    child: Child,
    counting: Option<thread::JoinHandle<u64>>,
}

impl Running {
    fn start(command: &[String], says: Option<&str>, before: &HashMap<u32, (u64, u64)>) -> anyhow::Result<Self> {
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| command[0].clone())?;
        let stdout = child.stdout.take().context("stdout")?;
        let counting = thread::spawn(move || {
            let mut reader = BufReader::with_capacity(1 << 20, stdout);
            let (mut lines, mut buffer) = (0, Vec::new());
            while reader.read_until(b'\n', &mut buffer).is_ok_and(|n| n > 0) {
                lines += 1;
                buffer.clear();
            }
            lines
        });
        let mut stderr = BufReader::new(child.stderr.take().context("stderr")?);
        if let Some(says) = says {
            let mut said = String::new();
            while !said.contains(says) {
                ensure!(stderr.read_line(&mut said)? > 0, "ended before it was attached: {said}");
            }
        } else {
            // It has attached once a program of its own is there and no more come.
            let mut count = 0;
            for _ in 0..100 {
                thread::sleep(Duration::from_millis(100));
                let now = programs().keys().filter(|id| !before.contains_key(id)).count();
                if now > 0 && now == count {
                    break;
                }
                count = now;
            }
            ensure!(count > 0, "no program of its own was loaded");
        }
        thread::spawn(move || io::copy(&mut stderr, &mut io::sink()));
        Ok(Self { child, counting: Some(counting) })
    }

    fn end(&mut self) -> u64 {
        // What it printed last is to arrive.
        thread::sleep(Duration::from_millis(300));
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.counting.take().and_then(|c| c.join().ok()).unwrap_or(0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of a process, µs, user and system.
fn user_us(pid: u32) -> u64 {
    let stat = procfs::process::Process::new(pid.cast_signed()).and_then(|p| p.stat());
    stat.map_or(0, |s| (s.utime + s.stime) * 1_000_000 / procfs::ticks_per_second())
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

fn median(turns: &[Turn], pick: impl Fn(&Turn) -> f64) -> (f64, f64, f64) {
    let mut values: Vec<f64> = turns.iter().map(pick).collect();
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

#[expect(clippy::print_stdout, reason = "this is what the benchmark is for")]
fn report(contenders: &[Contender], turns: &[Vec<Turn>]) {
    let find = |name: &str| contenders.iter().position(|c| c.name == name).map(|n| &turns[n][..]).unwrap_or_default();
    let (empty, nothing, states) = (find("empty program"), find("nothing"), find("tcpstates (libbpf-tools)"));
    // Each turn against the other contender's turn of the same round: the machine drifts.
    let paired = |turns: &[Turn], others: &[Turn], pick: fn(&Turn) -> f64| {
        if others.is_empty() {
            return "-".to_owned();
        }
        let ratios = turns.iter().zip(others).map(|(t, o)| Turn { ns: pick(t) / pick(o), ..Turn::default() });
        let (ratio, low, high) = median(&ratios.collect::<Vec<_>>(), |t| t.ns);
        if ratio == 0.0 || !ratio.is_finite() { "-".to_owned() } else { format!("{ratio:.3} [{low:.2}, {high:.2}]") }
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!(
        "{} rounds of {CONNECTIONS} connections over loopback, {} CPUs, kernel {}; medians, [lowest, highest], ratios within a round\n",
        turns[0].len(),
        thread::available_parallelism().map_or(0, usize::from),
        kernel.trim()
    );
    println!(
        "| on the load | ns/transition in the kernel | vs empty | vs tcpstates | connections/s | vs nothing | CPU of the tool, µs/1,000 transitions | lines/transition |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (contender, turns) in contenders.iter().zip(turns) {
        let (ns, low, high) = median(turns, |t| t.ns);
        let (r, rlow, rhigh) = median(turns, |t| t.rate);
        println!(
            "| {} | {ns:.0} [{low:.0}, {high:.0}] | {} | {} | {r:.0} [{rlow:.0}, {rhigh:.0}] | {} | {:.0} | {:.3} |",
            contender.name,
            paired(turns, empty, |t| t.ns),
            paired(turns, states, |t| t.ns),
            paired(turns, nothing, |t| t.rate),
            median(turns, |t| t.user_us).0,
            median(turns, |t| t.lines).0,
        );
    }
    if let Some(watch) = contenders.iter().position(|c| c.name == "tcptrace watch") {
        let runs = median(&turns[watch], |t| t.runs).0;
        println!("\nProgram runs per transition of the default watch: {runs:.2}.");
    }
}

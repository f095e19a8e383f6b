//! What a look at many sockets in CLOSE_WAIT takes, with holders and verdicts: ours, and the tools
//! that people would use instead, on the same sockets, turn by turn; and how ours grows.
//!
//! `cargo xtask bench snapshot` installs the peers and runs this as root.

#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the live tests")]
mod support;

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use support::{load::connect_from, netns::Netns};

/// Sockets of the comparison, and how many processes hold them: RLIMIT_NOFILE's hard limit may be
/// no more than 20,000.
const COMPARED: (usize, usize) = (51_000, 6);
/// Sizes that show how ours grows.
const GROWTH: [(usize, usize); 4] = [(1_000, 1), (10_000, 1), COMPARED, (150_000, 10)];
/// Turns for each contender.
const ROUNDS: usize = 7;

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
    if let Some(count) = std::env::args().skip_while(|a| a != "--leak").nth(1) {
        return leak(count.parse()?);
    }
    let mut growth = Vec::new();
    for (sockets, processes) in GROWTH {
        eprintln!("{sockets} sockets over {processes} processes");
        let netns = Netns::new().context("making a network namespace")?;
        let _leaks = Leaks::make(&netns, sockets, processes)?;
        let contenders = contenders(&netns);
        let compared = if (sockets, processes) == COMPARED { contenders.len() } else { 2 };
        let mut turns = vec![Vec::new(); compared];
        for round in 0..ROUNDS {
            for (contender, turns) in contenders.iter().zip(&mut turns) {
                let turn = turn(contender, &netns).with_context(|| contender.name.to_owned())?;
                // The first fills caches.
                if round > 0 {
                    turns.push(turn);
                }
            }
        }
        if compared > 2 {
            comparison(&contenders, &turns, sockets, processes);
        }
        growth.push((sockets, turns));
    }
    grown(&growth);
    Ok(())
}

fn contenders(netns: &Netns) -> Vec<Contender> {
    let contender = |name, line: &[&str]| Contender { name, command: line.iter().map(|w| (*w).to_owned()).collect() };
    let path = netns.path().display().to_string();
    let ours = [env!("CARGO_BIN_EXE_tcptrace"), "snapshot", "--format", "json", "--netns", &path];
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
    command.args(&contender.command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
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
    let time = |t: libc::timeval| Duration::new(t.tv_sec.unsigned_abs(), t.tv_usec.unsigned_abs() as u32 * 1_000);
    Ok(Turn { wall, cpu: time(usage.ru_utime) + time(usage.ru_stime), resident: usage.ru_maxrss })
}

/// Processes that hold sockets in CLOSE_WAIT; they end with it.
struct Leaks(Vec<Child>);

impl Leaks {
    fn make(netns: &Netns, sockets: usize, processes: usize) -> anyhow::Result<Self> {
        let mut leaks = Self(Vec::new());
        for _ in 0..processes {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--leak", &(sockets / processes).to_string()]);
            netns.enter_in(&mut command)?;
            leaks.0.push(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
        }
        for child in &mut leaks.0 {
            let mut line = String::new();
            BufReader::new(child.stdout.take().context("stdout")?).read_line(&mut line)?;
            ensure!(line == "leaking\n", "a leaking process said {line:?}");
        }
        Ok(leaks)
    }
}

impl Drop for Leaks {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Accepts connections whose clients close, keeps them, and waits for the end of its input.
fn leak(count: usize) -> anyhow::Result<()> {
    let room = rustix::process::Rlimit { current: Some(20_000), maximum: Some(20_000) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, room)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let server: SocketAddr = listener.local_addr()?;
    let mut kept: Vec<TcpStream> = Vec::with_capacity(count);
    for n in 0..count {
        // Ports of one source would run out.
        let client = connect_from(Ipv4Addr::new(127, 1, 0, (n % 50) as u8 + 1), server)?;
        kept.push(listener.accept()?.0);
        drop(client);
    }
    let mut out = io::stdout();
    out.write_all(b"leaking\n")?;
    out.flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn median(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
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

#[expect(clippy::print_stdout, reason = "this is what the benchmark is for")]
fn comparison(contenders: &[Contender], turns: &[Vec<Turn>], sockets: usize, processes: usize) {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!(
        "{sockets} sockets in CLOSE_WAIT over {processes} processes, {} rounds, {} CPUs, kernel {}; medians, [lowest, highest], ratios within a round\n",
        turns[0].len(),
        thread::available_parallelism().map_or(0, usize::from),
        kernel.trim()
    );
    println!("| | wall, ms | ours / theirs | CPU, ms | ours / theirs | resident, MiB |");
    println!("|---|---|---|---|---|---|");
    for (contender, theirs) in contenders.iter().zip(turns) {
        let (w, low, high) = of(theirs, wall);
        let ratio = |pick: fn(&Turn) -> f64| {
            let (r, low, high) = median(turns[0].iter().zip(theirs).map(|(o, t)| pick(o) / pick(t)).collect());
            format!("{r:.2} [{low:.2}, {high:.2}]")
        };
        println!(
            "| `{}` | {w:.0} [{low:.0}, {high:.0}] | {} | {:.0} | {} | {:.0} |",
            contender.name,
            ratio(wall),
            of(theirs, cpu).0,
            ratio(cpu),
            of(theirs, mib).0
        );
    }
}

#[expect(clippy::print_stdout, reason = "this is what the benchmark is for")]
fn grown(growth: &[(usize, Vec<Vec<Turn>>)]) {
    println!("\n| sockets | wall, ms | without BPF | CPU, ms | resident, MiB | µs of CPU a socket |");
    println!("|---|---|---|---|---|---|");
    for (sockets, turns) in growth {
        let (with, without) = (of(&turns[0], wall).0, of(&turns[1], wall).0);
        let cpu = of(&turns[0], cpu).0;
        println!(
            "| {sockets} | {with:.0} | {without:.0} | {cpu:.0} | {:.0} | {:.1} |",
            of(&turns[0], mib).0,
            cpu * 1_000.0 / *sockets as f64
        );
    }
}

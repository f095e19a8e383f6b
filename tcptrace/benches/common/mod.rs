//! What the benchmarks share: running contenders, and tables that come out as Markdown and JSON.

pub mod contenders;

use std::{
    fs, io,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::json;

use crate::support::{load::connect_from, netns::Netns};

/// The middle one, the lowest and the highest.
pub fn median(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => (f64::NAN, f64::NAN, f64::NAN),
        n => (values[n / 2], values[0], values[n - 1]),
    }
}

/// A table, printed as Markdown and kept as JSON below `target/bench`.
pub struct Table {
    name: &'static str,
    title: String,
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(name: &'static str, title: impl Into<String>, columns: &[&'static str]) -> Self {
        Self { name, title: title.into(), columns: columns.to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    #[expect(clippy::print_stdout, reason = "this is what benchmarks are for")]
    pub fn print(&self) -> anyhow::Result<()> {
        println!("\n{} ({})\n", self.title, machine());
        println!("| {} |", self.columns.join(" | "));
        println!("|{}", "---|".repeat(self.columns.len()));
        for row in &self.rows {
            println!("| {} |", row.join(" | "));
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench");
        fs::create_dir_all(folder)?;
        let table = json!({
            "name": self.name,
            "title": self.title,
            "machine": machine(),
            "columns": self.columns,
            "rows": self.rows,
        });
        fs::write(format!("{folder}/{}.json", self.name), format!("{table:#}\n"))?;
        Ok(())
    }
}

/// The tcptrace that is measured: the one that `--binary` names (`cargo xtask bench` gives what
/// `dist` makes, which people run), or the one that cargo built for this machine.
pub fn tcptrace() -> String {
    argument("--binary").unwrap_or_else(|| env!("CARGO_BIN_EXE_tcptrace").to_owned())
}

/// Which one that is, for a table's title.
fn binary() -> &'static str {
    if tcptrace().contains("-linux-musl/") { "the static binary of dist" } else { "a local build" }
}

/// How many turns: `--rounds`, or the usual number.
pub fn rounds(usual: usize) -> anyhow::Result<usize> {
    argument("--rounds").map_or(Ok(usual), |n| n.parse().context("--rounds"))
}

/// CPUs, kernel, and which tcptrace.
pub fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(": "))
        .map_or("?", |(_, m)| m);
    format!(
        "{} CPUs, {model}, kernel {}, tcptrace: {}",
        thread::available_parallelism().map_or(0, usize::from),
        kernel.trim(),
        binary()
    )
}

/// Processes that hold sockets in CLOSE_WAIT; they end with it.
pub struct Leaks(Vec<(Child, ChildStdin)>);

impl Leaks {
    /// RLIMIT_NOFILE's hard limit may be no more than 20,000: many sockets want several processes.
    pub fn make(netns: &Netns, sockets: usize, processes: usize) -> anyhow::Result<Self> {
        let mut leaks = Self(Vec::new());
        let mut outputs = Vec::new();
        for _ in 0..processes {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--leak", &(sockets / processes).to_string()]);
            netns.enter_in(&mut command)?;
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            outputs.push(child.stdout.take().context("stdout")?);
            let input = child.stdin.take().context("stdin")?;
            leaks.0.push((child, input));
        }
        for output in outputs {
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line)?;
            ensure!(line == "leaking\n", "a leaking process said {line:?}");
        }
        Ok(leaks)
    }
}

impl Drop for Leaks {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Plays one of them, if the command line says so.
pub fn play_leak() -> Option<anyhow::Result<()>> {
    let count = argument("--leak")?;
    Some(count.parse().map_err(anyhow::Error::from).and_then(leak))
}

/// The word after `name` on the command line.
pub fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|a| a != name).nth(1)
}

/// Accepts connections whose clients close, keeps them, and waits for the end of its input.
fn leak(count: usize) -> anyhow::Result<()> {
    use std::net::{Ipv4Addr, TcpListener};
    let room = rustix::process::Rlimit { current: Some(20_000), maximum: Some(20_000) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, room)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let server = listener.local_addr()?;
    let mut kept = Vec::with_capacity(count);
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

/// A tool that runs beside a load, what it prints being counted.
pub struct Running {
    pub child: Child,
    counting: Option<thread::JoinHandle<(u64, String)>>,
    last: String,
}

impl Running {
    /// Starts it and waits until it says so.
    pub fn start(command: &[String], says: &str) -> anyhow::Result<Self> {
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
            let (mut lines, mut buffer, mut last) = (0, Vec::new(), Vec::new());
            while reader.read_until(b'\n', &mut buffer).is_ok_and(|n| n > 0) {
                lines += 1;
                std::mem::swap(&mut buffer, &mut last);
                buffer.clear();
            }
            (lines, String::from_utf8_lossy(&last).into_owned())
        });
        let mut stderr = BufReader::new(child.stderr.take().context("stderr")?);
        let mut said = String::new();
        while !said.contains(says) {
            ensure!(stderr.read_line(&mut said)? > 0, "ended before it was attached: {said}");
        }
        thread::spawn(move || io::copy(&mut stderr, &mut io::sink()));
        Ok(Self { child, counting: Some(counting), last: String::new() })
    }

    /// Ends it as Ctrl-C would; how many lines it printed.
    pub fn end(&mut self) -> u64 {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed());
        // Again: Python forgets an interrupt that comes while C calls it back.
        for _ in 0..50 {
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
            }
            thread::sleep(Duration::from_millis(100));
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let (lines, last) = self.counting.take().and_then(|c| c.join().ok()).unwrap_or_default();
        self.last = last;
        lines
    }

    /// The last line that it printed, once it has ended.
    pub fn last_line(&self) -> &str {
        &self.last
    }

    /// CPU time so far, of its children that have ended too.
    pub fn cpu(&self) -> Duration {
        let stat =
            procfs::process::Process::new(self.child.id().cast_signed()).and_then(|p| p.stat());
        let ticks = stat.map_or(0, |s| s.utime + s.stime + (s.cutime + s.cstime).unsigned_abs());
        Duration::from_millis(ticks * 1_000 / procfs::ticks_per_second())
    }

    /// Context switches so far, of its own will and not.
    pub fn switches(&self) -> u64 {
        self.status("voluntary_ctxt_switches") + self.status("nonvoluntary_ctxt_switches")
    }

    /// Resident memory, KiB.
    pub fn resident(&self) -> u64 {
        self.status("VmRSS")
    }

    fn status(&self, field: &str) -> u64 {
        let text =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Memory of the maps that it holds, KiB.
    pub fn maps(&self) -> u64 {
        let infos = fs::read_dir(format!("/proc/{}/fdinfo", self.child.id()))
            .into_iter()
            .flatten()
            .flatten();
        let texts = infos
            .filter_map(|e| fs::read_to_string(e.path()).ok())
            .filter(|t| t.contains("map_type:"));
        let memory = |t: &str| {
            t.lines().find_map(|l| l.strip_prefix("memlock:")?.trim().parse::<u64>().ok())
        };
        texts.filter_map(|t| memory(&t)).sum::<u64>() / 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

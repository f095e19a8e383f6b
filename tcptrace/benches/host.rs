//! What a watch costs its host beside the kernel's time: connections and requests that the load no
//! longer makes, latency, CPU of the user side, memory, start-up, and what gets lost.
//!
//! `cargo xtask bench host` installs the peers and runs this as root.

#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the live tests")]
mod support;

#[expect(dead_code, reason = "shared with the other benchmarks")]
mod common;

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use common::{
    Leaks, Running, Table, argument,
    contenders::{self, Contender},
    median, rounds, tcptrace,
};
use rustix::process::{Pid, Signal, kill_process};
use support::{load::run_load, netns::Netns};

const ROUNDS: usize = 3;
const CONNECTIONS: u64 = 40_000;
/// Each connection over loopback makes five transitions on each side.
const TRANSITIONS: u64 = 10;

fn main() -> anyhow::Result<()> {
    if let Some(played) = common::play_leak() {
        return played;
    }
    type Part = (&'static str, fn() -> anyhow::Result<()>);
    let parts: [Part; 5] =
        [("load", load), ("nginx", nginx), ("lost", lost), ("memory", memory), ("start", start)];
    let only = argument("--only");
    // Ten minutes: only for who asks for it.
    if only.as_deref() == Some("soak") {
        return soak();
    }
    if let Some(odd) = only.as_ref().filter(|only| parts.iter().all(|(name, _)| name != only)) {
        bail!("no such part: {odd}; there are load, nginx, lost, memory, start, soak");
    }
    for (name, part) in parts {
        if only.as_ref().is_none_or(|only| only == name) {
            part().with_context(|| name.to_owned())?;
        }
    }
    Ok(())
}

/// The contenders that a host would run: an empty program is `cost`'s.
fn contenders() -> anyhow::Result<Vec<Contender>> {
    Ok(contenders::all()?.into_iter().filter(|c| c.name != contenders::EMPTY).collect())
}

/// Connections a second, their latency, and what the tool itself uses.
fn load() -> anyhow::Result<()> {
    #[derive(Default)]
    struct Turns {
        rate: Vec<f64>,
        p99: Vec<f64>,
        cpu: Vec<f64>,
        share: Vec<f64>,
        switches: Vec<f64>,
        lines: Vec<f64>,
    }
    let contenders = contenders()?;
    let netns = Netns::new()?;
    let rounds = rounds(ROUNDS)?;
    let mut turns: Vec<Turns> = contenders.iter().map(|_| Turns::default()).collect();
    for round in 0..rounds {
        for (contender, turns) in contenders.iter().zip(&mut turns) {
            eprintln!("round {} of {rounds}: {}", round + 1, contender.name);
            let mut tool = contender.start()?;
            run_load(&netns, CONNECTIONS / 10)?;
            let before = tool.as_ref().map_or((Duration::ZERO, 0), |t| (t.cpu(), t.switches()));
            let made = run_load(&netns, CONNECTIONS)?;
            let after = tool.as_ref().map_or((Duration::ZERO, 0), |t| (t.cpu(), t.switches()));
            let millions = (made.connections * TRANSITIONS) as f64 / 1e6;
            turns.rate.push(made.rate());
            turns.p99.push(made.connect_p99.as_secs_f64() * 1e6);
            turns.cpu.push((after.0 - before.0).as_secs_f64() / millions);
            turns.share.push((after.0 - before.0).as_secs_f64() / made.took.as_secs_f64() * 100.0);
            turns.switches.push((after.1 - before.1) as f64 / millions);
            turns.lines.push(tool.as_mut().map_or(0, Running::end) as f64);
        }
    }
    let title = format!(
        "{CONNECTIONS} short connections over loopback, {rounds} rounds; medians, [lowest, \
         highest], ratios within a round"
    );
    let columns = [
        "on the load",
        "connections/s",
        "vs nothing",
        "p99 of connect(), µs",
        "tool's CPU, s per million transitions",
        "tool's CPU, % of a core",
        "tool's context switches per million transitions",
    ];
    let mut table = Table::new("host-load", title, &columns);
    for (contender, t) in contenders.iter().zip(&turns) {
        let (rate, low, high) = median(t.rate.clone());
        let (ratio, rlow, rhigh) =
            median(t.rate.iter().zip(&turns[0].rate).map(|(t, n)| t / n).collect());
        table.row(vec![
            contender.name.to_owned(),
            format!("{rate:.0} [{low:.0}, {high:.0}]"),
            format!("{ratio:.3} [{rlow:.2}, {rhigh:.2}]"),
            format!("{:.0}", median(t.p99.clone()).0),
            format!("{:.2}", median(t.cpu.clone()).0),
            format!("{:.2}", median(t.share.clone()).0),
            format!("{:.0}", median(t.switches.clone()).0),
        ]);
    }
    table.print()
}

/// Requests a second of nginx, with and without keepalive.
fn nginx() -> anyhow::Result<()> {
    const SECONDS: u64 = 3;
    let netns = Netns::new()?;
    let server = Nginx::start(&netns)?;
    let mut contenders = contenders()?;
    contenders.insert(3, contenders::origins_of(server.child.id()));
    let mut turns = vec![(Vec::new(), Vec::new()); contenders.len()];
    let rounds = rounds(ROUNDS)?;
    for _ in 0..rounds {
        for (contender, (kept, fresh)) in contenders.iter().zip(&mut turns) {
            let mut tool = contender.start()?;
            kept.push(requests(&netns, SECONDS, &[])?);
            fresh.push(requests(&netns, SECONDS, &["-H", "Connection: close"])?);
            tool.as_mut().map(Running::end);
        }
    }
    drop(server);
    let columns = [
        "on nginx under wrk",
        "requests/s, keepalive",
        "vs nothing",
        "requests/s, one a connection",
        "vs nothing",
    ];
    let mut table = Table::new(
        "host-nginx",
        format!(
            "wrk -t1 -c16 against nginx with one worker; medians of {rounds} rounds, ratios \
             within a round"
        ),
        &columns,
    );
    for (contender, (kept, fresh)) in contenders.iter().zip(&turns) {
        let ratio = |mine: &[f64], nothing: &[f64]| {
            let (r, low, high) = median(mine.iter().zip(nothing).map(|(m, n)| m / n).collect());
            format!("{r:.3} [{low:.2}, {high:.2}]")
        };
        table.row(vec![
            contender.name.to_owned(),
            format!("{:.0}", median(kept.clone()).0),
            ratio(kept, &turns[0].0),
            format!("{:.0}", median(fresh.clone()).0),
            ratio(fresh, &turns[0].1),
        ]);
    }
    table.print()
}

struct Nginx {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Nginx {
    fn start(netns: &Netns) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().display();
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log crit;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; client_body_temp_path {path}/a;\n\
             proxy_temp_path {path}/b; fastcgi_temp_path {path}/c;\n\
             uwsgi_temp_path {path}/d; scgi_temp_path {path}/e; keepalive_requests 1000000;\n\
             server {{ listen 127.0.0.1:8080 reuseport; location / {{ return 200 'ok'; }} }} }}\n"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config)?;
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-c").arg(&file).stdin(Stdio::null()).stderr(Stdio::null());
        netns.enter_in(&mut command)?;
        let child = command.spawn().context("nginx")?;
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut server = Self { child, _folder: folder };
        while requests(netns, 1, &[]).is_err() {
            ensure!(
                Instant::now() < deadline && server.child.try_wait()?.is_none(),
                "nginx does not answer"
            );
        }
        Ok(server)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn requests(netns: &Netns, seconds: u64, more: &[&str]) -> anyhow::Result<f64> {
    let mut command = Command::new("wrk");
    command
        .args(["-t1", "-c16", &format!("-d{seconds}s")])
        .args(more)
        .arg("http://127.0.0.1:8080/");
    netns.enter_in(&mut command)?;
    let output = command.output().context("wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate =
        text.lines().find_map(|l| l.strip_prefix("Requests/sec:")).context("wrk says no rate")?;
    let rate: f64 = rate.trim().parse()?;
    ensure!(rate > 0.0, "no answers");
    Ok(rate)
}

/// What gets lost: at full load, and while the reader is stopped for five seconds.
fn lost() -> anyhow::Result<()> {
    const BURST: u64 = 30_000;
    let netns = Netns::new()?;
    let columns = ["", "transitions made", "shown", "lost and counted", "lost and not counted"];
    let mut table = Table::new("host-lost", "What gets lost of a stream of transitions", &columns);
    for contender in contenders()? {
        let ours = contender.name == contenders::STREAM;
        if !(ours || contender.name == contenders::TCPSTATES || contender.name.contains("printing"))
        {
            continue;
        }
        for (what, connections, stopped) in [
            ("full load", CONNECTIONS, false),
            ("a burst", BURST, false),
            ("reader stopped for 5 s in it", BURST, true),
        ] {
            let mut tool = contender.start()?.context("a command")?;
            let pid = Pid::from_raw(tool.child.id().cast_signed()).context("a pid")?;
            if stopped {
                kill_process(pid, Signal::STOP)?;
            }
            let began = Instant::now();
            let made = run_load(&netns, connections)?.connections * TRANSITIONS;
            if stopped {
                thread::sleep(Duration::from_secs(5).saturating_sub(began.elapsed()));
                kill_process(pid, Signal::CONT)?;
            }
            // What it still has to print.
            thread::sleep(Duration::from_secs(2));
            let mut counted = "it counts none".to_owned();
            let lines = tool.end();
            let mut known = 0;
            if ours {
                let summary: serde_json::Value = serde_json::from_str(tool.last_line())?;
                known = summary["transitions"]["lost"].as_u64().unwrap_or(0);
                counted = known.to_string();
            }
            let silent = made.saturating_sub(lines).saturating_sub(known);
            table.row(vec![
                format!("{}, {what}", contender.name),
                made.to_string(),
                lines.to_string(),
                counted,
                silent.to_string(),
            ]);
        }
    }
    table.print()
}

/// Memory, resident and of the kernel's maps.
fn memory() -> anyhow::Result<()> {
    const CONNECTIONS: u64 = 1_000_000;
    let columns = ["a watch", "resident, MiB", "kernel maps, MiB"];
    let mut table = Table::new("host-memory", "Memory of tcptrace watch", &columns);
    let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
    let command: Vec<String> =
        [&tcptrace(), "watch", "--format", "json"].map(str::to_owned).to_vec();
    let netns = Netns::new()?;
    let mut watch = Running::start(&command, "watching")?;
    thread::sleep(Duration::from_secs(3));
    table.row(vec!["idle".to_owned(), mib(watch.resident()), mib(watch.maps())]);
    run_load(&netns, CONNECTIONS)?;
    table.row(vec![
        format!("after {CONNECTIONS} short connections"),
        mib(watch.resident()),
        mib(watch.maps()),
    ]);
    watch.end();
    for (sockets, processes) in [(10_000, 1), (50_000, 4), (100_000, 8)] {
        let mut watch = Running::start(&command, "watching")?;
        let leaks = Leaks::make(&netns, sockets, processes)?;
        thread::sleep(Duration::from_secs(10));
        table.row(vec![
            format!("with {sockets} sockets in CLOSE_WAIT"),
            mib(watch.resident()),
            mib(watch.maps()),
        ]);
        drop(leaks);
        watch.end();
    }
    table.print()
}

/// Ten minutes at full load and a million connections at least, with leaks planted all the way:
/// memory must stay flat, the counters must balance, and exactly those leaks must be found.
fn soak() -> anyhow::Result<()> {
    const LASTS: Duration = Duration::from_secs(600);
    const AT_LEAST: u64 = 1_000_000;
    const CHUNK: u64 = 50_000;
    const PLANTED: usize = 5;
    let netns = Netns::new()?;
    let path = netns.path().display().to_string();
    let command = [&tcptrace(), "watch", "--min-age", "5s", "--format", "json", "--netns", &path];
    let mut watch = Running::start(&command.map(str::to_owned), "watching")?;
    let columns =
        ["minute", "connections so far", "leaks planted", "resident, MiB", "kernel maps, MiB"];
    let mut table = Table::new("host-soak", "A soak of a watch at full load", &columns);
    let began = Instant::now();
    let (mut made, mut leaks, mut minute) = (0, Vec::new(), 0);
    while began.elapsed() < LASTS || made < AT_LEAST {
        made += run_load(&netns, CHUNK)?.connections;
        if began.elapsed().as_secs() / 60 >= minute {
            leaks.push(Leaks::make(&netns, PLANTED, 1)?);
            let memory =
                [watch.resident(), watch.maps()].map(|kib| format!("{:.1}", kib as f64 / 1024.0));
            let counts = [minute, made, (leaks.len() * PLANTED) as u64].map(|n| n.to_string());
            eprintln!("{counts:?} {memory:?}");
            table.row([counts.to_vec(), memory.to_vec()].concat());
            minute += 1;
        }
    }
    // The last ones are to be old enough.
    thread::sleep(Duration::from_secs(7));
    watch.end();
    let summary: serde_json::Value = serde_json::from_str(watch.last_line())?;
    let count = |name: &str| summary["transitions"][name].as_u64().unwrap_or(u64::MAX);
    let planted = (leaks.len() * PLANTED) as u64;
    table.row(vec![
        "the end".into(),
        made.to_string(),
        planted.to_string(),
        "-".into(),
        "-".into(),
    ]);
    table.print()?;
    eprintln!("{summary}");
    ensure!(summary["stuck"] == planted, "{planted} leaks planted, {} found", summary["stuck"]);
    let ours = summary["lost"]["ring_full"].as_u64().unwrap_or(0);
    ensure!(
        count("seen") == count("filtered") + count("emitted") + ours,
        "the counters do not balance: {summary}"
    );
    Ok(())
}

/// From the start to being attached.
fn start() -> anyhow::Result<()> {
    let tcptrace = tcptrace();
    let rounds = rounds(9)?;
    let bpftrace = "mount -t tracefs none /sys/kernel/tracing 2>/dev/null; exec bpftrace -e \
                    'BEGIN { exit(); } tracepoint:sock:inet_sock_set_state { @ = count(); }'";
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let began = Instant::now();
        let mut watch = Running::start(&[tcptrace.clone(), "watch".to_owned()], "watching")?;
        let our = began.elapsed().as_secs_f64() * 1e3;
        watch.end();
        let began = Instant::now();
        let status = Command::new("unshare")
            .args(["--mount", "sh", "-c", bpftrace])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        ensure!(status.success(), "bpftrace failed");
        let their = began.elapsed().as_secs_f64() * 1e3;
        ours.push(our);
        theirs.push(their);
        ratios.push(our / their);
    }
    let columns = ["", "ms", "ours / theirs"];
    let mut table = Table::new(
        "host-start",
        format!("From the start to attached; medians of {rounds} rounds"),
        &columns,
    );
    let (ratio, low, high) = median(ratios);
    table.row(vec!["tcptrace watch".into(), format!("{:.0}", median(ours).0), "1.00".into()]);
    table.row(vec![
        "bpftrace, attached and ended".into(),
        format!("{:.0}", median(theirs).0),
        format!("{ratio:.2} [{low:.2}, {high:.2}]"),
    ]);
    table.print()
}

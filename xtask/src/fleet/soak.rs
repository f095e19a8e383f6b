//! An agent for an hour: leaks that come and go, healthy connections, a scrape each 15 s, a
//! recording each five minutes. What it costs, and whether that grows; a day is extrapolated.

use std::{
    fs,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{
    Directory,
    ask::{get, get_bytes},
    host::{Host, Leak},
    say, wait,
};
use crate::{cargo::build_release, setup, support::netns::Netns};

/// As a fleet is scraped.
const SCRAPE: Duration = Duration::from_secs(15);
/// A connection that leaks and one that does not, so often.
const EACH: Duration = Duration::from_millis(500);
/// Leaks that are open at once; of more, the oldest is closed.
const OPEN: usize = 200;
/// A recording is fetched each so many scrapes.
const RECORDING: u32 = 20;
const DAY_S: f64 = 86_400.0;

/// What a scrape tells of the agent itself.
struct Sample {
    at_s: f64,
    cpu_s: f64,
    memory: f64,
    descriptors: f64,
    series: f64,
    bytes: f64,
    lost: Vec<String>,
}

/// For `seconds`.
pub fn run(seconds: u64) -> Result<()> {
    setup::packages(&[("ip", "iproute2", "iproute")])?;
    let tcptrace = build_release(&[])?;
    let dir = Directory::new()?;
    let monitor = Netns::new().context("a network namespace")?;
    let host = Host::new(&monitor, 1)?;
    monitor.enter()?;
    let token = dir.write("token", super::TOKEN)?;
    let mut agent = host.agent(&tcptrace, &token)?;
    wait("the agent", || Ok(get(host.at, "/readyz")?.0 == 200))?;
    let mut leak = Leak::new(&host)?;
    let (began, mut open) = (Instant::now(), std::collections::VecDeque::new());
    let (mut scraped, mut scrapes, mut recordings) = (Instant::now(), 0u32, Vec::new());
    let mut samples = Vec::new();
    say(&format!("{seconds} s, two leaks and two healthy connections a second"));
    while began.elapsed() < Duration::from_secs(seconds) {
        ensure!(agent.0.try_wait()?.is_none(), "the agent has ended");
        open.push_back(leak.one()?);
        if open.len() > OPEN
            && let Some(oldest) = open.pop_front()
        {
            leak.server.tell(&format!("close {oldest}"))?;
        }
        thread::sleep(EACH);
        if scraped.elapsed() < SCRAPE {
            continue;
        }
        scraped = Instant::now();
        scrapes += 1;
        samples.push(sample(host.at, agent.0.id(), began)?);
        if scrapes.is_multiple_of(RECORDING) {
            let (status, body) = get_bytes(host.at, "/api/v1/recording?last=5m")?;
            ensure!(status == 200, "no recording: {status}");
            recordings.push(body.len());
        }
    }
    told(&samples, &recordings)
}

fn sample(at: SocketAddr, pid: u32, began: Instant) -> Result<Sample> {
    let (status, text) = get(at, "/metrics")?;
    ensure!(status == 200, "no scrape: {status}");
    let values = |name: &str| -> f64 {
        let of = |line: &&str| line.strip_prefix(name).is_some_and(|r| r.starts_with([' ', '{']));
        let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
        text.lines().filter(of).filter_map(value).sum()
    };
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    Ok(Sample {
        at_s: began.elapsed().as_secs_f64(),
        cpu_s: values("process_cpu_seconds_total"),
        memory: values("process_resident_memory_bytes"),
        descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as f64,
        series: series as f64,
        bytes: text.len() as f64,
        lost: text
            .lines()
            .filter_map(|line| line.strip_prefix("tcptrace_events_lost_total"))
            .filter(|line| !line.ends_with(" 0"))
            .map(str::to_owned)
            .collect(),
    })
}

/// The first third is for warming up: the leaks are not all there yet.
fn told(samples: &[Sample], recordings: &[usize]) -> Result<()> {
    let late = &samples[samples.len() / 3..];
    let (first, last) = (late.first().context("a sample")?, late.last().context("a sample")?);
    let span = last.at_s - first.at_s;
    ensure!(span > 0.0, "too short: nothing to compare");
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let grown = slope(late);
    eprintln!(
        "| of an agent, {:.0} min of {:.0} | seen |\n|---|--:|",
        span / 60.0,
        last.at_s / 60.0
    );
    eprintln!("| CPU | {:.2}% of a core |", 100.0 * (last.cpu_s - first.cpu_s) / span);
    eprintln!("| memory, first and last | {:.1}, {:.1} MiB |", mib(first.memory), mib(last.memory));
    eprintln!("| memory, slope | {:+.2} MiB an hour |", mib(grown) * 3600.0);
    // What shrank in an hour is not taken to shrink all day.
    let day = mib(last.memory + grown.max(0.0) * (DAY_S - last.at_s));
    eprintln!("| after a day, extrapolated | {day:.0} MiB |");
    eprintln!("| descriptors, first and last | {}, {} |", first.descriptors, last.descriptors);
    eprintln!("| series, bytes of a scrape | {}, {} |", last.series, last.bytes);
    eprintln!("| recordings of five minutes | {recordings:?} bytes |");
    eprintln!("| events lost | {} |", last.lost.join(", "));
    ensure!(last.descriptors <= first.descriptors, "descriptors are left behind");
    Ok(())
}

/// Bytes a second that memory grows by, by least squares.
fn slope(samples: &[Sample]) -> f64 {
    let n = samples.len() as f64;
    let mean = |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / n;
    let (at, memory) = (mean(|s| s.at_s), mean(|s| s.memory));
    let (over, under) = samples.iter().fold((0.0, 0.0), |(over, under), s| {
        let d = s.at_s - at;
        (over + d * (s.memory - memory), under + d * d)
    });
    if under > 0.0 { over / under } else { 0.0 }
}

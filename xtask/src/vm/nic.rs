//! A machine with a network card, through which short connections come in at full rate, leaks among
//! them: packets arrive while a program runs for a socket that a process closes, which loopback
//! hardly ever does. The kernel skips a program that would interrupt itself.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{
    Programs, build, image, is_name, kernels,
    machine::{self, Card, Emulator},
    packages,
};
use crate::{
    cargo::root,
    dist,
    support::serve::{END, LEAKING, SHORT, plant, short},
};

const KERNEL: &str = "6.12";
const INIT: &[u8] = include_bytes!("nic.sh");
const DEADLINE: Duration = Duration::from_secs(400);

/// Clients at a time, the connections that each makes between two leaks, and its leaks.
const CLIENTS: u64 = 8;
const BETWEEN: u64 = 25;
const LEAKS: u64 = 25;

/// What the load made.
#[derive(Debug, Default)]
struct Made {
    short: u64,
    planted: u64,
    took: Duration,
}

/// `[KERNEL] [MODEL]`: QEMU's `virtio-net-pci`, or another card that the kernel drives (`e1000`).
pub fn run(words: &[&str]) -> Result<()> {
    let (kernel, model) = match words {
        [] => (KERNEL, "virtio-net-pci"),
        [kernel] if is_name(kernel) => (*kernel, "virtio-net-pci"),
        [kernel, model] if is_name(kernel) => (*kernel, *model),
        _ => bail!("cargo xtask vm nic [KERNEL [MODEL]]"),
    };
    packages()?;
    let dir = root().join("target/vm");
    fs::create_dir_all(&dir)?;
    let (emulator, kernel) = (Emulator::find(&dir)?, kernels::kernel(&dir, kernel)?);
    // What people run is what is tried.
    let programs = Programs { tcptrace: dist::shipped()?, ..build()? };
    let (image, log) = (dir.join("nic.cpio"), dir.join("nic.log"));
    image::with_card(&kernel, &programs, INIT, &image)?;
    let ports = [SHORT, LEAKING, END].map(|there| Ok((free_port()?, there)));
    let ports = ports.into_iter().collect::<Result<Vec<_>>>()?;
    let servers: Vec<SocketAddr> =
        ports.iter().map(|(here, _)| (Ipv4Addr::LOCALHOST, *here).into()).collect();
    let card = Card { model: model.to_owned(), ports };
    eprintln!("booting {} ({}) with {model}", kernel.name, kernel.version);
    let mut load = None;
    let console = {
        let mut told = |line: &str| {
            if line == "READY" {
                let servers = servers.clone();
                load = Some(thread::spawn(move || made(&servers)));
            }
        };
        let (card, deadline) = (Some(&card), DEADLINE);
        machine::boot_with(&emulator, &kernel, &image, &log, deadline, card, &mut told)?
    };
    fs::remove_file(image)?;
    let why = || format!("no load was made: see {}", log.display());
    let made =
        load.with_context(why)?.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
    let seen = Seen::of(&console.lines).with_context(|| format!("see {}", log.display()))?;
    let (count, seconds) = (made.short + made.planted, made.took.as_secs_f64());
    eprintln!(
        "{count} connections through {model} in {seconds:.0} s, {} of them leaks; the kernel \
         skipped {} runs; {} leaks named, {} other sockets",
        made.planted, seen.skipped, seen.named, seen.others
    );
    ensure!(seen.skipped > 0, "the kernel skipped no run: nothing was tried");
    ensure!(
        seen.named == made.planted && seen.others == 0,
        "{} leaks planted, {} named, and {} sockets that are none: see {}",
        made.planted,
        seen.named,
        seen.others,
        log.display()
    );
    Ok(())
}

/// A port that nobody uses: as good as that can be known.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Makes the load, and says its end.
fn made(servers: &[SocketAddr]) -> Result<Made> {
    let [to_short, to_leaking, to_end] = servers[..] else { bail!("three servers") };
    let began = Instant::now();
    let mut all = Made::default();
    let client = move || {
        let mut made = Made::default();
        for _ in 0..LEAKS {
            made.short += short(to_short, BETWEEN);
            made.planted += u64::from(plant(to_leaking).is_ok());
        }
        made
    };
    let clients: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(client)).collect();
    for client in clients {
        let made = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
        all.short += made.short;
        all.planted += made.planted;
    }
    all.took = began.elapsed();
    plant(to_end)?;
    Ok(all)
}

/// What the watch in the machine said.
#[derive(Debug, PartialEq)]
struct Seen {
    /// Program runs that the kernel did not make.
    skipped: u64,
    /// Sockets of the leaking port that were reported.
    named: u64,
    /// Others.
    others: u64,
}

impl Seen {
    fn of(lines: &[String]) -> Result<Self> {
        let summary = lines.iter().find_map(|line| line.strip_prefix("SUMMARY "));
        let summary: Value = serde_json::from_str(summary.context("the watch said no summary")?)?;
        let skipped = summary["lost"]["recursion"].as_u64().context("no count of skipped runs")?;
        let mut seen = Self { skipped, named: 0, others: 0 };
        let port = format!(":{LEAKING}\"");
        for line in lines.iter().filter(|line| line.starts_with("NAMED ")) {
            *(if line.ends_with(&port) { &mut seen.named } else { &mut seen.others }) += 1;
        }
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_is_read() {
        let lines = [
            "READY",
            "NAMED \"cookie\":4 \"local\":\"10.0.2.15:8081\"",
            "NAMED \"cookie\":5 \"local\":\"10.0.2.15:8081\"",
            "NAMED \"cookie\":6 \"local\":\"10.0.2.15:8080\"",
            "SUMMARY {\"event\":\"summary\",\"lost\":{\"recursion\":7}}",
        ]
        .map(str::to_owned);
        let seen = Seen::of(&lines).expect("a summary");
        assert_eq!(seen, Seen { skipped: 7, named: 2, others: 1 });
        assert!(Seen::of(&lines[..4]).is_err(), "a watch that did not come to its end");
    }
}

//! Benchmarks: what they need, and the call.

use std::fs;

use anyhow::Result;

use crate::{
    cargo::{cargo, check},
    setup::{self, Needed, SS},
};

const TCPSTATES: Needed = ("tcpstates", "libbpf-tools", "libbpf-tools");
const BPFTRACE: Needed = ("bpftrace", "bpftrace", "bpftrace");
const UNSHARE: Needed = ("unshare", "util-linux", "util-linux");
/// It compiles when it starts, with the headers of some kernel.
const BCC: [Needed; 2] = [
    ("tcpstates-bpfcc", "bpfcc-tools", "bcc-tools"),
    ("linux-headers", "linux-headers-amd64", "kernel-headers"),
];

/// bcc's tools, where they can be had: the benchmark says SKIPPED without them.
fn bcc() {
    let headers = fs::read_dir("/usr/src").into_iter().flatten().flatten();
    let have =
        headers.into_iter().any(|e| e.file_name().to_string_lossy().starts_with("linux-headers-"));
    if let Err(e) = setup::packages(if have { &BCC[..1] } else { &BCC }) {
        eprintln!("{e:#}");
    }
}

/// All of them, but the soak.
pub fn all() -> Result<()> {
    cost()?;
    host(&[])?;
    snapshot()?;
    micro()
}

/// Records a second of user space, step by step.
pub fn micro() -> Result<()> {
    check(cargo()?.args(["bench", "--locked", "--package", "tcptrace", "--bench", "micro"]))
}

/// Connection and request rates, latency, CPU, memory, start-up and losses.
pub fn host(more: &[&str]) -> Result<()> {
    setup::packages(&[
        TCPSTATES,
        BPFTRACE,
        UNSHARE,
        ("nginx", "nginx-light", "nginx"),
        ("wrk", "wrk", "wrk"),
        SS,
    ])?;
    bcc();
    check(
        cargo()?
            .args(["bench", "--locked", "--package", "tcptrace", "--bench", "host", "--"])
            .args(more),
    )
}

/// A look at 51,000 sockets in CLOSE_WAIT, beside ss, netstat and lsof.
pub fn snapshot() -> Result<()> {
    setup::packages(&[SS, ("netstat", "net-tools", "net-tools"), ("lsof", "lsof", "lsof")])?;
    check(cargo()?.args(["bench", "--locked", "--package", "tcptrace", "--bench", "snapshot"]))
}

/// ns per transition in the kernel, and the connection rate, beside tcpstates and bpftrace.
pub fn cost() -> Result<()> {
    setup::packages(&[TCPSTATES, BPFTRACE, UNSHARE])?;
    bcc();
    check(cargo()?.args(["bench", "--locked", "--package", "tcptrace", "--bench", "cost"]))
}

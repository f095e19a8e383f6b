//! Benchmarks: what they need, and the call.

use anyhow::Result;

use crate::{
    cargo::{cargo, check},
    setup,
};

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
        ("tcpstates", "libbpf-tools", "libbpf-tools"),
        ("bpftrace", "bpftrace", "bpftrace"),
        ("unshare", "util-linux", "util-linux"),
        ("nginx", "nginx-light", "nginx"),
        ("wrk", "wrk", "wrk"),
        ("ss", "iproute2", "iproute"),
    ])?;
    check(cargo()?.args(["bench", "--locked", "--package", "tcptrace", "--bench", "host", "--"]).args(more))
}

/// A look at 51,000 sockets in CLOSE_WAIT, beside ss, netstat and lsof.
pub fn snapshot() -> Result<()> {
    setup::packages(&[("ss", "iproute2", "iproute"), ("netstat", "net-tools", "net-tools"), ("lsof", "lsof", "lsof")])?;
    check(cargo()?.args(["bench", "--locked", "--package", "tcptrace", "--bench", "snapshot"]))
}

/// ns per transition in the kernel, and the connection rate, beside tcpstates and bpftrace.
pub fn cost() -> Result<()> {
    setup::packages(&[
        ("tcpstates", "libbpf-tools", "libbpf-tools"),
        ("bpftrace", "bpftrace", "bpftrace"),
        ("unshare", "util-linux", "util-linux"),
    ])?;
    check(cargo()?.args(["bench", "--locked", "--package", "tcptrace", "--bench", "cost"]))
}

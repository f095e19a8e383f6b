//! Benchmarks: what they need, and the call.

use anyhow::Result;

use crate::{
    cargo::{cargo, check},
    setup,
};

/// All of them.
pub fn all() -> Result<()> {
    cost()?;
    snapshot()
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

//! Benchmarks: what they need, and the call.

use anyhow::Result;

use crate::{
    cargo::{cargo, check},
    setup,
};

/// ns per transition in the kernel, and the connection rate, beside tcpstates and bpftrace.
pub fn cost() -> Result<()> {
    setup::packages(&[
        ("tcpstates", "libbpf-tools", "libbpf-tools"),
        ("bpftrace", "bpftrace", "bpftrace"),
        ("unshare", "util-linux", "util-linux"),
    ])?;
    check(cargo()?.args(["bench", "--locked", "--package", "tcptrace", "--bench", "cost"]))
}

//! What this process takes itself.

use rustix::{
    param::page_size,
    time::{ClockId, clock_gettime},
};

use super::text;

/// CPU time and memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own {
    /// CPU time of all threads, s.
    pub cpu_s: f64,
    /// Resident memory, bytes.
    pub memory: Option<u64>,
}

/// What it has taken by now.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53 s")]
pub fn own() -> Own {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let pages = text("/proc/self/statm").ok();
    // The second number: resident pages (proc_pid_statm(5)).
    let pages = pages.and_then(|t| t.split_whitespace().nth(1)?.parse::<u64>().ok());
    Own {
        cpu_s: used.tv_sec as f64 + used.tv_nsec as f64 / 1e9,
        memory: pages.map(|pages| pages * page_size() as u64),
    }
}

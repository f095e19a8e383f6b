//! What the programs counted, and what the kernel counted of them.

use std::{
    fs,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};

use tcptrace_common::counters::{Counters, Histogram, PerCpu};
use zerocopy::transmute;

use super::mapped::Mapped;
use crate::formats::lines;

/// Reads the counts. All grow from the start on.
#[derive(Clone, Debug)]
pub struct KernelCounts {
    pub(super) cpus: Arc<Mapped<PerCpu>>,
    /// The programs that the kernel keeps books on.
    pub(super) traced: Arc<[OwnedFd]>,
}

impl KernelCounts {
    /// The programs' counters, summed over all CPUs.
    #[must_use]
    pub fn counters(&self) -> Counters {
        transmute!(self.sum::<{ size_of::<Counters>() / 8 }>(|cpu| {
            // SAFETY: a projection to a member, which reads nothing.
            unsafe { &raw const (*cpu).counters }.cast()
        }))
    }

    /// How long stays were that ended, summed over all CPUs.
    #[must_use]
    pub fn histogram(&self) -> Histogram {
        transmute!(self.sum::<{ size_of::<Histogram>() / 8 }>(|cpu| {
            // SAFETY: as above.
            unsafe { &raw const (*cpu).histogram }.cast()
        }))
    }

    /// Sums up a part that consists of counts.
    fn sum<const N: usize>(&self, part: fn(*const PerCpu) -> *const [u64; N]) -> [u64; N] {
        let mut sum = [0; N];
        for cpu in 0..self.cpus.count() {
            // SAFETY: within the mapping; plain integers, which the kernel may change at any time.
            let counts = unsafe { part(self.cpus.at(cpu)).read_volatile() };
            sum.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        }
        sum
    }

    /// How often the kernel could not run a program because it interrupted itself on that CPU
    /// (`recursion_misses`): transitions that nobody saw.
    #[must_use]
    pub fn missed(&self) -> u64 {
        let misses = |program: &OwnedFd| -> Option<u64> {
            let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
            lines::number(&fs::read_to_string(path).ok()?, "recursion_misses")
        };
        self.traced.iter().filter_map(misses).sum()
    }
}

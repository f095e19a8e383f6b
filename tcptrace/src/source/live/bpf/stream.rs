//! The CPUs' streams as user space sees them: one mapped buffer for each, to be polled.

use std::{
    io,
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
};

use aya::maps::MapData;
use tcptrace_common::{counters::PerCpu, event::Streamed};

use crate::source::live::bpf::mapped::Mapped;

/// Buffers whose records user space takes.
#[derive(Debug)]
pub struct Stream {
    cpus: Arc<Mapped<PerCpu>>,
    records: Mapped<Streamed>,
    size: usize,
}

impl Stream {
    /// Maps the buffers, each of `size` records, a power of two.
    ///
    /// # Errors
    /// What mmap answers.
    pub fn new(cpus: Arc<Mapped<PerCpu>>, records: &MapData, size: usize) -> io::Result<Self> {
        let records = Mapped::new(records, size * cpus.count())?;
        Ok(Self { cpus, records, size })
    }

    /// Takes out what happened before `until`, ns of the boot clock, and is now or earlier: in
    /// order.
    ///
    /// A socket's changes follow one another under its lock, on whichever CPUs: the next one takes
    /// its time after the one before is in its buffer. So of what happened before now nothing
    /// can be missing that comes before something taken.
    pub fn take(&self, until: u64, batch: &mut Vec<Streamed>) {
        for cpu in 0..self.cpus.count() {
            let cursor = self.cpus.at(cpu);
            // SAFETY: within the mapping, aligned to 8; the kernel program writes the one, only we
            // the other.
            let (written, taken) = unsafe {
                (
                    AtomicU64::from_ptr(&raw mut (*cursor).cursor.written),
                    AtomicU64::from_ptr(&raw mut (*cursor).cursor.taken),
                )
            };
            let (first, end) = (taken.load(Acquire), written.load(Acquire));
            let records = (first..end)
                .map(|n| self.records.read(cpu * self.size + (n as usize & (self.size - 1))));
            let before = batch.len();
            batch.extend(records.take_while(|record| record.time_ns < until));
            // The program may write there again.
            taken.store(first + (batch.len() - before) as u64, Release);
        }
        // One run for each CPU, each in order already.
        batch.sort_by_key(|record| record.time_ns);
    }
}

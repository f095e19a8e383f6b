//! What the kernel programs say of their rare paths, where they are built with the feature
//! `kernel-log`: it goes to stderr.

use std::io::Write;

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

use super::{preflight::Refusal, programs::refusal};

/// What they said and nobody printed yet.
pub struct KernelLog(EbpfLogger<Stderr>);

impl KernelLog {
    /// The log of programs that are loaded.
    pub fn of(ebpf: &mut Ebpf) -> Result<Self, Refusal> {
        let log = EbpfLogger::init_with_logger(ebpf, Stderr);
        log.map(Self).map_err(|e| refusal("the programs' log", &e))
    }

    /// Prints it.
    pub fn print(&mut self) {
        self.0.flush();
    }
}

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // Nor is it a reason to end that nobody hears it.
        let _ = writeln!(std::io::stderr(), "tcptrace: kernel: {}", record.args());
    }

    fn flush(&self) {}
}

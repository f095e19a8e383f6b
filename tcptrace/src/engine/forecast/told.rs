//! A forecast, as it is told.

use super::Between;
use crate::engine::{
    record::{BootNs, Holder, ProcessId},
    report::Count,
};

/// Later than this it is not worth a word, ns.
pub const SOON_NS: u64 = 86_400_000_000_000;

/// That something will be full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// What.
    pub what: What,
    /// In use at the latest sample.
    pub used: u64,
    /// How many there may be.
    pub limit: u64,
    /// Growth in an hour.
    pub per_hour: Between<u64>,
    /// When it is full if it goes on like this, ns of the boot clock.
    pub full_at: Between<BootNs>,
}

/// What will be full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A process's descriptors: accept() and open() fail with EMFILE then.
    Descriptors {
        /// The process; its descriptor number means nothing here.
        process: Holder,
        /// The sockets among them that were reported.
        sockets: Vec<Count>,
    },
    /// The host's open files (`fs.file-max`): open() fails with ENFILE then.
    FileTable,
}

impl What {
    /// As output calls it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Descriptors { .. } => "descriptors",
            Self::FileTable => "file-table",
        }
    }
}

impl Forecast {
    /// Whether it is of this process.
    #[must_use]
    pub fn of_process(&self, id: ProcessId) -> bool {
        matches!(&self.what, What::Descriptors { process, .. } if process.process.is_same(id))
    }

    /// How long from `now` until it is full, ns.
    #[must_use]
    pub fn left(&self, now: BootNs) -> Between<u64> {
        let Between { min, est, max } = self.full_at;
        let left = |at: BootNs| at.saturating_sub(now);
        Between { min: left(min), est: left(est), max: left(max) }
    }
}

//! How a recording is kept, and what became of it.

use std::{path::PathBuf, time::Duration};

/// How a recording is kept.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The file; `None`: stdout.
    pub path: Option<PathBuf>,
    /// All its files together take no more, bytes.
    pub max_size: Option<u64>,
    /// As many files are kept at the most.
    pub keep: Option<u32>,
    /// A new file is begun when one is this old.
    pub rotate: Option<Duration>,
    /// Nothing is written before a leak is reported; then this much of what was before, too.
    pub on_leak: Option<Duration>,
    /// What was before takes no more memory than this, bytes; `None`: than 64 MiB.
    pub memory: Option<u64>,
    /// Command lines are kept without their arguments.
    pub without_arguments: bool,
}

/// With a bound on the size of all files and none on their number, there are so many, if each may
/// be as large as the smallest.
const FILES: u64 = 8;
/// A file may become this large at least: it holds something behind what each begins with.
pub const SMALLEST: u64 = 1 << 20;
/// Of what a flight recorder remembers, a quarter at a time is forgotten; but not more often than
/// this: each begins with a scan of all that is live.
const SHORTEST_SEGMENT: Duration = Duration::from_secs(5);
/// A flight recorder remembers no more than this, bytes, compressed, unless told otherwise.
const REMEMBERED: u64 = 64 << 20;

impl Options {
    /// A flight recorder remembers no more than this, bytes, compressed.
    pub fn memory(&self) -> u64 {
        self.memory.unwrap_or(REMEMBERED)
    }

    /// How large one file may become, bytes.
    pub fn part_size(&self) -> Option<u64> {
        self.max_size.map(|all| all / u64::from(self.keep()))
    }

    /// How many files are kept.
    fn keep(&self) -> u32 {
        let fit = self.max_size.map(|all| (all / SMALLEST).clamp(1, FILES));
        self.keep.unwrap_or(fit.map_or(u32::MAX, |fit| fit as u32))
    }

    /// How many files are kept besides the one that is being written.
    pub fn keep_behind(&self) -> usize {
        (self.keep() - 1) as usize
    }

    /// How long a segment is.
    pub fn segment_ns(&self) -> Option<u64> {
        let flight = self.on_leak.map(|kept| (kept / 4).max(SHORTEST_SEGMENT));
        let each = flight.or(self.rotate)?;
        Some(u64::try_from(each.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// What became of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Its files, as far as they are kept.
    pub files: Vec<PathBuf>,
    /// Bytes in all of them, those included that are not kept.
    pub bytes: u64,
    /// Facts.
    pub facts: u64,
    /// What was thrown away of the time before the leak, because memory for it is bounded.
    pub forgotten: bool,
}

//! What a flight recorder remembers: the latest segments, compressed.

use std::collections::VecDeque;

use super::options::Options;
use crate::engine::record::BootNs;

/// The latest segments.
pub struct Remembered {
    segments: VecDeque<KeptSegment>,
    /// Of so much time, ns,
    kept_ns: u64,
    /// in so many bytes.
    memory: u64,
}

/// What can be read without what was before.
#[derive(Default)]
pub struct KeptSegment {
    /// When it began.
    pub began: BootNs,
    /// Its frames.
    pub frames: Vec<u8>,
}

impl Remembered {
    /// Nothing yet, since `began`.
    pub fn new(began: BootNs, options: &Options) -> Self {
        let kept = options.on_leak.unwrap_or_default().as_nanos();
        Self {
            segments: [KeptSegment { began, ..KeptSegment::default() }].into(),
            kept_ns: u64::try_from(kept).unwrap_or(u64::MAX),
            memory: options.memory(),
        }
    }

    /// Adds a frame to the last segment; how large that is now, bytes.
    pub fn add(&mut self, frame: &[u8]) -> u64 {
        let Some(last) = self.segments.back_mut() else { return 0 };
        last.frames.extend_from_slice(frame);
        last.frames.len() as u64
    }

    /// Begins another segment, and forgets those that are too old, or too much. Whether any was
    /// forgotten that is not too old.
    pub fn begin(&mut self, began: BootNs) -> bool {
        self.segments.push_back(KeptSegment { began, ..KeptSegment::default() });
        let from = began.saturating_sub(self.kept_ns);
        let mut forgotten = false;
        while let Some(second) = self.segments.get(1) {
            let size: u64 = self.segments.iter().map(|s| s.frames.len() as u64).sum();
            let old = second.began <= from;
            if !old && size <= self.memory {
                break;
            }
            forgotten |= !old;
            self.segments.pop_front();
        }
        forgotten
    }

    /// The segment that `since` is in, and those after it; all, if it was before them.
    pub fn since(&self, since: BootNs) -> impl Iterator<Item = &KeptSegment> + Clone {
        let first = self.segments.iter().rposition(|segment| segment.began <= since);
        self.segments.iter().skip(first.unwrap_or(0))
    }

    /// All of it, which is not remembered any more.
    pub fn take(&mut self) -> VecDeque<KeptSegment> {
        std::mem::take(&mut self.segments)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn began(remembered: &Remembered, since: u64) -> Vec<u64> {
        remembered.since(since * SECOND_NS).map(|segment| segment.began / SECOND_NS).collect()
    }

    #[test]
    fn as_much_is_kept_as_was_asked_for_and_as_fits() {
        let options = Options {
            on_leak: Some(Duration::from_secs(20)),
            memory: Some(100),
            ..Options::default()
        };
        let mut remembered = Remembered::new(0, &options);
        for at in 1..=8 {
            assert_eq!(remembered.add(&[0; 10]), 10);
            assert!(!remembered.begin(at * 5 * SECOND_NS), "only what is too old is forgotten");
        }
        assert_eq!(began(&remembered, 0), [20, 25, 30, 35, 40]);
        assert_eq!(began(&remembered, 33), [30, 35, 40]);
        assert_eq!(began(&remembered, 99), [40]);
        remembered.add(&[0; 90]);
        assert!(remembered.begin(41 * SECOND_NS), "there is no room for 20 s");
        assert_eq!(began(&remembered, 0), [35, 40, 41]);
        assert_eq!(remembered.take().len(), 3);
        assert_eq!((remembered.add(&[0]), began(&remembered, 0).len()), (0, 0));
    }
}

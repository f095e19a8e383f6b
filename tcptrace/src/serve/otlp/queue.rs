//! What waits to be sent, and what became of what waited. The watch adds, and never waits; the
//! thread that sends takes.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

use crate::view::metrics::around::Exported;

/// Log records that may wait.
pub const RECORDS: usize = 8_192;
/// And no more than so many bytes of them.
pub const BYTES: usize = 8 << 20;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// What happens.
    Logs,
    /// What there is.
    Metrics,
}

impl Signal {
    /// As the protocol spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }
}

/// Why something was not sent and never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// So much waited that there was no room for it.
    QueueFull,
    /// The collector gave an answer after which nothing is sent again.
    Refused,
    /// The collector took the rest of the request (partial success).
    Rejected,
    /// It was tried again for as long as that makes sense.
    GaveUp,
    /// Metrics: the next ones were there.
    Superseded,
    /// The agent ended.
    Ending,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::QueueFull,
        Self::Refused,
        Self::Rejected,
        Self::GaveUp,
        Self::Superseded,
        Self::Ending,
    ];

    /// As metrics spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::GaveUp => "gave_up",
            Self::Superseded => "superseded",
            Self::Ending => "ending",
        }
    }
}

/// What became of what one signal had to send: log records, or data points.
#[derive(Debug, Default)]
pub struct SignalTally {
    sent: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
    under_way: AtomicU64,
}

impl SignalTally {
    /// So many are being sent.
    pub fn begin(&self, items: u64) {
        self.under_way.store(items, Relaxed);
    }

    /// The collector took so many of them.
    pub fn sent(&self, items: u64) {
        self.sent.fetch_add(items, Relaxed);
        self.under_way.store(0, Relaxed);
    }

    /// So many never will be.
    pub fn dropped(&self, reason: DropReason, items: u64) {
        self.dropped[reason as usize].fetch_add(items, Relaxed);
        if reason != DropReason::QueueFull {
            self.under_way.store(0, Relaxed);
        }
    }

    fn told(&self, signal: Signal, waiting: u64) -> Exported {
        let of = |reason: DropReason| (reason.name(), self.dropped[reason as usize].load(Relaxed));
        let not = match signal {
            Signal::Logs => DropReason::Superseded,
            Signal::Metrics => DropReason::QueueFull,
        };
        Exported {
            signal: signal.name(),
            sent: self.sent.load(Relaxed),
            dropped: DropReason::ALL.into_iter().filter(|reason| *reason != not).map(of).collect(),
            queued: self.under_way.load(Relaxed) + waiting,
        }
    }
}

/// Log records that wait, and what is counted.
#[derive(Debug, Default)]
pub struct Queue {
    kept: Mutex<Kept>,
    /// One was added.
    pub added: Notify,
    /// Of log records.
    pub logs: SignalTally,
    /// Of data points.
    pub metrics: SignalTally,
}

#[derive(Debug, Default)]
struct Kept {
    records: VecDeque<Box<[u8]>>,
    bytes: usize,
}

/// Several records, as they stand in a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LogBatch {
    /// How many.
    pub records: u64,
    /// One after the other.
    pub items: Vec<u8>,
}

impl Queue {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record; where there is no room it is dropped, and counted: what happened first
    /// matters most.
    pub fn push(&self, record: Vec<u8>) {
        let mut kept = self.kept();
        if kept.records.len() >= RECORDS || kept.bytes + record.len() > BYTES {
            drop(kept);
            self.logs.dropped(DropReason::QueueFull, 1);
            return;
        }
        kept.bytes += record.len();
        kept.records.push_back(record.into_boxed_slice());
        drop(kept);
        self.added.notify_one();
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.kept().records.len()
    }

    /// The first ones, up to so many records and bytes, and one at least if there is any.
    #[must_use]
    pub fn take(&self, records: usize, bytes: usize) -> LogBatch {
        let (mut kept, mut batch) = (self.kept(), LogBatch::default());
        while let Some(record) = kept.records.front()
            && batch.records < records as u64
            && (batch.records == 0 || batch.items.len() + record.len() <= bytes)
        {
            batch.items.extend_from_slice(record);
            batch.records += 1;
            kept.bytes -= record.len();
            kept.records.pop_front();
        }
        if kept.records.is_empty() {
            // A burst may have made it large.
            kept.records.shrink_to(256);
        }
        self.logs.begin(batch.records);
        batch
    }

    /// What became of all of it so far.
    #[must_use]
    pub fn told(&self) -> Vec<Exported> {
        let waiting = self.waiting() as u64;
        vec![self.logs.told(Signal::Logs, waiting), self.metrics.told(Signal::Metrics, 0)]
    }

    /// Log records that were not taken, those under way included.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.waiting() as u64 + self.logs.under_way.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn dropped(queue: &Queue) -> u64 {
        queue.told()[0].dropped.iter().map(|(_, n)| n).sum()
    }

    #[test]
    fn a_collector_that_is_gone_costs_so_much_memory_and_no_more() {
        let queue = Queue::default();
        (0..RECORDS + 10).for_each(|_| queue.push(vec![1; 100]));
        assert_eq!((queue.waiting(), dropped(&queue)), (RECORDS, 10));
        let queue = Queue::default();
        (0..20).for_each(|_| queue.push(vec![1; BYTES / 8]));
        assert_eq!((queue.waiting(), dropped(&queue)), (8, 12), "nor by size");
    }

    proptest! {
        /// Each is sent, dropped or waiting, and is so once; none comes before one that was there
        /// before it.
        #[test]
        fn nothing_is_lost_or_doubled(steps in vec((0..40usize, 1..30usize), 1..60)) {
            let queue = Queue::default();
            let (mut pushed, mut sent, mut next) = (0u64, 0u64, 0u8);
            let mut expected = VecDeque::new();
            for (push, take) in steps {
                for _ in 0..push {
                    queue.push(vec![next; 3]);
                    expected.push_back(next);
                    next = next.wrapping_add(1);
                    pushed += 1;
                }
                let batch = queue.take(take, 60);
                prop_assert!(batch.records <= take as u64 && batch.items.len() <= 60);
                for one in batch.items.chunks(3) {
                    prop_assert_eq!(Some(one[0]), expected.pop_front());
                }
                sent += batch.records;
                queue.logs.sent(batch.records);
                let told = &queue.told()[0];
                prop_assert_eq!(told.sent, sent);
                prop_assert_eq!(told.sent + told.queued + dropped(&queue), pushed);
            }
        }
    }
}

//! The thread that sends: log records as they come, several together; metrics at intervals.

use std::{sync::Arc, time::Duration};

use hyper::body::Bytes;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};

use super::{
    answer::Delivery,
    attributes::{Envelope, bounded},
    channel::{Channel, CollectorTarget},
    metrics::points,
    queue::{DropReason, Queue, Signal, SignalTally},
};
use crate::serve::{
    answer::{Asked, Question},
    client::retry::{Schedule, chance},
};

/// Log records of a request, at most, as the SDKs have it.
const AT_ONCE: usize = 512;
/// And no more bytes: collectors take 4 MiB of gRPC.
const REQUEST: usize = 1 << 20;
/// What comes within this of a log record goes with it.
const TOGETHER: Duration = Duration::from_secs(1);
/// The watch answers within this.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// What is to be sent, whereto, and whom it is asked of.
pub struct Sending {
    /// The collector.
    pub target: Arc<CollectorTarget>,
    /// What stands around everything.
    pub envelope: Envelope,
    /// Log records, and the counts.
    pub queue: Arc<Queue>,
    /// Where metrics are asked for.
    pub ask: mpsc::Sender<Question>,
    /// This often.
    pub every: Duration,
    /// The agent ends: the last metrics. What waits is sent once more.
    pub last: watch::Receiver<Option<Bytes>>,
    /// Says a line to people.
    pub say: fn(&str),
}

impl Sending {
    /// Sends until the agent ends.
    pub async fn run(self) {
        tokio::join!(self.logs(), self.metrics());
    }

    fn way(&self, signal: Signal) -> Way<'_> {
        let channel = Channel::new(Arc::clone(&self.target), signal);
        let tally = match signal {
            Signal::Logs => &self.queue.logs,
            Signal::Metrics => &self.queue.metrics,
        };
        Way { sending: self, signal, channel, tally, last: self.last.clone(), is_ill: false }
    }

    async fn logs(&self) {
        let mut way = self.way(Signal::Logs);
        let mut last = self.last.clone();
        loop {
            let is_last = last.borrow_and_update().is_some();
            let waiting = self.queue.waiting();
            if waiting == 0 && is_last {
                return;
            }
            if waiting == 0 {
                tokio::select! {
                    () = self.queue.added.notified() => {}
                    _ = last.changed() => continue,
                }
            }
            if waiting < AT_ONCE && !is_last {
                let full = async {
                    while self.queue.waiting() < AT_ONCE {
                        self.queue.added.notified().await;
                    }
                };
                tokio::select! {
                    () = sleep(TOGETHER) => {}
                    () = full => {}
                    _ = last.changed() => {}
                }
            }
            let batch = self.queue.take(AT_ONCE, REQUEST);
            if batch.records > 0 {
                way.export(&batch.items, batch.records).await;
            }
        }
    }

    async fn metrics(&self) {
        let mut way = self.way(Signal::Metrics);
        let mut last = self.last.clone();
        let mut ticks = interval_at(Instant::now() + self.every, self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = last.changed() => {}
            }
            let ending = last.borrow_and_update().clone();
            let is_last = ending.is_some();
            let items = match ending {
                Some(items) => items,
                None => match timeout(ANSWERS_WITHIN, self.ask()).await {
                    Ok(Some(items)) => items,
                    _ => continue,
                },
            };
            let n = points(&items);
            if is_last {
                way.export(&items, n).await;
                return;
            }
            // The next ones say more.
            if timeout(self.every, way.export(&items, n)).await.is_err() {
                way.channel.close();
                way.tally.dropped(DropReason::Superseded, n);
                ticks.reset_immediately();
            }
        }
    }

    async fn ask(&self) -> Option<Bytes> {
        let (answer, answered) = oneshot::channel();
        self.ask.send(Question { asked: Asked::OtlpMetrics, answer }).await.ok()?;
        answered.await.ok()?.ok().map(Bytes::from)
    }
}

/// How one signal goes.
struct Way<'a> {
    sending: &'a Sending,
    signal: Signal,
    channel: Channel,
    tally: &'a SignalTally,
    last: watch::Receiver<Option<Bytes>>,
    /// It was said that something is wrong.
    is_ill: bool,
}

impl Way<'_> {
    /// Sends until it is taken, refused, or given up.
    async fn export(&mut self, items: &[u8], n: u64) {
        self.tally.begin(n);
        let message = Bytes::from(self.sending.envelope.request(items));
        let (began, mut schedule) = (Instant::now(), Schedule::default());
        loop {
            let is_last = self.last.borrow_and_update().is_some();
            let (after, why) = match self.channel.send(message.clone()).await {
                Delivery::Taken { rejected, said } => {
                    let rejected = rejected.min(n);
                    self.tally.sent(n - rejected);
                    if rejected > 0 {
                        self.tally.dropped(DropReason::Rejected, rejected);
                        self.ill(&format!("it rejects {rejected} of {n}: {said}"));
                    } else {
                        self.well();
                    }
                    return;
                }
                Delivery::Refused { why } => {
                    self.tally.dropped(DropReason::Refused, n);
                    self.ill(&format!("{why}: what it refuses is dropped"));
                    return;
                }
                Delivery::Again { after, why } => (after, why),
            };
            self.ill(&format!("{why}; it is tried again"));
            let pause = schedule.next(began.elapsed(), after, chance());
            let Some(pause) = pause else {
                self.tally.dropped(DropReason::GaveUp, n);
                return;
            };
            if is_last {
                self.tally.dropped(DropReason::Ending, n);
                return;
            }
            tokio::select! {
                () = sleep(pause) => {}
                // Once more, then.
                _ = self.last.changed() => {}
            }
        }
    }

    /// Says so once, until it is well again.
    fn ill(&mut self, why: &str) {
        if !self.is_ill {
            self.is_ill = true;
            self.say(why);
        }
    }

    fn well(&mut self) {
        if self.is_ill {
            self.is_ill = false;
            self.say("they are taken again");
        }
    }

    fn say(&self, text: &str) {
        let Sending { target, say, .. } = self.sending;
        let line = format!("--otlp {}: {}: {text}", target.endpoint, self.signal.name());
        say(&bounded(&line));
    }
}

//! Reads what threads wait in, and for whom, on a thread of its own: nothing else waits for it.

use std::{
    io,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use super::{
    blocked::{Explorer, READING},
    boot_now,
    sock_diag::SockDiag,
    threads,
};
use crate::{
    engine::{
        fact::{Fact, Timed},
        record::ProcessId,
    },
    source,
};

/// The thread. It ends when nobody asks any more.
#[derive(Debug)]
pub struct Waiter {
    orders: Sender<Vec<ProcessId>>,
    answers: Receiver<Timed>,
}

/// Processes that are read together.
const TOGETHER: usize = 32;
/// Reading takes at most this share of a CPU, however many processes leak.
const SHARE: u32 = 20;
/// And no pause is longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl Waiter {
    /// Starts it. Rights that are to be given up are given up before; `own` is opened before, too:
    /// what the kernel is asked with about connections.
    ///
    /// # Errors
    /// What starting a thread answers.
    pub fn start(own: Option<SockDiag>) -> io::Result<Self> {
        let (orders, ordered) = channel::<Vec<ProcessId>>();
        let (answer, answers) = channel();
        source::thread("threads", move || work(&ordered, &answer, Explorer::here(own)))?;
        Ok(Self { orders, answers })
    }

    /// Asks about processes.
    pub fn ask(&self, ids: Vec<ProcessId>) {
        if !ids.is_empty() {
            // A thread that panicked has ended the program.
            let _ = self.orders.send(ids);
        }
    }

    /// The answers that have come.
    pub fn answers(&self) -> impl Iterator<Item = Timed> {
        self.answers.try_iter()
    }
}

/// Answers, until nobody asks or nobody listens.
fn work(ordered: &Receiver<Vec<ProcessId>>, answer: &Sender<Timed>, mut explorer: Explorer) {
    let tell = |fact| answer.send(Timed { at: boot_now(), fact }).is_ok();
    for first in ordered {
        // What was asked meanwhile goes with it: one look at all descriptors is enough.
        let asked: Vec<ProcessId> = first.into_iter().chain(ordered.try_iter().flatten()).collect();
        for together in asked.chunks(TOGETHER) {
            let began = Instant::now();
            let read: Vec<_> = together.iter().map(|id| threads::waiting(*id)).collect();
            for waiting in &read {
                if !tell(Fact::Threads(Box::new(waiting.clone()))) {
                    return;
                }
            }
            let reading = explorer.read(read, READING);
            explorer.forget();
            if !tell(Fact::Blocked(Box::new(reading))) {
                return;
            }
            thread::park_timeout((began.elapsed() * SHARE).min(LONGEST_PAUSE));
        }
    }
}

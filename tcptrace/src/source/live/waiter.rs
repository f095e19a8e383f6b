//! Reads what threads wait in, on a thread of its own: nothing else waits for it.

use std::{
    io,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use super::{boot_now, threads};
use crate::engine::{
    fact::{Fact, Timed},
    record::ProcessId,
};

/// The thread. It ends when nobody asks any more.
#[derive(Debug)]
pub struct Waiter {
    orders: Sender<ProcessId>,
    answers: Receiver<Timed>,
}

impl Waiter {
    /// Starts it. Rights that are to be given up are given up before.
    ///
    /// # Errors
    /// What starting a thread answers.
    pub fn start() -> io::Result<Self> {
        let (orders, ordered) = channel::<ProcessId>();
        let (answer, answers) = channel();
        let (started, is_started) = channel();
        let work = move || {
            // The calls that set a thread up are over: from here on a filter may refuse them.
            let _ = started.send(());
            for id in ordered {
                let fact = Fact::Threads(Box::new(threads::waiting(id)));
                if answer.send(Timed { at: boot_now(), fact }).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("threads".to_owned()).spawn(work)?;
        let _ = is_started.recv();
        Ok(Self { orders, answers })
    }

    /// Asks about a process.
    pub fn ask(&self, id: ProcessId) {
        // A thread that panicked has ended the program.
        let _ = self.orders.send(id);
    }

    /// The answers that have come.
    pub fn answers(&self) -> impl Iterator<Item = Timed> {
        self.answers.try_iter()
    }
}

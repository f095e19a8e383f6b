//! Threads of an agent that have fewer rights than the rest of it.

use std::sync::mpsc::{self, Sender};

use anyhow::Context;
use seccompiler::Error;

use super::warn;
use crate::{confine::capabilities, exit::Failure, source};

/// A thread without capabilities, and with a filter of its own.
pub struct Apart {
    /// Its name.
    pub name: &'static str,
    /// The thread that does what.
    pub does: &'static str,
    /// Loads what later is not allowed any more.
    pub prepare: fn(),
    /// Its filter.
    pub confine: fn() -> Result<(), Error>,
}

impl Apart {
    /// Starts it. Its work begins when something is sent: by then system calls are filtered for all
    /// threads. It ends without having begun when the sender is dropped.
    pub fn start(self, work: impl FnOnce() + Send + 'static) -> Result<Sender<()>, Failure> {
        let Self { name, does, prepare, confine } = self;
        let (go, told) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        let work = move || {
            if let Err(e) = capabilities::drop_all() {
                warn(&format!("the thread that {does} keeps its capabilities ({e})"));
            }
            prepare();
            let _ = ready.send(());
            if told.recv().is_err() {
                return;
            }
            if let Err(e) = confine() {
                warn(&format!("no system call filter for the thread that {does} ({e})"));
            }
            work();
        };
        source::thread(name, work).with_context(|| format!("starting the thread that {does}"))?;
        // The calls that this takes are refused from then on.
        let _ = is_ready.recv();
        Ok(go)
    }
}

//! Where facts come from. The running host is one source; a recording and a simulation are others.

pub mod fleet;
pub mod live;
pub mod recording;
pub mod simulation;

use std::{
    io,
    sync::mpsc,
    thread::{Builder, JoinHandle},
};

use crate::engine::{fact::Timed, record::BootNs, watch::Wants};

/// Starts a thread that is set up when this returns: it goes on when system calls are filtered.
///
/// # Errors
/// What starting a thread answers.
pub fn thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let (started, is_started) = mpsc::channel();
    let work = move || {
        // The calls that set a thread up are over: from here on a filter may refuse them.
        let _ = started.send(());
        drop(started);
        work()
    };
    let thread = Builder::new().name(name.to_owned()).spawn(work)?;
    let _ = is_started.recv();
    Ok(thread)
}

/// Something that facts come from.
pub trait Source {
    /// Waits until there may be facts.
    ///
    /// # Errors
    /// What waiting answers.
    fn ready(&mut self) -> impl Future<Output = io::Result<()>>;

    /// Hands over the facts that there are, in the order in which they became known. `ask`: what is
    /// to be looked up next, at that time; it is asked when a scan begins, and what it answers
    /// counts for that scan.
    ///
    /// # Errors
    /// What the kernel, or reading, answers.
    fn pull(
        &mut self,
        ask: &mut dyn FnMut(BootNs) -> Wants,
        facts: &mut Vec<Timed>,
    ) -> io::Result<()>;

    /// Follows the ends of sockets from now on, or does not any more.
    ///
    /// # Errors
    /// What the kernel answers.
    fn follow_ends(&mut self, follow: bool) -> io::Result<()>;

    /// From now on nothing happens; hands over what is left.
    ///
    /// # Errors
    /// What the kernel, or reading, answers.
    fn stop(&mut self, facts: &mut Vec<Timed>) -> io::Result<()>;

    /// The time of the facts that would come now, ns of the boot clock.
    fn now(&self) -> BootNs;
}

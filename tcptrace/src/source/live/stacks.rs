//! Where a process's threads are now: each is stopped for some microseconds (ptrace(2)), its
//! registers and a piece of its stack are copied, and it goes on.
//!
//! All of it happens on a thread of its own, which ends afterwards: when a tracer ends, by
//! whatever, the kernel lets go of what it traced. A call that waits is restarted by the kernel,
//! but for the few that end with EINTR whenever their thread is stopped (signal(7): epoll_wait is
//! among them), as under any debugger.

mod stop;

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use self::stop::{Copied, copy};
use super::{
    numbers, process, python,
    symbols::{Raw, Symbols},
    text,
};
use crate::{
    engine::{
        record::{ProcessId, same_start},
        stack::threads::{LeftAlone, Means, Skipped, Stacks, ThreadStack},
    },
    formats::{lines, stat::Stat},
};

/// Threads, at most.
pub const THREADS: usize = 256;
/// All stops together take no longer than this.
const STOPS: Duration = Duration::from_secs(2);
/// Putting them into words takes no longer, about.
const WORDS: Duration = Duration::from_secs(20);

/// How many threads would be stopped; 0: none, because there is another way.
///
/// # Errors
/// Why its threads are to be left alone.
pub fn would_stop(id: ProcessId) -> Result<usize, LeftAlone> {
    let threads = threads(id)?;
    Ok(if python::Interpreter::of(id.pid).is_some() { 0 } else { threads.len().min(THREADS) })
}

/// Where its threads are.
///
/// # Errors
/// Why they were left alone.
pub fn of(id: ProcessId) -> Result<Stacks, LeftAlone> {
    let tids = threads(id)?;
    let of = tids.len();
    if let Some(interpreter) = python::Interpreter::of(id.pid) {
        let tids = &tids[..of.min(THREADS)];
        return Ok(Stacks { how: Means::Read, threads: interpreter.stacks(tids), of, dump: None });
    }
    let tids: Vec<u32> = tids.into_iter().take(THREADS).collect();
    // Read before anything is stopped.
    let mut symbols = Symbols::new();
    symbols.see(id);
    let copies = copies(id.pid, tids)?;
    let deadline = Instant::now() + WORDS;
    let words = |copied: Copied| {
        let raw = Raw {
            ip: copied.ip,
            sp: copied.sp,
            fp: copied.fp,
            lr: copied.lr,
            chain: &[],
            memory: &copied.memory,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        symbols.stack(id, &raw, left)
    };
    let mut words = words;
    let threads = copies
        .into_iter()
        .map(|(tid, copied)| ThreadStack {
            tid,
            name: process::thread_name(id.pid, tid),
            stack: copied.map(&mut words),
        })
        .collect();
    Ok(Stacks { how: Means::Stopped, threads, of, dump: None })
}

/// The process's threads, if they may be stopped.
fn threads(id: ProcessId) -> Result<Vec<u32>, LeftAlone> {
    if id.pid == std::process::id() {
        return Err(LeftAlone::Ourselves);
    }
    let now = process::find(id.pid).ok_or(LeftAlone::Gone)?;
    if !same_start(now.start_ns, id.start_ns) {
        return Err(LeftAlone::Gone);
    }
    let mut tids = numbers(&format!("/proc/{}/task", id.pid)).map_err(|_| LeftAlone::Unreadable)?;
    tids.sort_unstable();
    for tid in &tids {
        // 0: nobody's.
        if let Some(pid @ 1..) = tracer(id.pid, *tid) {
            return Err(LeftAlone::Traced(pid));
        }
    }
    Ok(tids)
}

/// Who traces a thread.
fn tracer(pid: u32, tid: u32) -> Option<u32> {
    lines::number(&text(&format!("/proc/{pid}/task/{tid}/status")).ok()?, "TracerPid")
}

/// A thread, and what was copied of it.
type Copy = (u32, Result<Copied, Skipped>);

fn copies(pid: u32, tids: Vec<u32>) -> Result<Vec<Copy>, LeftAlone> {
    let (tell, told) = mpsc::channel();
    let all = tids.clone();
    let tracer = thread::Builder::new().spawn(move || {
        let deadline = Instant::now() + STOPS;
        for tid in tids {
            let copied = if Instant::now() < deadline { one(pid, tid) } else { Err(Skipped::Time) };
            if tell.send((tid, copied)).is_err() {
                return;
            }
        }
    });
    let tracer = tracer.map_err(|_| LeftAlone::Unreadable)?;
    // A stop that lasts has a bound of its own; this one is for what nobody thought of.
    let deadline = Instant::now() + 2 * STOPS;
    let mut list = Vec::new();
    while let Ok(one) = told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        list.push(one);
    }
    if list.len() == all.len() {
        // What it still held is let go of when it has ended.
        let _ = tracer.join();
    }
    let missing = all.into_iter().skip(list.len()).map(|tid| (tid, Err(Skipped::Time)));
    list.extend(missing);
    Ok(list)
}

fn one(pid: u32, tid: u32) -> Result<Copied, Skipped> {
    let stat = text(&format!("/proc/{pid}/task/{tid}/stat")).map_err(|_| Skipped::Ended)?;
    match Stat::parse(&stat).map(|s| s.state) {
        None | Some('Z' | 'X') => Err(Skipped::Ended),
        Some('D') => Err(Skipped::Uninterruptible),
        Some(_) => copy(pid, tid),
    }
}

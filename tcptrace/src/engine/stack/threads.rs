//! Where the threads of a process are.

use std::rc::Rc;

use super::{Stack, why::NoDump};

/// A thread, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadStack {
    /// Its id.
    pub tid: u32,
    /// Its name, of a JVM that was asked the whole one, else up to 15 bytes; may hold anything.
    pub name: Rc<str>,
    /// Its stack, or why there is none.
    pub stack: Result<Stack, Skipped>,
}

/// Why a thread has no stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Skipped {
    /// It waits in the kernel and can't be stopped (state D).
    Uninterruptible,
    /// It ended.
    Ended,
    /// It may not be stopped: it takes CAP_SYS_PTRACE.
    NotPermitted,
    /// It did not stop in time.
    NotStopped,
    /// It is a 32-bit program's.
    Foreign,
    /// It was elsewhere each time that its interpreter's memory was read.
    Moving,
    /// It runs nothing that its interpreter knows of.
    NoScript,
    /// There was no time left.
    Time,
}

/// Why a process's threads were left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeftAlone {
    /// Nobody asked for them.
    NotAskedFor,
    /// A debugger has it: the process with this pid.
    Traced(u32),
    /// It is tcptrace itself.
    Ourselves,
    /// It ended.
    Gone,
    /// Its threads can't be listed, or nothing could be started to stop them.
    Unreadable,
}

/// How the stacks became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Means {
    /// Each thread was stopped for a moment.
    Stopped,
    /// An interpreter's own memory was read, twice the same.
    Read,
}

/// Where a process's threads are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stacks {
    /// How it became known.
    pub how: Means,
    /// The threads, in the order of their ids.
    pub threads: Vec<ThreadStack>,
    /// How many threads there are in all.
    pub of: usize,
    /// How many threads have their calls from the JVM's own thread dump, or why none has; `None`:
    /// nobody asked for it.
    pub dump: Option<Result<usize, NoDump>>,
}

//! What is missing in a stack, and why.

use serde::{Deserialize, Serialize};

/// Why a frame has no function. The words are in `crate::prose`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Missing {
    /// The module's file has no symbol for this place, and no debug file for it is installed.
    NoSymbols {
        /// The file's build id, hexadecimal, where it has one.
        build_id: Option<String>,
    },
    /// The module's file has been replaced or removed since it was mapped.
    Replaced,
    /// The module's file can't be read (no rights, or the process ended before it was).
    Unreadable,
    /// The module's file is no ELF file of 64 bits of this machine.
    NotElf,
    /// Code that was made while the program runs, and there is no perf map that names it.
    NoPerfMap {
        /// What the process runs, where that shows.
        machine: Option<Machine>,
    },
    /// There is a perf map that was not read: it belongs to somebody else, or is no regular file.
    PerfMapRefused,
    /// There is a perf map, and this place isn't in it: the code is newer, or older.
    NotInPerfMap {
        /// What the process runs, where that shows.
        machine: Option<Machine>,
    },
    /// A function that the JVM interprets: its frame has no name of its own, the interpreter has.
    Interpreted,
    /// Nothing is mapped at this address, or it was unmapped since.
    NotMapped,
    /// The process had ended before what is mapped into it could be read.
    Gone,
    /// There was no time to look.
    Time,
}

/// What makes code while a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Machine {
    /// A JVM.
    Java,
    /// Node.js.
    Node,
    /// CPython.
    Python,
}

/// Why a stack has no outer frames beyond those it has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cut {
    /// More frames than are kept.
    Depth,
    /// The frames further out are above the memory that was copied.
    Copied,
    /// No memory was copied: what frame pointers led to is there, and code that keeps none is not.
    FramePointers,
    /// What comes next is in code that has no unwinding information and keeps no frame pointer.
    Code {
        /// The file that the code was mapped from; `None`: code made while the program runs.
        module: Option<String>,
        /// What the process runs, where that shows.
        machine: Option<Machine>,
    },
    /// What should be a return address leads to no code.
    NoCode,
    /// What is mapped into the process could not be read before it ended.
    Gone,
    /// What is mapped into the process may not be read: it takes CAP_SYS_PTRACE.
    NotPermitted,
    /// There was no time for more.
    Time,
}

/// Why there is no thread dump of a JVM's own. The words are in `crate::prose`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoDump {
    /// The process has no `libjvm.so` mapped.
    NoJvm,
    /// It has one that is not HotSpot's, or whose file can't be read.
    NotHotSpot,
    /// It was started with `-XX:+DisableAttachMechanism`.
    Disabled,
    /// SIGQUIT is not caught and would end it (`-Xrs`), or it has only begun.
    NotCaught,
    /// It is stopped (state T), and would answer when nobody listens any more.
    Stopped,
    /// It takes CAP_SYS_PTRACE, CAP_SETUID and CAP_SETGID, or to be the JVM's own user.
    NotPermitted,
    /// The request can't be put into `/tmp` as the process sees it.
    NoPlace,
    /// It ended.
    Gone,
    /// It did not answer in time.
    Silent,
    /// It answered that it won't, or something that is no thread dump.
    Refused,
}

//! Where in a program's code something was done: user stacks, in words.

use serde::{Deserialize, Serialize};

/// The calls that led to a moment, the innermost first. Text may hold anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stack {
    /// The frames, inlined calls as frames of their own.
    pub frames: Vec<Frame>,
    /// Why there are no outer frames beyond these; `None`: the outermost one is the thread's first.
    pub cut: Option<String>,
}

/// One call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// The function, demangled; `None`: see [`Self::unknown`].
    pub function: Option<String>,
    /// The file that the code was mapped from, as the process sees it; `None`: from none (code made
    /// while it runs).
    pub module: Option<String>,
    /// Bytes from the function's start to the call's return address (of the innermost frame: to the
    /// instruction itself). Without a function: the offset in the module's file, and without one,
    /// the address.
    pub offset: u64,
    /// The source file, as the debugging information has it.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// It was inlined into the next frame.
    pub inlined: bool,
    /// Whose code it is.
    pub code: Code,
    /// Why the function is not known, with the remedy; the module's build id is in it, where it has
    /// one.
    pub unknown: Option<String>,
}

/// Whose code a frame is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Code {
    /// The program's own.
    Own,
    /// A library's, or the language's.
    Library,
    /// The machinery that runs the program: an interpreter, a virtual machine.
    Runtime,
    /// Not known.
    #[default]
    Unknown,
}

impl Stack {
    /// The innermost frame that is the program's own; without one, the innermost that is no
    /// machinery; without that, the innermost with a name.
    #[must_use]
    pub fn own(&self) -> Option<&Frame> {
        let first = |code| self.frames.iter().find(|f| f.code == code && f.function.is_some());
        first(Code::Own)
            .or_else(|| first(Code::Unknown))
            .or_else(|| first(Code::Library))
            .or_else(|| first(Code::Runtime))
    }
}

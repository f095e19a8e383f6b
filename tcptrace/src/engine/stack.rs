//! Where in a program's code something was done: user stacks, in words.

pub mod jvm;
pub mod threads;
pub mod whose;
pub mod why;

use serde::{Deserialize, Serialize};

pub use why::{Cut, Missing, NoDump};

/// The calls that led to a moment, the innermost first. Text may hold anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stack {
    /// The frames, inlined calls as frames of their own.
    pub frames: Vec<Frame>,
    /// Why there are no outer frames beyond these; `None`: the outermost one is the thread's first.
    pub cut: Option<Cut>,
}

/// One call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// The function, demangled and without its parameters; `None`: see [`Self::unknown`].
    pub function: Option<String>,
    /// The file that the code was mapped from, as the process sees it; `None`: from none (code made
    /// while it runs, a script's function).
    pub module: Option<String>,
    /// Bytes from the function's start to the call's return address (of the innermost frame: to the
    /// instruction itself). Without a function: the offset in the module's file, and without one,
    /// the address. 0 for a script's function that was read from its interpreter.
    pub offset: u64,
    /// The source file, as the debugging information has it.
    pub file: Option<String>,
    /// The line in it: of the call, or of the function's beginning where only that is known (perf
    /// maps).
    pub line: Option<u32>,
    /// It was inlined into the next frame.
    pub inlined: bool,
    /// Whose code it is.
    pub code: Code,
    /// Why the function is not known, or only what runs it. `crate::prose::stacks` has the words,
    /// with the remedy.
    pub unknown: Option<Missing>,
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

impl Code {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Own, Self::Library, Self::Runtime, Self::Unknown];

    /// As JSON spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Library => "library",
            Self::Runtime => "runtime",
            Self::Unknown => "unknown",
        }
    }
}

impl Stack {
    /// The program's own frames that have a name, the innermost first.
    pub fn own_calls(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter().filter(|f| f.code == Code::Own && f.function.is_some())
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: Option<&str>, code: Code) -> Frame {
        Frame { function: function.map(Into::into), code, ..Frame::default() }
    }

    #[test]
    fn the_programs_own_frame_comes_first() {
        let stack = |frames: &[(Option<&str>, Code)]| Stack {
            frames: frames.iter().map(|(function, code)| frame(*function, *code)).collect(),
            cut: None,
        };
        let own =
            |frames: &[(Option<&str>, Code)]| stack(frames).own().and_then(|f| f.function.clone());
        let (library, runtime) = ((Some("recv"), Code::Library), (Some("eval"), Code::Runtime));
        let inner = (Some("fetch"), Code::Own);
        assert_eq!(
            own(&[library, runtime, (None, Code::Own), inner, (Some("main"), Code::Own)]),
            Some("fetch".into())
        );
        assert_eq!(own(&[runtime, library]), Some("recv".into()));
        assert_eq!(own(&[runtime, (Some("x"), Code::Unknown), library]), Some("x".into()));
        assert_eq!(own(&[(None, Code::Unknown), runtime]), Some("eval".into()));
        assert_eq!(own(&[(None, Code::Own)]), None);
    }
}

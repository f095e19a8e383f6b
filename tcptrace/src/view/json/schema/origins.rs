//! Who opened a socket and who read from it.

use super::{
    Field,
    Kind::{Count, Flag, List, Maybe, Milliseconds, Object, Text, Time, Word},
    field, sometimes,
};
use crate::engine::stack::Code;

/// A call of a stack.
pub const FRAME: &[Field] = &[
    field("function", Maybe(&Text), "Function, demangled and without its parameters."),
    field("module", Maybe(&Text), "The file that its code was mapped from."),
    field("offset", Count("bytes"), "From the function's start; without one, in the module."),
    field("file", Maybe(&Text), "Source file."),
    field("line", Maybe(&Count("")), "Line in it."),
    field("inlined", Flag, "Whether it was inlined into the next one."),
    field(
        "code",
        Word(|| [Code::Own, Code::Library, Code::Runtime, Code::Unknown].map(Code::name).into()),
        "Whose code it is: the program's own, a library's, an interpreter's.",
    ),
    field("unknown", Maybe(&Text), "Why there is no function, with the remedy."),
];

/// A moment and the thread whose call it was.
pub const MOMENT: &[Field] = &[
    sometimes("how", Word(|| vec!["accept", "connect"]), "Of `origin`: by which call."),
    field("time", Time, "When."),
    field("ago_ms", Milliseconds, "How long before the line's time."),
    field("pid", Count(""), "The thread's process."),
    field("process", Maybe(&Text), "What people call it."),
    field("thread", Count(""), "The thread."),
    field("name", Text, "Its name."),
    field("frames", Maybe(&List(&Object(FRAME))), "Where in its code, the innermost call first."),
    field("cut", Maybe(&Text), "Why there are no frames, or none beyond these."),
];

/// Leaks that have their code in common.
pub const STORY: &[Field] = &[
    field("count", Count("sockets"), "How many."),
    field("how", Maybe(&Word(|| vec!["accept", "connect"])), "By which call they were opened."),
    field("opened_in", List(&Text), "The program's own functions there, the innermost first."),
    field("openers", List(&Text), "Threads that opened them."),
    field(
        "reading",
        Word(|| vec!["end", "data", "nothing", "unknown"]),
        "How far they were read: to the end of the stream, some, not at all.",
    ),
    field("read_in", List(&Text), "The program's own functions that read last."),
    field("readers", List(&Text), "Threads that read last."),
];

//! The lines of `run`.

use super::{
    Field,
    Kind::{Count, End, List, Maybe, Object, Text, Word},
    Line, field,
    shared::{AGE, EVENT, STATE, TIME, VERDICT},
};

const LEFT: &[Field] = &[
    EVENT,
    TIME,
    field(
        "left",
        Word(|| vec!["open", "closed-by-exit", "listener"]),
        "How it was left: still open, closed by nobody but the end of its process, or a listener \
         of a process that outlived the command.",
    ),
    field("state", STATE, "State it was in."),
    field("verdict", Maybe(&VERDICT), "Why it sat there; null for a listener."),
    field("cookie", Maybe(&Count("")), "The kernel's name for it; null for a listener."),
    field("netns", Maybe(&Count("")), "Network namespace (inode number); null for a listener."),
    field("local", End, "Local end."),
    field("remote", Maybe(&End), "Remote end; null for a listener."),
    field("stayed_ms", Maybe(&Object(AGE)), "How long; null for a listener."),
    field("pid", Maybe(&Count("")), "Who held it, or held it last; null where nobody is known."),
    field("comm", Maybe(&Text), "Its command name, at most 15 bytes."),
    field("fd", Maybe(&Count("")), "Its descriptor, where one was seen."),
    field("about", Text, "The same in a sentence."),
    field("advice", Maybe(&Text), "What to do."),
];

const RUN: &[Field] = &[
    EVENT,
    TIME,
    field("command", Text, "The command, as it was given."),
    field("status", Count(""), "What it ended with; 128 and the signal where one ended it."),
    field("left_behind", Count(""), "How much it left behind."),
    field("not_told", Count(""), "Of those: not told one by one."),
    field("missing", List(&Text), "What could not be seen."),
];

pub const LINES: &[Line] = &[
    Line {
        events: &["left"],
        from: "run",
        about: "Something that the command left behind.",
        common: &[],
        fields: LEFT,
    },
    Line {
        events: &["run"],
        from: "run",
        about: "The last line: how the command ended, and how much it left behind.",
        common: &[],
        fields: RUN,
    },
];

//! What `close` says.

use super::{
    Field,
    Kind::{Count, End, Flag, List, Map, Maybe, Object, Text, Word},
    Line, field,
    fields::{COMM, RECORD},
    shared::{EVENT, STATE, TIME, VERDICT},
};
use crate::engine::close::{CloseResult, CloseWay, Spared};

const HOW: super::Kind =
    Word(|| [CloseWay::Shutdown, CloseWay::Destroy].map(CloseWay::name).to_vec());
const REFUSAL: super::Kind = Word(|| Spared::ALL.map(Spared::name).to_vec());
const RESULT: super::Kind = Word(|| CloseResult::ALL.map(CloseResult::name).to_vec());

/// Every kind of line of it.
pub const LINES: &[Line] = &[
    Line {
        events: &["planned"],
        from: "close",
        about: "A socket that was selected, and what would be done with it; with `--yes` only those \
                that are left alone.",
        common: RECORD,
        fields: PLAN,
    },
    Line {
        events: &["closed"],
        from: "close --yes, watch --close-after",
        about: "A socket that was closed, or was to be. The journal and `--audit` have the same \
                line.",
        common: &[],
        fields: CLOSED,
    },
    Line {
        events: &["summary"],
        from: "close",
        about: "The last line.",
        common: &[],
        fields: TOTALS,
    },
];

/// What a `planned` has besides a record's fields.
const PLAN: &[Field] = &[
    field("how", Maybe(&HOW), "How it would be closed; null: it is left alone."),
    field("refused", Maybe(&REFUSAL), "Why it is left alone; null: it would be closed."),
    field("why", Text, "The same in words, with its reason."),
];

const CLOSED: &[Field] = &[
    EVENT,
    TIME,
    field("cookie", Count(""), "The kernel's own number of the socket."),
    field("netns", Count(""), "Inode of its network namespace."),
    field("local", End, "Local end."),
    field("remote", End, "Remote end."),
    field("state", STATE, "State in which it was selected."),
    field("verdict", Maybe(&VERDICT), "Why it was there."),
    field("how", HOW, "How it was closed."),
    field(
        "by",
        Object(&[
            field("pid", Count(""), "The process of tcptrace that closed it."),
            field("uid", Count(""), "Its user."),
            field("login_uid", Maybe(&Count("")), "Who logged in, where the kernel knows."),
        ]),
        "Who closed it.",
    ),
    field(
        "result",
        RESULT,
        "What came of it. `closing`: it was told to end, and waits for the peer or a timer; \
         `gone-before` and `changed`: nothing was done.",
    ),
    field(
        "state_after",
        Maybe(&STATE),
        "The state that it is in now; null: the kernel has no such socket any more.",
    ),
    field(
        "still_held",
        Maybe(&List(&Object(&[
            field("pid", Count(""), "Process."),
            field("fd", Count(""), "Descriptor."),
            COMM,
        ]))),
        "Descriptors that are still open, which only their processes close; null: they can't be \
         seen.",
    ),
    field("error", Maybe(&Text), "Why it could not be done, or what is different now."),
    field("text", List(&Text), "All of it in words."),
];

const TOTALS: &[Field] = &[
    EVENT,
    TIME,
    field("dry_run", Flag, "Whether nothing was done, as `--yes` was not there."),
    field("selected", Count("sockets"), "Matched."),
    field("too_young", Count("sockets"), "Left out, as they are younger than `--min-age`."),
    field("age_unknown", Count("sockets"), "Left out by `--min-age`, and may be as old as that."),
    field("planned", Count("sockets"), "Of those selected, to be closed."),
    field("refused", Map(&Count("sockets")), "Of those selected, left alone, by reason."),
    field("results", Map(&Count("sockets")), "What came of those to be closed, by `result`."),
    field("still_held", Count("descriptors"), "Of closed connections, still open."),
    field("not_begun", Count("sockets"), "Not closed, as somebody ended the command before."),
];

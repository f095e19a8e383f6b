//! Fields of what `doctor` says.

use super::{
    Field,
    Kind::{Count, Flag, List, Map, Maybe, Milliseconds, Object, Text, Word},
    Line, field,
    fields::{COMM, CONTAINER},
    shared::{EVENT, TIME},
};
use crate::engine::doctor::{
    findings::{Ailment, Confidence, Grounds, Harm, Remark},
    settings::Sysctl,
};

const HARM: super::Kind = Word(|| Harm::ALL.map(Harm::name).to_vec());
const NETNS: Field =
    field("netns", Maybe(&Count("")), "Inode of its network namespace, where it is in one.");

const DIAGNOSIS: &[Field] = &[
    EVENT,
    TIME,
    field("name", Word(|| Ailment::NAMES.to_vec()), "What was found."),
    field("harm", HARM, "How bad it is."),
    field("confidence", Word(|| Confidence::ALL.map(Confidence::name).to_vec()), "How sure it is."),
    field(
        "basis",
        Word(|| Grounds::ALL.map(Grounds::name).to_vec()),
        "What it rests on: what there is now, or what counters did between the two looks.",
    ),
    NETNS,
    field(
        "processes",
        List(&Object(&[
            field("pid", Count(""), "Process."),
            COMM,
            field("name", Text, "What people call it."),
            CONTAINER,
        ])),
        "Whom it is about.",
    ),
    field("value", Count(""), "The number that decided."),
    field("limit", Maybe(&Count("")), "What it was held against."),
    field("found", Text, "The finding in a sentence."),
    field("evidence", List(&Text), "What it rests on, with numbers."),
    field("meaning", Text, "What it means for programs and their clients."),
    field("remedy", Text, "What to do."),
    field("no_help", Maybe(&Text), "What people try, and why it does not help."),
    field("source", Text, "Where the kernel or its documentation says so."),
];

const REMARK: &[Field] = &[
    EVENT,
    TIME,
    field("name", Word(|| Remark::NAMES.to_vec()), "What it is about."),
    NETNS,
    field("text", Text, "What there is, and why it is no finding."),
];

const SETTING: &[Field] = &[
    EVENT,
    TIME,
    field("name", Word(|| Sysctl::ALL.map(Sysctl::name).to_vec()), "As sysctl(8) spells it."),
    NETNS,
    field("value", Maybe(&Text), "Its value now."),
    field("why", Maybe(&Text), "Why the value is not known."),
    field(
        "default",
        Maybe(&Text),
        "What this kernel makes of it where nobody changes it, where that can be told.",
    ),
    field("default_is", Text, "The same in words: whether it is computed from memory, for one."),
    field("changed", Maybe(&Flag), "Whether the value differs from it."),
    field("matters", Flag, "Whether it has to do with a finding."),
    field("does", Text, "What changing it does."),
    field("here", Maybe(&Text), "The numbers of this host that it is about."),
    field("hurts", Text, "When changing it hurts."),
    field("source", Text, "Where the kernel or its documentation says so."),
];

const UNSEEN: &[Field] = &[
    EVENT,
    TIME,
    field("what", Text, "What was not looked at."),
    field("why", Text, "Why not."),
    field("hides", Flag, "Whether something may be there that would be found with more rights."),
];

const CHECKUP: &[Field] = &[
    EVENT,
    TIME,
    field("findings", Count("findings"), "All of them."),
    field("by_harm", Map(&Count("findings")), "How many of each `harm`."),
    field("worst", Maybe(&HARM), "The worst `harm`; null: nothing was found."),
    field("not_looked_at", Count("lines"), "What was not looked at."),
    field("namespaces", Count(""), "Network namespaces that were looked into."),
    field("netns_paths", Map(&Text), "By the inode of each: a file that leads there."),
    field("states", Map(&Count("sockets")), "Sockets by state."),
    field("apart_ms", Milliseconds, "The time between the two looks."),
];

/// Every kind of line.
pub const LINES: &[Line] = &[
    Line {
        events: &["finding"],
        from: "doctor",
        about: "What was found, the worst first.",
        common: &[],
        fields: DIAGNOSIS,
    },
    Line {
        events: &["remark"],
        from: "doctor",
        about: "What is no finding, and may be taken for one.",
        common: &[],
        fields: REMARK,
    },
    Line {
        events: &["setting"],
        from: "doctor",
        about: "A setting, judged; in each network namespace, or once for the host.",
        common: &[],
        fields: SETTING,
    },
    Line {
        events: &["not_looked_at"],
        from: "doctor",
        about: "Something that was not looked at.",
        common: &[],
        fields: UNSEEN,
    },
    Line {
        events: &["summary"],
        from: "doctor",
        about: "The last line.",
        common: &[],
        fields: CHECKUP,
    },
];

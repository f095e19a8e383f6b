//! Every field of every line.

use super::{
    Field,
    Kind::{Count, End, Flag, List, Map, Maybe, Milliseconds, Object, Text, Time, Word},
    Line,
    blocked::KEPT,
    evidence::{EVIDENCE, LISTENER},
    field,
    forecast::{FORECAST, FORESEEN},
    normal::NORMAL,
    origins::{FRAME, MOMENT, STORY},
    shared::{AGE, COUNT, EVENT, STATE, TIME, VERDICT},
    sometimes,
    time_wait::TIME_WAIT,
};

pub const COMM: Field = field("comm", Text, "Command name, at most 15 bytes.");
const CGROUP: Field = field("cgroup", Maybe(&Text), "Cgroup, as a path below the mount.");
pub const CONTAINER: Field = field("container", Maybe(&Text), "Id or name of the container.");
const RUNTIME: Field = field(
    "runtime",
    Maybe(&Word(|| vec!["docker", "containerd", "cri-o", "podman", "lxc", "systemd-nspawn"])),
    "What runs the container.",
);
const POD: Field = field("pod", Maybe(&Text), "Uid of the Kubernetes pod.");
const INNER_PID: Field =
    field("inner_pid", Maybe(&Count("")), "Its pid in its own pid namespace, where that differs.");

const HOLDER: &[Field] = &[
    field("pid", Count(""), "Process that has a descriptor for it."),
    INNER_PID,
    field("tid", Maybe(&Count("")), "Thread, where it has a descriptor table of its own."),
    field(
        "fd",
        Maybe(&Count("")),
        "Descriptor; the listener's for a connection that nobody accepted. Null of who let go before \
         any scan.",
    ),
    COMM,
    field("name", Text, "What people call it: an interpreter with what it runs."),
    CGROUP,
    CONTAINER,
    RUNTIME,
    POD,
    field("opener", Maybe(&Flag), "Whether it had the socket first; false for who inherited it."),
];

const UNKNOWN: Field = field("unknown", Map(&Text), "Fields that are null, or not exact, and why.");

/// What a record of a socket has, whichever line it is.
pub(super) const RECORD: &[Field] = &[
    EVENT,
    TIME,
    field("cookie", Count(""), "The kernel's own number of the socket; `explain cookie:N`."),
    field("netns", Count(""), "Inode of its network namespace."),
    field("family", Count(""), "4 or 6."),
    field("local", End, "Local end."),
    field("remote", End, "Remote end."),
    field("protocol", Word(|| vec!["tcp", "mptcp"]), "Protocol."),
    field("role", ROLE, "Accepted or connected out."),
    field("state", STATE, "State."),
    field("age_ms", Object(AGE), "How long it has been in this state."),
    field("verdict", Maybe(&VERDICT), "Why it is there."),
    field("also", List(&VERDICT), "Verdicts that hold besides."),
    field("evidence", Object(EVIDENCE), "What the verdict is made of."),
    field("holders", List(&Object(HOLDER)), "Who has it; the listener's, if nobody accepted it."),
    field(
        "holder_source",
        Word(|| vec!["fd-table", "listener", "none", "outside-fd-tables"]),
        "How the holders were found.",
    ),
    sometimes("former_holders", List(&Object(HOLDER)), "Who had it and let go."),
    field(
        "listener",
        Maybe(&Object(LISTENER)),
        "The listener in whose queue it waits; of a listener, itself.",
    ),
    field("cgroup", Maybe(&Text), "The cgroup in which the socket was made."),
    sometimes("origin", Maybe(&Object(MOMENT)), "Who opened it; with `--origins`."),
    sometimes("last_read", Maybe(&Object(MOMENT)), "Who read data last; with `--origins`."),
    sometimes("end_read", Maybe(&Object(MOMENT)), "Who read the end; with `--origins`."),
    sometimes(
        "normal",
        Maybe(&Object(NORMAL)),
        "How long stays last as a rule where it leads; with `--min-age auto`.",
    ),
    UNKNOWN,
];

const RESOLVED: &[Field] = &[
    field("as_of", Time, "When verdict, evidence and holders were seen."),
    field("stayed_ms", Object(AGE), "How long it was in the state."),
    field(
        "closed_by",
        Maybe(&Object(&[field("pid", Count(""), "Process that closed it."), COMM])),
        "Who closed it.",
    ),
];

const TRANSITION: &[Field] = &[
    EVENT,
    TIME,
    field("cookie", Maybe(&Count("")), "The kernel's own number of the socket."),
    field("netns", Count(""), "Inode of its network namespace."),
    field("family", Count(""), "4 or 6."),
    field("local", End, "Local end."),
    field("remote", End, "Remote end."),
    field("protocol", Word(|| vec!["tcp", "mptcp"]), "Protocol."),
    field("old", STATE, "State before."),
    field("new", STATE, "State after."),
    field("stayed_ms", Maybe(&Object(AGE)), "How long it was in the state before."),
    field("on_cpu_pid", Count(""), "What ran on the CPU: often not the owner."),
    sometimes("unknown", Map(&Text), "Fields that are null, and why."),
];

const LOSSES: &[Field] = &[
    field("ring_full", Count("events"), "Events that found the buffer full."),
    field("storage_failed", Count("stays"), "Stays that the kernel had no memory to time."),
    field("recursion", Count("transitions"), "Transitions that the program could not run for."),
    field("skipped", Count("records"), "Records that made no sense."),
    field("unverified", Count("stays"), "Stays that were given up after a loss."),
];

const ADVICE: Field = field("advice", Map(&Text), "What to do, for each verdict that was given.");
const ROLE: super::Kind = Maybe(&Word(|| vec!["server", "client"]));
const BY_HOLDER: Field = field("by_holder", Map(&Count("sockets")), "By `comm[pid]`.");
const BY_VERDICT: Field = field("by_verdict", Map(&Count("sockets")), "By verdict.");
const BY_REMOTE: Field = field("by_remote", Map(&Count("sockets")), "By remote address.");

const WATCHED: &[Field] = &[
    EVENT,
    TIME,
    field("stuck", Count("sockets"), "Stayed longer than `--min-age`."),
    field("resolved", Count("sockets"), "Of these, left the state."),
    field("still_open", Count("sockets"), "Of these, are still in it."),
    field("leaks", Count("sockets"), "Of those that got stuck, had a verdict that is a leak."),
    BY_HOLDER,
    BY_VERDICT,
    BY_REMOTE,
    field(
        "stays",
        Map(&Object(&[
            field("count", Count("stays"), "Ended, of all sockets."),
            field("half_below_ms", Maybe(&Milliseconds), "Half of them were shorter."),
            field("most_below_ms", Maybe(&Milliseconds), "99% of them were shorter."),
        ])),
        "Stays by state, the short ones too.",
    ),
    field(
        "transitions",
        Object(&[
            field("seen", Count("transitions"), "Seen by the kernel programs."),
            field("filtered", Count("transitions"), "Of these, not asked for, or too short."),
            field("emitted", Count("transitions"), "Of these, handed to user space."),
            field("lost", Count("events"), "All of `lost` together."),
        ]),
        "Changes of state, of all sockets.",
    ),
    field("lost", Object(LOSSES), "What was lost, by kind."),
    field("blocked", List(&Object(KEPT)), "What keeps those that hold leaks, the worst first."),
    field("forecasts", List(&Object(FORESEEN)), "What will be full within a day."),
    sometimes("time_wait", Object(TIME_WAIT), "TIME_WAIT at the end, where it is watched."),
    sometimes("origins", List(&Object(STORY)), "Where leaks come from; with `--origins`."),
    ADVICE,
];

const IN_TIME_WAIT: &[Field] =
    &[EVENT, TIME, field("time_wait", Object(TIME_WAIT), "TIME_WAIT, as counted now.")];

const OVERVIEW: &[Field] = &[
    EVENT,
    TIME,
    field("sockets", Count("sockets"), "Listed."),
    field("leaks", Count("sockets"), "Of these, with a verdict that is a leak."),
    field("half_closes_in_use", Count("sockets"), "Left out, as their peers still take data."),
    field("age_unknown", Count("sockets"), "Left out by `--min-age`, and may be as old as that."),
    field("namespaces", Count(""), "Network namespaces that were looked at."),
    field(
        "states",
        Maybe(&Map(&Count("sockets"))),
        "All sockets there by state, selected or not; null of a recording: it knows those only \
         that were watched.",
    ),
    sometimes("time_wait", Object(TIME_WAIT), "TIME_WAIT, counted; with `--state time_wait`."),
    BY_HOLDER,
    BY_VERDICT,
    BY_REMOTE,
    ADVICE,
];

const GROUP: &[Field] = &[
    EVENT,
    TIME,
    field("by", Text, "What `--group-by` says."),
    field("key", Text, "What they have in common."),
    field("name", Text, "What people call that, as tables do: of a process `python app.py[4711]`."),
    field("count", Count("sockets"), "How many."),
    field("leaks", Count("sockets"), "Of these, with a verdict that is a leak."),
    field("oldest_ms", Object(AGE), "Age of the oldest."),
    BY_VERDICT,
];

const PROCESS: &[Field] = &[
    EVENT,
    TIME,
    field("pid", Count(""), "Process."),
    INNER_PID,
    COMM,
    field("command", List(&Text), "Its command line."),
    field("ppid", Count(""), "Its parent."),
    field("parent", Maybe(&Text), "Its parent's command name."),
    CGROUP,
    CONTAINER,
    RUNTIME,
    POD,
    field("running_ms", Maybe(&Milliseconds), "Time since it was started."),
    field(
        "descriptors",
        Object(&[
            field("used", Maybe(&Count("descriptors")), "Open now."),
            field("limit", Maybe(&Count("descriptors")), "How many may be (RLIMIT_NOFILE)."),
            field("full_in_ms", Maybe(&Milliseconds), "When they run out if it goes on like this."),
            field("full_in_min_ms", Maybe(&Milliseconds), "The soonest."),
            field("full_in_max_ms", Maybe(&Milliseconds), "The latest."),
        ]),
        "Its descriptors.",
    ),
    field("leaks", Count("sockets"), "Its sockets with a verdict that is a leak."),
    field("sockets", List(&Object(COUNT)), "Its sockets by state and verdict."),
    field(
        "listeners",
        List(&Object(&[
            field("local", End, "Where it listens."),
            field("queue", Count("connections"), "Waiting to be accepted."),
            field("limit", Count("connections"), "How many may wait (the backlog)."),
            field("drops", Count("connections"), "Dropped so far."),
            field("full", Flag, "Whether the next one is dropped."),
            field("shared_with", List(&Count("")), "Pids of others that hold it."),
        ])),
        "Its listeners.",
    ),
    field("listen_overflows", Maybe(&Count("connections")), "Dropped in its network namespace."),
    field(
        "threads",
        List(&Object(&[
            field("count", Count("threads"), "How many."),
            field("wchan", Maybe(&Text), "Kernel function that they wait in."),
            field("text", Text, "What they wait for, in words."),
            field("tids", List(&Count("")), "Their ids."),
        ])),
        "Its threads by what they wait in.",
    ),
    field("threads_read", Maybe(&Count("threads")), "How many were looked at."),
    field("threads_in_all", Maybe(&Count("threads")), "How many there are."),
    field("blocked", Maybe(&List(&Object(KEPT))), "What keeps it from its work; empty: nothing."),
    field("stacks", Maybe(&List(&Object(THREAD))), "Where each thread is now, with `--stacks`."),
    UNKNOWN,
];

const STACKS: &[Field] = &[
    EVENT,
    TIME,
    field("pid", Count(""), "The process."),
    field("name", Text, "What people call it."),
    field("leaks", Count("sockets"), "How many leaks it holds."),
    field("stacks", Maybe(&List(&Object(THREAD))), "Where each of its threads is now."),
    UNKNOWN,
];

const THREAD: &[Field] = &[
    field("thread", Count(""), "Its id."),
    field("name", Text, "Its name."),
    field("frames", Maybe(&List(&Object(FRAME))), "The calls, the innermost first."),
    field("cut", Maybe(&Text), "Why there are no outer calls beyond these."),
    field("unknown", Maybe(&Text), "Why there are no frames."),
];

const EXPLANATION: &[Field] = &[
    EVENT,
    TIME,
    field("verdict", VERDICT, "What is explained."),
    field("sockets", Count("sockets"), "How many of the process have this verdict."),
    field("cookie", Maybe(&Count("")), "The socket, where it is about one."),
    field("evidence", List(&Text), "Each piece of evidence in words, where it is about one."),
    field("means", Text, "What the verdict means."),
    field("role", ROLE, "Which side the program is, where of all these sockets the same."),
    field("look_for", List(&Text), "Where the cause may be, for that role."),
    field(
        "in_code",
        List(&Object(&[
            field("language", Text, "Programming language."),
            field("role", ROLE, "For which side; null: for both."),
            field("code", Text, "A line of code."),
        ])),
        "How the cure looks, for that role.",
    ),
    field("no_help", List(&Text), "What does not help."),
];

const MARK: fn() -> Vec<&'static str> = || vec!["ok", "limited", "missing", "unknown"];

const FINDING: &[Field] = &[
    EVENT,
    TIME,
    field("name", Text, "What was looked at."),
    field("ok", Maybe(&Flag), "Whether it is as it should be."),
    field("mark", Word(MARK), "The same in a word."),
    field("found", Text, "What was found."),
    field("needed_for", Text, "What it is needed for."),
    field("lost_without", Text, "What is lost without it."),
    field("remedy", Text, "What to do."),
];

const OFFERS: &[Field] = &[
    EVENT,
    TIME,
    field("watch", Flag, "Whether watch works here."),
    field("why", Maybe(&Text), "Why not."),
    field("snapshot", Flag, "Whether snapshot works here."),
    field("explain", Flag, "Whether explain works here."),
    field("counts", Map(&Count("findings")), "Findings by `mark`."),
];

/// Every kind of line.
pub const LINES: &[Line] = &[
    Line {
        events: &["stuck"],
        from: "watch",
        about: "A socket has stayed longer than `--min-age`; again each time its age has doubled.",
        common: RECORD,
        fields: &[],
    },
    Line {
        events: &["resolved"],
        from: "watch",
        about: "A socket that was reported has left its state.",
        common: RECORD,
        fields: RESOLVED,
    },
    Line {
        events: &["socket"],
        from: "snapshot and explain",
        about: "A socket as it is now.",
        common: RECORD,
        fields: &[],
    },
    Line {
        events: &["transition"],
        from: "watch --transitions",
        about: "A change of state.",
        common: &[],
        fields: TRANSITION,
    },
    Line {
        events: &["lost"],
        from: "watch",
        about: "Something was lost. Counts are since the start.",
        common: &[],
        fields: &[EVENT, TIME, field("lost", Object(LOSSES), "How much, by kind.")],
    },
    Line {
        events: &["forecast"],
        from: "watch",
        about: "Something will be full within a day at its present pace; again whenever half of the \
                time left has gone.",
        common: &[],
        fields: FORECAST,
    },
    Line {
        events: &["time_wait"],
        from: "watch",
        about: "How many are in TIME_WAIT, as soon as there are any, and again when there are twice \
                or half as many, each 10 s at most.",
        common: &[],
        fields: IN_TIME_WAIT,
    },
    Line {
        events: &["summary"],
        from: "watch",
        about: "The last line.",
        common: &[],
        fields: WATCHED,
    },
    Line {
        events: &["group"],
        from: "snapshot --group-by",
        about: "Sockets that have something in common.",
        common: &[],
        fields: GROUP,
    },
    Line {
        events: &["stacks"],
        from: "snapshot --stacks",
        about: "A process that holds leaks, the one with most of them first.",
        common: &[],
        fields: STACKS,
    },
    Line {
        events: &["summary"],
        from: "snapshot",
        about: "The last line.",
        common: &[],
        fields: OVERVIEW,
    },
    Line {
        events: &["process"],
        from: "explain",
        about: "A process: the first line of its page.",
        common: &[],
        fields: PROCESS,
    },
    Line {
        events: &["explanation"],
        from: "explain",
        about: "A verdict, what it means and what to do.",
        common: &[],
        fields: EXPLANATION,
    },
    Line {
        events: &["check"],
        from: "check",
        about: "Something that is used, and what was found.",
        common: &[],
        fields: FINDING,
    },
    Line {
        events: &["summary"],
        from: "check",
        about: "The last line: what works here.",
        common: &[],
        fields: OFFERS,
    },
];

//! The keys, as the screen and `--help` list them.

/// Keys, and what each does.
pub const KEYS: &[(&str, &str)] = &[
    ("up, down, k, j", "select a row; PgUp, PgDn, Home and End go further"),
    ("Enter", "explain the row: holders, evidence, cure; again: its sockets"),
    ("g", "group by the next of what --group-by takes, in its order"),
    ("s or >", "sort by the next of count, age, growth, verdict, holder, local,"),
    ("S or <", "remote, recv-q, descriptors, full in; S: by the one before"),
    ("r", "sort the other way round"),
    ("/", "filter by holder, container, ends, state, verdict"),
    ("space", "pause: the rows stay as they are; again: go on"),
    ("y", "copy the ends of the row's oldest socket, for explain"),
    ("mouse", "a click selects a row, another opens it; the wheel scrolls"),
    ("?", "this help"),
    ("Esc", "back: from a page, a filter, a row's sockets"),
    ("q, Ctrl-C", "quit"),
];

/// Keys of a recording (`--replay`).
pub const PLAYING: &[(&str, &str)] = &[
    ("space", "stop; again: go on"),
    (".", "go on to what comes next, and stop there"),
    ("+, -", "twice, half as fast"),
    ("left, right", "10 s back, forward; [ and ]: a minute"),
];

/// What the columns mean that need a word.
pub const COLUMNS: &[(&str, &str)] = &[
    (">AGE", "was there before us: at least so old"),
    ("/MIN", "so many more than a minute ago"),
    ("FDS", "descriptors that the process has, of those it may have"),
    ("FULL IN", "when none is left, if it goes on as in the last minutes"),
];

/// About copying.
pub const COPYING: &str = "Copying is by OSC 52: the terminal must allow it (in tmux: set \
                           -g set-clipboard on).";

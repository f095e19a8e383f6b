//! Stacks in words: frames, what is missing, and how to get it.

use std::fmt::Write;

use crate::engine::{
    name::file_name,
    stack::{
        Code, Cut, Frame, Missing, Stack,
        threads::{LeftAlone, Skipped, Stacks},
        whose::is_first,
        why::Machine,
    },
};

/// Frames of a line, at most.
const FRAMES: usize = 5;

/// Why a frame has no function, with the remedy.
#[must_use]
pub fn missing(why: &Missing) -> String {
    match why {
        Missing::NoSymbols { build_id: Some(id) } => {
            format!("no symbols: install debug symbols of build id {id}")
        }
        Missing::NoSymbols { build_id: None } => {
            "no symbols: build it with symbols (without strip, -s or -ldflags=-s)".to_owned()
        }
        Missing::Replaced => "its file was replaced or removed since the program started: restart \
                              the program, or run as root with CAP_SYS_ADMIN"
            .to_owned(),
        Missing::Unreadable => {
            "its file can't be read: it takes CAP_SYS_PTRACE while the process lives".to_owned()
        }
        Missing::NotElf => "its file is no ELF file of 64 bits of this machine".to_owned(),
        Missing::NoPerfMap { machine } => {
            format!("code made at run time, without a perf map: {}", perf_map(*machine))
        }
        Missing::PerfMapRefused => {
            "its perf map in /tmp was not read: it must be a regular file of \
                                    the process's own user, or of root"
                .to_owned()
        }
        Missing::NotInPerfMap { machine: Some(Machine::Java) } => {
            "the perf map does not have it: run jcmd PID Compiler.perfmap again; code that the JVM \
             interprets is in none"
                .to_owned()
        }
        Missing::NotInPerfMap { .. } => "the perf map does not have it".to_owned(),
        Missing::Interpreted => {
            "the JVM interprets this function: jcmd PID Thread.print names it; a \
                                 perf map does once it is compiled"
                .to_owned()
        }
        Missing::NotMapped => "nothing is mapped there now".to_owned(),
        Missing::Gone => "the process ended before its mappings could be read".to_owned(),
        Missing::Time => "there was no time to look".to_owned(),
    }
}

/// How a program is made to write a perf map.
fn perf_map(machine: Option<Machine>) -> &'static str {
    match machine {
        Some(Machine::Java) => {
            "start the JVM (17 or later) with -XX:+PreserveFramePointer and run jcmd PID \
             Compiler.perfmap"
        }
        Some(Machine::Node) => {
            "start node with --perf-basic-prof --interpreted-frames-native-stack"
        }
        Some(Machine::Python) => "start Python (3.12 or later) with -X perf",
        None => "have the program write /tmp/perf-PID.map",
    }
}

/// Why a stack has no outer frames, with the remedy.
#[must_use]
pub fn cut(why: &Cut) -> String {
    let keeps = |machine: &Option<Machine>| match machine {
        Some(Machine::Java) => "; start the JVM with -XX:+PreserveFramePointer",
        Some(Machine::Python) => "; start Python with -X perf",
        _ => "",
    };
    match why {
        Cut::Depth => "deeper than the frames that are kept".to_owned(),
        Cut::Copied => "deeper than the memory that was copied".to_owned(),
        Cut::FramePointers => {
            "by frame pointers only: code that keeps none may be missing, or end it".to_owned()
        }
        Cut::Code { module: Some(module), machine } => format!(
            "{module} has no unwinding information there, and keeps no frame pointers{}",
            keeps(machine)
        ),
        Cut::Code { module: None, machine } => {
            format!("code made at run time keeps no frame pointers{}", keeps(machine))
        }
        Cut::NoCode => "what should be a return address leads to no code".to_owned(),
        Cut::Gone => "the process ended before its mappings could be read".to_owned(),
        Cut::NotPermitted => "its mappings may not be read: it takes CAP_SYS_PTRACE".to_owned(),
        Cut::Time => "there was no time for more".to_owned(),
    }
}

/// Why a thread has no stack.
#[must_use]
pub const fn skipped(why: Skipped) -> &'static str {
    match why {
        Skipped::Uninterruptible => "not stopped: in an uninterruptible wait (state D)",
        Skipped::Ended => "it ended",
        Skipped::NotPermitted => "it may not be stopped: that takes CAP_SYS_PTRACE",
        Skipped::NotStopped => "it did not stop in time",
        Skipped::Moving => "it runs: it was elsewhere each time that it was read",
        Skipped::NoScript => "it runs no Python",
        Skipped::Foreign => "a 32-bit program's thread",
        Skipped::Time => "there was no time left",
    }
}

/// Why a process's threads were left alone.
#[must_use]
pub const fn refused(why: LeftAlone) -> &'static str {
    match why {
        LeftAlone::NotAskedFor => "not asked for: explain PID --stacks",
        LeftAlone::Traced(_) => "a debugger has the process already (TracerPid in its status)",
        LeftAlone::Ourselves => "it is tcptrace itself",
        LeftAlone::Gone => "the process is gone",
        LeftAlone::Unreadable => "its threads can't be listed",
    }
}

/// How many threads are in one place: `8 of 10 threads`.
fn share(count: usize, of: usize) -> String {
    if of == 1 { "the only thread".to_owned() } else { format!("{count} of {of} threads") }
}

/// Where the threads of a process are: a line for each place, with how many are there. Those that
/// are in the program's own code come first, those without a stack last.
#[must_use]
pub fn lines(stacks: &Stacks) -> Vec<String> {
    struct Place {
        text: String,
        count: usize,
        rank: u8,
    }
    let mut places: Vec<Place> = Vec::new();
    for thread in &stacks.threads {
        let (text, rank) = match &thread.stack {
            Ok(stack) if stack.frames.iter().any(|f| f.code == Code::Own) => (line(stack), 0),
            Ok(stack) => (line(stack), 1),
            Err(why) => (skipped(*why).to_owned(), 2),
        };
        match places.iter_mut().find(|p| p.text == text) {
            Some(place) => place.count += 1,
            None => places.push(Place { text, count: 1, rank }),
        }
    }
    places.sort_by_key(|p| (p.rank, std::cmp::Reverse(p.count)));
    let of = stacks.threads.len();
    places.into_iter().map(|p| format!("{}: {}", share(p.count, of), p.text)).collect()
}

/// Remedies that are told, at most.
const REMEDIES: usize = 4;

/// What is missing in these stacks, with the remedies: of the program's own code, and why stacks
/// are cut.
#[must_use]
pub fn remedies(stacks: &Stacks) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    let frames = || stacks.threads.iter().flat_map(|t| &t.stack).flat_map(|s| &s.frames);
    if stacks.dump.is_none() && frames().any(|f| f.unknown.as_ref().is_some_and(is_javas)) {
        list.push(
            "Java's functions: explain PID --stacks --jvm-threads has the JVM name them".to_owned(),
        );
    }
    for stack in stacks.threads.iter().filter_map(|t| t.stack.as_ref().ok()) {
        let own = stack.frames.iter().filter(|f| {
            matches!(f.code, Code::Own | Code::Unknown) || f.unknown == Some(Missing::Interpreted)
        });
        let frames = own.filter_map(|f| {
            let module = f.module.as_deref().map(|m| format!("{m}: ")).unwrap_or_default();
            Some(format!("{module}{}", missing(f.unknown.as_ref()?)))
        });
        for text in frames.chain(stack.cut.as_ref().map(cut)) {
            if list.len() < REMEDIES && !list.contains(&text) {
                list.push(text);
            }
        }
    }
    list
}

/// Whether a JVM could say more.
const fn is_javas(why: &Missing) -> bool {
    matches!(
        why,
        Missing::Interpreted
            | Missing::NoPerfMap { machine: Some(Machine::Java) }
            | Missing::NotInPerfMap { machine: Some(Machine::Java) }
    )
}

/// A frame in a few words: `Crawler.fetch crawler.py:41`.
#[must_use]
pub fn frame(frame: &Frame) -> String {
    let mut text = match (&frame.function, &frame.module) {
        (Some(function), _) => without_closures(function).to_owned(),
        (None, Some(module)) => format!("{}+{:#x}", file_name(module), frame.offset),
        (None, None) => "(unnamed)".to_owned(),
    };
    if let Some(file) = &frame.file {
        let _ = write!(text, " {}", file_name(file));
        if let Some(line) = frame.line {
            let _ = write!(text, ":{line}");
        }
    }
    text
}

/// A function's name without the types that it was made for, where closures are among them: these
/// have no names that anybody gave them.
fn without_closures(function: &str) -> &str {
    let Some(inner) = function.strip_suffix('>') else { return function };
    let mut depth = 1;
    for (at, c) in inner.char_indices().rev() {
        depth += match c {
            '>' => 1,
            '<' => -1,
            _ => 0,
        };
        if depth == 0 {
            let closures = at > 0 && function[at..].contains("{closure");
            return if closures { &function[..at] } else { function };
        }
    }
    function
}

/// What is below all that a program does, and tells nothing of it.
fn begins_a_thread(function: &str) -> bool {
    is_first(function) || function.starts_with("__libc_start_")
}

/// How the program's own functions get names, where a stack has none of them; `None`: it has, or
/// there is nothing to be done.
#[must_use]
pub fn hint(stack: &Stack) -> Option<String> {
    if stack.own_calls().next().is_some() {
        return None;
    }
    let why = |f: &Frame| match (&f.unknown, f.code) {
        (Some(why), Code::Own | Code::Unknown) => Some(missing(why)),
        (Some(why @ Missing::Interpreted), _) => Some(missing(why)),
        _ => None,
    };
    // Scripts' functions show, and none of them is its own.
    if stack.frames.iter().any(|f| f.module.is_none() && f.file.is_some()) {
        return None;
    }
    // An interpreter has a function of its own for all of the program's.
    let machine = |f: &Frame| match f.function.as_deref()? {
        "_PyEval_EvalFrameDefault" => Some(Machine::Python),
        "Builtins_InterpreterEntryTrampoline" => Some(Machine::Node),
        _ => None,
    };
    stack.frames.iter().find_map(why).or_else(|| {
        let machine = stack.frames.iter().find_map(machine)?;
        Some(format!("its own functions have no names: {}", perf_map(Some(machine))))
    })
}

/// A stack in a line, the innermost call first: where it is, then the program's own functions;
/// libraries and interpreters are left out between them.
#[must_use]
pub fn line(stack: &Stack) -> String {
    let named = |f: &&Frame| {
        let start = f.function.as_deref().is_some_and(begins_a_thread);
        (f.function.is_some() && !start) || f.code == Code::Own
    };
    // A script's library tells more than that of its interpreter.
    let kinds: [fn(&&Frame) -> bool; 4] = [
        |f| f.code == Code::Own,
        |f| f.code == Code::Library && f.module.is_none(),
        |f| matches!(f.code, Code::Unknown | Code::Library),
        |f| f.code == Code::Runtime,
    ];
    let of = |kind: fn(&&Frame) -> bool| -> Vec<&Frame> {
        stack.frames.iter().filter(named).filter(kind).collect()
    };
    let beyond_the_first = |shown: &Vec<&Frame>| {
        shown.iter().any(|f| !stack.frames.first().is_some_and(|first| std::ptr::eq(first, *f)))
    };
    let mut shown = kinds.into_iter().map(of).find(beyond_the_first).unwrap_or_default();
    if shown.is_empty() {
        shown = stack.frames.iter().filter(named).collect();
    }
    if shown.is_empty() {
        shown = stack.frames.iter().collect();
    }
    let more = shown.len() > FRAMES - 1 || stack.cut.is_some();
    shown.truncate(FRAMES - 1);
    // What the thread is in, in the words of the library: `recvfrom`.
    if let Some(first) = stack
        .frames
        .first()
        .filter(|f| f.function.is_some() && !shown.iter().any(|s| std::ptr::eq(*s, *f)))
    {
        shown.insert(0, first);
    }
    let mut words: Vec<String> = shown
        .iter()
        .map(|f| match f.code {
            // Where in a library is of no use.
            Code::Library | Code::Runtime => f.function.clone().unwrap_or_else(|| frame(f)),
            _ => frame(f),
        })
        .collect();
    words.dedup();
    if more {
        words.push("…".to_owned());
    }
    words.join(" ← ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::stack::threads::{Means, ThreadStack};

    fn of(function: &str, code: Code, place: Option<(&str, u32)>) -> Frame {
        Frame {
            function: (!function.is_empty()).then(|| function.to_owned()),
            file: place.map(|(file, _)| file.to_owned()),
            line: place.map(|(_, line)| line),
            module: Some("/usr/bin/x".to_owned()),
            offset: 0x40,
            code,
            ..Frame::default()
        }
    }

    #[test]
    fn own_frames_in_a_line() {
        let frames = vec![
            of("recvfrom", Code::Library, Some(("socket.c", 9))),
            of("_PyEval_EvalFrameDefault", Code::Runtime, None),
            of("readinto", Code::Library, Some(("/usr/lib/python3.11/socket.py", 706))),
            of("Crawler.fetch", Code::Own, Some(("/app/crawler.py", 41))),
            of("_PyEval_EvalFrameDefault", Code::Runtime, None),
            of("main", Code::Own, Some(("/app/crawler.py", 80))),
            of("_start", Code::Library, None),
        ];
        let mut stack = Stack { frames, cut: None };
        assert_eq!(line(&stack), "recvfrom ← Crawler.fetch crawler.py:41 ← main crawler.py:80");
        stack.cut = Some(Cut::Depth);
        assert!(line(&stack).ends_with("main crawler.py:80 ← …"));
        stack.frames.retain(|f| f.code != Code::Own);
        assert_eq!(line(&stack), "recvfrom ← readinto ← …");
        assert_eq!(line(&Stack { frames: vec![of("", Code::Own, None)], cut: None }), "x+0x40");
        assert_eq!(line(&Stack::default()), "");
    }

    #[test]
    fn threads_in_one_place_are_a_line() {
        let thread = |tid, stack: Result<(&str, Code), Skipped>| ThreadStack {
            tid,
            name: "worker".into(),
            stack: stack.map(|(function, code)| Stack {
                // Calls from different places within a function that has no lines.
                frames: vec![Frame { offset: u64::from(tid), ..of(function, code, None) }],
                cut: None,
            }),
        };
        let threads = vec![
            thread(1, Err(Skipped::Uninterruptible)),
            thread(2, Ok(("epoll_wait", Code::Library))),
            thread(3, Ok(("epoll_wait", Code::Library))),
            thread(4, Ok(("fetch", Code::Own))),
        ];
        assert_eq!(
            lines(&Stacks { how: Means::Stopped, threads, of: 4, dump: None }),
            [
                "1 of 4 threads: fetch",
                "2 of 4 threads: epoll_wait",
                "1 of 4 threads: not stopped: in an uninterruptible wait (state D)",
            ]
        );
    }

    #[test]
    fn a_line_without_own_functions() {
        let libc = |function| of(function, Code::Library, None);
        let node = |function| of(function, Code::Runtime, None);
        let mut frames = vec![libc("accept4"), node("uv__server_io"), node("uv_run")];
        frames.extend([libc("__libc_start_call_main"), libc("_start")]);
        let stack = Stack { frames, cut: None };
        assert_eq!(line(&stack), "accept4 ← uv__server_io ← uv_run");
        assert_eq!(hint(&stack), None, "the event loop accepts: there are no others");
        let eval = "_PyEval_EvalFrameDefault";
        let script = Frame { module: None, ..of("accept", Code::Library, Some(("sync.py", 1))) };
        let frames = vec![libc("accept4"), libc("sock_accept"), node(eval), script];
        let mut stack = Stack { frames, cut: None };
        assert_eq!(line(&stack), "accept4 ← accept", "the script's library, not C's");
        assert_eq!(hint(&stack), None, "it has a perf map");
        stack.frames.pop();
        assert_eq!(line(&stack), "accept4 ← sock_accept");
        assert!(hint(&stack).is_some_and(|hint| hint.contains("-X perf")));
        let unknown = Some(Missing::NoSymbols { build_id: None });
        stack.frames.push(Frame { unknown, ..of("", Code::Own, None) });
        assert_eq!(line(&stack), "accept4 ← x+0x40");
        assert!(hint(&stack).is_some_and(|hint| hint.contains("no symbols")));
        stack.frames.push(of("main", Code::Own, None));
        assert_eq!(hint(&stack), None);
    }

    #[test]
    fn types_of_closures_are_left_out() {
        for (name, shown) in [
            ("serve<orders::main::{closure#2}::{closure_env#0}>", "serve"),
            ("Vec<Option<u8>>::push", "Vec<Option<u8>>::push"),
            ("f<g<u8>>", "f<g<u8>>"),
            ("<a::{closure#0} as F>", "<a::{closure#0} as F>"),
            ("operator>", "operator>"),
            ("f<g<main::{closure#0}>, u8>", "f"),
        ] {
            assert_eq!(without_closures(name), shown, "{name}");
        }
    }

    #[test]
    fn what_is_missing_comes_with_a_remedy() {
        for machine in [None, Some(Machine::Java), Some(Machine::Node), Some(Machine::Python)] {
            let text = missing(&Missing::NoPerfMap { machine });
            assert!(text.contains("perf"), "{text}");
        }
        let id = Some("ab12".to_owned());
        assert!(missing(&Missing::NoSymbols { build_id: id }).contains("build id ab12"));
        let unnamed = Missing::NoPerfMap { machine: Some(Machine::Java) };
        let frames = vec![Frame { unknown: Some(unnamed), ..of("", Code::Unknown, None) }];
        let stack = Ok(Stack { frames, cut: None });
        let threads = vec![ThreadStack { tid: 1, name: "java".into(), stack }];
        let mut stacks = Stacks { how: Means::Stopped, threads, of: 1, dump: None };
        assert!(remedies(&stacks)[0].contains("--jvm-threads"));
        stacks.dump = Some(Ok(0));
        assert!(remedies(&stacks)[0].contains("perf map"), "it was asked");
        let code = Cut::Code { module: None, machine: Some(Machine::Java) };
        assert!(cut(&code).contains("PreserveFramePointer"));
    }
}

//! The thread dump that a HotSpot JVM writes of itself, as `jcmd PID Thread.print` and `jstack`
//! have it (`Threads::print_on` in src/hotspot/share/runtime/threads.cpp, frames in
//! share/classfile/javaClasses.cpp). Names are the program's and may hold anything, so that a name
//! with line ends in it can't be told from a dump's own lines.

/// Threads, at most.
pub const THREADS: usize = 4096;
/// Frames of a thread, at most.
pub const FRAMES: usize = 128;
/// Characters of a name, at most.
pub const NAME: usize = 1024;

/// A thread of the dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JvmThread {
    /// Its whole name.
    pub name: String,
    /// Its id in the JVM's own pid namespace (gettid(2)).
    pub nid: u32,
    /// Its calls, the innermost first; none of a thread that runs no Java.
    pub frames: Vec<JvmFrame>,
    /// There are more.
    pub more: bool,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JvmFrame {
    /// Class and method, with the package: `com.foo.Bar.method`.
    pub function: String,
    /// The source file's name, where the class has one; not its folder.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
}

/// The threads of a dump that have an id of the kernel's, in its order.
#[must_use]
pub fn parse(text: &str) -> Vec<JvmThread> {
    let mut threads: Vec<JvmThread> = Vec::new();
    // Lines that belong to the last thread follow; and where those of a virtual thread begin.
    let (mut inside, mut mounted) = (false, None);
    for line in text.lines() {
        if let Some(call) = line.strip_prefix("\tat ") {
            let Some(thread) = threads.last_mut().filter(|_| inside) else { continue };
            let Some(frame) = frame(call) else { continue };
            if thread.frames.len() < FRAMES {
                let at = thread.frames.len();
                thread.frames.insert(mounted.map_or(at, |n: usize| n.min(at)), frame);
                mounted = mounted.map(|n| n + 1);
            } else {
                thread.more = true;
            }
        } else if line.starts_with("   Mounted virtual thread ") {
            // Its calls come after those of the thread that carries it, and are further in.
            mounted = Some(0);
        } else if !line.starts_with(['\t', ' ']) {
            let found = head(line).filter(|_| threads.len() < THREADS);
            (inside, mounted) = (found.is_some(), None);
            threads.extend(found);
        }
    }
    threads
}

/// `"exec-3" #12 prio=5 os_prio=0 cpu=0.89ms elapsed=2.26s tid=0x00007f31d00e1e80 nid=0x674b …`;
/// from Java 21 on the number is decimal.
fn head(line: &str) -> Option<JvmThread> {
    let rest = line.strip_prefix('"')?;
    // Names may hold quotes, what follows them doesn't.
    let (name, rest) = rest.rsplit_once('"')?;
    let nid = rest.split_whitespace().find_map(|word| word.strip_prefix("nid="))?;
    let nid = match nid.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => nid.parse(),
    };
    // 0, -1 and `NA`: it has not begun, or has ended.
    let nid = nid.ok().filter(|n| *n > 0)?;
    Some(JvmThread { name: bounded(name), nid, ..JvmThread::default() })
}

/// `java.lang.Thread.run(java.base@17.0.15/Thread.java:840)`.
fn frame(call: &str) -> Option<JvmFrame> {
    let (function, place) = call.trim_end().strip_suffix(')')?.rsplit_once('(')?;
    if function.is_empty() {
        return None;
    }
    // The module comes before; the names of source files have no folder.
    let place = place.rsplit('/').next().unwrap_or(place);
    let (file, line) = match place {
        "Native Method" | "Unknown Source" | "Redefined" | "" => (None, None),
        _ => match place.rsplit_once(':').map(|(file, line)| (file, line.parse().ok())) {
            Some((file, Some(line))) => (Some(bounded(file)), Some(line)),
            _ => (Some(bounded(place)), None),
        },
    };
    Some(JvmFrame { function: bounded(function), file, line })
}

fn bounded(name: &str) -> String {
    name.chars().take(NAME).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call(function: &str, place: Option<(&str, Option<u32>)>) -> JvmFrame {
        JvmFrame {
            function: function.to_owned(),
            file: place.map(|(file, _)| file.to_owned()),
            line: place.and_then(|(_, line)| line),
        }
    }

    /// As OpenJDK 17.0.15 writes it, shortened.
    const DUMP: &str = "\
2026-11-26 02:36:30
Full thread dump OpenJDK 64-Bit Server VM (17.0.15+6-Debian-1deb12u1 mixed mode, sharing):

Threads class SMR info:
_java_thread_list=0x00007f3168000c40, length=14, elements={
0x00007f31d0051c10, 0x00007f31d0053020
}

\"Signal Dispatcher\" #4 daemon prio=9 os_prio=0 cpu=0.57ms elapsed=2.29s tid=0x00007f31d005bfb0 \
nid=0x6742 waiting on condition  [0x0000000000000000]
   java.lang.Thread.State: RUNNABLE

\"http-nio-8080-Acceptor\" #13 prio=5 os_prio=0 cpu=1.64ms elapsed=2.23s tid=0x00007f31d00ff620 \
nid=0x674c runnable  [0x00007f31d5a31000]
   java.lang.Thread.State: RUNNABLE
\tat sun.nio.ch.EPoll.wait(java.base@17.0.15/Native Method)
\tat sun.nio.ch.SelectorImpl.lockAndDoSelect(java.base@17.0.15/SelectorImpl.java:129)
\t- locked <0x00000000fc266cf0> (a sun.nio.ch.Util$2)
\tat Orders.serveOrders(Orders.java:81)
\tat Orders$$Lambda$9/0x00007f3179001450.run(Unknown Source)

\"VM Thread\" os_prio=0 cpu=0.53ms elapsed=2.30s tid=0x00007f31d004d3b0 nid=0x673f runnable  

JNI global refs: 12, weak refs: 0
";

    #[test]
    fn a_dump() {
        let thread = |name: &str, nid, frames| JvmThread {
            name: name.to_owned(),
            nid,
            frames,
            ..JvmThread::default()
        };
        let frames = vec![
            call("sun.nio.ch.EPoll.wait", None),
            call("sun.nio.ch.SelectorImpl.lockAndDoSelect", Some(("SelectorImpl.java", Some(129)))),
            call("Orders.serveOrders", Some(("Orders.java", Some(81)))),
            call("Orders$$Lambda$9/0x00007f3179001450.run", None),
        ];
        assert_eq!(
            parse(DUMP),
            [
                thread("Signal Dispatcher", 0x6742, vec![]),
                thread("http-nio-8080-Acceptor", 0x674c, frames),
                thread("VM Thread", 0x673f, vec![]),
            ]
        );
    }

    #[test]
    fn heads() {
        let of = |line| head(line).map(|t| (t.name, t.nid));
        let named = |name: &str, nid| Some((name.to_owned(), nid));
        // Java 21.
        let new =
            "\"main\" #1 [726] prio=5 os_prio=0 cpu=1ms tid=0x00007f31d0051c10 nid=726 runnable";
        assert_eq!(of(new), named("main", 726));
        assert_eq!(of("\"a\" nid=0x1 \"b\" #1 prio=5 nid=0x2 x"), named("a\" nid=0x1 \"b", 2));
        assert_eq!(of("\"\" #1 nid=0x2"), named("", 2));
        for none in [
            "\"x\" #1 nid=NA waiting",
            "\"x\" #1 nid=0x0 x",
            "\"x\" #1 nid=-1 x",
            "\"x\" #1 prio=5",
            "\"x",
            "x\" nid=0x5",
            "",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn frames() {
        assert_eq!(frame("A.<init>(A.java:3)"), Some(call("A.<init>", Some(("A.java", Some(3))))));
        assert_eq!(frame("A.f(A.java)"), Some(call("A.f", Some(("A.java", None)))));
        assert_eq!(frame("A.f(x:y)"), Some(call("A.f", Some(("x:y", None)))));
        assert_eq!(
            frame("T.reads (twice)(T.kt:9)"),
            Some(call("T.reads (twice)", Some(("T.kt", Some(9)))))
        );
        for none in ["", "A.f", "(A.java:1)", "A.f(A.java:1"] {
            assert_eq!(frame(none), None, "{none}");
        }
    }

    #[test]
    fn calls_belong_to_the_thread_above() {
        let text = "\tat A.f(A.java:1)\n\"x\" #1 nid=0x1 r\n\tat B.f(B.java:1)\n\n\tat C.f(C.java:1)\n\
                    \"y\nz\" #2 nid=0x2 r\n\tat D.f(D.java:1)\n";
        let threads = parse(text);
        assert_eq!(threads.len(), 1, "a name of two lines has no thread: {threads:?}");
        assert_eq!(threads[0].frames, [call("B.f", Some(("B.java", Some(1))))]);
        // Java 24 (`Threads::print_on`).
        let text = "\"c\" #1 nid=5 r\n   Carrying virtual thread #30\n\tat C.run(C.java:1)\n   \
                    Mounted virtual thread #30\n\tat V.in(V.java:1)\n\tat V.out(V.java:2)\n";
        let names: Vec<String> =
            parse(text).remove(0).frames.into_iter().map(|f| f.function).collect();
        assert_eq!(names, ["V.in", "V.out", "C.run"]);
    }

    #[test]
    fn no_more_than_is_kept() {
        let deep = format!("\"x\" nid=1 r\n{}", "\tat A.f(A.java:1)\n".repeat(FRAMES + 1));
        let thread = parse(&deep).remove(0);
        assert_eq!((thread.frames.len(), thread.more), (FRAMES, true));
        let many = "\"x\" nid=1 r\n\tat A.f(A.java:1)\n\n".repeat(THREADS + 9);
        assert_eq!(parse(&many).len(), THREADS);
        let long = format!("\"{}\" nid=1 r", "ж".repeat(NAME + 1));
        assert_eq!(parse(&long)[0].name.chars().count(), NAME);
    }

    proptest! {
        #[test]
        fn any_text(text in "(\"|\tat |\n| nid=|0x|[0-9]{1,12}|\\(|\\)|:|/|   Mounted virtual thread |\\PC){0,60}") {
            for thread in parse(&text) {
                prop_assert!(thread.nid > 0 && thread.frames.len() <= FRAMES);
                prop_assert!(thread.frames.iter().all(|f| !f.function.is_empty()));
            }
        }

        #[test]
        fn a_part_of_a_dump(from in 0..DUMP.len(), length in 0..DUMP.len()) {
            let part: String = DUMP.chars().skip(from).take(length).collect();
            prop_assert!(parse(&part).len() <= 3);
        }
    }
}

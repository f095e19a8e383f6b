//! What a JVM says of its threads itself, in place of what shows from outside.

use std::collections::HashMap;

use super::{
    Cut, Frame, Stack,
    threads::ThreadStack,
    whose::{CodeKind, CodePlace, code},
};
use crate::formats::jvm_dump::{JvmFrame, JvmThread};

/// Puts what the JVM says in place of what the machine's stack said: the name of each thread that
/// both know, and its calls where it has any in Java. `native` is a thread's id in the JVM's own
/// pid namespace. The rest stays as it was. Says how many threads have their calls from the JVM.
pub fn combine(
    threads: &mut [ThreadStack],
    dump: Vec<JvmThread>,
    native: impl Fn(u32) -> u32,
) -> usize {
    let mut said: HashMap<u32, JvmThread> = HashMap::new();
    for thread in dump {
        // The first with an id: names that hold line ends come later than whose they are.
        said.entry(thread.nid).or_insert(thread);
    }
    let mut with_calls = 0;
    for thread in threads {
        let Some(jvm) = said.remove(&native(thread.tid)) else { continue };
        thread.name = jvm.name.into();
        if !jvm.frames.is_empty() {
            let frames = jvm.frames.into_iter().map(frame).collect();
            thread.stack = Ok(Stack { frames, cut: jvm.more.then_some(Cut::Depth) });
            with_calls += 1;
        }
    }
    with_calls
}

fn frame(call: JvmFrame) -> Frame {
    let JvmFrame { function, file, line } = call;
    let code = code(&CodePlace::script(CodeKind::Java, &function, file.as_deref()));
    Frame { function: Some(function), file, line, code, ..Frame::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::stack::{Code, threads::Skipped},
        formats::jvm_dump::parse,
    };

    #[test]
    fn both_know_a_thread() {
        let machine = |name: &str| Frame { function: Some(name.to_owned()), ..Frame::default() };
        let thread = |tid, name: &str, stack| ThreadStack { tid, name: name.into(), stack };
        let stack = |name| Ok(Stack { frames: vec![machine(name)], cut: Some(Cut::NoCode) });
        let mut threads = vec![
            thread(100, "java", stack("futex")),
            thread(101, "http-nio-8080-A", stack("epoll_wait")),
            thread(102, "VM Thread", stack("wait")),
            thread(103, "exec-1", Err(Skipped::NotStopped)),
        ];
        let text = "\"http-nio-8080-Acceptor\" #13 nid=0x2 runnable\n\
                    \tat sun.nio.ch.EPoll.wait(java.base@17/Native Method)\n\
                    \tat com.foo.Bar.serve(Bar.java:41)\n\n\
                    \"VM Thread at work\" nid=0x3 runnable\n\n\
                    \"exec-1\" #14 nid=4 runnable\n\tat com.foo.Bar.pack(Bar.java:9)\n\n\
                    \"exec-1\" #14 nid=4 runnable\n\tat evil.Twin.f(T.java:9)\n\n\
                    \"unknown\" #15 nid=99 runnable\n\tat A.f(A.java:9)\n";
        let before = threads.clone();
        assert_eq!(combine(&mut threads, parse(text), |tid| tid - 99), 2);
        assert_eq!(threads[0], before[0], "not in the dump");
        assert_eq!(&*threads[1].name, "http-nio-8080-Acceptor");
        let stack = threads[1].stack.as_ref().expect("a stack");
        let codes: Vec<Code> = stack.frames.iter().map(|f| f.code).collect();
        assert_eq!((codes, &stack.cut), (vec![Code::Library, Code::Own], &None));
        let own = stack.own().expect("the program's");
        assert_eq!(own.function.as_deref(), Some("com.foo.Bar.serve"));
        assert_eq!((own.file.as_deref(), own.line), (Some("Bar.java"), Some(41)));
        assert_eq!(&*threads[2].name, "VM Thread at work");
        assert_eq!(threads[2].stack, before[2].stack, "no Java");
        let packs = threads[3].stack.as_ref().ok().and_then(Stack::own);
        assert_eq!(packs.and_then(|f| f.function.as_deref()), Some("com.foo.Bar.pack"));
        assert_eq!(threads.len(), 4);
    }
}

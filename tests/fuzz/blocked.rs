//! What is read of processes that wait, and what is made of it.

use tcptrace::{
    engine::{
        blocked::{
            blockage::{Kept, Unserved, blockages},
            reading::{OtherEnd, ReadObject, ReadProcess, ReadWhat, Reading},
        },
        record::ProcessId,
        waiting::Waiting,
    },
    formats::{
        arguments::{Arguments, polled, selected},
        descriptor::{Descriptor, Kind},
        fdinfo,
        net_lines::NetLine,
        threads,
        threads::{Call, Thread, ThreadGroup, wchan},
    },
    prose,
};

/// The readers of files, and of a few bytes of memory.
pub fn files(data: &[u8], text: &str) {
    let _ = (Arguments::parse(text), polled(data), selected(data, text.as_bytes()));
    let _ = (fdinfo::epoll_set(text).count(), fdinfo::access(text), fdinfo::lock_holder(text, 1));
    let _ = text.lines().filter_map(NetLine::parse).count();
}

/// What keeps a process whose names are this text, as far as its call shows that.
pub fn kept(text: &str) -> Vec<Kept> {
    let id = ProcessId { pid: 1, start_ns: 1 };
    let thread = Thread {
        tid: 1,
        comm: text.into(),
        state: 'S',
        wchan: None,
        call: Call::parse(text.split_once('\n').map_or(text, |(first, _)| first)),
    };
    let described = |_, _| Some(Descriptor { kind: Kind::of_link(text), target: text.into() });
    let other = OtherEnd::Unknown(text.to_owned());
    let what = ReadWhat::Unix { name: Some(text.to_owned()), recv_q: 1, other };
    let process = ReadProcess {
        waiting: Waiting::new(id, Ok((vec![thread], 1)), described),
        comm: text.to_owned(),
        ..ReadProcess::default()
    };
    let reading = Reading {
        asked: 1,
        processes: vec![process],
        objects: vec![ReadObject { target: text.to_owned(), what }],
        ..Reading::default()
    };
    let kept = |cause| Kept { cause, effect: Unserved { never_accepted: 1, unread: 1 } };
    blockages(&reading, id).into_iter().map(kept).collect()
}

/// Threads in the call that the text names.
pub fn waits(text: &str) -> Vec<ThreadGroup> {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let thread = |state| Thread {
        tid: 1,
        comm: rest.into(),
        state,
        wchan: wchan(rest).map(Into::into),
        call: Call::parse(first),
    };
    let threads = ['R', 'S', 'T', 'Z', text.chars().next().unwrap_or('S')].map(thread);
    let groups = threads::group(&threads, |_, _| None);
    assert_eq!(
        groups.iter().map(|group| group.tids.len()).sum::<usize>(),
        threads.len(),
        "each thread once"
    );
    assert!(groups.iter().all(|group| !prose::threads::text(group).is_empty()));
    groups
}

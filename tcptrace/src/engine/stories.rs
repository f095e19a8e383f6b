//! Leaks told together by their code: where it took their connections, and how far it read them.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    rc::Rc,
};

use super::{
    record::{Opening, Record, TracedCall},
    stack::{Frame, Stack},
    unknown::Reason,
};

/// What several leaks have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeStory {
    /// How many.
    pub count: u64,
    /// How they were opened; none: not seen.
    pub how: Option<Opening>,
    /// Where in the code that was, or why that is not known.
    pub opened: Result<Rc<Stack>, Reason>,
    /// Names of the threads that opened them, so many as are told apart; may hold anything.
    pub openers: BTreeSet<Rc<str>>,
    /// How far they were read.
    pub reading: ReadSoFar,
    /// Names of the threads that read last.
    pub readers: BTreeSet<Rc<str>>,
}

/// How far a connection was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReadSoFar {
    /// A read was told that the stream has ended, there.
    End(Result<Rc<Stack>, Reason>),
    /// Data was read there, and the end of the stream not.
    Some(Result<Rc<Stack>, Reason>),
    /// Nothing.
    Nothing,
    /// Not known, and why.
    Unknown(Reason),
}

/// Stories that are told apart.
const STORIES: usize = 256;
/// Calls that tell a place where none is the program's own.
const INNERMOST: usize = 6;
/// Threads that are named.
const THREADS: usize = 16;

/// What tells stories apart: how, and the program's own calls.
type Key = (Option<Opening>, Place, u8, Place);
/// Calls by function, file and line, or a reason.
type Place = Result<Vec<(Option<String>, Option<String>, Option<u32>)>, Reason>;

/// The stories of these leaks, the most frequent first; what is beyond 256 of them is left
/// out. Empty where origins were not asked for.
#[must_use]
pub fn stories<'a>(records: impl Iterator<Item = &'a Rc<Record>>) -> Vec<CodeStory> {
    let mut all: HashMap<Key, CodeStory> = HashMap::new();
    for record in records.filter(|r| r.is_leak()) {
        let Some(story) = CodeStory::of(record) else { continue };
        let key = story.key();
        if let Some(known) = all.get_mut(&key) {
            known.count += 1;
            add(&mut known.openers, story.openers);
            add(&mut known.readers, story.readers);
        } else if all.len() < STORIES {
            all.insert(key, story);
        }
    }
    let mut list: Vec<(Key, CodeStory)> = all.into_iter().collect();
    list.sort_by_cached_key(|(key, story)| (Reverse(story.count), format!("{key:?}")));
    list.into_iter().map(|(_, story)| story).collect()
}

fn add(names: &mut BTreeSet<Rc<str>>, more: BTreeSet<Rc<str>>) {
    if names.len() < THREADS {
        names.extend(more);
    }
}

impl CodeStory {
    /// One socket's; `None` where origins were not asked for.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        let origins = record.origins.as_deref()?;
        let why = |field| record.unknown.get(field).unwrap_or(Reason::OpenedUnseen);
        let opened = origins.opened.as_ref();
        let reader = origins.end_read.as_ref().or(origins.last_read.as_ref());
        let stack = |moment: &TracedCall| moment.stack.clone();
        let reading = match (&origins.end_read, &origins.last_read) {
            (Some(end), _) => ReadSoFar::End(stack(end)),
            (None, Some(last)) if why("end_read") == Reason::EndUnread => {
                ReadSoFar::Some(stack(last))
            }
            (None, None) if matches!(why("last_read"), Reason::NeverRead | Reason::NotAccepted) => {
                ReadSoFar::Nothing
            }
            _ => ReadSoFar::Unknown(why("end_read")),
        };
        let name = |moment: &TracedCall| BTreeSet::from([Rc::clone(&moment.thread)]);
        Some(Self {
            count: 1,
            how: opened.map(|(how, _)| *how),
            opened: opened.map_or_else(|| Err(why("origin")), |(_, moment)| stack(moment)),
            openers: opened.map(|(_, moment)| name(moment)).unwrap_or_default(),
            reading,
            readers: reader.map(name).unwrap_or_default(),
        })
    }

    fn key(&self) -> Key {
        let (kind, read) = match &self.reading {
            ReadSoFar::End(stack) => (0, place(stack)),
            ReadSoFar::Some(stack) => (1, place(stack)),
            ReadSoFar::Nothing => (2, Ok(Vec::new())),
            ReadSoFar::Unknown(why) => (3, Err(*why)),
        };
        (self.how, place(&self.opened), kind, read)
    }
}

/// The program's own calls; where none has a name, all by function: the lines of libraries differ
/// for one call of the program's.
fn place(stack: &Result<Rc<Stack>, Reason>) -> Place {
    let stack = stack.as_ref().map_err(|why| *why)?;
    let call = |f: &Frame| (f.function.clone(), f.file.clone(), f.line);
    let calls: Vec<_> = stack.own_calls().map(call).collect();
    if !calls.is_empty() {
        return Ok(calls);
    }
    let unnamed = |f: &Frame| format!("{}+{:#x}", f.module.as_deref().unwrap_or(""), f.offset);
    let by_function =
        |f: &Frame| (Some(f.function.clone().unwrap_or_else(|| unnamed(f))), None, None);
    // What is further out in libraries tells nothing.
    Ok(stack.frames.iter().take(INNERMOST).map(by_function).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        record::{KnownOrigin, ProcessId},
        stack::Code,
    };

    fn stack(function: &str) -> Rc<Stack> {
        let own =
            Frame { function: Some(function.to_owned()), code: Code::Own, ..Frame::default() };
        let libc = Frame { code: Code::Library, offset: 7, ..own.clone() };
        Rc::new(Stack { frames: vec![libc, own], cut: None })
    }

    fn moment(thread: &str, function: &str) -> TracedCall {
        TracedCall {
            at: 1,
            process: ProcessId { pid: 7, start_ns: 1 },
            called: None,
            tid: 7,
            thread: thread.into(),
            stack: Ok(stack(function)),
        }
    }

    fn leak(thread: &str, opened: &str, end: Option<&str>) -> Rc<Record> {
        let mut record = crate::engine::record::tests::leak();
        record.origins = Some(Rc::new(KnownOrigin {
            opened: Some((Opening::Accepted, moment(thread, opened))),
            last_read: None,
            end_read: end.map(|function| moment("reader", function)),
        }));
        if end.is_none() {
            record.unknown.insert("last_read", Reason::NeverRead);
            record.unknown.insert("end_read", Reason::EndUnread);
        }
        Rc::new(record)
    }

    #[test]
    fn leaks_of_the_same_code_are_told_together() {
        let leaks = [
            leak("a", "serve", Some("fetch")),
            leak("b", "serve", None),
            leak("c", "serve", Some("fetch")),
            leak("d", "serve", Some("other")),
        ];
        let told = stories(leaks.iter());
        assert_eq!(told.iter().map(|s| s.count).collect::<Vec<_>>(), [2, 1, 1]);
        let names: Vec<&str> = told[0].openers.iter().map(|n| &**n).collect();
        assert_eq!(names, ["a", "c"]);
        assert!(told.iter().any(|s| s.reading == ReadSoFar::Nothing));
        let unasked = crate::engine::record::tests::leak();
        assert_eq!(stories([Rc::new(unasked)].iter()), []);
    }
}

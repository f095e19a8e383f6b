//! Who opened a connection and who read from it, in words.

use std::{collections::BTreeSet, rc::Rc};

use super::{reasons, stacks, time::human};
use crate::engine::{
    record::{BootNs, Opening, Record, TracedCall},
    stack::Stack,
    stories::{CodeStory, ReadSoFar},
    unknown::Reason,
};

/// Threads that are named; more are counted.
const NAMED: usize = 2;

/// Leaks with one story, in lines: how many and how they were opened, then how far they were read,
/// then how functions without a name get one. May hold anything that others chose.
#[must_use]
pub fn story(story: &CodeStory) -> Vec<String> {
    let mut lines = of_one(story);
    lines[0].insert_str(0, &format!("{} ", story.count));
    lines
}

/// The same without the number.
#[must_use]
pub fn of_one(story: &CodeStory) -> Vec<String> {
    let by = threads(&story.openers);
    let opened = match (story.how, &story.opened) {
        (Some(how), stack) => format!("{}{by}{}", opened(how), place(stack)),
        (None, Err(why)) => reasons::words(*why).to_owned(),
        (None, Ok(_)) => "opened".to_owned(),
    };
    let mut lines = vec![opened, reading(story)];
    let read = match &story.reading {
        ReadSoFar::End(stack) | ReadSoFar::Some(stack) => stack.as_ref().ok(),
        _ => None,
    };
    for stack in story.opened.as_ref().ok().into_iter().chain(read) {
        lines.extend(stacks::hint(stack).filter(|hint| !lines.contains(hint)));
    }
    lines
}

const fn opened(how: Opening) -> &'static str {
    match how {
        Opening::Accepted => "accepted",
        Opening::Connected => "connected",
    }
}

fn reading(story: &CodeStory) -> String {
    let by = threads(&story.readers);
    match &story.reading {
        ReadSoFar::End(stack) => format!(
            "the end of the stream was read{by}{}; nobody has called close() since",
            place(stack)
        ),
        ReadSoFar::Some(stack) => format!("last read{by}{}; the end was never read", place(stack)),
        ReadSoFar::Nothing => "never read".to_owned(),
        ReadSoFar::Unknown(why) => reasons::words(*why).to_owned(),
    }
}

/// ` in take_order orders.c:9 ← main orders.c:20`, or why that is not known.
fn place(stack: &Result<Rc<Stack>, Reason>) -> String {
    match stack {
        Ok(stack) => match stacks::line(stack) {
            line if line.is_empty() => String::new(),
            line => format!(" in {line}"),
        },
        Err(why) => format!(" (where: {})", reasons::words(*why)),
    }
}

/// ` by exec-3, exec-7 and 4 more`
fn threads(names: &BTreeSet<Rc<str>>) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED).map(|name| &**name).collect();
    match names.len().saturating_sub(NAMED) {
        _ if shown.is_empty() => String::new(),
        0 => format!(" by {}", shown.join(" and ")),
        more => format!(" by {} and {more} more", shown.join(", ")),
    }
}

/// One socket's moments in lines: `accepted 41s ago by exec-3 (thread 4711 of java[4700]) in …`.
/// Empty where origins were not asked for.
#[must_use]
pub fn moments(record: &Record, now: BootNs) -> Vec<String> {
    let Some(origins) = record.origins.as_deref() else { return Vec::new() };
    let line = |what: &str, moment: &TracedCall| {
        let ago = human(now.saturating_sub(moment.at));
        let process = moment.called.as_deref().unwrap_or(&moment.thread);
        let (tid, pid) = (moment.tid, moment.process.pid);
        let who = if tid == pid {
            format!("{process}[{pid}]")
        } else {
            format!("{} (thread {tid} of {process}[{pid}])", moment.thread)
        };
        format!("{what} {ago} ago by {who}{}", place(&moment.stack))
    };
    let why = |field: &str, what: &str| {
        let why = record.unknown.get(field)?;
        Some(format!("{what}: {}", reasons::words(why)))
    };
    let first = match &origins.opened {
        Some((how, moment)) => Some(line(opened(*how), moment)),
        None => why("origin", "who opened it is unknown"),
    };
    let last = match &origins.last_read {
        Some(moment) => Some(line("last data read", moment)),
        None => why("last_read", "last read"),
    };
    let end = match &origins.end_read {
        Some(moment) => Some(line("end of the stream read", moment)),
        None => why("end_read", "end of the stream"),
    };
    [first, last, end].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::stack::{Code, Frame};

    #[test]
    fn a_story_in_words() {
        let call = |function: &str| {
            let frame =
                Frame { function: Some(function.to_owned()), code: Code::Own, ..Frame::default() };
            Ok(Rc::new(Stack { frames: vec![frame], cut: None }))
        };
        let names = |list: &[&str]| list.iter().map(|name| Rc::from(*name)).collect();
        let one = CodeStory {
            count: 482,
            how: Some(Opening::Accepted),
            opened: call("Server.accept"),
            openers: names(&["exec-1", "exec-2", "exec-3"]),
            reading: ReadSoFar::End(call("Crawler.fetch")),
            readers: names(&["exec-7"]),
        };
        assert_eq!(
            story(&one),
            [
                "482 accepted by exec-1, exec-2 and 1 more in Server.accept",
                "the end of the stream was read by exec-7 in Crawler.fetch; nobody has called \
                 close() since",
            ]
        );
        let unseen = CodeStory {
            how: None,
            opened: Err(Reason::OpenedUnseen),
            openers: BTreeSet::new(),
            reading: ReadSoFar::Nothing,
            readers: BTreeSet::new(),
            ..one
        };
        let told = story(&unseen);
        assert!(told[0].starts_with("482 opened before tracing began"), "{told:?}");
        assert_eq!(told[1], "never read");
    }
}

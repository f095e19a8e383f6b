//! Who opened a socket and who read from it, as part of a record.

use std::rc::Rc;

use serde::Serialize;

use super::{
    Escaping,
    ms::Ms,
    stack::FrameLine,
    write::{text, word},
};
use crate::{
    engine::{
        record::{BootNs, KnownOrigin, Opening, TracedCall},
        stack::Stack,
        stories::{CodeStory, ReadSoFar},
    },
    prose::{reasons, stacks},
    view::Clock,
};

/// Time stamps of the three moments, finished.
pub type Stamps = [Option<String>; 3];

/// The time stamps that [`origins`] needs.
pub fn stamps(origins: &KnownOrigin, clock: &Clock) -> Stamps {
    origins.calls().map(|call| call.map(|call| clock.rfc3339(call.at)))
}

/// Appends the fields `origin`, `last_read` and `end_read`, each with a comma before it.
pub fn origins(out: &mut Vec<u8>, origins: &KnownOrigin, stamps: &Stamps, now: BootNs) {
    let mut how = origins.opened.as_ref().map(|(how, _)| how.name());
    for ((name, call), stamp) in KnownOrigin::FIELDS.iter().zip(origins.calls()).zip(stamps) {
        text(out, ",");
        word(out, name);
        text(out, ":");
        // Of the first only.
        let how = how.take();
        let line = call.zip(stamp.as_deref());
        let line = line.map(|(call, stamp)| MomentLine::new(call, how, stamp, now));
        // Writing to memory does not fail.
        let _ = line.serialize(&mut serde_json::Serializer::with_formatter(&mut *out, Escaping));
    }
}

#[derive(Serialize)]
struct MomentLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    how: Option<&'static str>,
    time: &'a str,
    ago_ms: Ms,
    pid: u32,
    process: Option<&'a str>,
    thread: u32,
    name: &'a str,
    frames: Option<Vec<FrameLine<'a>>>,
    cut: Option<String>,
}

impl<'a> MomentLine<'a> {
    fn new(moment: &'a TracedCall, how: Option<&'static str>, time: &'a str, now: BootNs) -> Self {
        let (frames, cut) = match &moment.stack {
            Ok(stack) => {
                let frames = stack.frames.iter().map(FrameLine::from).collect();
                (Some(frames), stack.cut.as_ref().map(stacks::cut))
            }
            Err(why) => (None, Some(reasons::words(*why).to_owned())),
        };
        Self {
            how,
            time,
            ago_ms: Ms(now.saturating_sub(moment.at)),
            pid: moment.process.pid,
            process: moment.called.as_deref(),
            thread: moment.tid,
            name: &moment.thread,
            frames,
            cut,
        }
    }
}

/// Stories of a summary.
pub const STORIES: usize = 50;

#[derive(Serialize)]
pub struct StoryLine<'a> {
    count: u64,
    how: Option<&'static str>,
    opened_in: Vec<&'a str>,
    openers: Vec<&'a str>,
    reading: &'static str,
    read_in: Vec<&'a str>,
    readers: Vec<&'a str>,
}

impl<'a> From<&'a CodeStory> for StoryLine<'a> {
    fn from(story: &'a CodeStory) -> Self {
        let (reading, read) = match &story.reading {
            ReadSoFar::End(stack) => ("end", stack.as_ref().ok()),
            ReadSoFar::Some(stack) => ("data", stack.as_ref().ok()),
            ReadSoFar::Nothing => ("nothing", None),
            ReadSoFar::Unknown(_) => ("unknown", None),
        };
        Self {
            count: story.count,
            how: story.how.map(Opening::name),
            opened_in: story.opened.as_ref().map(own).unwrap_or_default(),
            openers: story.openers.iter().map(|name| &**name).collect(),
            reading,
            read_in: read.map(own).unwrap_or_default(),
            readers: story.readers.iter().map(|name| &**name).collect(),
        }
    }
}

/// The program's own functions, the innermost first.
fn own(stack: &Rc<Stack>) -> Vec<&str> {
    stack.own_calls().filter_map(|frame| frame.function.as_deref()).collect()
}

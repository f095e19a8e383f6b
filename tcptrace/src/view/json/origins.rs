//! Who opened a socket and who read from it, as part of a record.

use super::write::{maybe, ms, number, string, text, word};
use crate::{
    engine::{
        record::{BootNs, Moment, Origins},
        stack::{Frame, Stack},
    },
    prose::{reasons, stacks},
    view::Clock,
};

/// Time stamps of the three moments, finished.
pub type Stamps = [Option<String>; 3];

/// The moments in their order, and how the first came about.
fn moments(origins: &Origins) -> [Option<&Moment>; 3] {
    let opened = origins.opened.as_ref().map(|(_, moment)| moment);
    [opened, origins.last_read.as_ref(), origins.end_read.as_ref()]
}

/// The time stamps that [`origins`] needs.
pub fn stamps(origins: &Origins, clock: &Clock) -> Stamps {
    moments(origins).map(|moment| moment.map(|m| clock.rfc3339(m.at)))
}

/// Appends the fields `origin`, `last_read` and `end_read`, each with a comma before it.
pub fn origins(out: &mut Vec<u8>, origins: &Origins, stamps: &Stamps, now: BootNs) {
    let names = ["origin", "last_read", "end_read"];
    for ((name, one), stamp) in names.into_iter().zip(moments(origins)).zip(stamps) {
        text(out, ",");
        word(out, name);
        text(out, ":");
        maybe(out, one.zip(stamp.as_deref()), |out, (moment, stamp)| {
            text(out, "{");
            if name == "origin"
                && let Some((how, _)) = &origins.opened
            {
                text(out, "\"how\":");
                word(out, how.name());
                text(out, ",");
            }
            self::moment(out, moment, stamp, now);
            text(out, "}");
        });
    }
}

fn moment(out: &mut Vec<u8>, moment: &Moment, stamp: &str, now: BootNs) {
    text(out, "\"time\":");
    word(out, stamp);
    text(out, ",\"ago_ms\":");
    ms(out, now.saturating_sub(moment.at));
    text(out, ",\"pid\":");
    number(out, u64::from(moment.process.pid));
    text(out, ",\"process\":");
    maybe(out, moment.called.as_deref(), string);
    text(out, ",\"thread\":");
    number(out, u64::from(moment.tid));
    text(out, ",\"name\":");
    string(out, &moment.thread);
    text(out, ",\"frames\":");
    match &moment.stack {
        Ok(stack) => frames(out, stack),
        Err(why) => {
            text(out, "null,\"cut\":");
            word(out, reasons::words(*why));
        }
    }
}

/// Appends the frames of a stack, and why it has no more.
fn frames(out: &mut Vec<u8>, stack: &Stack) {
    text(out, "[");
    for (n, frame) in stack.frames.iter().enumerate() {
        if n > 0 {
            text(out, ",");
        }
        self::frame(out, frame);
    }
    text(out, "],\"cut\":");
    maybe(out, stack.cut.as_ref(), |out, why| string(out, &stacks::cut(why)));
}

fn frame(out: &mut Vec<u8>, frame: &Frame) {
    text(out, "{\"function\":");
    maybe(out, frame.function.as_deref(), string);
    text(out, ",\"module\":");
    maybe(out, frame.module.as_deref(), string);
    text(out, ",\"offset\":");
    number(out, frame.offset);
    text(out, ",\"file\":");
    maybe(out, frame.file.as_deref(), string);
    text(out, ",\"line\":");
    maybe(out, frame.line, |out, line| number(out, u64::from(line)));
    text(out, ",\"inlined\":");
    text(out, if frame.inlined { "true" } else { "false" });
    text(out, ",\"code\":");
    word(out, frame.code.name());
    if let Some(why) = &frame.unknown {
        text(out, ",\"unknown\":");
        string(out, &stacks::missing(why));
    }
    text(out, "}");
}

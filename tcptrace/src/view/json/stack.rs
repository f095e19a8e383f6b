//! The shapes of stacks. Field names are the contract.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    engine::{
        report::ProcessStacks,
        stack::{
            Frame,
            threads::{LeftAlone, Stacks, ThreadStack},
        },
    },
    prose::{
        dump,
        stacks::{cut, missing, refused, skipped},
    },
};

/// Fields that are null or not exact, and why.
type Unknown = BTreeMap<&'static str, &'static str>;

/// The threads, and in `unknown` what is missing.
pub fn thread_lines<'a>(
    stacks: &'a Result<Stacks, LeftAlone>,
    unknown: &mut Unknown,
) -> Option<Vec<ThreadLine<'a>>> {
    match stacks {
        Ok(stacks) => {
            if let Some(Err(why)) = stacks.dump {
                unknown.insert("stacks.jvm", dump::none(why));
            }
            Some(stacks.threads.iter().map(ThreadLine::from).collect())
        }
        Err(why) => {
            unknown.insert("stacks", refused(*why));
            None
        }
    }
}

#[derive(Serialize)]
pub struct StacksLine<'a> {
    event: &'static str,
    time: String,
    pid: u32,
    name: &'a str,
    leaks: u64,
    stacks: Option<Vec<ThreadLine<'a>>>,
    unknown: Unknown,
}

impl<'a> StacksLine<'a> {
    pub fn new(time: String, s: &'a ProcessStacks) -> Self {
        let mut unknown = Unknown::new();
        let stacks = thread_lines(&s.stacks, &mut unknown);
        let (pid, name) = (s.process.process.pid, s.process.called());
        Self { event: "stacks", time, pid, name, leaks: s.leaks, stacks, unknown }
    }
}

#[derive(Serialize)]
pub struct ThreadLine<'a> {
    thread: u32,
    name: &'a str,
    frames: Option<Vec<FrameLine<'a>>>,
    cut: Option<String>,
    unknown: Option<&'static str>,
}

#[derive(Serialize)]
pub struct FrameLine<'a> {
    function: Option<&'a str>,
    module: Option<&'a str>,
    offset: u64,
    file: Option<&'a str>,
    line: Option<u32>,
    inlined: bool,
    code: &'static str,
    unknown: Option<String>,
}

impl<'a> From<&'a ThreadStack> for ThreadLine<'a> {
    fn from(t: &'a ThreadStack) -> Self {
        let stack = t.stack.as_ref().ok();
        Self {
            thread: t.tid,
            name: &t.name,
            frames: stack.map(|s| s.frames.iter().map(FrameLine::from).collect()),
            cut: stack.and_then(|s| s.cut.as_ref()).map(cut),
            unknown: t.stack.as_ref().err().map(|why| skipped(*why)),
        }
    }
}

impl<'a> From<&'a Frame> for FrameLine<'a> {
    fn from(f: &'a Frame) -> Self {
        Self {
            function: f.function.as_deref(),
            module: f.module.as_deref(),
            offset: f.offset,
            file: f.file.as_deref(),
            line: f.line,
            inlined: f.inlined,
            code: f.code.name(),
            unknown: f.unknown.as_ref().map(missing),
        }
    }
}

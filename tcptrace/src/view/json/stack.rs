//! The shapes of stacks. Field names are the contract.

use serde::Serialize;

use crate::{
    engine::stack::{Frame, threads::ThreadStack},
    prose::stacks::{cut, missing, skipped},
};

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

//! Where a Python program's threads are, from what CPython 3.13 publishes of itself (`.PyRuntime`).
//! Nothing is stopped: its memory is read until two readings are the same.

use std::{cell::Cell, collections::HashMap, rc::Rc};

use super::{process, remote, symbols::file::mapped, text};
use crate::{
    engine::{
        name::file_name,
        stack::{
            Cut, Frame, Stack,
            threads::{Skipped, ThreadStack},
            whose::{CodeKind, CodePlace, code},
        },
    },
    formats::{
        elf::Elf,
        maps::{self, Mapping},
        python::{Offsets, SIZE, characters, line, text as letters},
    },
};

/// Interpreters, and threads, at most.
const THREADS: usize = 1024;
/// Frames, at most.
const DEPTH: usize = 128;
/// Characters of a name, at most.
const NAME: usize = 1024;
/// Bytes of a line table, at most.
const TABLE: usize = 64 << 10;
/// Pieces of memory, at most: all frames of all threads, several times.
const PIECES: u32 = 1 << 20;
/// How often it is read, at most.
const READINGS: usize = 5;
/// `FRAME_OWNED_BY_CSTACK` (Include/internal/pycore_frame.h): no function's.
const OWNED_BY_C: u8 = 3;

/// A running interpreter.
#[derive(Debug)]
pub struct Interpreter {
    pid: u32,
    /// Where `_PyRuntime` is.
    runtime: u64,
    offsets: Offsets,
    /// Pieces of memory that may still be read: what is in them may go round in circles.
    left: Cell<u32>,
}

/// A function that runs, by where it is: the code object and the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Running {
    code: u64,
    instruction: u64,
}

/// Frames by thread.
type Reading = HashMap<u32, (Vec<Running>, bool)>;

impl Interpreter {
    /// The process's interpreter, if there is one that can be read.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let maps = text(&format!("/proc/{pid}/maps")).ok()?;
        let list = maps::parse(&maps, 4096);
        let may_be = |m: &&Mapping| {
            let name = file_name(&m.path);
            m.is_file() && (name.starts_with("libpython3") || name.starts_with("python3"))
        };
        list.iter().filter(may_be).take(16).find_map(|mapping| Self::in_module(pid, mapping))
    }

    fn in_module(pid: u32, mapping: &Mapping) -> Option<Self> {
        let elf = Elf::parse(&mapped(pid, mapping)?)?;
        let bias = mapping.start.wrapping_sub(elf.address_of(mapping.offset)?);
        let runtime = elf.section(".PyRuntime")?.address.wrapping_add(bias);
        let offsets = Offsets::parse(&remote::read(pid, runtime, SIZE))?;
        Some(Self { pid, runtime, offsets, left: Cell::new(PIECES) })
    }

    /// Where these threads are.
    #[must_use]
    pub fn stacks(&self, tids: &[u32]) -> Vec<ThreadStack> {
        let mut last = self.reading();
        let mut same: HashMap<u32, Stack> = HashMap::new();
        let mut names = HashMap::new();
        for _ in 1..READINGS {
            let next = self.reading();
            for (tid, frames) in &next {
                if !same.contains_key(tid) && last.get(tid) == Some(frames) {
                    same.insert(*tid, self.words(frames, &mut names));
                }
            }
            if next.keys().all(|tid| same.contains_key(tid)) {
                last = next;
                break;
            }
            last = next;
        }
        let one = |tid: &u32| {
            let stack = same.remove(tid).ok_or(match last.get(tid) {
                Some(_) => Skipped::Moving,
                None => Skipped::NoScript,
            });
            ThreadStack { tid: *tid, name: process::thread_name(self.pid, *tid), stack }
        };
        tids.iter().map(one).collect()
    }

    fn word(&self, address: u64) -> Option<u64> {
        self.left.set(self.left.get().checked_sub(1)?);
        let bytes = remote::read(self.pid, address, 8);
        bytes.try_into().ok().map(u64::from_le_bytes)
    }

    fn field(&self, object: u64, offset: u64) -> Option<u64> {
        self.word(object.checked_add(offset)?)
    }

    /// The frames of all threads, the innermost first, and whether there are more.
    fn reading(&self) -> Reading {
        let o = &self.offsets;
        let mut reading = Reading::new();
        let mut interpreter = self.field(self.runtime, o.interpreters);
        for _ in 0..THREADS {
            let Some(i) = interpreter.filter(|i| *i != 0) else { break };
            let mut thread = self.field(i, o.threads);
            for _ in 0..THREADS {
                let Some(t) = thread.filter(|t| *t != 0) else { break };
                // The kernel's number, which is what a thread id here is.
                let id = self.field(t, o.thread_id).and_then(|id| u32::try_from(id).ok());
                if let Some(tid) = id.filter(|tid| *tid != 0) {
                    reading.insert(tid, self.frames(self.field(t, o.frame)));
                }
                thread = self.field(t, o.next_thread);
            }
            interpreter = self.field(i, o.next_interpreter);
        }
        reading
    }

    fn frames(&self, mut frame: Option<u64>) -> (Vec<Running>, bool) {
        let o = &self.offsets;
        let mut list = Vec::new();
        // C functions have frames in between that are none.
        for _ in 0..4 * DEPTH {
            let Some(f) = frame.filter(|f| *f != 0) else { return (list, false) };
            if list.len() == DEPTH {
                break;
            }
            let owner = f.checked_add(o.owner).map(|at| remote::read(self.pid, at, 1));
            if owner.is_some_and(|owner| owner != [OWNED_BY_C]) {
                let running = self.field(f, o.executable).zip(self.field(f, o.instruction));
                list.extend(running.map(|(code, instruction)| Running { code, instruction }));
            }
            frame = self.field(f, o.previous);
        }
        (list, true)
    }

    fn words(
        &self,
        (frames, more): &(Vec<Running>, bool),
        names: &mut HashMap<u64, Option<Rc<Function>>>,
    ) -> Stack {
        let mut list = Vec::new();
        for running in frames {
            let function = names.entry(running.code).or_insert_with(|| self.function(running.code));
            let Some(function) = function.clone() else { continue };
            let start = running.code.wrapping_add(self.offsets.code);
            // An instruction is two bytes.
            let at = running.instruction.wrapping_sub(start) / 2;
            let place = CodePlace::script(CodeKind::Python, &function.name, Some(&function.file));
            list.push(Frame {
                code: code(&place),
                function: Some(function.name.clone()),
                file: Some(function.file.clone()),
                line: line(&function.lines, function.first, at),
                ..Frame::default()
            });
        }
        Stack { frames: list, cut: more.then_some(Cut::Depth) }
    }

    fn function(&self, code: u64) -> Option<Rc<Function>> {
        let o = &self.offsets;
        let table = self.field(code, o.linetable)?;
        let size = usize::try_from(self.field(table, o.bytes_size)?).ok()?.min(TABLE);
        let first = self.field(code, o.first_line)?;
        Some(Rc::new(Function {
            name: self.string(self.field(code, o.qualname)?)?,
            file: self.string(self.field(code, o.filename)?)?,
            lines: remote::read(self.pid, table.checked_add(o.bytes)?, size),
            // It is an int.
            first: u32::try_from(first & u64::from(u32::MAX)).ok()?,
        }))
    }

    fn string(&self, object: u64) -> Option<String> {
        let o = &self.offsets;
        let state = self.field(object, o.text_state)? & u64::from(u32::MAX);
        let (at, width) = characters(u32::try_from(state).ok()?, o.text)?;
        let length = usize::try_from(self.field(object, o.text_length)?).ok()?.min(NAME);
        Some(letters(&remote::read(self.pid, object.checked_add(at)?, length * width), width))
    }
}

/// A function's code.
#[derive(Debug)]
struct Function {
    name: String,
    file: String,
    lines: Vec<u8>,
    first: u32,
}

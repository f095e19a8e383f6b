//! User stacks in words: which functions a thread was in, from what was copied of it.
//!
//! Two steps. `walk` finds the frames' addresses, by the unwinding information of the mapped files
//! over the copied memory, and by frame pointers where there is none (code made while the program
//! runs, Go's assembly). `frames` names them: from symbol tables, from debugging information
//! (inlined calls, lines), from the perf maps that virtual machines write.
//!
//! **Everything here is other people's**: files, paths, names. Files are opened without an effect
//! (`file::regular`), through the process's own root, and used only if they are the ones that were
//! mapped, by device and inode number. Sections are read up to a limit, and read rather than
//! mapped: a file that is cut meanwhile would end us. Reading of what is in them is counted in
//! steps (`bytes`), so that nothing in them goes on for ever.
//!
//! That is why it is gimli, addr2line and a small ELF reader, and not blazesym (which maps files,
//! and reads whatever they say) or framehop (whose expressions have no limit).
//!
//! Reading takes as long as a file system takes to answer: who may not wait asks from a thread of
//! its own.

mod bytes;
mod cfi;
mod demangle;
pub mod file;
mod frames;
mod lines;
mod module;
mod process;
mod registers;
mod walk;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use self::{
    cfi::{Stepped, UnwindTable},
    file::{Content, FileKey},
    module::{Finder, Module},
    process::Program,
    registers::{FRAME, Memory, Registers, STACK},
    walk::walk,
};
use crate::engine::{
    record::ProcessId,
    stack::{Cut, Frame, Stack, whose},
};

/// Processes that are remembered, at most.
const PROCESSES: usize = 256;
/// Modules that are remembered, at most; each has a descriptor or two.
const MODULES: usize = 64;
/// Bytes of memory for modules, about, at most.
const MODULE_BYTES: usize = 384 << 20;
/// Bytes of memory for perf maps, at most.
const PERF_BYTES: usize = 192 << 20;

/// A thread's user stack, as it was copied.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer register, whatever the program uses it for.
    pub fp: u64,
    /// Link register, where the architecture has one; else 0.
    pub lr: u64,
    /// What the kernel read by frame pointers: the instruction pointer, then return addresses.
    pub chain: &'a [u64],
    /// Memory from the stack pointer up; may be empty.
    pub memory: &'a [u8],
}

/// What is known of processes and of the files that their code is from.
#[derive(Debug, Default)]
pub struct Symbols {
    processes: HashMap<ProcessId, Used<Program>>,
    modules: HashMap<FileKey, Used<Module>>,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Used<T> {
    at: u64,
    what: T,
}

impl Symbols {
    /// Nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers what is mapped into a process while it lives. Cheap: a file below `/proc`, not
    /// more than once a second; to be called as soon as a stack arrives, whose words may be asked
    /// for when the process has ended.
    pub fn see(&mut self, id: ProcessId) {
        let at = self.tick();
        match self.processes.get_mut(&id) {
            Some(known) => {
                known.at = at;
                known.what.refresh();
            }
            None => {
                self.processes.insert(id, Used { at, what: Program::new(id) });
                drop_oldest(&mut self.processes, PROCESSES, usize::MAX, |_| 0);
            }
        }
    }

    /// A stack in words. After `within` it gives up with what it has; a big program's debugging
    /// information, when it is needed first, may take longer by itself.
    pub fn stack(&mut self, id: ProcessId, raw: &Raw<'_>, within: Duration) -> Stack {
        let deadline = Instant::now() + within;
        self.see(id);
        let clock = self.clock;
        let Some(process) = self.processes.get_mut(&id) else { return Stack::default() };
        let mut known =
            Known { process: &mut process.what, modules: &mut self.modules, clock, deadline };
        if let Some(why) = known.process.failed() {
            let cut = Some(why.clone());
            return Stack { frames: vec![frames::unnamed(raw.ip, why)], cut };
        }
        let (addresses, mut cut) = walk(raw, &mut known);
        let mut list = Vec::new();
        for address in addresses {
            list.extend(known.frames(address));
        }
        let first = |f: &Frame| f.function.as_deref().is_some_and(whose::is_first);
        // Whatever is above a thread's first function is no frame.
        if cut != Some(Cut::Depth) && list.last().is_some_and(first) {
            cut = None;
        }
        drop_oldest(&mut self.modules, MODULES, MODULE_BYTES, Module::bytes);
        drop_oldest(&mut self.processes, PROCESSES, PERF_BYTES, Program::bytes);
        Stack { frames: list, cut }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

/// Forgets what was not used for the longest time, until so many are left, of so many bytes. Of
/// what was used at the same time the smaller goes first: it is the sooner read again.
fn drop_oldest<K: Copy + Eq + std::hash::Hash, T>(
    known: &mut HashMap<K, Used<T>>,
    most: usize,
    most_bytes: usize,
    bytes: impl Fn(&T) -> usize,
) {
    loop {
        let sum: usize = known.values().map(|u| bytes(&u.what)).sum();
        // One stays, or nothing would ever be named.
        if known.len() <= 1 || known.len() <= most && sum <= most_bytes {
            return;
        }
        let oldest = known.iter().min_by_key(|(_, u)| (u.at, bytes(&u.what)));
        let Some(oldest) = oldest.map(|(key, _)| *key) else { return };
        known.remove(&oldest);
    }
}

/// A process and the modules, while one stack is put into words.
struct Known<'a> {
    process: &'a mut Program,
    modules: &'a mut HashMap<FileKey, Used<Module>>,
    clock: u64,
    deadline: Instant,
}

/// What an ELF file says of an address, as its own headers have it: the functions there, the
/// innermost first, and whether it tells the way to the caller of code there.
#[must_use]
pub fn in_file(content: Vec<u8>, address: u64) -> Option<(Vec<String>, bool)> {
    let module = Module::new(Content::Memory(content), Finder::default())?;
    let lines = module.lines().map(|l| l.find(address)).unwrap_or_default();
    let mut names: Vec<String> = lines.into_iter().filter_map(|l| l.function).collect();
    if names.is_empty() {
        names.extend(module.symbols().find(address).map(|(name, _)| demangle::demangled(name)));
    }
    let mut registers = Registers::at(address);
    registers.set(STACK, Some(0x1000));
    registers.set(FRAME, Some(0x1000));
    let memory = Memory { start: 0x1000, bytes: &[0x11; 256] };
    let step = |table: &UnwindTable| table.step(address, 0, &mut registers, &memory);
    let known = module.tables().iter().map(step).any(|step| step != Stepped::NoInformation);
    Some((names, known))
}

#[cfg(test)]
mod tests;

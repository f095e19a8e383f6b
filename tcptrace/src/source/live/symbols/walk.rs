//! The addresses of a stack's frames: by unwinding information where there is some, by frame
//! pointers where there is none.

use super::{
    Raw,
    cfi::{Stepped, UnwindTable},
    registers::{FRAME, LINK, Memory, RETURN, Registers, STACK},
};
use crate::engine::stack::{Cut, why::Machine};

/// Frames, at most.
pub const DEPTH: usize = 128;

/// Where a frame's code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The instruction: the next one to run.
    pub at: u64,
    /// What was running is before that: it is a return address.
    pub called: bool,
}

impl Address {
    /// An address within what was running.
    #[must_use]
    pub const fn within(self) -> u64 {
        if self.called { self.at.saturating_sub(1) } else { self.at }
    }
}

/// What is at an address.
#[derive(Debug)]
pub enum Spot<'a> {
    /// A module's code.
    Module {
        /// Its unwinding information.
        tables: &'a [UnwindTable],
        /// The address, as the file has it.
        address: u64,
        /// What is to be added for where it is in memory.
        bias: u64,
        /// How far the stack pointer is below the return address, where Go's own table says so.
        go_depth: Option<u64>,
        /// The module's path.
        path: &'a str,
    },
    /// Code made while the program runs, or of a module that is not known.
    Made {
        /// The file that it was mapped from.
        path: Option<String>,
        /// It is one of Python's trampolines, which keep no frame pointer.
        trampoline: bool,
    },
}

/// What walks ask about a process.
pub trait AddressSpace {
    /// What is at an address; `None`: no code.
    fn code(&mut self, address: u64) -> Option<Spot<'_>>;
    /// What the process runs.
    fn machine(&self) -> Option<Machine>;
    /// Whether there is no more time.
    fn is_late(&self) -> bool;
}

/// The frames' addresses, the innermost first, and why there are no more.
pub fn walk(raw: &Raw<'_>, process: &mut impl AddressSpace) -> (Vec<Address>, Option<Cut>) {
    let (chain, broken) = chain(raw, process);
    if raw.memory.is_empty() {
        let cut = if broken { Cut::NoCode } else { Cut::FramePointers };
        return (chain, Some(cut));
    }
    let (mut frames, mut cut) = unwind(raw, process);
    if cut.is_some() && frames.len() < DEPTH && !process.is_late() {
        // What the kernel read by frame pointers goes on where this ends, if they have a place in
        // common.
        let last = |frame: &Address| chain.iter().rposition(|c| c.at == frame.at);
        let common = frames.iter().enumerate().rev().find_map(|(i, f)| Some((i, last(f)?)));
        let (own, rest) = common.unwrap_or((0, 0));
        if own + chain.len() - rest > frames.len() {
            frames.truncate(own + 1);
            frames.extend(&chain[rest + 1..]);
            frames.truncate(DEPTH);
            if broken {
                cut = Some(Cut::NoCode);
            } else if cut != Some(Cut::Copied) {
                cut = Some(Cut::FramePointers);
            }
        }
    }
    (frames, cut)
}

/// The kernel's chain, as far as there is code; whether it goes on where there is none.
fn chain(raw: &Raw<'_>, process: &mut impl AddressSpace) -> (Vec<Address>, bool) {
    let mut frames = vec![Address { at: raw.ip, called: false }];
    // Its first is the instruction pointer again.
    let calls = raw.chain.strip_prefix(&[raw.ip]).unwrap_or(raw.chain);
    for at in calls.iter().copied().take(DEPTH - 1).take_while(|at| *at != 0) {
        let frame = Address { at, called: true };
        if process.code(frame.within()).is_none() {
            return (frames, true);
        }
        frames.push(frame);
    }
    (frames, false)
}

fn unwind(raw: &Raw<'_>, process: &mut impl AddressSpace) -> (Vec<Address>, Option<Cut>) {
    let memory = Memory { start: raw.sp, bytes: raw.memory };
    let mut registers = Registers::at(raw.ip);
    registers.set(STACK, Some(raw.sp));
    registers.set(FRAME, Some(raw.fp));
    if LINK != RETURN {
        registers.set(LINK, Some(raw.lr));
    }
    let mut frames = vec![Address { at: raw.ip, called: false }];
    loop {
        if process.is_late() {
            return (frames, Some(Cut::Time));
        }
        let Some(frame) = frames.last().copied() else { return (frames, None) };
        let before = registers;
        let machine = process.machine();
        let cut = match process.code(frame.within()) {
            // The first address is where the thread is, whatever is known of it.
            None if frames.len() > 1 => {
                frames.pop();
                return (frames, Some(Cut::NoCode));
            }
            None => (Stepped::NoInformation, Cut::NoCode),
            Some(Spot::Module { tables, address, bias, go_depth, path }) => {
                let step = tables.iter().find_map(|table| {
                    let step = table.step(address, bias, &mut registers, &memory);
                    (step != Stepped::NoInformation).then_some(step)
                });
                let step = step.or_else(|| by_depth(go_depth?, &mut registers, &memory));
                let cut = Cut::Code { module: Some(path.to_owned()), machine };
                (step.unwrap_or(Stepped::NoInformation), cut)
            }
            Some(Spot::Made { path, trampoline }) => {
                let step = if trampoline { over(&mut registers, &memory) } else { None };
                (step.unwrap_or(Stepped::NoInformation), Cut::Code { module: path, machine })
            }
        };
        let step = match cut.0 {
            Stepped::NoInformation => by_frame_pointer(&mut registers, &memory),
            step => step,
        };
        let interrupted = match step {
            Stepped::Called { interrupted } => interrupted,
            Stepped::First => return (frames, None),
            Stepped::NotCopied => return (frames, Some(Cut::Copied)),
            Stepped::NoInformation => return (frames, Some(cut.1)),
        };
        // Stacks grow down: who goes the other way, goes round in circles.
        let (old, new) = (before.get(STACK), registers.get(STACK));
        let link_only = frames.len() == 1 && LINK != RETURN && registers.pc != before.pc;
        if !(new > old || link_only && new == old) {
            return (frames, Some(cut.1));
        }
        let called = !interrupted;
        let mut at = registers.pc;
        if LINK != RETURN && process.code(Address { at, called }.within()).is_none() {
            // Signed return addresses (pointer authentication) have a code above the address.
            at &= (1 << 48) - 1;
            registers.pc = at;
        }
        if frames.len() >= DEPTH {
            return (frames, Some(Cut::Depth));
        }
        frames.push(Address { at, called });
    }
}

/// Saved frame pointer and return address, as `push %rbp; mov %rsp, %rbp` leaves them.
fn by_frame_pointer(registers: &mut Registers, memory: &Memory<'_>) -> Stepped {
    let (Some(frame), Some(stack)) = (registers.get(FRAME), registers.get(STACK)) else {
        return Stepped::NoInformation;
    };
    if frame == 0 {
        return Stepped::First;
    }
    if frame < stack || frame % 8 != 0 {
        return Stepped::NoInformation;
    }
    let Some(next) = frame.checked_add(16) else { return Stepped::NoInformation };
    let (Some(saved), Some(caller)) = (memory.word(frame), memory.word(frame + 8)) else {
        // Far above, it is none.
        let near = frame - stack < 8 << 20;
        return if near { Stepped::NotCopied } else { Stepped::NoInformation };
    };
    if caller == 0 {
        return Stepped::First;
    }
    called(registers, saved, next, caller)
}

/// Go's frames: the caller's frame pointer, where anything is saved at all, then the return address
/// (cmd/internal/obj/x86).
fn by_depth(depth: u64, registers: &mut Registers, memory: &Memory<'_>) -> Option<Stepped> {
    if !cfg!(target_arch = "x86_64") {
        return None;
    }
    let at = registers.get(STACK)?.checked_add(depth)?;
    let Some(caller) = memory.word(at) else { return Some(Stepped::NotCopied) };
    let frame = if depth >= 8 { memory.word(at - 8) } else { registers.get(FRAME) };
    if caller == 0 {
        return Some(Stepped::First);
    }
    Some(called(registers, frame?, at.checked_add(8)?, caller))
}

/// Python's trampolines reserve eight bytes, call, and return (Python/asm_trampoline.S).
fn over(registers: &mut Registers, memory: &Memory<'_>) -> Option<Stepped> {
    let (stack, frame) = (registers.get(STACK)?, registers.get(FRAME)?);
    // Newer ones keep a frame pointer.
    if frame == stack || !cfg!(target_arch = "x86_64") {
        return None;
    }
    let caller = memory.word(stack.checked_add(8)?)?;
    Some(called(registers, frame, stack.checked_add(16)?, caller))
}

fn called(registers: &mut Registers, frame: u64, stack: u64, caller: u64) -> Stepped {
    let mut next = *registers;
    next.set(FRAME, Some(frame));
    next.set(STACK, Some(stack));
    if LINK != RETURN {
        next.set(LINK, Some(caller));
    }
    next.pc = caller;
    *registers = next;
    Stepped::Called { interrupted: false }
}

#[cfg(test)]
mod tests;

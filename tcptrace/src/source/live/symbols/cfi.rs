//! From a frame to the one that called it, by what the compiler wrote down (call frame information,
//! DWARF 5 section 6.4).
//!
//! By gimli itself and not by framehop, which knows no limit for the expressions in it: a program's
//! file could hold us for ever.

use std::sync::Arc;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, DebugFrame, EhFrame, Encoding, EvaluationResult, Location,
    Piece, Register, RegisterRule, UnwindContext, UnwindExpression, UnwindSection, Value,
};

use super::{
    bytes::{Bytes, with_steps},
    registers::{LINK, Memory, RETURN, Registers, STACK},
};

/// Functions of a module, at most.
const FUNCTIONS: usize = 1 << 20;
/// Steps of reading for one frame.
const STEPS: u64 = 20_000;
/// Operations of an expression.
const OPERATIONS: u32 = 500;

/// The unwinding information of a module.
#[derive(Debug)]
pub struct UnwindTable {
    section: Section,
    bases: BaseAddresses,
    index: Vec<Entry>,
    bytes: usize,
}

#[derive(Debug)]
enum Section {
    Eh(EhFrame<Bytes>),
    Debug(DebugFrame<Bytes>),
}

/// Where the description of a function is.
#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u64,
    end: u64,
    at: usize,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// To the caller; whether the frame left was interrupted by a signal or a system call rather
    /// than called something.
    Called {
        /// The registers now are those of interrupted code.
        interrupted: bool,
    },
    /// Nobody called this one.
    First,
    /// There is no information on this address.
    NoInformation,
    /// The memory that it takes is not in what was copied.
    NotCopied,
}

impl UnwindTable {
    /// From `.eh_frame`, at its address as the file has it.
    #[must_use]
    pub fn eh_frame(content: Arc<[u8]>, address: u64, text: u64, got: u64) -> Self {
        let bytes = content.len();
        let section = EhFrame::from(Bytes::from(content));
        let bases = BaseAddresses::default().set_eh_frame(address).set_text(text).set_got(got);
        let index = index(&section, &bases, bytes);
        Self { section: Section::Eh(section), bases, index, bytes }
    }

    /// From `.debug_frame`.
    #[must_use]
    pub fn debug_frame(content: Arc<[u8]>) -> Self {
        let bytes = content.len();
        let mut section = DebugFrame::from(Bytes::from(content));
        section.set_address_size(8);
        let bases = BaseAddresses::default();
        let index = index(&section, &bases, bytes);
        Self { section: Section::Debug(section), bases, index, bytes }
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes + self.index.len() * size_of::<Entry>()
    }

    /// Whether it describes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Goes to the caller of the code at `address` (as the file has it; `bias` more in memory).
    pub fn step(
        &self,
        address: u64,
        bias: u64,
        registers: &mut Registers,
        memory: &Memory<'_>,
    ) -> Stepped {
        let behind = self.index.partition_point(|e| e.start <= address);
        let Some(entry) = self.index[..behind].last().filter(|e| address < e.end) else {
            return Stepped::NoInformation;
        };
        let at = Place { address, bias, offset: entry.at };
        with_steps(STEPS, || match &self.section {
            Section::Eh(s) => step(s, &self.bases, gimli::EhFrameOffset, &at, registers, memory),
            Section::Debug(s) => {
                step(s, &self.bases, gimli::DebugFrameOffset, &at, registers, memory)
            }
        })
        .unwrap_or(Stepped::NoInformation)
    }
}

fn index<S: UnwindSection<Bytes>>(section: &S, bases: &BaseAddresses, bytes: usize) -> Vec<Entry> {
    let mut index = Vec::new();
    // An honest one takes less than a step for each of its bytes.
    with_steps(64 + 2 * bytes as u64, || {
        let mut known = None;
        let mut entries = section.entries(bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            let parsed = partial.parse(|section, bases, offset| match &known {
                Some((of, cie)) if *of == offset => Ok(Clone::clone(cie)),
                _ => {
                    let cie: gimli::CommonInformationEntry<Bytes> =
                        section.cie_from_offset(bases, offset)?;
                    known = Some((offset, cie.clone()));
                    Ok(cie)
                }
            });
            let Ok(fde) = parsed else { continue };
            let (start, end) = (fde.initial_address(), fde.end_address());
            if start < end && start != 0 {
                index.push(Entry { start, end, at: fde.offset() });
            }
            if index.len() >= FUNCTIONS {
                break;
            }
        }
    });
    index.sort_by_key(|e| e.start);
    index.shrink_to_fit();
    index
}

/// Where in a module's code a step begins.
struct Place {
    address: u64,
    bias: u64,
    /// Where its description is.
    offset: usize,
}

/// `None`: what is written down makes no sense.
fn step<S: UnwindSection<Bytes>>(
    section: &S,
    bases: &BaseAddresses,
    offset: impl Fn(usize) -> S::Offset,
    at: &Place,
    registers: &mut Registers,
    memory: &Memory<'_>,
) -> Option<Stepped> {
    let fde = section
        .fde_from_offset(bases, offset(at.offset), |section, bases, offset| {
            section.cie_from_offset(bases, offset)
        })
        .ok()?;
    let encoding = fde.cie().encoding();
    let interrupted = fde.is_signal_trampoline();
    let return_register = fde.cie().return_address_register();
    let mut context = UnwindContext::new();
    let row = fde.unwind_info_for_address(section, bases, &mut context, at.address).ok()?;
    let old = *registers;
    let evaluate = |expression: &UnwindExpression<usize>, cfa| {
        evaluate(expression, section, encoding, at.bias, &old, memory, cfa)
    };
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            old.get(*register)?.checked_add_signed(*offset)?
        }
        CfaRule::Expression(expression) => match evaluate(expression, None) {
            Ok(cfa) => cfa,
            Err(stop) => return stop,
        },
    };
    let mut beyond = false;
    let mut value = |register: Register| {
        let read = |address: u64, beyond: &mut bool| {
            let value = memory.word(address);
            *beyond |= value.is_none();
            value
        };
        match row.register(register) {
            None | Some(RegisterRule::SameValue) => old.get(register),
            Some(RegisterRule::Offset(n)) => read(cfa.checked_add_signed(n)?, &mut beyond),
            Some(RegisterRule::ValOffset(n)) => cfa.checked_add_signed(n),
            Some(RegisterRule::Register(other)) => old.get(other),
            Some(RegisterRule::Expression(e)) => read(evaluate(&e, Some(cfa)).ok()?, &mut beyond),
            Some(RegisterRule::ValExpression(e)) => evaluate(&e, Some(cfa)).ok(),
            Some(RegisterRule::Constant(value)) => Some(value),
            _ => None,
        }
    };
    // The outermost function has no caller, and says so.
    if matches!(row.register(return_register), Some(RegisterRule::Undefined)) {
        return Some(Stepped::First);
    }
    let caller = match (row.register(return_register), return_register) {
        // Not saved: it is in the link register, where there is one.
        (None | Some(RegisterRule::SameValue), register) if register != RETURN => old.get(register),
        (None, _) => None,
        (_, register) => value(register),
    };
    let mut next = Registers::at(0);
    for register in Registers::all() {
        next.set(register, value(register));
    }
    // Below what a frame's caller had, nothing is its own.
    next.set(
        STACK,
        match row.register(STACK) {
            None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => Some(cfa),
            _ => value(STACK),
        },
    );
    let Some(caller) = caller else {
        return Some(if beyond { Stepped::NotCopied } else { Stepped::NoInformation });
    };
    if caller == 0 {
        return Some(Stepped::First);
    }
    next.set(LINK, if LINK == RETURN { None } else { next.get(LINK) });
    next.pc = caller;
    *registers = next;
    Some(Stepped::Called { interrupted })
}

/// An expression's value, or the step that is no more possible.
fn evaluate<S: UnwindSection<Bytes>>(
    expression: &UnwindExpression<usize>,
    section: &S,
    encoding: Encoding,
    bias: u64,
    registers: &Registers,
    memory: &Memory<'_>,
    cfa: Option<u64>,
) -> Result<u64, Option<Stepped>> {
    let mut run = expression.get(section).map_err(|_| None)?.evaluation(encoding);
    run.set_max_iterations(OPERATIONS);
    if let Some(cfa) = cfa {
        run.set_initial_value(cfa);
    }
    let mut state = run.evaluate().map_err(|_| None)?;
    loop {
        let next = match state {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresRegister { register, .. } => {
                run.resume_with_register(Value::Generic(registers.get(register).ok_or(None)?))
            }
            EvaluationResult::RequiresMemory { address, size, .. } => {
                let word = memory.word(address).ok_or(Some(Stepped::NotCopied))?;
                let bits = 8 * u32::from(size.min(8));
                let mask = u64::MAX.checked_shr(64 - bits).unwrap_or(0);
                run.resume_with_memory(Value::Generic(word & mask))
            }
            EvaluationResult::RequiresRelocatedAddress(address) => {
                run.resume_with_relocated_address(address.wrapping_add(bias))
            }
            EvaluationResult::RequiresCallFrameCfa => {
                run.resume_with_call_frame_cfa(cfa.ok_or(None)?)
            }
            _ => return Err(None),
        };
        state = next.map_err(|_| None)?;
    }
    match run.as_result() {
        [Piece { location: Location::Address { address }, .. }] => Ok(*address),
        [Piece { location: Location::Value { value: Value::Generic(value) }, .. }] => Ok(*value),
        _ => Err(None),
    }
}

//! The registers that tell who called whom, and the copied stack.

use gimli::Register;

/// The stack pointer, by its number in DWARF (System V ABI for AMD64, figure 3.36).
#[cfg(target_arch = "x86_64")]
pub const STACK: Register = Register(7);
/// The frame pointer.
#[cfg(target_arch = "x86_64")]
pub const FRAME: Register = Register(6);
/// Where the return address would be in a register: a column that is none.
#[cfg(target_arch = "x86_64")]
pub const RETURN: Register = Register(16);
/// The link register, where there is one.
#[cfg(target_arch = "x86_64")]
pub const LINK: Register = RETURN;

/// The stack pointer, by its number in DWARF (DWARF for the Arm 64-bit Architecture).
#[cfg(target_arch = "aarch64")]
pub const STACK: Register = Register(31);
/// The frame pointer.
#[cfg(target_arch = "aarch64")]
pub const FRAME: Register = Register(29);
/// No column but registers holds the return address.
#[cfg(target_arch = "aarch64")]
pub const RETURN: Register = Register(u16::MAX);
/// The link register.
#[cfg(target_arch = "aarch64")]
pub const LINK: Register = Register(30);

/// How many are followed: all general ones.
const COUNT: u16 = 33;

/// A frame's registers, as far as they are known.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    /// Where its code is.
    pub pc: u64,
    values: [Option<u64>; COUNT as usize],
}

impl Registers {
    /// None is known but where the code is.
    #[must_use]
    pub const fn at(pc: u64) -> Self {
        Self { pc, values: [None; COUNT as usize] }
    }

    /// All that have a number.
    pub fn all() -> impl Iterator<Item = Register> {
        (0..COUNT).map(Register)
    }

    /// A register's value; of the column for the return address, where the code is.
    #[must_use]
    pub fn get(&self, register: Register) -> Option<u64> {
        if register == RETURN {
            return Some(self.pc);
        }
        self.values.get(usize::from(register.0)).copied().flatten()
    }

    /// Changes it.
    pub fn set(&mut self, register: Register, value: Option<u64>) {
        if let Some(place) = self.values.get_mut(usize::from(register.0)) {
            *place = value;
        }
    }
}

/// Copied memory.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    /// The address of its first byte.
    pub start: u64,
    /// What was there.
    pub bytes: &'a [u8],
}

impl Memory<'_> {
    /// Eight bytes.
    #[must_use]
    pub fn word(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.start)?).ok()?;
        let word = self.bytes.get(at..at.checked_add(8)?)?;
        word.try_into().map(u64::from_le_bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_word_is_read_beyond_what_was_copied(
            start: u64,
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
            address: u64,
            near in 0..60_u64,
        ) {
            let memory = Memory { start, bytes: &bytes };
            for address in [address, start.wrapping_add(near)] {
                let inside = address >= start && address - start + 8 <= bytes.len() as u64;
                prop_assert_eq!(memory.word(address).is_some(), inside);
            }
        }
    }
}

//! What CPython publishes of itself for who reads its memory: the offsets in `_PyRuntime`
//! (`_Py_DebugOffsets`, Include/internal/pycore_runtime.h of 3.13), strings, and line tables (PEP
//! 626, Objects/locations.md).

/// Bytes of the offsets that are read.
pub const SIZE: usize = 73 * 8;

/// Where things are in objects: bytes from an object's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `_PyRuntimeState.interpreters.head`.
    pub interpreters: u64,
    /// `PyInterpreterState.next`.
    pub next_interpreter: u64,
    /// `PyInterpreterState.threads.head`.
    pub threads: u64,
    /// `PyThreadState.next`.
    pub next_thread: u64,
    /// `PyThreadState.current_frame`.
    pub frame: u64,
    /// `PyThreadState.native_thread_id`.
    pub thread_id: u64,
    /// `_PyInterpreterFrame.previous`.
    pub previous: u64,
    /// `_PyInterpreterFrame.f_executable`.
    pub executable: u64,
    /// `_PyInterpreterFrame.instr_ptr`.
    pub instruction: u64,
    /// `_PyInterpreterFrame.owner`.
    pub owner: u64,
    /// `PyCodeObject.co_filename`.
    pub filename: u64,
    /// `PyCodeObject.co_qualname`.
    pub qualname: u64,
    /// `PyCodeObject.co_linetable`.
    pub linetable: u64,
    /// `PyCodeObject.co_firstlineno`.
    pub first_line: u64,
    /// `PyCodeObject.co_code_adaptive`.
    pub code: u64,
    /// `PyBytesObject.ob_size`.
    pub bytes_size: u64,
    /// `PyBytesObject.ob_sval`.
    pub bytes: u64,
    /// `PyASCIIObject.state`.
    pub text_state: u64,
    /// `PyASCIIObject.length`.
    pub text_length: u64,
    /// `sizeof(PyASCIIObject)`.
    pub text: u64,
}

impl Offsets {
    /// Reads them. `None`: no such thing, or of a Python whose objects are not known here: only
    /// 3.13's are, and with its global lock.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let field = |n: usize| -> Option<u64> {
            bytes.get(n * 8..n * 8 + 8)?.try_into().ok().map(u64::from_le_bytes)
        };
        // PY_VERSION_HEX: major, minor, and what changes no layout.
        let version = field(1)? >> 16;
        if bytes.get(..8)? != b"xdebugpy" || version != 0x030d || field(2)? != 0 {
            return None;
        }
        // No object is so long that an offset would be beyond.
        let field = |n| field(n).filter(|offset| *offset < 1 << 20);
        Some(Self {
            interpreters: field(5)?,
            next_interpreter: field(8)?,
            threads: field(9)?,
            next_thread: field(21)?,
            frame: field(23)?,
            thread_id: field(25)?,
            previous: field(29)?,
            executable: field(30)?,
            instruction: field(31)?,
            owner: field(33)?,
            filename: field(35)?,
            qualname: field(37)?,
            linetable: field(38)?,
            first_line: field(39)?,
            code: field(43)?,
            bytes_size: field(65)?,
            bytes: field(66)?,
            text_state: field(68)?,
            text_length: field(69)?,
            text: field(70)?,
        })
    }
}

/// Where a string's characters are and how many bytes each has, from its state; `None`: in another
/// object. `ascii` is the size of what comes before an ASCII string's characters.
#[must_use]
pub fn characters(state: u32, ascii: u64) -> Option<(u64, usize)> {
    // Bits: interned 2, kind 3, compact 1, ascii 1 (Include/cpython/unicodeobject.h).
    let (kind, compact, is_ascii) = (state >> 2 & 7, state >> 5 & 1 == 1, state >> 6 & 1 == 1);
    let width = matches!(kind, 1 | 2 | 4).then_some(kind as usize)?;
    // Others have their length and place as UTF-8 first.
    compact.then_some((if is_ascii { ascii } else { ascii + 16 }, width))
}

/// A string's text, from its characters.
#[must_use]
pub fn text(characters: &[u8], width: usize) -> String {
    let number = |c: &[u8]| c.iter().rev().fold(0_u32, |n, byte| n << 8 | u32::from(*byte));
    let width = width.clamp(1, 4);
    let letter = |c| char::from_u32(number(c)).unwrap_or(char::REPLACEMENT_CHARACTER);
    characters.chunks_exact(width).map(letter).collect()
}

/// The line of an instruction, by its index in the code, counted in units of two bytes.
#[must_use]
pub fn line(table: &[u8], first: u32, instruction: u64) -> Option<u32> {
    let mut bytes = table.iter().copied();
    let (mut line, mut at) = (i64::from(first), 0_u64);
    loop {
        let head = bytes.next()?;
        // Each entry begins with the one byte whose highest bit is set.
        if head & 0x80 == 0 {
            return None;
        }
        let (code, length) = (head >> 3 & 15, u64::from(head & 7) + 1);
        let mut known = true;
        match code {
            0..=9 => {
                bytes.next()?;
            }
            10..=12 => {
                line += i64::from(code - 10);
                bytes.next()?;
                bytes.next()?;
            }
            13 => line = line.checked_add(signed(number(&mut bytes)?))?,
            14 => {
                line = line.checked_add(signed(number(&mut bytes)?))?;
                for _ in 0..3 {
                    number(&mut bytes)?;
                }
            }
            _ => known = false,
        }
        if instruction < at + length {
            return if known { u32::try_from(line).ok() } else { None };
        }
        at += length;
    }
}

/// A number in bytes of six bits, the lowest first.
fn number(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..60).step_by(6) {
        let byte = bytes.next()?;
        value |= u64::from(byte & 0x3f) << shift;
        if byte & 0x40 == 0 {
            return Some(value);
        }
    }
    None
}

/// The lowest bit is the sign.
const fn signed(value: u64) -> i64 {
    let half = (value >> 1).cast_signed();
    if value & 1 == 1 { -half } else { half }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines() {
        // As Python 3.13 compiles it, `f.__code__.co_linetable` and `list(f.__code__.co_lines())`:
        //   def f(s):            # line 10
        //       x = s.recv(100)  # 11
        //
        //       return x         # 13
        let table =
            b"\x80\x00\xd8\x08\x09\x8f\x06\x89\x06\x88\x73\x8b\x0b\x80\x41\xe0\x0b\x0c\x80\x48";
        let expected = [(0, 10), (1, 11), (16, 11), (18, 13), (19, 13)];
        for (instruction, number) in expected {
            assert_eq!(line(table, 10, instruction), Some(number), "{instruction}");
        }
        assert_eq!(line(table, 10, 1_000), None, "beyond its end");
        assert_eq!(line(&[0xf8, 0x80 | 14 << 3, 3, 0, 0, 0], 10, 0), None, "has none");
        assert_eq!(line(&[0xf8, 0x80 | 14 << 3, 3, 0, 0, 0], 10, 1), Some(9));
    }

    #[test]
    fn strings() {
        let state = |kind: u32, ascii: u32| 1 | kind << 2 | 1 << 5 | ascii << 6;
        assert_eq!(characters(state(1, 1), 40), Some((40, 1)));
        assert_eq!(characters(state(2, 0), 40), Some((56, 2)));
        assert_eq!(characters(state(3, 0), 40), None);
        assert_eq!(characters(state(1, 1) & !(1 << 5), 40), None, "its text is elsewhere");
        assert_eq!(text(b"f\xe4", 1), "fä");
        assert_eq!(text(&[0x3b, 4, 0x66, 0], 2), "лf");
        assert_eq!(text(&[0, 0xd8], 2), "\u{fffd}");
    }

    #[test]
    fn of_another_python_nothing_is_taken() {
        let mut bytes = vec![0; SIZE];
        bytes[..8].copy_from_slice(b"xdebugpy");
        bytes[8..16].copy_from_slice(&0x030d_00f0_u64.to_le_bytes());
        assert!(Offsets::parse(&bytes).is_some());
        assert_eq!(Offsets::parse(&bytes[..SIZE - 24]), None);
        for (at, byte) in [(0, b'y'), (10, 0x0e), (16, 1)] {
            let mut other = bytes.clone();
            other[at] = byte;
            assert_eq!(Offsets::parse(&other), None, "{at}");
        }
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic(
            table in proptest::collection::vec(prop_oneof![any::<u8>(), 0x80..=0xff_u8], 0..60),
            first: u32,
            instruction in 0..400_u64,
            width in 0..9_usize,
        ) {
            let _ = (line(&table, first, instruction), text(&table, width));
            let _ = (Offsets::parse(&table), characters(first, instruction));
        }
    }
}

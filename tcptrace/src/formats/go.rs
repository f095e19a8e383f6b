//! Go's own table of functions and lines, `.gopclntab`, which its programs have even when they are
//! stripped (`debug/gosym/pclntab.go` and `runtime/symtab.go` in Go's sources): from 1.18 on.

use std::sync::Arc;

/// Bytes of a name, at most.
const NAME: usize = 1024;
/// Steps through a function's lines, at most.
const STEPS: usize = 100_000;
/// Since Go 1.18, and since 1.20.
const MAGIC: [u32; 2] = [0xffff_fff0, 0xffff_fff1];

/// Functions and lines.
#[derive(Clone, Debug)]
pub struct GoTable {
    bytes: Arc<[u8]>,
    quantum: u64,
    /// Functions.
    count: usize,
    text: u64,
    names: usize,
    units: usize,
    files: usize,
    values: usize,
    functions: usize,
}

/// A function at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoFunction {
    /// Its name, with its package's path.
    pub name: String,
    /// Where it begins.
    pub start: u64,
    /// The source file.
    pub file: Option<String>,
    /// The line.
    pub line: Option<u32>,
}

impl GoTable {
    /// From the section's content; `text` is where the code begins, for programs that do not say.
    #[must_use]
    pub fn parse(bytes: Arc<[u8]>, text: u64) -> Option<Self> {
        let magic = u32_at(&bytes, 0)?;
        // Two bytes of nothing, the size of instructions, the size of pointers.
        let [0, 0, quantum @ (1 | 4), 8] = *bytes.get(4..8)? else { return None };
        if !MAGIC.contains(&magic) {
            return None;
        }
        let word = |n: usize| {
            let word = bytes.get(8 + 8 * n..16 + 8 * n)?.try_into().ok()?;
            Some(u64::from_le_bytes(word))
        };
        let place = |n| usize::try_from(word(n)?).ok().filter(|at| *at < bytes.len());
        let start = word(2)?;
        Some(Self {
            quantum: u64::from(quantum),
            count: usize::try_from(word(0)?).ok().filter(|n| *n < bytes.len() / 8)?,
            // Of programs that are loaded anywhere, it is filled in when they are.
            text: if start == 0 { text } else { start },
            names: place(3)?,
            units: place(4)?,
            files: place(5)?,
            values: place(6)?,
            functions: place(7)?,
            bytes,
        })
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Where the function at an address is described, and how far within it that is.
    fn described(&self, address: u64) -> Option<(usize, u64)> {
        let offset = u32::try_from(address.checked_sub(self.text)?).ok()?;
        // Pairs of where a function begins, and of where it is described; a last one ends them.
        let entry = |i: usize| self.at(self.functions, i.checked_mul(8)?);
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if entry(middle)? <= offset { low = middle + 1 } else { high = middle }
        }
        let index = low.checked_sub(1)?;
        if entry(index + 1)? <= offset {
            return None;
        }
        let described = self.at(self.functions, index * 8 + 4)? as usize;
        let first = self.field(described, 0)?;
        Some((described, u64::from(offset.checked_sub(first)?)))
    }

    /// A field of what describes a function (`_func` in runtime/runtime2.go).
    fn field(&self, described: usize, n: usize) -> Option<u32> {
        self.at(self.functions, described.checked_add(4 * n)?)
    }

    /// The function at an address.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<GoFunction> {
        let (described, within) = self.described(address)?;
        let field = |n: usize| self.field(described, n);
        let name = self.text_at(self.names, field(1)? as usize)?;
        let value = |n: usize| self.value(field(n)? as usize, within);
        let line = value(6).and_then(|line| u32::try_from(line).ok());
        let file = || {
            let in_unit = usize::try_from(value(5)?).ok()?;
            let unit = (field(8)? as usize).checked_add(in_unit)?.checked_mul(4)?;
            let at = self.at(self.units, unit)?;
            // No file.
            if at == u32::MAX { None } else { self.text_at(self.files, at as usize) }
        };
        let file = file();
        Some(GoFunction { name, start: address - within, file, line })
    }

    /// How far the stack pointer is below the return address, at an address: bytes.
    #[must_use]
    pub fn depth(&self, address: u64) -> Option<u64> {
        let (described, within) = self.described(address)?;
        let depth = self.value(self.field(described, 4)? as usize, within)?;
        u64::try_from(depth).ok()
    }

    fn at(&self, table: usize, offset: usize) -> Option<u32> {
        u32_at(&self.bytes, table.checked_add(offset)?)
    }

    fn text_at(&self, table: usize, offset: usize) -> Option<String> {
        let rest = self.bytes.get(table.checked_add(offset)?..)?;
        let rest = &rest[..rest.len().min(NAME)];
        let text = rest.split(|b| *b == 0).next().filter(|t| !t.is_empty())?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// The value of a table at an instruction: pairs of how much the value changes, and for how
    /// many instructions it holds.
    fn value(&self, table: usize, within: u64) -> Option<i64> {
        // 0: there is no such table.
        let from = self.values.checked_add(table).filter(|_| table != 0)?;
        let mut bytes = self.bytes.get(from..)?.iter().copied();
        let (mut value, mut at) = (-1_i64, 0_u64);
        for step in 0..STEPS {
            let change = number(&mut bytes)?;
            if change == 0 && step > 0 {
                return None;
            }
            let half = i64::from(change >> 1);
            value += if change & 1 == 1 { -half - 1 } else { half };
            at += u64::from(number(&mut bytes)?) * self.quantum;
            if within < at {
                return Some(value);
            }
        }
        None
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

/// A number in bytes of seven bits, the lowest first.
fn number(bytes: &mut impl Iterator<Item = u8>) -> Option<u32> {
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let byte = bytes.next()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two functions, `main.fetch` with lines 7 and 9, and `main.main`.
    fn table() -> Vec<u8> {
        const HEADER: usize = 72;
        let names = b"\0main.fetch\0main.main\0";
        let units: Vec<u8> = [0_u32, 1].iter().flat_map(|n| n.to_le_bytes()).collect();
        let files = b"\0/src/main.go\0";
        // Lines: from -1, +8 for 16 bytes, +2 for 16. Files: from -1, +2, the second of the unit's.
        // Depths: from -1, +1 for 4 bytes, +24 for 60.
        let values = [0, 16, 16, 4, 16, 0, 4, 64, 0, 2, 4, 48, 60, 0];
        let function = |entry: u32, name: u32| -> Vec<u8> {
            [entry, name, 0, 0, 9, 6, 1, 0, 0].iter().flat_map(|n| n.to_le_bytes()).collect()
        };
        let list: Vec<u8> = [0_u32, 20, 32, 56, 64].iter().flat_map(|n| n.to_le_bytes()).collect();
        let parts: [&[u8]; 5] =
            [names, &units, files, &values, &[list, function(0, 1), function(32, 12)].concat()];
        let mut header = MAGIC[1].to_le_bytes().to_vec();
        header.extend([0, 0, 1, 8]);
        for word in [2_u64, 1, 0x1000] {
            header.extend(word.to_le_bytes());
        }
        let mut at = HEADER;
        for part in parts {
            header.extend((at as u64).to_le_bytes());
            at += part.len();
        }
        assert_eq!(header.len(), HEADER);
        [&header[..], &parts.concat()].concat()
    }

    #[test]
    fn functions_and_lines() {
        let go = GoTable::parse(table().into(), 0).expect("a table");
        let found = |address| {
            let f = go.find(address)?;
            Some((f.name, f.start, f.file, f.line))
        };
        let file = Some("/src/main.go".to_owned());
        let fetch = |line| Some(("main.fetch".to_owned(), 0x1000, file.clone(), Some(line)));
        assert_eq!((found(0x100f), found(0x1010), found(0xfff)), (fetch(7), fetch(9), None));
        assert_eq!(found(0x1020).map(|f| (f.0, f.1)), Some(("main.main".to_owned(), 0x1020)));
        assert_eq!(found(0x1040), None, "behind the last one");
        assert_eq!([0x1003, 0x1004].map(|at| go.depth(at)), [Some(0), Some(24)]);
    }

    #[test]
    fn programs_that_are_loaded_anywhere() {
        let mut bytes = table();
        bytes[24..32].fill(0);
        let go = GoTable::parse(bytes.into(), 0x5000).expect("a table");
        assert_eq!(go.find(0x5000).map(|f| f.name), Some("main.fetch".to_owned()));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(
            changes in proptest::collection::vec(
                (any::<prop::sample::Index>(), any::<u8>()), 0..20),
            cut in any::<prop::sample::Index>(),
            address in 0xf00..0x1100_u64,
        ) {
            let mut bytes = table();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            if let Some(go) = GoTable::parse(bytes.into(), 0x1000) {
                let _ = (go.find(address), go.depth(address));
            }
        }
    }
}

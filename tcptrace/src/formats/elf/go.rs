//! The table by which Go's runtime finds functions (`.gopclntab`, src/debug/gosym/pclntab.go): it
//! is in every Go program, however it was stripped.

use std::{ops::Range, sync::Arc};

use super::{
    symbols::{Symbol, Symbols},
    u32_at, u64_at,
};

/// First bytes: of Go 1.16, of 1.18, of 1.20 and later.
const GO_1_16: u32 = 0xffff_fffa;
const GO_1_18: u32 = 0xffff_fff0;
const GO_1_20: u32 = 0xffff_fff1;
/// Functions, at most.
const FUNCTIONS: usize = 2 << 20;

/// Where things are in a table; offsets from its beginning.
struct Layout {
    /// Functions.
    count: usize,
    /// What entries count from.
    text: u64,
    names: Range<usize>,
    functions: usize,
    /// Bytes of a number among the functions.
    width: usize,
}

impl Layout {
    fn of(table: &[u8]) -> Option<Self> {
        // Behind the first bytes two zeros, the unit of instructions, and the size of a pointer.
        if table.get(4..6)? != [0, 0] || *table.get(7)? != 8 {
            return None;
        }
        let word = |n: usize| u64_at(table, 8 + 8 * n);
        let place = |n: usize| usize::try_from(word(n)).ok().filter(|at| *at < table.len());
        let count = usize::try_from(word(0)).ok().filter(|count| *count <= FUNCTIONS)?;
        match u32_at(table, 0) {
            GO_1_16 => {
                let names = place(2)?..place(3)?;
                Some(Self { count, text: 0, names, functions: place(6)?, width: 8 })
            }
            // In a program that is moved when it starts, the number isn't in the file.
            GO_1_18 | GO_1_20 if word(2) != 0 => {
                let names = place(3)?..place(4)?;
                Some(Self { count, text: word(2), names, functions: place(7)?, width: 4 })
            }
            _ => None,
        }
    }
}

/// The functions of such a table; `None`: it is of another kind, or says nothing. `is_code`: whether
/// code is at an address; what is none is left out.
#[must_use]
pub fn functions(table: &Arc<[u8]>, is_code: impl Fn(u64) -> bool) -> Option<Symbols> {
    let Layout { count, text, names, functions, width } = Layout::of(table)?;
    let number = |at: usize| if width == 8 { u64_at(table, at) } else { u32_at(table, at).into() };
    // Where each begins and where more is said of it, in order of address; behind the last one,
    // where that ends.
    let row = |n: usize| functions + 2 * width * n;
    let mut list = Vec::new();
    for n in 0..count {
        if row(n + 1) + width > table.len() {
            break;
        }
        let (entry, end) = (number(row(n)), number(row(n + 1)));
        let Some(size) = end.checked_sub(entry) else { continue };
        // Its entry comes first there, then the offset of its name.
        let said = usize::try_from(number(row(n) + width)).ok();
        let Some(at) = said.and_then(|said| functions.checked_add(said)) else { continue };
        let name = at.checked_add(width).map_or(0, |at| u32_at(table, at));
        let address = text.wrapping_add(entry);
        if at < table.len() && is_code(address) {
            list.push(Symbol { address, size, name });
        }
    }
    let names = table.get(names)?;
    Some(Symbols::of(list, names.into())).filter(|s| !s.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A table as Go 1.20 makes it, of functions and where they begin; the last one is an end.
    fn table(list: &[(&str, u32)]) -> Vec<u8> {
        let (count, last) = (list.len() - 1, list.len());
        let mut names = Vec::new();
        let mut at = Vec::new();
        for (name, _) in list {
            at.push(u32::try_from(names.len()).expect("small"));
            names.extend(name.as_bytes());
            names.push(0);
        }
        let header = 8 + 8 * 8;
        let functions = header + names.len();
        let said = |n: usize| u32::try_from(8 * last + 8 * n).expect("small");
        let mut table = GO_1_20.to_le_bytes().to_vec();
        table.extend([0, 0, 1, 8]);
        for word in [count, 0, 0x40_1000, header, functions, 0, 0, functions] {
            table.extend((word as u64).to_le_bytes());
        }
        table.extend(names);
        for (n, (_, entry)) in list.iter().enumerate() {
            table.extend([*entry, said(n)].map(u32::to_le_bytes).concat());
        }
        for ((_, entry), name) in list.iter().zip(at) {
            table.extend([*entry, name].map(u32::to_le_bytes).concat());
        }
        table
    }

    fn find(table: Vec<u8>, address: u64) -> Option<(String, u64)> {
        let symbols = functions(&table.into(), |_| true)?;
        let (name, at) = symbols.find(address)?;
        Some((String::from_utf8_lossy(name).into_owned(), at))
    }

    #[test]
    fn functions_by_address() {
        let list = [("runtime.text", 0), ("main.takeOrder", 0x40), ("main.main", 0x90), ("", 0xa0)];
        let found = |address| find(table(&list), address);
        assert_eq!(found(0x40_1040), Some(("main.takeOrder".into(), 0x40_1040)));
        assert_eq!(found(0x40_108f), Some(("main.takeOrder".into(), 0x40_1040)));
        assert_eq!(found(0x40_1090), Some(("main.main".into(), 0x40_1090)));
        assert_eq!(found(0x40_10a0), None, "behind the last");
        assert_eq!(found(0x40_0fff), None);
    }

    #[test]
    fn no_table_no_names() {
        let good = table(&[("main.main", 0), ("", 0x10)]);
        for (at, byte) in [(0, 0), (4, 1), (7, 4)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(find(bad, 0x40_1000), None, "{at}");
        }
        // Where the program's text begins is not in the file.
        let mut moved = good;
        moved[24..32].fill(0);
        assert_eq!(find(moved, 0x40_1000), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(
            changes in proptest::collection::vec((0..200_usize, any::<u8>()), 0..20),
            cut in 0..200_usize,
            address in 0..0x50_0000_u64,
        ) {
            let mut bytes = table(&[("a", 0), ("b", 0x10), ("c", 0x20), ("", 0x30)]);
            for (at, byte) in changes {
                if let Some(old) = bytes.get_mut(at) {
                    *old = byte;
                }
            }
            bytes.truncate(cut);
            let _ = find(bytes, address);
        }
    }
}

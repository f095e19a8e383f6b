//! The names in an ELF file's symbol table, by address.

use std::{cmp::Reverse, sync::Arc};

use super::{text_at, u16_at, u32_at, u64_at};

/// Bytes of a symbol (`Elf64_Sym`).
const SYMBOL: usize = 24;
/// Bytes of a name, at most: longer ones are cut.
pub const NAME: usize = 4096;
/// How far back is looked for a symbol that reaches over smaller ones.
const BACK: usize = 16;
/// Symbols without a size (assembly) are taken to reach so far, at most.
const UNSIZED: u64 = 4096;

const STT_NOTYPE: u8 = 0;
const STT_FUNC: u8 = 2;
const STT_GNU_IFUNC: u8 = 10;

/// Functions by address.
#[derive(Clone, Debug, Default)]
pub struct SymbolTable {
    list: Vec<Symbol>,
    names: Arc<[u8]>,
}

#[derive(Clone, Copy, Debug)]
struct Symbol {
    address: u64,
    size: u64,
    name: u32,
}

impl SymbolTable {
    /// From the content of a symbol table and of its strings. `is_code`: whether code is at an
    /// address; what is none is left out.
    #[must_use]
    pub fn parse(table: &[u8], names: Arc<[u8]>, is_code: impl Fn(u64) -> bool) -> Self {
        let mut list: Vec<Symbol> = Vec::new();
        for row in table.chunks_exact(SYMBOL) {
            let (name, kind, section) = (u32_at(row, 0), row[4] & 0xf, u16_at(row, 6));
            let (address, size) = (u64_at(row, 8), u64_at(row, 16));
            let function = matches!(kind, STT_FUNC | STT_GNU_IFUNC | STT_NOTYPE);
            let text = text_at(&names, name as usize, 2);
            // `$x` and `.L` mark places, and name nothing.
            let mark = text.first().is_none_or(|b| b"$.".contains(b));
            if function && section != 0 && !mark && is_code(address) {
                list.push(Symbol { address, size, name });
            }
        }
        // Of several names of one place, the one that people use: `recv`, not `__libc_recv`.
        list.sort_by_cached_key(|s| {
            let name = text_at(&names, s.name as usize, NAME);
            let underscores = name.iter().take_while(|b| **b == b'_').count();
            (s.address, s.size == 0, underscores, name.len(), Reverse(s.size), s.name)
        });
        list.dedup_by(|later, first| later.address == first.address);
        list.shrink_to_fit();
        Self { list, names }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.list.len() * size_of::<Symbol>() + self.names.len()
    }

    /// The function that an address is in: its name as it is, and where it begins.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<(&[u8], u64)> {
        let end = self.list.partition_point(|s| s.address <= address);
        let from = end.saturating_sub(BACK);
        let holds = |s: &&Symbol| {
            let reach = if s.size == 0 { UNSIZED } else { s.size };
            address - s.address < reach
        };
        // Without a size a symbol ends where the next begins.
        let found = self.list[from..end]
            .iter()
            .rev()
            .enumerate()
            .find(|(back, s)| holds(s) && (s.size > 0 || *back == 0));
        let symbol = found?.1;
        Some((text_at(&self.names, symbol.name as usize, NAME), symbol.address))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(name: u32, kind: u8, section: u16, address: u64, size: u64) -> Vec<u8> {
        let mut row = name.to_le_bytes().to_vec();
        row.extend([kind | 0x10, 0]);
        row.extend(section.to_le_bytes());
        row.extend(address.to_le_bytes());
        row.extend(size.to_le_bytes());
        row
    }

    fn names(list: &[&str]) -> (Arc<[u8]>, Vec<u32>) {
        let (mut bytes, mut at) = (vec![0], Vec::new());
        for name in list {
            at.push(u32::try_from(bytes.len()).expect("small"));
            bytes.extend(name.as_bytes());
            bytes.push(0);
        }
        (bytes.into(), at)
    }

    #[test]
    fn the_name_that_people_use() {
        let (names, at) =
            names(&["__libc_recv", "recv", "__recv", "outer", "object", "none", "$x"]);
        let table = [
            row(at[0], STT_FUNC, 1, 0x1000, 0x40),
            row(at[1], STT_FUNC, 1, 0x1000, 0x40),
            row(at[2], STT_FUNC, 1, 0x1000, 0x40),
            row(at[3], STT_FUNC, 1, 0x0f00, 0x400),
            row(at[4], 1, 1, 0x1100, 0x40),
            row(at[5], STT_FUNC, 0, 0x1200, 0x40),
            row(at[6], STT_NOTYPE, 1, 0x1010, 0),
        ]
        .concat();
        let symbols = SymbolTable::parse(&table, names, |address| address < 0x10_000);
        let found = |address| symbols.find(address).map(|(name, at)| (name.to_vec(), at));
        assert_eq!(found(0x103f), Some((b"recv".to_vec(), 0x1000)));
        assert_eq!(found(0x1040), Some((b"outer".to_vec(), 0xf00)), "it reaches over the other");
        assert_eq!(found(0x12ff), Some((b"outer".to_vec(), 0xf00)));
        assert_eq!(found(0x1300), None, "no guess beyond a function's end");
        assert_eq!(found(0), None);
    }

    proptest! {
        #[test]
        fn what_is_found_holds_the_address(
            rows in proptest::collection::vec(
                (0..64_u32, 0..12_u8, 0..2_u16, 0..500_u64, 0..60_u64), 0..40),
            rest in proptest::collection::vec(any::<u8>(), 0..23),
            strings in proptest::collection::vec(any::<u8>(), 0..64),
            address in 0..600_u64,
        ) {
            let mut table: Vec<u8> =
                rows.iter().flat_map(|(n, k, s, a, z)| row(*n, *k, *s, *a, *z)).collect();
            table.extend(rest);
            let symbols = SymbolTable::parse(&table, strings.into(), |_| true);
            if let Some((_, at)) = symbols.find(address) {
                let holds = |(_, _, _, a, z): &(u32, u8, u16, u64, u64)| {
                    *a == at && (*z == 0 || address - a < *z)
                };
                prop_assert!(at <= address && rows.iter().any(holds));
            }
        }
    }
}

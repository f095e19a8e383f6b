//! Perf maps: the names of code that a virtual machine made while it ran, which it writes into
//! `/tmp/perf-PID.map` (tools/perf/Documentation/jit-interface.txt in the kernel's sources): lines
//! of `START SIZE NAME`, both numbers hexadecimal. Written by the program itself: untrusted.

pub mod names;

use std::collections::BinaryHeap;

/// Entries that are kept, at most: the newest.
pub const ENTRIES: usize = 1 << 20;
/// Bytes of a name, at most: longer ones are cut.
const NAME: usize = 1024;
/// Code that is longer is none.
const LONGEST: u64 = 1 << 30;

/// Names by address. Where entries overlap, the later one holds: code moves, and its old place is
/// used again.
#[derive(Clone, Debug, Default)]
pub struct PerfMap {
    /// In the order of their addresses, none overlapping.
    parts: Vec<Part>,
    names: Vec<u8>,
    /// Lines that are no entries.
    pub skipped: usize,
}

/// A stretch of code that an entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    start: u64,
    end: u64,
    /// Where the entry's code begins, which may be before.
    of: u64,
    /// Its name, in `names`.
    name: u32,
    length: u16,
}

impl PerfMap {
    /// From the file's content.
    #[must_use]
    pub fn parse(content: &[u8]) -> Self {
        let (mut names, mut skipped) = (Vec::new(), 0);
        let lines = content.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        let from = lines.clone().count().saturating_sub(ENTRIES);
        let mut entries = Vec::new();
        for line in lines.skip(from) {
            match entry(line) {
                Some((start, end, name)) => {
                    let (at, name) = (names.len(), &name[..name.len().min(NAME)]);
                    // Offsets fit: there are so many entries of so many bytes at most.
                    let (at, length) = (u32::try_from(at), u16::try_from(name.len()));
                    let (Ok(at), Ok(length)) = (at, length) else { continue };
                    names.extend_from_slice(name);
                    entries.push(Part { start, end, of: start, name: at, length });
                }
                None => skipped += 1,
            }
        }
        Self { parts: disjoint(entries), names, skipped }
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.parts.len() * size_of::<Part>() + self.names.len()
    }

    /// The name of the code at an address, as it is written there, and where the code begins.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<(&[u8], u64)> {
        let behind = self.parts.partition_point(|p| p.start <= address);
        let part = self.parts[..behind].last().filter(|p| address < p.end)?;
        let name = usize::try_from(part.name).ok()?;
        Some((self.names.get(name..name + usize::from(part.length))?, part.of))
    }
}

/// One line: from, to, name.
fn entry(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let mut fields = line.splitn(3, |b| *b == b' ');
    let mut number = || {
        let text = std::str::from_utf8(fields.next()?).ok()?;
        // The JVM writes `0x`, others don't.
        u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
    };
    let (start, size) = (number()?, number()?);
    let name = fields.next()?.trim_ascii();
    let fits = !name.is_empty() && (1..LONGEST).contains(&size);
    fits.then_some((start, start.checked_add(size)?, name))
}

/// Cuts entries so that each address is the last one's that holds it.
fn disjoint(entries: Vec<Part>) -> Vec<Part> {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|i| entries[*i].start);
    let mut parts: Vec<Part> = Vec::new();
    // Those that have begun, the latest in the file on top.
    let mut open: BinaryHeap<usize> = BinaryHeap::new();
    let mut push = |start: u64, end: u64, i: usize| {
        if start >= end {
            return;
        }
        match parts.last_mut() {
            // Nothing but an entry's own pieces have its name.
            Some(last) if last.end == start && last.name == entries[i].name => last.end = end,
            _ => parts.push(Part { start, end, ..entries[i] }),
        }
    };
    let mut at = 0;
    for next in order.iter().map(Some).chain([None]) {
        let until = next.map_or(u64::MAX, |i| entries[*i].start);
        while let Some(top) = open.peek().copied() {
            if at >= until {
                break;
            }
            let end = entries[top].end.min(until);
            push(at, end, top);
            at = at.max(end);
            if entries[top].end <= at {
                open.pop();
            }
        }
        at = at.max(until);
        open.extend(next);
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(map: &PerfMap, address: u64) -> Option<(String, u64)> {
        let (name, of) = map.find(address)?;
        Some((String::from_utf8_lossy(name).into_owned(), of))
    }

    #[test]
    fn what_virtual_machines_write() {
        let map = PerfMap::parse(
            b"7f10 20 LazyCompile:*fetch /app/crawler.js:12:3\n\
              0x0000000000007f80 0x0000000000000010 int java.lang.String.hashCode()\r\n\
              7f18 8 moved here\n\
              nonsense\n\
              7f00 0 empty\n\
              7fa0 10\n\
              ffffffffffffffff 20 beyond the end\n",
        );
        assert_eq!(found(&map, 0x7f0f), None);
        let fetch = Some(("LazyCompile:*fetch /app/crawler.js:12:3".into(), 0x7f10));
        assert_eq!(found(&map, 0x7f10), fetch);
        assert_eq!(found(&map, 0x7f1f), Some(("moved here".into(), 0x7f18)));
        assert_eq!(found(&map, 0x7f20), fetch, "beyond what moved into its middle");
        assert_eq!(found(&map, 0x7f30), None);
        assert_eq!(found(&map, 0x7f8f), Some(("int java.lang.String.hashCode()".into(), 0x7f80)));
        assert_eq!(map.skipped, 4);
    }

    proptest! {
        #[test]
        fn the_last_line_that_holds_an_address_names_it(
            entries in proptest::collection::vec((0..100_u64, 1..40_u64), 0..30),
        ) {
            let text: String =
                entries.iter().enumerate().map(|(i, (a, n))| format!("{a:x} {n:x} f{i}\n")).collect();
            let map = PerfMap::parse(text.as_bytes());
            for address in 0..150 {
                let holds = |(a, n): &(u64, u64)| (*a..a + n).contains(&address);
                let last = entries.iter().rposition(holds);
                let expected = last.map(|i| (format!("f{i}"), entries[i].0));
                prop_assert_eq!(found(&map, address), expected, "{}", address);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(content in "([0-9a-fx]{0,17} [0-9a-f]{0,17} ?\\PC*\n?){0,5}", at: u64) {
            let _ = PerfMap::parse(content.as_bytes()).find(at);
        }
    }
}

//! ELF files of 64 bits, little-endian (elf(5)): what is needed to name code. Files of other
//! people's programs: what they say is bounded before anything is read.

pub mod symbols;

/// Program headers, at most.
const SEGMENTS: u16 = 512;
/// Section headers, at most.
const SECTIONS: u64 = 8192;
/// Bytes of the sections' names, at most.
const NAMES: u64 = 1 << 20;
/// Bytes of notes, at most.
const NOTES: u64 = 64 << 10;
/// Bytes of a build id, at most.
const BUILD_ID: usize = 64;

/// Flag of a segment: it may be run.
const PF_X: u32 = 1;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const SHT_NOTE: u32 = 7;
/// The section is in no file.
const SHT_NOBITS: u32 = 8;
const SHF_COMPRESSED: u64 = 0x800;
const NT_GNU_BUILD_ID: u32 = 3;

/// The file's bytes from an offset: so many of them, or none.
pub trait ReadAt {
    /// Reads `length` bytes at `offset`; `None` where the file has fewer, or can't be read.
    fn read_at(&self, offset: u64, length: usize) -> Option<Vec<u8>>;
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let start = usize::try_from(offset).ok()?;
        Some(self.get(start..start.checked_add(length)?)?.to_vec())
    }
}

/// What an ELF file consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// `EM_X86_64` (62), `EM_AARCH64` (183), or another.
    pub machine: u16,
    /// Segments that are loaded.
    pub segments: Vec<Segment>,
    /// Sections, in the file's order.
    pub sections: Vec<Section>,
    /// Where notes are, by program headers: offset and size.
    notes: Vec<(u64, u64)>,
}

/// A part of the file that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where in the file.
    pub offset: u64,
    /// Its address, as the file has it.
    pub address: u64,
    /// Bytes of it in the file.
    pub size: u64,
    /// It is code.
    pub executable: bool,
}

/// A section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Its type (`SHT_*`).
    pub kind: u32,
    /// Its address, as the file has it; 0: it is not loaded.
    pub address: u64,
    /// Where in the file.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// The index of the section with its strings, where it has some.
    pub link: u32,
    /// It begins with a header that says how it is compressed (`Elf64_Chdr`).
    pub compressed: bool,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl Elf {
    /// Reads the headers; `None`: no such file.
    #[must_use]
    pub fn parse(file: &(impl ReadAt + ?Sized)) -> Option<Self> {
        const HEADER: usize = 64;
        const SEGMENT: u16 = 56;
        const SECTION: u16 = 64;
        let header = file.read_at(0, HEADER)?;
        // Class, byte order, version.
        if header[..7] != [0x7f, b'E', b'L', b'F', 2, 1, 1] {
            return None;
        }
        let (segments_at, sections_at) = (u64_at(&header, 32), u64_at(&header, 40));
        let count = u16_at(&header, 56).min(SEGMENTS);
        let mut elf = Self {
            machine: u16_at(&header, 18),
            segments: Vec::new(),
            sections: Vec::new(),
            notes: Vec::new(),
        };
        if count > 0 && u16_at(&header, 54) == SEGMENT {
            let table = file.read_at(segments_at, usize::from(count) * usize::from(SEGMENT))?;
            for row in table.chunks_exact(usize::from(SEGMENT)) {
                let (offset, size) = (u64_at(row, 8), u64_at(row, 32));
                match u32_at(row, 0) {
                    PT_LOAD => elf.segments.push(Segment {
                        offset,
                        address: u64_at(row, 16),
                        size,
                        executable: u32_at(row, 4) & PF_X != 0,
                    }),
                    PT_NOTE => elf.notes.push((offset, size)),
                    _ => {}
                }
            }
        }
        if sections_at != 0 && u16_at(&header, 58) == SECTION {
            // Without sections there is less to say, and the rest is still so.
            let names_in = u16_at(&header, 62);
            elf.sections =
                sections(file, sections_at, u16_at(&header, 60), names_in).unwrap_or_default();
        }
        Some(elf)
    }

    /// The section that is called so, and is in the file.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name && s.kind != SHT_NOBITS && s.size > 0)
    }

    /// The address, as the file has it, of a place in the file.
    #[must_use]
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        let inside = |s: &&Segment| offset >= s.offset && offset - s.offset < s.size;
        // Pages are mapped whole: of two segments that share one, the code is meant.
        let found = self.segments.iter().filter(inside).max_by_key(|s| s.executable)?;
        (offset - found.offset).checked_add(found.address)
    }

    /// Whether code is there.
    #[must_use]
    pub fn is_code(&self, address: u64) -> bool {
        self.segments
            .iter()
            .any(|s| s.executable && address >= s.address && address - s.address < s.size)
    }

    /// The build id, where it has one.
    #[must_use]
    pub fn build_id(&self, file: &(impl ReadAt + ?Sized)) -> Option<Vec<u8>> {
        let sections = self.sections.iter().filter(|s| s.kind == SHT_NOTE && !s.compressed);
        let notes = sections.map(|s| (s.offset, s.size)).chain(self.notes.iter().copied());
        notes.take(16).filter(|(_, size)| *size <= NOTES).find_map(|(offset, size)| {
            build_id(&file.read_at(offset, usize::try_from(size).ok()?)?)
        })
    }
}

fn sections(
    file: &(impl ReadAt + ?Sized),
    at: u64,
    count: u16,
    names_in: u16,
) -> Option<Vec<Section>> {
    const SECTION: u64 = 64;
    let read = |offset, size: u64| file.read_at(offset, usize::try_from(size).ok()?);
    // More than fit into the header's field are counted in the first section.
    let first = read(at, SECTION)?;
    let count = if count == 0 { u64_at(&first, 32) } else { u64::from(count) };
    let names_in = if names_in == u16::MAX { u32_at(&first, 40) } else { u32::from(names_in) };
    let table = read(at, count.min(SECTIONS) * SECTION)?;
    let rows = || table.chunks_exact(64);
    let strings = rows().nth(usize::try_from(names_in).ok()?)?;
    let names = read(u64_at(strings, 24), u64_at(strings, 32).min(NAMES))?;
    let section = |row: &[u8]| Section {
        name: String::from_utf8_lossy(text_at(&names, u32_at(row, 0) as usize, 64)).into_owned(),
        kind: u32_at(row, 4),
        address: u64_at(row, 16),
        offset: u64_at(row, 24),
        size: u64_at(row, 32),
        link: u32_at(row, 40),
        compressed: u64_at(row, 8) & SHF_COMPRESSED != 0,
    };
    Some(rows().map(section).collect())
}

/// The text at an offset, to its NUL or so many bytes.
fn text_at(bytes: &[u8], at: usize, most: usize) -> &[u8] {
    let rest = bytes.get(at..).unwrap_or_default();
    let rest = &rest[..rest.len().min(most)];
    rest.split(|b| *b == 0).next().unwrap_or_default()
}

/// The build id among notes (`Elf64_Nhdr`).
fn build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    let padded = |n: u32| usize::try_from(n).ok()?.checked_next_multiple_of(4);
    while notes.len() >= 12 {
        let (name, size, kind) = (u32_at(notes, 0), u32_at(notes, 4), u32_at(notes, 8));
        let text = notes.get(12..)?.get(..usize::try_from(name).ok()?)?;
        let rest = notes.get(padded(name)?.checked_add(12)?..)?;
        let content = rest.get(..usize::try_from(size).ok()?)?;
        if kind == NT_GNU_BUILD_ID && text == b"GNU\0" && (1..=BUILD_ID).contains(&content.len()) {
            return Some(content.to_vec());
        }
        notes = rest.get(padded(size)?..)?;
    }
    None
}

/// How a section is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// zlib (`ELFCOMPRESS_ZLIB`).
    Zlib,
    /// Zstandard (`ELFCOMPRESS_ZSTD`).
    Zstd,
}

/// A compressed section: how, its size, and what is compressed.
#[must_use]
pub fn compressed(section: &[u8]) -> Option<(Compression, u64, &[u8])> {
    let how = match u32_at(section, 0) {
        1 => Compression::Zlib,
        2 => Compression::Zstd,
        _ => return None,
    };
    Some((how, u64_at(section, 8), section.get(24..)?))
}

/// What `.gnu_debuglink` says: the debug file's name and the CRC-32 of its content.
#[must_use]
pub fn debug_link(section: &[u8]) -> Option<(String, u32)> {
    let name = text_at(section, 0, 256);
    let at = (name.len() + 1).next_multiple_of(4);
    let name = std::str::from_utf8(name).ok()?;
    let plain = !name.is_empty() && !name.contains('/');
    (plain && section.len() >= at + 4).then(|| (name.to_owned(), u32_at(section, at)))
}

/// What `.gnu_debugaltlink` says: the path of the file with what several debug files have in
/// common, and its build id.
#[must_use]
pub fn debug_alt_link(section: &[u8]) -> Option<(String, Vec<u8>)> {
    let path = text_at(section, 0, 4096);
    let id = section.get(path.len() + 1..).filter(|id| (1..=BUILD_ID).contains(&id.len()))?;
    Some((std::str::from_utf8(path).ok()?.to_owned(), id.to_vec()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn this_program_has_sections_and_code() {
        let file = std::env::current_exe().and_then(std::fs::read).expect("this program");
        let elf = Elf::parse(&file[..]).expect("ELF");
        let text = elf.section(".text").expect("code");
        assert_eq!(elf.address_of(text.offset), Some(text.address));
        assert!(elf.is_code(text.address) && !elf.is_code(0));
        assert!(elf.section(".eh_frame").is_some_and(|s| s.size > 0 && !s.compressed));
    }

    #[test]
    fn notes() {
        let note = |name: &[u8], kind: u32, content: &[u8]| {
            let mut note = Vec::new();
            for n in [name.len() as u32, content.len() as u32, kind] {
                note.extend(n.to_le_bytes());
            }
            for part in [name, content] {
                note.extend(part);
                note.resize(note.len().next_multiple_of(4), 0);
            }
            note
        };
        let id = note(b"GNU\0", NT_GNU_BUILD_ID, &[0xab, 0xcd, 1]);
        let both = [note(b"Go\0\0", 4, b"x/y"), id.clone()].concat();
        assert_eq!(build_id(&both), Some(vec![0xab, 0xcd, 1]));
        assert_eq!(build_id(&note(b"GNU\0", 1, b"abcd")), None);
        assert_eq!(build_id(&id[..id.len() - 3]), None);
    }

    #[test]
    fn links() {
        let link = b"curl.debug\0\0\x78\x56\x34\x12";
        assert_eq!(debug_link(link), Some(("curl.debug".into(), 0x1234_5678)));
        assert_eq!(debug_link(b"../a\0\0\0\0\x78\x56\x34\x12"), None, "a name, not a path");
        assert_eq!(debug_link(b"\0\0\0\0"), None);
        assert_eq!(
            debug_alt_link(b"/usr/lib/debug/.dwz/x.debug\0\x01\x02"),
            Some(("/usr/lib/debug/.dwz/x.debug".into(), vec![1, 2]))
        );
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(
            changes in proptest::collection::vec((0..4096_usize, any::<u8>()), 0..40),
            cut in 0..4096_usize,
        ) {
            let mut file = vec![0; 4096];
            file[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
            for (at, n) in [(32, 64), (40, 1024), (54, 56), (56, 3), (58, 64), (60, 9), (62, 1)] {
                file[at..at + 2].copy_from_slice(&u16::to_le_bytes(n));
            }
            for (at, byte) in changes {
                file[at] = byte;
            }
            let file = &file[..cut];
            if let Some(elf) = Elf::parse(file) {
                let _ = (elf.build_id(file), elf.address_of(64), elf.is_code(64));
            }
            let _ = (build_id(file), debug_link(file), debug_alt_link(file), compressed(file));
        }
    }
}

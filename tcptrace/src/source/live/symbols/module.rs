//! A file that code was mapped from: its symbols, its unwinding information, its lines.

use std::{cell::OnceCell, fmt::Write, sync::Arc};

use super::{
    cfi::UnwindTable,
    file::Content,
    lines::{self, Lines},
};
use crate::formats::elf::{
    Compression, Elf, ReadAt, Section, compressed, debug_alt_link, debug_link, symbols::SymbolTable,
};
use crate::formats::go::{GoFunction, GoTable};

/// Bytes of a symbol table, at most: two million symbols.
const SYMBOLS: u64 = 48 << 20;
/// Bytes of its names, at most.
const NAMES: u64 = 192 << 20;
/// Bytes of unwinding information, at most.
const UNWINDING: u64 = 64 << 20;

/// `EM_X86_64`, `EM_AARCH64` (elf(5)).
const MACHINE: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };

/// Where Go's own table is; in programs that are loaded anywhere, where it is relocated.
const GO_TABLE: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];

/// A module.
#[derive(Debug)]
pub struct Module {
    source: Content,
    elf: Elf,
    /// Its build id, hexadecimal.
    pub build_id: Option<String>,
    /// Go's compiler made it.
    pub is_go: bool,
    symbols: OnceCell<SymbolTable>,
    go: OnceCell<Option<GoTable>>,
    tables: OnceCell<Vec<UnwindTable>>,
    lines: OnceCell<Option<Lines>>,
    debug: OnceCell<Option<Debug>>,
    pub find: Finder,
}

/// A file with what was taken out of the module's own when it was packed.
#[derive(Debug)]
pub struct Debug {
    source: Content,
    elf: Elf,
    /// The file that several debug files share.
    common: Option<(Content, Elf)>,
}

/// Finds files with debugging information.
#[derive(Clone, Debug, Default)]
pub struct Finder {
    /// Where paths begin: `/proc/PID/root`, then this host's own root.
    pub roots: Vec<String>,
    /// The module's path, as its process sees it.
    pub path: String,
}

impl Module {
    /// `None`: no ELF file of this machine.
    #[must_use]
    pub fn new(source: Content, find: Finder) -> Option<Self> {
        let elf = Elf::parse(&source).filter(|elf| elf.machine == MACHINE)?;
        let build_id = build_id(&elf, &source);
        let mut of_go = GO_TABLE.into_iter().chain([".go.buildinfo", ".note.go.buildid"]);
        let is_go = of_go.any(|name| elf.section(name).is_some());
        Some(Self {
            source,
            elf,
            build_id,
            is_go,
            symbols: OnceCell::new(),
            go: OnceCell::new(),
            tables: OnceCell::new(),
            lines: OnceCell::new(),
            debug: OnceCell::new(),
            find,
        })
    }

    /// The address, as the file has it, of a place in the file.
    #[must_use]
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        self.elf.address_of(offset)
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let tables = self.tables.get().map_or(0, |t| t.iter().map(UnwindTable::bytes).sum());
        self.symbols.get().map_or(0, SymbolTable::bytes)
            + self.go.get().and_then(Option::as_ref).map_or(0, GoTable::bytes)
            + tables
            + self.lines.get().and_then(Option::as_ref).map_or(0, Lines::bytes)
    }

    /// Its functions.
    pub fn symbols(&self) -> &SymbolTable {
        self.symbols.get_or_init(|| {
            let debug = || self.debug().map(|d| (&d.source, &d.elf));
            let own = Some((&self.source, &self.elf));
            // What is stripped keeps what others call, and no more.
            symbols(own, ".symtab", &self.elf)
                .or_else(|| symbols(debug(), ".symtab", &self.elf))
                .or_else(|| symbols(own, ".dynsym", &self.elf))
                .unwrap_or_default()
        })
    }

    /// What Go's own table says of an address.
    pub fn go(&self, address: u64) -> Option<GoFunction> {
        self.go_table()?.find(address)
    }

    /// How far the stack pointer is below the return address in Go's code.
    pub fn go_depth(&self, address: u64) -> Option<u64> {
        self.go_table()?.depth(address)
    }

    fn go_table(&self) -> Option<&GoTable> {
        let load = || {
            let section = GO_TABLE.iter().find_map(|name| self.elf.section(name))?;
            let text = self.elf.section(".text").map_or(0, |s| s.address);
            GoTable::parse(content(&self.source, section, NAMES)?, text)
        };
        if !self.is_go {
            return None;
        }
        self.go.get_or_init(load).as_ref()
    }

    /// Its unwinding information.
    pub fn tables(&self) -> &[UnwindTable] {
        self.tables.get_or_init(|| {
            let address = |name| self.elf.section(name).map_or(0, |s| s.address);
            let mut tables = Vec::new();
            if let Some(section) = self.elf.section(".eh_frame")
                && let Some(content) = content(&self.source, section, UNWINDING)
            {
                let (text, got) = (address(".text"), address(".got"));
                tables.push(UnwindTable::eh_frame(content, section.address, text, got));
            }
            if let Some(section) = self.elf.section(".debug_frame")
                && let Some(content) = content(&self.source, section, UNWINDING)
            {
                tables.push(UnwindTable::debug_frame(content));
            }
            tables.retain(|t| !t.is_empty());
            tables
        })
    }

    /// Its lines, where there is debugging information.
    pub fn lines(&self) -> Option<&Lines> {
        self.lines
            .get_or_init(|| {
                if self.elf.section(".debug_info").is_some() {
                    return lines_of(&self.source, &self.elf, None);
                }
                let debug = self.debug()?;
                lines_of(&debug.source, &debug.elf, debug.common.as_ref())
            })
            .as_ref()
    }

    fn debug(&self) -> Option<&Debug> {
        self.debug.get_or_init(|| self.find.debug(self)).as_ref()
    }
}

fn symbols(of: Option<(&Content, &Elf)>, name: &str, code: &Elf) -> Option<SymbolTable> {
    let (source, elf) = of?;
    let table = elf.section(name)?;
    let names = elf.sections.get(usize::try_from(table.link).ok()?)?;
    let (table, names) = (content(source, table, SYMBOLS)?, content(source, names, NAMES)?);
    Some(SymbolTable::parse(&table, names, |address| code.is_code(address)))
        .filter(|s| !s.is_empty())
}

fn lines_of(source: &Content, elf: &Elf, common: Option<&(Content, Elf)>) -> Option<Lines> {
    let size = |elf: &Elf| -> u64 {
        let debug = elf.sections.iter().filter(|s| s.name.starts_with(".debug_"));
        debug.fold(0, |sum, s| sum.saturating_add(s.size))
    };
    if size(elf).saturating_add(common.map_or(0, |(_, elf)| size(elf))) > lines::SECTIONS {
        return None;
    }
    let common = common.map(|(source, elf)| {
        move |name: &str| content(source, elf.section(name)?, lines::SECTIONS)
    });
    Lines::new(
        &|name| content(source, elf.section(name)?, lines::SECTIONS),
        common.as_ref().map(|c| c as &lines::Sections<'_>),
    )
}

/// A section's content, unpacked.
fn content(source: &Content, section: &Section, most: u64) -> Option<Arc<[u8]>> {
    if section.size > most {
        return None;
    }
    let bytes = source.read_at(section.offset, usize::try_from(section.size).ok()?)?;
    if !section.compressed {
        return Some(bytes.into());
    }
    let (how, size, packed) = compressed(&bytes)?;
    let size = usize::try_from(size).ok().filter(|_| size <= most)?;
    let unpacked = match how {
        Compression::Zlib => {
            miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(packed, size).ok()?
        }
        Compression::Zstd => {
            use std::io::Read;
            let mut unpacked = Vec::new();
            let reader = ruzstd::decoding::StreamingDecoder::new(packed).ok()?;
            reader.take(size as u64).read_to_end(&mut unpacked).ok()?;
            unpacked
        }
    };
    Some(unpacked.into())
}

/// A file's build id, hexadecimal.
fn build_id(elf: &Elf, source: &Content) -> Option<String> {
    elf.build_id(source).map(|id| hex(&id))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Finder {
    /// The debug file of a module, by its build id, or by the name and checksum that it gives.
    fn debug(&self, module: &Module) -> Option<Debug> {
        let by_id = module.build_id.as_deref().and_then(|id| {
            let path = format!("/usr/lib/debug/.build-id/{}/{}.debug", id.get(..2)?, id.get(2..)?);
            self.open(&[path], |elf, source| build_id(elf, source).as_deref() == Some(id))
        });
        let (source, elf) = by_id.or_else(|| self.by_link(module))?;
        let common = self.common(&source, &elf);
        Some(Debug { source, elf, common })
    }

    fn by_link(&self, module: &Module) -> Option<(Content, Elf)> {
        let section = module.elf.section(".gnu_debuglink")?;
        let (name, crc) = debug_link(&content(&module.source, section, 4096)?)?;
        let (folder, _) = self.path.rsplit_once('/')?;
        let paths = [
            format!("{folder}/{name}"),
            format!("{folder}/.debug/{name}"),
            format!("/usr/lib/debug{folder}/{name}"),
        ];
        let id = module.build_id.as_deref();
        self.open(&paths, |elf, source| match (id, build_id(elf, source)) {
            (Some(a), Some(b)) => a == b,
            _ => checksum(source) == Some(crc),
        })
    }

    fn common(&self, source: &Content, elf: &Elf) -> Option<(Content, Elf)> {
        let section = elf.section(".gnu_debugaltlink")?;
        let (path, id) = debug_alt_link(&content(source, section, 8192)?)?;
        let name = path.rsplit('/').next()?;
        let text = hex(&id);
        let paths = [
            format!("/usr/lib/debug/.dwz/{name}"),
            format!("/usr/lib/debug/.dwz/{}-linux-gnu/{name}", std::env::consts::ARCH),
            format!("/usr/lib/debug/.build-id/{}/{}.debug", text.get(..2)?, text.get(2..)?),
        ];
        self.open(&paths, |elf, source| elf.build_id(source).as_deref() == Some(&id[..]))
    }

    /// The first file that is the one meant.
    fn open(
        &self,
        paths: &[String],
        is_meant: impl Fn(&Elf, &Content) -> bool,
    ) -> Option<(Content, Elf)> {
        self.roots
            .iter()
            .flat_map(|root| paths.iter().map(move |path| format!("{root}{path}")))
            .find_map(|path| {
                let (file, _) = super::file::regular(&path, false).ok()?;
                let source = Content::File(super::file::OnDisk(file));
                let elf = Elf::parse(&source)?;
                is_meant(&elf, &source).then_some((source, elf))
            })
    }
}

/// The CRC-32 of a file's content, where it isn't too long.
fn checksum(source: &Content) -> Option<u32> {
    let Content::File(file) = source else { return None };
    let size = file.0.metadata().ok()?.len();
    let bytes = file.read_at(0, usize::try_from(size).ok().filter(|_| size <= lines::SECTIONS)?)?;
    Some(crc32fast::hash(&bytes))
}

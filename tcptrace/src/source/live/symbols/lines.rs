//! Functions, inlined calls and lines from a module's debugging information (DWARF), by addr2line.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use addr2line::Context;
use gimli::{Dwarf, Reader, Section, SectionId};

use super::{
    bytes::{Bytes, with_steps},
    demangle::{cut, demangled},
};

/// Bytes of debugging information of one module, at most: beyond them there are no lines.
pub const SECTIONS: u64 = 256 << 20;
/// Steps of reading for one address: a unit with all its functions and lines.
const STEPS: u64 = 30_000_000;
/// Calls that were inlined into one another, at most.
const INLINED: usize = 32;

/// Gives a file's sections by their names.
pub type Sections<'a> = dyn Fn(&str) -> Option<Arc<[u8]>> + 'a;

/// A module's lines.
pub struct Lines {
    context: Context<Bytes>,
    bytes: usize,
}

/// A function at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceLine {
    /// Its name.
    pub function: Option<String>,
    /// The source file.
    pub file: Option<String>,
    /// The line.
    pub line: Option<u32>,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lines({} bytes)", self.bytes)
    }
}

impl Lines {
    /// From a file's sections; `common` gives those of the file that several debug files share.
    pub fn new(section: &Sections<'_>, common: Option<&Sections<'_>>) -> Option<Self> {
        let mut bytes = 0;
        let empty: Arc<[u8]> = Arc::from([]);
        let mut load = |id: SectionId, of: &Sections<'_>| {
            let wanted = matches!(
                id,
                SectionId::DebugAbbrev
                    | SectionId::DebugAddr
                    | SectionId::DebugAranges
                    | SectionId::DebugInfo
                    | SectionId::DebugLine
                    | SectionId::DebugLineStr
                    | SectionId::DebugRanges
                    | SectionId::DebugRngLists
                    | SectionId::DebugStr
                    | SectionId::DebugStrOffsets
            );
            let content = if wanted { of(id.name()) } else { None };
            let content = content.unwrap_or_else(|| Arc::clone(&empty));
            bytes += content.len();
            Ok::<Bytes, gimli::Error>(content.into())
        };
        let mut dwarf = Dwarf::load(|id| load(id, section)).ok()?;
        if dwarf.debug_info.reader().is_empty() {
            return None;
        }
        if let Some(common) = common {
            dwarf.load_sup(|id| load(id, common)).ok()?;
        }
        // What all units begin with is read: of an honest file a small part.
        let steps = 1_000_000 + bytes as u64;
        let context = bounded(steps, || Context::from_dwarf(dwarf).ok())?;
        Some(Self { context, bytes })
    }

    /// Bytes of memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // What addr2line makes of them comes to about as much again.
        2 * self.bytes
    }

    /// What is at an address: the function, and before it those that were inlined there, the
    /// innermost first. Empty where nothing is known.
    #[must_use]
    pub fn find(&self, address: u64) -> Vec<SourceLine> {
        bounded(STEPS, || {
            let mut list = Vec::new();
            let mut frames = self.context.find_frames(address).skip_all_loads().ok()?;
            while list.len() < INLINED {
                let Ok(Some(frame)) = frames.next() else { break };
                let name =
                    frame.function.and_then(|f| f.name.to_slice().ok().map(|n| demangled(&n)));
                let place = frame.location.as_ref();
                list.push(SourceLine {
                    function: name,
                    file: place.and_then(|l| l.file).map(|file| cut(file.to_owned())),
                    line: place.and_then(|l| l.line),
                });
            }
            Some(list)
        })
        .unwrap_or_default()
    }
}

/// Runs what reads other people's files: within so many steps, and where it panics, it failed.
fn bounded<T>(steps: u64, f: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(|| with_steps(steps, f))).ok().flatten()
}

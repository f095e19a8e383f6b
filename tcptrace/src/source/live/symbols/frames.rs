//! Frames from addresses.

use std::{fs::File, time::Instant};

use super::{
    Known, Used,
    demangle::demangled,
    file::{Content, FileKey},
    lines::SourceLine,
    module::{Finder, Module},
    walk::{Address, AddressSpace, Spot},
};
use crate::{
    engine::stack::{
        Cut, Frame, Missing,
        whose::{CodeKind, CodePlace, code},
        why::Machine,
    },
    formats::{
        maps::{self, Mapping},
        perf_map::names::{self, is_hotspot_machinery, named},
    },
    source::live::text,
};

/// Bytes of the kernel's own module, at most.
const VDSO: u64 = 64 << 10;

/// A frame of which nothing is known, because nothing is known of its process.
pub fn unnamed(at: u64, why: &Cut) -> Frame {
    let unknown = match why {
        Cut::NotPermitted => Missing::Unreadable,
        Cut::Time => Missing::Time,
        _ => Missing::Gone,
    };
    Frame { offset: at, unknown: Some(unknown), ..Frame::default() }
}

impl Known<'_> {
    /// The module that a mapping is of.
    fn module(&mut self, mapping: &Mapping) -> Result<FileKey, Missing> {
        let modules = &self.modules;
        let (key, new) = if mapping.is_vdso() {
            (FileKey::VDSO, (!modules.contains_key(&FileKey::VDSO)).then(vdso).flatten())
        } else {
            self.process.file(mapping, |key| modules.contains_key(&key))?
        };
        if let Some(module) = new {
            self.modules.insert(key, Used { at: self.clock, what: module });
        }
        let used = self.modules.get_mut(&key).ok_or(Missing::Unreadable)?;
        used.at = self.clock;
        Ok(key)
    }

    /// The frames at an address: that of the function, and before it those of what was inlined.
    pub fn frames(&mut self, address: Address) -> Vec<Frame> {
        let Some(mapping) = self.process.mapping(address.within()).cloned() else {
            let unknown = Some(Missing::NotMapped);
            return vec![Frame { offset: address.at, unknown, ..Frame::default() }];
        };
        if mapping.is_file() || mapping.is_vdso() {
            self.mapped(address, mapping)
        } else {
            vec![self.made(address)]
        }
    }

    fn mapped(&mut self, address: Address, mapping: Mapping) -> Vec<Frame> {
        let main = self.process.is_main(&mapping);
        let in_file = mapping.in_file(address.within());
        let frame = Frame { module: Some(mapping.path.clone()), ..Frame::default() };
        let whose = |frame: &Frame, kind| {
            code(&CodePlace {
                kind,
                module: frame.module.as_deref(),
                main,
                function: frame.function.as_deref(),
                file: frame.file.as_deref(),
            })
        };
        // In a file: the place itself, not the one before.
        let offset = in_file + (address.at - address.within());
        let unnamed = |why, kind| {
            let mut frame = Frame { offset, unknown: Some(why), ..frame.clone() };
            frame.code = whose(&frame, kind);
            vec![frame]
        };
        if Instant::now() >= self.deadline {
            return unnamed(Missing::Time, CodeKind::Native);
        }
        let key = match self.module(&mapping) {
            Ok(key) => key,
            Err(why) => return unnamed(why, CodeKind::Native),
        };
        let Some(module) = self.modules.get(&key).map(|u| &u.what) else { return Vec::new() };
        let kind = if module.is_go { CodeKind::Go } else { CodeKind::Native };
        let no_symbols = || Missing::NoSymbols { build_id: module.build_id.clone() };
        let Some(at) = module.address_of(in_file) else { return unnamed(no_symbols(), kind) };
        let symbol = module.symbols().find(at).map(|(name, start)| (demangled(name), start));
        let mut lines = module.lines().map(|lines| lines.find(at)).unwrap_or_default();
        let mut start = symbol.as_ref().map(|(_, start)| *start);
        if symbol.is_none() && lines.is_empty() {
            // Stripped, but for what Go's programs need themselves.
            lines.extend(module.go(at).map(|go| {
                start = Some(go.start);
                SourceLine { function: Some(go.name), file: go.file, line: go.line }
            }));
        }
        // A function's parts that were inlined into itself are one frame, with the innermost line.
        lines.dedup_by(|outer, inner| outer.function.is_some() && outer.function == inner.function);
        if lines.is_empty() {
            lines.push(SourceLine::default());
        }
        // The function itself is the last one; the debugging information may know its line only.
        if let (Some(last), Some((name, _))) = (lines.last_mut(), symbol) {
            // `read`, which is what its authors call `__GI___libc_read`.
            let underscores = |name: &str| name.bytes().take_while(|b| *b == b'_').count();
            match &last.function {
                Some(known) if underscores(known) <= underscores(&name) => {}
                _ => last.function = Some(name),
            }
        }
        let outer = lines.len() - 1;
        let mut frames = Vec::new();
        for (i, line) in lines.into_iter().enumerate() {
            let known = line.function.is_some();
            let mut frame = Frame {
                offset: start.map_or(offset, |start| at - start + (address.at - address.within())),
                function: line.function,
                file: line.file,
                line: line.line,
                inlined: i < outer,
                unknown: (!known).then(no_symbols),
                ..frame.clone()
            };
            frame.code = whose(&frame, kind);
            frames.push(frame);
        }
        frames
    }

    fn made(&mut self, address: Address) -> Frame {
        let (name, start) = match self.process.made(address.within()) {
            Ok(found) => found,
            Err(why) => {
                let offset = address.at;
                return Frame { offset, unknown: Some(why), ..Frame::default() };
            }
        };
        let name = named(&name);
        let jvms =
            self.process.machine == Some(Machine::Java) && is_hotspot_machinery(&name.function);
        let kind = match name.machine {
            _ if name.machinery || jvms => CodeKind::Machinery,
            Some(names::Spelling::Java) => CodeKind::Java,
            Some(names::Spelling::Node) => CodeKind::Node,
            Some(names::Spelling::Python) => CodeKind::Python,
            None => CodeKind::Made,
        };
        let function = if name.function.is_empty() { "(anonymous)".into() } else { name.function };
        let code = code(&CodePlace::script(kind, &function, name.file.as_deref()));
        let interpreted = jvms && function == "Interpreter";
        Frame {
            offset: address.at.saturating_sub(start),
            code,
            unknown: interpreted.then_some(Missing::Interpreted),
            function: Some(function),
            file: name.file,
            line: name.line,
            ..Frame::default()
        }
    }
}

impl AddressSpace for Known<'_> {
    fn code(&mut self, address: u64) -> Option<Spot<'_>> {
        let mapping = self.process.mapping(address)?.clone();
        if !(mapping.is_file() || mapping.is_vdso()) {
            let python = self.process.machine == Some(Machine::Python);
            let trampoline = python
                && self.process.made(address).is_ok_and(|(name, _)| name.starts_with("py::"));
            return Some(Spot::Made { path: None, trampoline });
        }
        let key = self.module(&mapping).ok();
        let module = key.and_then(|key| self.modules.get(&key)).map(|used| &used.what);
        let in_file = mapping.in_file(address);
        let place = module.and_then(|module| Some((module, module.address_of(in_file)?)));
        Some(match place {
            Some((module, at)) => Spot::Module {
                tables: module.tables(),
                // Only where nothing better is known.
                go_depth: if module.tables().is_empty() { module.go_depth(at) } else { None },
                address: at,
                bias: address.wrapping_sub(at),
                path: &module.find.path,
            },
            None => Spot::Made { path: Some(mapping.path), trampoline: false },
        })
    }

    fn machine(&self) -> Option<Machine> {
        self.process.machine
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

/// The kernel's code that is mapped into every process: ours is the same as any.
fn vdso() -> Option<Module> {
    let maps = text("/proc/self/maps").ok()?;
    let mapping = maps::parse(&maps, usize::MAX).into_iter().find(Mapping::is_vdso)?;
    let length = (mapping.end - mapping.start).min(VDSO);
    // Memory has no size as a file: it is read as far as it goes.
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    let file = File::open("/proc/self/mem").ok()?;
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, mapping.start).ok()?;
    let finder = Finder { roots: Vec::new(), path: mapping.path };
    Module::new(Content::Memory(bytes), finder)
}

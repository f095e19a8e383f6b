//! What is known of a process: its mappings, which files they are, its perf map.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use super::{
    file::{Content, FileKey, OnDisk, is_mapped, regular},
    module::{Finder, Module},
};
use crate::{
    engine::{
        language::{Language, language},
        name::file_name,
        record::ProcessId,
        stack::{Cut, Missing, why::Machine},
    },
    formats::{
        lines,
        maps::{self, Mapping},
        perf_map::PerfMap,
    },
    source::live::{process, text},
};

/// Executable mappings of a process, at most.
const MAPPINGS: usize = 16_384;
/// Bytes of `/proc/PID/maps`, at most.
const MAPS: u64 = 16 << 20;
/// Bytes of a perf map that are read, at most: its end.
const PERF_MAP: u64 = 64 << 20;
/// Mappings are read again after this.
const FRESH: Duration = Duration::from_secs(1);

/// A process.
#[derive(Debug)]
pub struct Program {
    id: ProcessId,
    mappings: Vec<Mapping>,
    read: Option<Instant>,
    failed: Option<Cut>,
    exe: Option<(u64, String)>,
    /// Its pid in its own pid namespace.
    inner_pid: u32,
    uid: Option<u32>,
    /// What it runs, where that shows.
    pub machine: Option<Machine>,
    files: HashMap<((u32, u32), u64), Result<FileKey, Missing>>,
    perf: Option<PerfFile>,
    refused: bool,
}

#[derive(Debug)]
struct PerfFile {
    key: FileKey,
    read: Instant,
    /// Reading it took so long: the next time comes much later.
    took: Duration,
    map: PerfMap,
}

impl PerfFile {
    /// Whether it was read so lately: at most a twentieth of the time is spent on reading it.
    fn is_fresh(&self, within: Duration) -> bool {
        self.read.elapsed() < within.max(20 * self.took)
    }
}

impl Program {
    /// Reads what there is of it.
    #[must_use]
    pub fn new(id: ProcessId) -> Self {
        let mut new = Self {
            id,
            mappings: Vec::new(),
            read: None,
            failed: Some(Cut::Gone),
            exe: None,
            inner_pid: id.pid,
            uid: None,
            machine: None,
            files: HashMap::new(),
            perf: None,
            refused: false,
        };
        new.refresh();
        new
    }

    /// Reads its mappings again, if they may have changed, and it lives.
    pub fn refresh(&mut self) {
        if self.read.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        let pid = self.id.pid;
        let lives = || process::find(pid).is_some_and(|now| self.id.is_same(now));
        if !lives() {
            return;
        }
        self.read = Some(Instant::now());
        let mut bytes = Vec::new();
        let read = File::open(format!("/proc/{pid}/maps"))
            .and_then(|file| file.take(MAPS).read_to_end(&mut bytes));
        match read {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                self.failed = Some(Cut::NotPermitted);
                return;
            }
            Err(_) => return,
        }
        let mappings = maps::parse(&String::from_utf8_lossy(&bytes), MAPPINGS);
        // A process that is ending has none, and one with its pid may be there by now.
        if mappings.is_empty() || !lives() {
            return;
        }
        (self.mappings, self.failed) = (mappings, None);
        let path = fs::read_link(format!("/proc/{pid}/exe")).ok();
        let inode = fs::metadata(format!("/proc/{pid}/exe")).ok();
        self.exe =
            path.zip(inode).map(|(path, stat)| (stat.ino(), path.to_string_lossy().into_owned()));
        let status = text(&format!("/proc/{pid}/status")).unwrap_or_default();
        self.inner_pid = process::inner_pid(&status).unwrap_or(pid);
        let ids = lines::value(&status, "Uid");
        self.uid = ids.and_then(|ids| ids.split_whitespace().next()?.parse().ok());
        self.machine = self.find_machine();
    }

    /// Why nothing is known of its mappings.
    #[must_use]
    pub fn failed(&self) -> Option<&Cut> {
        self.failed.as_ref()
    }

    /// The mapping that an address is in, if it may be run.
    #[must_use]
    pub fn mapping(&self, address: u64) -> Option<&Mapping> {
        maps::find(&self.mappings, address)
    }

    /// Whether it is mapped from the program's executable.
    #[must_use]
    pub fn is_main(&self, mapping: &Mapping) -> bool {
        self.exe.as_ref().is_some_and(|(inode, _)| *inode == mapping.inode) && mapping.is_file()
    }

    fn find_machine(&self) -> Option<Machine> {
        let exe = self.exe.as_ref().map_or("", |(_, path)| path);
        match language(file_name(exe), "") {
            Some(Language::Java) => return Some(Machine::Java),
            Some(Language::Node) => return Some(Machine::Node),
            Some(Language::Python) => return Some(Machine::Python),
            _ => {}
        }
        self.mappings.iter().find_map(|m| {
            let name = file_name(&m.path);
            match name {
                "libjvm.so" => Some(Machine::Java),
                _ if name.starts_with("libpython") => Some(Machine::Python),
                _ if name.starts_with("libnode.so") => Some(Machine::Node),
                _ => None,
            }
        })
    }

    /// Which file a mapping is of; opened and made a module where `known` has none of it.
    ///
    /// # Errors
    /// Why it can't be told.
    pub fn file(
        &mut self,
        mapping: &Mapping,
        known: impl FnOnce(FileKey) -> bool,
    ) -> Result<(FileKey, Option<Module>), Missing> {
        let of = (mapping.device, mapping.inode);
        let key = self.files.get(&of).cloned();
        match key {
            Some(Ok(key)) if known(key) => return Ok((key, None)),
            Some(Err(why)) => return Err(why),
            _ => {}
        }
        let result = self.open(mapping).map(|(file, key)| {
            let roots = vec![format!("/proc/{}/root", self.id.pid), String::new()];
            let find = Finder { roots, path: mapping.path.clone() };
            (key, Module::new(Content::File(OnDisk(file)), find))
        });
        let key = match &result {
            Ok((key, Some(_))) => Ok(*key),
            Ok((_, None)) => Err(Missing::NotElf),
            Err(why) => Err(why.clone()),
        };
        self.files.insert(of, key.clone());
        let key = key?;
        Ok((key, result.ok().and_then(|(_, module)| module)))
    }

    /// The mapped file itself: by its path in the process's root; where another is there by now, by
    /// the mapping (which takes CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN); where the process has
    /// ended, by its path here.
    fn open(&self, mapping: &Mapping) -> Result<(File, FileKey), Missing> {
        let (pid, path) = (self.id.pid, &mapping.path);
        let mut places = vec![format!("/proc/{pid}/root{path}")];
        if self.is_main(mapping) {
            places.push(format!("/proc/{pid}/exe"));
        }
        places.push(format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end));
        places.push(path.clone());
        let mut other = mapping.deleted;
        for place in places {
            match regular(&place, false) {
                Ok((file, stat)) if is_mapped(&file, &stat, mapping) => {
                    return Ok((file, FileKey::of(&stat)));
                }
                Ok(_) => other = true,
                Err(_) => {}
            }
        }
        Err(if other { Missing::Replaced } else { Missing::Unreadable })
    }

    /// The name that the process gives to code it made itself, and where that begins.
    ///
    /// # Errors
    /// Why there is none.
    pub fn made(&mut self, address: u64) -> Result<(String, u64), Missing> {
        let find = |perf: &PerfFile| {
            let (name, of) = perf.map.find(address)?;
            Some((String::from_utf8_lossy(name).into_owned(), of))
        };
        if let Some(found) = self.perf.as_ref().filter(|p| p.is_fresh(FRESH)).and_then(find) {
            return Ok(found);
        }
        self.read_perf_map();
        match &self.perf {
            Some(perf) => find(perf).ok_or(Missing::NotInPerfMap { machine: self.machine }),
            None if self.refused => Err(Missing::PerfMapRefused),
            None => Err(Missing::NoPerfMap { machine: self.machine }),
        }
    }

    /// Bytes of memory that its perf map takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.perf.as_ref().map_or(0, |p| p.map.bytes())
    }

    fn read_perf_map(&mut self) {
        if self.perf.as_ref().is_some_and(|p| p.is_fresh(FRESH / 4)) {
            return;
        }
        let path = format!("/proc/{}/root/tmp/perf-{}.map", self.id.pid, self.inner_pid);
        let (mut file, stat) = match regular(&path, true) {
            Ok(opened) => opened,
            Err(e) => {
                self.refused = e.kind() == io::ErrorKind::InvalidInput;
                return;
            }
        };
        // Anybody may write into /tmp.
        if stat.uid() != 0 && Some(stat.uid()) != self.uid {
            self.refused = true;
            return;
        }
        let key = FileKey::of(&stat);
        if let Some(perf) = self.perf.as_mut().filter(|p| p.key == key) {
            perf.read = Instant::now();
            return;
        }
        let began = Instant::now();
        let size = stat.size();
        let mut content = Vec::new();
        let skipped = size.saturating_sub(PERF_MAP);
        let read = file
            .seek(SeekFrom::Start(skipped))
            .and_then(|_| file.take(PERF_MAP).read_to_end(&mut content));
        if read.is_err() {
            return;
        }
        // The first line may be a part of one, and so may the last, which is being written.
        let whole = match content.iter().position(|b| *b == b'\n') {
            Some(first) if skipped > 0 => &content[first..],
            _ => &content,
        };
        let map = PerfMap::parse(whole);
        self.perf = Some(PerfFile { key, read: Instant::now(), took: began.elapsed(), map });
    }
}

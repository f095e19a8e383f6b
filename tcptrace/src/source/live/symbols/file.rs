//! Files of other people's programs: opened so that nothing happens by it, and known for the ones
//! that were mapped.

use std::{
    fs::{File, Metadata},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
};

use rustix::fs::{Mode, OFlags, fstatfs, major, minor, open};

use crate::formats::{elf::ReadAt, maps::Mapping};

/// A file, told from others and from its own later content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl FileKey {
    /// Of a file.
    #[must_use]
    pub fn of(stat: &Metadata) -> Self {
        Self {
            device: stat.dev(),
            inode: stat.ino(),
            size: stat.size(),
            changed: (stat.mtime(), stat.mtime_nsec()),
        }
    }

    /// The kernel's code that is mapped into all processes.
    pub const VDSO: Self = Self { device: 0, inode: 0, size: 0, changed: (0, 0) };
}

/// Opens a regular file for reading. Links are followed but for the last one if `no_link`. Neither
/// a device nor a FIFO is opened: whoever owns the path may have put one there.
///
/// # Errors
/// What the kernel answers; `InvalidInput` for what is no regular file.
pub fn regular(path: &str, no_link: bool) -> io::Result<(File, Metadata)> {
    let last = if no_link { OFlags::NOFOLLOW } else { OFlags::empty() };
    // Opening with O_PATH does nothing to what is there.
    let place = File::from(open(path, OFlags::PATH | OFlags::CLOEXEC | last, Mode::empty())?);
    let stat = place.metadata()?;
    if !stat.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let same = format!("/proc/self/fd/{}", place.as_raw_fd());
    let file = open(same, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
    Ok((File::from(file), stat))
}

/// Whether the file is the one that was mapped.
#[must_use]
pub fn is_mapped(file: &File, stat: &Metadata, mapping: &Mapping) -> bool {
    // uapi/linux/magic.h. What stat(2) calls the device there is not what the mapping has.
    const OVERLAYFS: u64 = 0x794c_7630;
    const BTRFS: u64 = 0x9123_683e;
    if stat.ino() != mapping.inode {
        return false;
    }
    (major(stat.dev()), minor(stat.dev())) == mapping.device
        || fstatfs(file)
            .is_ok_and(|fs| [OVERLAYFS, BTRFS].contains(&(fs.f_type as u64 & 0xffff_ffff)))
}

/// The file that was mapped, by its path in the process's root; `None`: there is none any more, or
/// another one.
#[must_use]
pub fn mapped(pid: u32, mapping: &Mapping) -> Option<OnDisk> {
    let (file, stat) = regular(&format!("/proc/{pid}/root{}", mapping.path), false).ok()?;
    is_mapped(&file, &stat, mapping).then_some(OnDisk(file))
}

/// A file that is read at offsets.
#[derive(Debug)]
pub struct OnDisk(pub File);

impl ReadAt for OnDisk {
    fn read_at(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        // No more is taken than the file has, whatever its headers say.
        let size = self.0.metadata().ok()?.len();
        if offset.checked_add(length as u64)? > size {
            return None;
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).ok()?;
        bytes.resize(length, 0);
        self.0.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }
}

/// Where an ELF file's bytes are.
#[derive(Debug)]
pub enum Content {
    /// In a file.
    File(OnDisk),
    /// In memory.
    Memory(Vec<u8>),
}

impl ReadAt for Content {
    fn read_at(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        match self {
            Self::File(file) => file.read_at(offset, length),
            Self::Memory(bytes) => bytes[..].read_at(offset, length),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
        fs::write(path("file"), b"abc").expect("a file");
        symlink(path("file"), path("link")).expect("a link");
        rustix::fs::mkfifoat(rustix::fs::CWD, path("fifo"), Mode::RUSR).expect("a FIFO");
        let (file, _) = regular(&path("file"), true).expect("opens");
        assert_eq!(OnDisk(file).read_at(1, 2), Some(b"bc".to_vec()));
        let (file, stat) = regular(&path("link"), false).expect("opens");
        assert_eq!(OnDisk(file).read_at(1, 3), None, "not beyond its end");
        assert_eq!(FileKey::of(&stat).size, 3);
        for (name, no_link) in [("link", true), ("fifo", false), (".", false), ("none", false)] {
            assert!(regular(&path(name), no_link).is_err(), "{name}");
        }
        assert!(regular("/dev/null", false).is_err());
    }
}

//! Array maps of the kernel programs as memory: no system call to read them, none to answer.

use std::{
    io,
    marker::PhantomData,
    os::fd::AsFd,
    ptr::{self, NonNull},
};

use aya::maps::MapData;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A mapped array map of `len` values. Its values lie one after the other, as in a C array where
/// their size is a multiple of 8 (`array_map_mmap`, kernel/bpf/arraymap.c).
#[derive(Debug)]
pub struct Mapped<T> {
    start: NonNull<T>,
    len: usize,
    values: PhantomData<T>,
}

// SAFETY: the mapping is the process's, not a thread's; values are read as they are and written
// through pointers only, whose users say what keeps them apart.
unsafe impl<T: Send> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Mapped<T> {}

impl<T: Copy> Mapped<T> {
    const WHOLE_WORDS: () = assert!(size_of::<T>().is_multiple_of(8));

    /// Maps a map that has at least `len` values of the type.
    ///
    /// # Errors
    /// What mmap answers.
    pub fn new(map: &MapData, len: usize) -> io::Result<Self> {
        let () = Self::WHOLE_WORDS;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let bytes = len * size_of::<T>();
        // SAFETY: a fresh mapping, which the kernel refuses if it is longer than the map.
        let start =
            unsafe { mmap(ptr::null_mut(), bytes, access, MapFlags::SHARED, map.fd().as_fd(), 0)? };
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { start, len, values: PhantomData })
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.len
    }

    /// Where a value is. The kernel may change it at any time.
    ///
    /// # Panics
    /// There is no such value.
    #[must_use]
    pub fn at(&self, index: usize) -> *mut T {
        assert!(index < self.len, "no such value");
        // SAFETY: within the mapping.
        unsafe { self.start.as_ptr().add(index) }
    }

    /// A value as it is now, or is becoming.
    ///
    /// # Panics
    /// There is no such value.
    #[must_use]
    pub fn read(&self, index: usize) -> T {
        // SAFETY: within the mapping; plain integers, which the kernel may change at any time.
        unsafe { self.at(index).read_volatile() }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and nothing borrows from it.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}

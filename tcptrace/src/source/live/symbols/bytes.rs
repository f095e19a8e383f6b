//! Bytes of a section as gimli reads them, with a limit of steps: the files are other people's, and
//! what they say may go round in circles.

use std::{borrow::Cow, cell::Cell, fmt, sync::Arc};

use gimli::{Error, LittleEndian, Reader, ReaderOffsetId, Result};

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(0) };
}

/// Bytes that are looked through count as a step, so many of them.
const A_STEP: usize = 32;

/// Runs `f` with so many steps of reading; beyond them all that is read fails.
pub fn with_steps<T>(steps: u64, f: impl FnOnce() -> T) -> T {
    LEFT.set(steps);
    let result = f();
    LEFT.set(0);
    result
}

/// Shared bytes, or a part of them.
#[derive(Clone)]
pub struct Bytes {
    all: Arc<[u8]>,
    start: usize,
    end: usize,
}

impl From<Arc<[u8]>> for Bytes {
    fn from(all: Arc<[u8]>) -> Self {
        Self { start: 0, end: all.len(), all }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({}..{})", self.start, self.end)
    }
}

impl Bytes {
    fn slice(&self) -> &[u8] {
        self.all.get(self.start..self.end).unwrap_or_default()
    }

    fn end_of_input(&self) -> Error {
        Error::UnexpectedEof(self.offset_id())
    }

    fn step(&self, bytes: usize) -> Result<()> {
        let steps = 1 + (bytes / A_STEP) as u64;
        let left = LEFT.get().checked_sub(steps).ok_or_else(|| self.end_of_input())?;
        LEFT.set(left);
        Ok(())
    }

    /// Where a piece that is `length` long ends.
    fn part(&self, length: usize) -> Result<usize> {
        let end = self.start.checked_add(length).filter(|end| *end <= self.end);
        end.ok_or_else(|| self.end_of_input())
    }
}

impl Reader for Bytes {
    type Endian = LittleEndian;
    type Offset = usize;

    fn endian(&self) -> LittleEndian {
        LittleEndian
    }

    fn len(&self) -> usize {
        self.end - self.start
    }

    fn empty(&mut self) {
        self.end = self.start;
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        self.end = self.part(len)?;
        Ok(())
    }

    fn offset_from(&self, base: &Self) -> usize {
        self.start.saturating_sub(base.start)
    }

    fn offset_id(&self) -> ReaderOffsetId {
        ReaderOffsetId(self.all.as_ptr() as u64 + self.start as u64)
    }

    fn lookup_offset_id(&self, id: ReaderOffsetId) -> Option<usize> {
        let offset = usize::try_from(id.0.checked_sub(self.offset_id().0)?).ok()?;
        (offset <= self.len()).then_some(offset)
    }

    fn find(&self, byte: u8) -> Result<usize> {
        let found = self.slice().iter().position(|b| *b == byte);
        self.step(found.unwrap_or(self.len()))?;
        found.ok_or_else(|| self.end_of_input())
    }

    fn skip(&mut self, len: usize) -> Result<()> {
        self.step(0)?;
        self.start = self.part(len)?;
        Ok(())
    }

    fn split(&mut self, len: usize) -> Result<Self> {
        self.step(0)?;
        let end = self.part(len)?;
        let part = Self { all: Arc::clone(&self.all), start: self.start, end };
        self.start = end;
        Ok(part)
    }

    fn to_slice(&self) -> Result<Cow<'_, [u8]>> {
        self.step(self.len())?;
        Ok(Cow::Borrowed(self.slice()))
    }

    fn to_string(&self) -> Result<Cow<'_, str>> {
        self.step(self.len())?;
        std::str::from_utf8(self.slice()).map(Cow::Borrowed).map_err(|_| Error::BadUtf8)
    }

    fn to_string_lossy(&self) -> Result<Cow<'_, str>> {
        self.step(self.len())?;
        Ok(String::from_utf8_lossy(self.slice()))
    }

    fn read_slice(&mut self, buf: &mut [u8]) -> Result<()> {
        self.step(buf.len())?;
        let end = self.part(buf.len())?;
        let part = self.all.get(self.start..end).ok_or_else(|| self.end_of_input())?;
        buf.copy_from_slice(part);
        self.start = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_ends_with_the_steps() {
        let all = Bytes::from(Arc::<[u8]>::from(vec![7; 100]));
        let read = |steps| {
            with_steps(steps, || {
                let mut bytes = all.clone();
                (0..100).take_while(|_| bytes.read_u8().is_ok()).count()
            })
        };
        assert_eq!((read(0), read(10), read(1_000)), (0, 10, 100));
        assert!(all.clone().read_u8().is_err(), "none are left over");
        assert!(with_steps(3, || all.find(1)).is_err());
        assert_eq!(with_steps(3, || all.find(7)), Ok(0));
    }

    #[test]
    fn parts() {
        with_steps(100, || {
            let mut rest = Bytes::from(Arc::<[u8]>::from(vec![1, 2, 3, 4]));
            let base = rest.clone();
            let mut part = rest.split(3).expect("three");
            assert_eq!((part.len(), rest.len(), rest.offset_from(&base)), (3, 1, 3));
            assert_eq!(base.lookup_offset_id(rest.offset_id()), Some(3));
            assert!(part.skip(4).is_err() && rest.truncate(2).is_err());
            assert_eq!(part.read_u16(), Ok(0x201));
            assert!(part.read_u16().is_err());
        });
    }
}

//! Reads a recording: one file after the other, batch by batch.

use std::io::{self, Read};

use bytes::Bytes;

use super::{
    Batch, Header, VERSION,
    frame::{Beginning, FrameKind, HEAD, MARK, read as read_frame},
};

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// The header: comes first.
    Header(Box<Header>),
    /// Facts.
    Batch(Batch),
    /// Something could not be read; what comes behind it can.
    Damage(Damage),
    /// The last: how the file ends.
    End(Ending),
}

/// Bytes that are no part of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where they begin.
    pub at: u64,
    /// How many.
    pub bytes: u64,
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As its writer meant it to.
    Whole,
    /// As its writer meant it to: the recording goes on in another file.
    Continued,
    /// In the middle: its writer was killed, had no room left on the disk, or still writes. So many
    /// bytes at the end are the beginning of a frame.
    Cut {
        /// How many.
        rest: u64,
    },
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is something else.
    #[error("this is no recording of tcptrace's")]
    Foreign,
    /// It is empty.
    #[error("it is empty: its writer has not begun, or had no room")]
    Empty,
    /// A later version of tcptrace wrote it.
    #[error(
        "it was written in version {0} of the format, this tcptrace reads {VERSION}; take a newer one"
    )]
    Newer(u16),
    /// What reading answers.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads one file.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    /// What was read and not used yet.
    buffer: Vec<u8>,
    /// Of that: used.
    used: usize,
    /// Where the buffer begins in the file.
    at: u64,
    ended: bool,
    /// The contents of the frame that is being read.
    batches: Bytes,
    /// How the file ends, when its last frame has been read.
    ending: Option<Ending>,
    begun: bool,
    done: bool,
}

/// Bytes asked for at once.
const CHUNK: usize = 256 << 10;

impl<R: Read> Reader<R> {
    /// A reader of what `from` has.
    pub fn new(from: R) -> Self {
        Self {
            from,
            buffer: Vec::new(),
            used: 0,
            at: 0,
            ended: false,
            batches: Bytes::new(),
            ending: None,
            begun: false,
            done: false,
        }
    }

    /// The header, where the file begins with one.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn header(&mut self) -> Result<Header, Unreadable> {
        match self.next_piece()? {
            Some(Piece::Header(header)) => Ok(*header),
            _ => Err(Unreadable::Foreign),
        }
    }

    /// What comes next; `None` behind the end.
    ///
    /// # Errors
    /// [`Unreadable`]; then there is nothing more.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, Unreadable> {
        if self.done {
            return Ok(None);
        }
        let mut skipped = 0;
        loop {
            if !self.batches.is_empty() {
                return Ok(Some(self.batch()));
            }
            let place = self.place();
            let damage = Damage { at: place - skipped, bytes: skipped };
            match read_frame(&self.buffer[self.used..]) {
                _ if skipped > 0 && self.starts_whole()? => {
                    return Ok(Some(Piece::Damage(damage)));
                }
                Beginning::Short(all) if !self.ended => self.fill(all)?,
                Beginning::Short(_) => return self.cut(damage),
                Beginning::Newer(version) => {
                    self.done = true;
                    return Err(Unreadable::Newer(version));
                }
                Beginning::Frame(frame, length) => {
                    self.used += length;
                    match frame.kind {
                        // A zero stands for the last field, where an older file lacks it.
                        FrameKind::Header => {
                            match postcard::from_bytes(&[&frame.contents[..], &[0]].concat()) {
                                Ok(header) if !self.begun => {
                                    self.begun = true;
                                    return Ok(Some(Piece::Header(Box::new(header))));
                                }
                                _ => skipped += length as u64,
                            }
                        }
                        _ if !self.begun => return self.foreign(),
                        FrameKind::Batches => {
                            self.batches = frame.contents.into();
                        }
                        FrameKind::End | FrameKind::Continued => {
                            let whole = frame.kind == FrameKind::End;
                            let ending = if whole { Ending::Whole } else { Ending::Continued };
                            self.ending = Some(ending);
                        }
                    }
                }
                Beginning::Garbled if !self.begun => return self.foreign(),
                Beginning::Garbled => {
                    self.used += 1;
                    skipped += 1 + self.skip_to_mark() as u64;
                }
            }
        }
    }

    /// The next batch of the frame.
    fn batch(&mut self) -> Piece {
        let bytes = self.batches.len() as u64;
        if let Ok(batch) = Batch::read(&mut self.batches) {
            return Piece::Batch(batch);
        }
        // The checksum is right and the contents are not: a writer's mistake.
        self.batches.clear();
        Piece::Damage(Damage { at: self.place(), bytes })
    }

    /// Whether a whole frame, or the end, is where the reader is: behind damage.
    fn starts_whole(&mut self) -> Result<bool, Unreadable> {
        loop {
            match read_frame(&self.buffer[self.used..]) {
                Beginning::Short(all) if !self.ended => self.fill(all)?,
                Beginning::Garbled => return Ok(false),
                // What is cut off behind damage is part of it.
                Beginning::Short(_) => return Ok(self.used == self.buffer.len()),
                Beginning::Frame(..) | Beginning::Newer(_) => return Ok(true),
            }
        }
    }

    /// Goes on to where a frame may begin; how far that was.
    fn skip_to_mark(&mut self) -> usize {
        let rest = &self.buffer[self.used..];
        let found = rest.windows(MARK.len()).position(|bytes| bytes == MARK);
        // A mark may have begun in the last bytes.
        let far = found.unwrap_or(rest.len().saturating_sub(MARK.len() - 1));
        self.used += far;
        far
    }

    fn foreign(&mut self) -> Result<Option<Piece>, Unreadable> {
        self.done = true;
        Err(Unreadable::Foreign)
    }

    /// The file is over.
    fn cut(&mut self, damage: Damage) -> Result<Option<Piece>, Unreadable> {
        let rest = (self.buffer.len() - self.used) as u64;
        if damage.bytes > 0 {
            self.used = self.buffer.len();
            let bytes = damage.bytes + rest;
            return Ok(Some(Piece::Damage(Damage { bytes, ..damage })));
        }
        self.done = true;
        if !self.begun {
            return Err(if self.place() + rest == 0 {
                Unreadable::Empty
            } else {
                Unreadable::Foreign
            });
        }
        let ending = self.ending.filter(|_| rest == 0).unwrap_or(Ending::Cut { rest });
        Ok(Some(Piece::End(ending)))
    }

    fn place(&self) -> u64 {
        self.at + self.used as u64
    }

    /// Reads on until `all` bytes are there behind what was used, or the file ends.
    fn fill(&mut self, all: usize) -> Result<(), Unreadable> {
        self.buffer.drain(..self.used);
        self.at += self.used as u64;
        self.used = 0;
        while self.buffer.len() < all.max(HEAD) {
            // No more room than for what comes: lengths may be wrong.
            let before = self.buffer.len();
            self.buffer.resize(before + CHUNK, 0);
            let read = loop {
                match self.from.read(&mut self.buffer[before..]) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                self.ended = true;
                break;
            }
        }
        Ok(())
    }
}

//! The thread that compresses and writes, and the files that it writes.
//!
//! When a frame is on the disk: it is written when it is full or a second old, and the disk is
//! asked to keep it (fdatasync(2)) ten seconds later at the latest, and at the end of each file.
//! SIGKILL so costs a second; a power cut, ten more.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rustix::{
    fs::{Access, AtFlags, Mode, OFlags, accessat, fdatasync, ftruncate, open, openat, unlinkat},
    io::Errno,
};

use super::{
    Header,
    frame::{self, FrameKind, write as write_frame},
    options::{Options, Written},
    remembered::Remembered,
};
use crate::{engine::record::BootNs, source};

/// What is written is safe from a power cut after this time.
const SYNC: Duration = Duration::from_secs(10);
/// Frames that wait for the disk. When there are more, taking in facts waits, and the kernel's
/// buffers count what they can't hold.
const WAITING: usize = 64;
/// The frame that ends a file takes this much.
const END: u64 = frame::HEAD as u64;

/// What the thread is told.
pub enum Message {
    /// The contents of a frame, and when its first facts were taken in.
    Frame(BytesMut, BootNs),
    /// What follows can be read without what was before.
    Segment {
        /// When it began.
        began: BootNs,
    },
    /// From here on all is written, what is remembered first.
    Trigger,
    /// What is remembered is asked for, as a recording of its own.
    Copy {
        /// From the segment on that this is in.
        since: BootNs,
        /// Who is handed it.
        to: Box<dyn FnOnce(Vec<u8>) + Send>,
    },
    /// That was all.
    End,
}

/// Where to.
pub struct Opened {
    to: To,
    /// Files are made later.
    makes_files: bool,
}

enum To {
    Stdout,
    File { directory: OwnedFd, path: PathBuf, name: OsString, first: Option<File> },
}

impl Opened {
    /// Makes the first file, unless that is for later.
    pub fn new(options: &Options) -> io::Result<Self> {
        let Some(path) = &options.path else {
            return Ok(Self { to: To::Stdout, makes_files: false });
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_owned();
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = open(parent.unwrap_or(Path::new(".")), flags, Mode::empty())?;
        let later = options.on_leak.is_some();
        let first = if later {
            // It would be found out when it is too late.
            match accessat(&directory, &name, Access::EXISTS, AtFlags::empty()) {
                Err(Errno::NOENT) => None,
                Err(e) => return Err(e.into()),
                Ok(()) => return Err(io::ErrorKind::AlreadyExists.into()),
            }
        } else {
            Some(make(&directory, &name)?)
        };
        let makes_files = later || options.max_size.is_some() || options.rotate.is_some();
        Ok(Self { to: To::File { directory, path: path.clone(), name, first }, makes_files })
    }

    /// The directory that files are made in later.
    pub fn makes_files(&self) -> Option<i32> {
        match &self.to {
            To::File { directory, .. } if self.makes_files => Some(directory.as_raw_fd()),
            _ => None,
        }
    }

    /// Whether files can be made later with the rights that are left.
    pub fn check_rights(&self) -> io::Result<()> {
        match &self.to {
            To::File { directory, .. } if self.makes_files => {
                let access = Access::WRITE_OK | Access::EXEC_OK;
                Ok(accessat(directory, ".", access, AtFlags::EACCESS)?)
            }
            _ => Ok(()),
        }
    }
}

/// A file that nobody else may read, and that was not there before.
fn make(directory: &OwnedFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// The thread.
pub struct Writer {
    messages: SyncSender<Message>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Written>>,
    facts: u64,
}

/// What both sides know.
#[derive(Default)]
struct Shared {
    /// Bytes of the file that is being written, or of the segment that is remembered.
    size: AtomicU64,
    /// A file began in the middle of a segment.
    in_the_middle: AtomicBool,
    failed: Mutex<Option<io::Error>>,
}

impl Writer {
    /// Starts it.
    pub fn start(opened: Opened, header: Header, options: Options) -> io::Result<Self> {
        let (messages, told) = sync_channel(WAITING);
        let shared = Arc::<Shared>::default();
        let mut work = Work::new(opened, header, options, Arc::clone(&shared));
        let run = move || {
            if let Err(e) = work.run(&told) {
                *work.shared.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
            }
            work.written
        };
        let thread = source::thread("recorder", run)?;
        Ok(Self { messages, shared, thread: Some(thread), facts: 0 })
    }

    /// Hands a message over; waits where the disk is slow.
    pub fn send(&self, message: Message) -> io::Result<()> {
        self.messages.send(message).map_err(|_| self.failure())
    }

    fn failure(&self) -> io::Error {
        let failed = self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.unwrap_or_else(|| io::Error::other("the thread that writes is gone"))
    }

    /// See [`Shared::size`].
    pub fn size(&self) -> u64 {
        self.shared.size.load(Relaxed)
    }

    /// Whether a file began in the middle of a segment since this was asked last.
    pub fn takes_in_the_middle(&self) -> bool {
        self.shared.in_the_middle.swap(false, Relaxed)
    }

    /// So many facts went in.
    pub fn count(&mut self, facts: usize) {
        self.facts += facts as u64;
    }

    /// Waits until all is written.
    pub fn finish(mut self) -> io::Result<Written> {
        let told = self.send(Message::End);
        let written = self.thread.take().and_then(|thread| thread.join().ok());
        told?;
        if self.shared.failed.lock().is_ok_and(|failed| failed.is_some()) {
            return Err(self.failure());
        }
        Ok(Written { facts: self.facts, ..written.unwrap_or_default() })
    }
}

/// What the thread has.
struct Work {
    opened: Opened,
    header: Header,
    options: Options,
    shared: Arc<Shared>,
    /// The file; none before the first leak of a flight recorder.
    to: Option<Box<dyn Sink>>,
    /// When the first facts of the last frame were taken in.
    began: BootNs,
    /// Bytes of the file that are whole frames.
    whole: u64,
    /// The end of a file is being written.
    ending: bool,
    unsynced: Option<Instant>,
    /// What a flight recorder remembers.
    remembered: Remembered,
    /// The number of the next file.
    part: u32,
    /// The files that are there, the oldest first.
    there: VecDeque<There>,
    written: Written,
}

/// A file that is there.
struct There {
    name: OsString,
    size: u64,
}

/// A file, or stdout.
trait Sink: Write + Send {
    /// Until what was written is on the disk.
    fn sync(&self) -> io::Result<()>;
    /// Throws away what is behind `length`.
    fn cut(&self, length: u64);
}

impl Sink for File {
    fn sync(&self) -> io::Result<()> {
        match fdatasync(self) {
            // A pipe or a device has nothing to be kept.
            Err(Errno::INVAL | Errno::ROFS) | Ok(()) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn cut(&self, length: u64) {
        // What is cut is half a frame, which readers leave out anyway.
        let _ = ftruncate(self, length);
    }
}

impl Sink for io::Stdout {
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn cut(&self, _: u64) {}
}

impl Work {
    fn new(opened: Opened, header: Header, options: Options, shared: Arc<Shared>) -> Self {
        Self {
            remembered: Remembered::new(header.began_ns, &options),
            opened,
            header,
            options,
            shared,
            to: None,
            began: 0,
            whole: 0,
            ending: false,
            unsynced: None,
            part: 0,
            there: VecDeque::new(),
            written: Written::default(),
        }
    }

    fn run(&mut self, told: &Receiver<Message>) -> io::Result<()> {
        if self.options.on_leak.is_none() {
            self.begin_file(self.header.began_ns)?;
        }
        loop {
            let patience = self.unsynced.map_or(SYNC, |since| SYNC.saturating_sub(since.elapsed()));
            match told.recv_timeout(patience) {
                Ok(Message::Frame(contents, began)) => {
                    self.began = began;
                    self.frame(&contents)?;
                }
                Ok(Message::Segment { began }) => self.segment(began)?,
                Ok(Message::Trigger) => self.trigger()?,
                Ok(Message::Copy { since, to }) => to(self.copy(since)?),
                Err(RecvTimeoutError::Timeout) => self.sync()?,
                // The watch is gone without a word: what is there is whole all the same.
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => {
                    return if self.to.is_some() { self.end_file(FrameKind::End) } else { Ok(()) };
                }
            }
        }
    }

    fn frame(&mut self, contents: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        write_frame(FrameKind::Batches, contents, &mut bytes);
        if self.to.is_some() {
            return self.write(&bytes);
        }
        self.shared.size.store(self.remembered.add(&bytes), Relaxed);
        Ok(())
    }

    fn segment(&mut self, began: BootNs) -> io::Result<()> {
        if self.to.is_some() {
            self.end_file(FrameKind::Continued)?;
            return self.begin_file(began);
        }
        self.written.forgotten |= self.remembered.begin(began);
        self.shared.size.store(0, Relaxed);
        Ok(())
    }

    fn trigger(&mut self) -> io::Result<()> {
        let segments = self.remembered.take();
        let began = segments.front().map_or(self.header.began_ns, |first| first.began);
        self.begin_file(began)?;
        segments.into_iter().try_for_each(|segment| self.write(&segment.frames))
    }

    fn copy(&self, since: BootNs) -> io::Result<Vec<u8>> {
        let kept = self.remembered.since(since);
        let began_ns = kept.clone().next().map_or(self.header.began_ns, |first| first.began);
        let size: usize = kept.clone().map(|segment| segment.frames.len()).sum();
        let mut bytes = Vec::with_capacity(size + 4_096);
        self.header(began_ns, 0, &mut bytes)?;
        kept.for_each(|segment| bytes.extend_from_slice(&segment.frames));
        write_frame(FrameKind::End, &[], &mut bytes);
        Ok(bytes)
    }

    fn header(&self, began_ns: BootNs, part: u32, bytes: &mut Vec<u8>) -> io::Result<()> {
        let header = Header { part, began_ns, ..self.header.clone() };
        let header = postcard::to_stdvec(&header).map_err(io::Error::other)?;
        write_frame(FrameKind::Header, &header, bytes);
        Ok(())
    }

    fn begin_file(&mut self, began_ns: BootNs) -> io::Result<()> {
        let to: Box<dyn Sink> = match &mut self.opened.to {
            To::Stdout => Box::new(io::stdout()),
            To::File { directory, path, name, first } => {
                let (name, path) =
                    (numbered(name, self.part), numbered(path.as_os_str(), self.part));
                let file = match first.take() {
                    Some(file) => file,
                    None => make(directory, &name)?,
                };
                self.there.push_back(There { name, size: 0 });
                self.written.files.push(path.into());
                Box::new(file)
            }
        };
        self.to = Some(to);
        self.whole = 0;
        while self.there.len() > self.options.keep_behind() + 1 {
            self.remove_oldest()?;
        }
        let mut bytes = Vec::new();
        self.header(began_ns, self.part, &mut bytes)?;
        self.part += 1;
        self.write(&bytes)
    }

    fn remove_oldest(&mut self) -> io::Result<()> {
        if let (To::File { directory, .. }, Some(oldest)) =
            (&self.opened.to, self.there.pop_front())
        {
            unlinkat(directory, &oldest.name, AtFlags::empty())?;
            self.written.files.remove(0);
        }
        Ok(())
    }

    /// Makes room for so many bytes among those that all files may take.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        let Some(most) = self.options.max_size else { return Ok(()) };
        // What comes faster than scans that list everything can't wait for one: then a file begins
        // in the middle, and the next is to begin with such a scan soon.
        if self.whole + bytes + END > most / 2 && self.whole > 0 && !self.ending {
            self.shared.in_the_middle.store(true, Relaxed);
            self.end_file(FrameKind::Continued)?;
            self.begin_file(self.began)?;
        }
        while self.there.len() > 1
            && self.there.iter().map(|file| file.size).sum::<u64>() + bytes + END > most
        {
            self.remove_oldest()?;
        }
        Ok(())
    }

    fn end_file(&mut self, how: FrameKind) -> io::Result<()> {
        let mut bytes = Vec::new();
        write_frame(how, &[], &mut bytes);
        self.ending = true;
        let written = self.write(&bytes);
        self.ending = false;
        written?;
        self.unsynced = Some(Instant::now());
        self.sync()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.make_room(bytes.len() as u64)?;
        let Some(to) = &mut self.to else { return Ok(()) };
        if let Err(e) = to.write_all(bytes).and_then(|()| to.flush()) {
            to.cut(self.whole);
            return Err(e);
        }
        self.whole += bytes.len() as u64;
        if let Some(last) = self.there.back_mut() {
            last.size = self.whole;
        }
        self.written.bytes += bytes.len() as u64;
        self.shared.size.store(self.whole, Relaxed);
        let since = *self.unsynced.get_or_insert_with(Instant::now);
        if since.elapsed() >= SYNC { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        match (&self.to, self.unsynced.take()) {
            (Some(to), Some(_)) => to.sync(),
            _ => Ok(()),
        }
    }
}

/// `FILE` for the first, then `FILE.1`, `FILE.2`.
fn numbered(name: &OsStr, part: u32) -> OsString {
    let mut name = name.to_owned();
    if part > 0 {
        name.push(format!(".{part}"));
    }
    name
}

//! Writes a recording: takes the facts as a watch does, and hands them to the thread that writes.

use std::{io, mem};

use bytes::BytesMut;

use super::{
    Batch, Header,
    options::{Options, Written},
    writer::{Message, Opened, Writer},
};
use crate::engine::{
    fact::{Fact, Timed},
    name::program_only,
    record::BootNs,
    watch::{Wants, Watch},
};

/// A frame is written when this much has come,
const FULL: usize = 256 << 10;
/// or when its first fact is this old, ns.
const LATE_NS: u64 = 1_000_000_000;

/// A recording that was begun, while rights are still there. Threads start later.
pub struct Prepared {
    opened: Opened,
    header: Header,
    options: Options,
}

impl Prepared {
    /// Makes the first file.
    ///
    /// # Errors
    /// What the system answers; that the file exists.
    pub fn new(options: Options, header: Header) -> io::Result<Self> {
        Ok(Self { opened: Opened::new(&options)?, header, options })
    }

    /// The directory that files are made in later, if any are.
    #[must_use]
    pub fn directory(&self) -> Option<i32> {
        self.opened.makes_files()
    }

    /// Starts the thread that writes.
    ///
    /// # Errors
    /// What starting a thread answers; that files could not be made later with the rights that are
    /// left.
    pub fn start(self) -> io::Result<Recorder> {
        let Self { opened, header, options } = self;
        opened.check_rights()?;
        let writer = Writer::start(opened, header, options.clone())?;
        Ok(Recorder {
            writer,
            options,
            frame: BytesMut::new(),
            frame_began: None,
            segment_began: None,
            clock: None,
            asked: false,
            triggered: false,
        })
    }
}

/// Takes facts.
pub struct Recorder {
    writer: Writer,
    options: Options,
    /// What is to be written next.
    frame: BytesMut,
    frame_began: Option<BootNs>,
    segment_began: Option<BootNs>,
    /// The clock as it was said last.
    clock: Option<Timed>,
    /// The scan that begins next lists all, so that a segment can begin with it.
    asked: bool,
    triggered: bool,
}

impl Recorder {
    /// Adds what it needs itself of the next scan. To be called when that begins.
    pub fn ask(&mut self, now: BootNs, wants: &mut Wants) {
        let old = self.segment_ns().zip(self.segment_began);
        let old = old.is_some_and(|(each, began)| now.saturating_sub(began) >= each);
        let limit =
            if self.writes() { self.options.part_size() } else { Some(self.options.memory() / 4) };
        // A scan that lists everything may be large itself: files are ended before they are full.
        let large = limit.is_some_and(|limit| self.writer.size() >= limit - limit / 8);
        // It stays so until a scan could begin.
        self.asked |= old || large || self.writer.takes_in_the_middle();
        wants.complete |= self.asked;
    }

    fn segment_ns(&self) -> Option<u64> {
        match self.options.rotate {
            None if self.triggered => None,
            _ => self.options.segment_ns(),
        }
    }

    /// Whether facts go into a file now.
    fn writes(&self) -> bool {
        self.options.on_leak.is_none() || self.triggered
    }

    /// Takes in facts, before the watch does.
    ///
    /// # Errors
    /// What writing answered before: nothing is written any more.
    pub fn take(&mut self, facts: &[Timed], watch: &Watch, now: BootNs) -> io::Result<()> {
        self.segment_began.get_or_insert(now);
        let begins = |fact: &Timed| matches!(fact.fact, Fact::ScanBegan);
        let segment = facts.iter().rposition(begins).filter(|_| mem::take(&mut self.asked));
        let (before, after) = facts.split_at(segment.unwrap_or(0));
        if segment.is_some() {
            // Those before are the watch's already when the next segment begins.
            self.batch(before, now)?;
            self.flush()?;
            self.segment_began = Some(now);
            self.writer.send(Message::Segment { began: now })?;
            let known = self.clock.clone().into_iter().chain(watch.known(now));
            let known: Vec<Timed> =
                known.chain(before.iter().filter(is_lasting).cloned()).collect();
            self.batch(&known, now)?;
        }
        self.batch(after, now)
    }

    fn batch(&mut self, facts: &[Timed], now: BootNs) -> io::Result<()> {
        if facts.is_empty() {
            return Ok(());
        }
        let clock = facts.iter().rfind(|fact| matches!(fact.fact, Fact::Clock { .. }));
        self.clock = clock.cloned().or(self.clock.take());
        if self.options.without_arguments {
            let facts: Vec<Timed> = facts.iter().cloned().map(without_arguments).collect();
            Batch::write(&facts, now, &mut self.frame);
        } else {
            Batch::write(facts, now, &mut self.frame);
        }
        self.writer.count(facts.len());
        let began = *self.frame_began.get_or_insert(now);
        if self.frame.len() >= FULL || now.saturating_sub(began) >= LATE_NS {
            self.flush()?;
        }
        Ok(())
    }

    /// Hands over what there is.
    fn flush(&mut self) -> io::Result<()> {
        let began = self.frame_began.take();
        if self.frame.is_empty() {
            return Ok(());
        }
        self.writer.send(Message::Frame(mem::take(&mut self.frame), began.unwrap_or_default()))
    }

    /// A leak was reported: what was remembered is written, and all that follows.
    ///
    /// # Errors
    /// As for [`Self::take`].
    pub fn leak(&mut self) -> io::Result<()> {
        if self.options.on_leak.is_none() || mem::replace(&mut self.triggered, true) {
            return Ok(());
        }
        self.flush()?;
        self.writer.send(Message::Trigger)
    }

    /// Hands what a flight recorder remembers, from the segment on that `since` is in, to `to`: a
    /// whole recording. It is called on the thread that writes.
    ///
    /// # Errors
    /// As for [`Self::take`].
    pub fn copy(
        &mut self,
        since: BootNs,
        to: impl FnOnce(Vec<u8>) + Send + 'static,
    ) -> io::Result<()> {
        self.flush()?;
        self.writer.send(Message::Copy { since, to: Box::new(to) })
    }

    /// Nothing more comes. What was written.
    ///
    /// # Errors
    /// What writing answers.
    pub fn finish(mut self) -> io::Result<Written> {
        self.flush()?;
        self.writer.finish()
    }
}

/// What is to be known in a segment that begins behind it.
fn is_lasting(fact: &&Timed) -> bool {
    matches!(fact.fact, Fact::Host(_) | Fact::Clock { .. } | Fact::Process(_) | Fact::Cgroup { .. })
}

fn without_arguments(mut fact: Timed) -> Timed {
    if let Fact::Process(process) = &mut fact.fact {
        program_only(&mut process.command);
    }
    if let Fact::Blocked(reading) = &mut fact.fact {
        // What an interpreter runs is one of its arguments.
        reading.processes.iter_mut().for_each(|process| process.name = None);
    }
    fact
}

//! A recording as a source of facts: a file, or several, that `tcptrace record` wrote.
//!
//! A file is a sequence of frames ([`frame`]). The first holds the [`Header`]; then come batches of
//! facts, each as it was handed over at once, with the time of that; the last says that nothing was
//! left out at the end. Each frame has its length and a checksum: a file that was cut off, by a
//! full disk or by SIGKILL, can be read up to its last whole frame, and one that was damaged goes
//! on behind the damage.
//!
//! What is in it: all that a watch learns (see [`fact`]). Each file of a
//! recording that was cut into several begins with what was known by then, and with a scan that
//! lists everything, so that it can be read without those before it.

pub mod file;
pub mod frame;
pub mod options;
pub mod player;
pub mod reader;
pub mod recorder;
mod remembered;
#[cfg(test)]
mod tests;
mod writer;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::{
    fact::{self, BadFrame, Timed},
    record::BootNs,
};

/// The version of the files: 1 for all that has been written so far. It counts what readers of the
/// version before can't take; [`fact::VERSION`] is part of it.
pub const VERSION: u32 = 1;
const _: () = assert!(VERSION == fact::VERSION);

/// What a recording says of itself, at the beginning of each of its files. New fields go to the
/// end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Drawn at random: the same in all files of a recording.
    pub recording: u64,
    /// Which of its files this is, from 0.
    pub part: u32,
    /// Who wrote it: `tcptrace 0.1.0`.
    pub tool: String,
    /// The command line, as it was given.
    pub command: Vec<String>,
    /// The host's name.
    pub host: String,
    /// Its kernel, as `uname -r` has it.
    pub kernel: String,
    /// Its architecture, as `uname -m` has it.
    pub machine: String,
    /// The boot whose clock the times are of (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// When this file was begun, ns of the boot clock.
    pub began_ns: BootNs,
    /// Time of day minus boot clock then, ns.
    pub offset_ns: i64,
    /// Which states were watched: bit `1 << number`.
    pub states: u32,
    /// Changes of state were streamed.
    pub transitions: bool,
    /// Shorter stays were left out, ns.
    pub min_age_ns: u64,
    /// It ends after so many reports.
    pub count: Option<u64>,
    /// The arguments of command lines were left out.
    pub without_arguments: bool,
    /// Network namespaces that have a name (`ip netns`): inode number and name.
    pub namespaces: Vec<(u32, String)>,
    /// Settings of the kernel that bear on connections, of tcptrace's own network namespace: the
    /// name as sysctl(8) has it, and the value.
    pub sysctls: Vec<(String, String)>,
    /// What was longer than normal was reported. Files of before do not end with this byte.
    pub by_normal: bool,
}

impl Header {
    /// The time of day when this file was begun.
    #[must_use]
    pub fn began(&self) -> Timestamp {
        let ns = i128::from(self.began_ns) + i128::from(self.offset_ns);
        Timestamp::from_nanosecond(ns).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Facts that were handed over at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The facts, in the order in which they became known.
    pub facts: Vec<Timed>,
    /// When they were taken in, ns of the boot clock.
    pub now: BootNs,
}

/// Stands where a fact's length would: the batch is over, and its time follows (u64,
/// little-endian). No fact is that short.
const BATCH_ENDS: u32 = 0;

impl Batch {
    /// Appends one: its facts, each as [`fact::write`] has it, and the mark of its end.
    pub fn write<'a>(facts: impl IntoIterator<Item = &'a Timed>, now: BootNs, to: &mut BytesMut) {
        facts.into_iter().for_each(|fact| fact::write(fact, to));
        to.put_u32_le(BATCH_ENDS);
        to.put_u64_le(now);
    }

    /// Takes the first one off the bytes.
    ///
    /// # Errors
    /// That they are something else, or end before it does.
    pub fn read(from: &mut Bytes) -> Result<Self, BadFrame> {
        let mut facts = Vec::new();
        loop {
            let length = from.first_chunk::<4>().map(|n| u32::from_le_bytes(*n));
            if length.ok_or(BadFrame::Short)? == BATCH_ENDS {
                from.advance(4);
                let now = from.try_get_u64_le().map_err(|_| BadFrame::Short)?;
                return Ok(Self { facts, now });
            }
            facts.push(fact::read(from)?);
        }
    }
}

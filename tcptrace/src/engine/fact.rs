//! What comes in: all that the core ever learns, as plain data with its time. Whatever a fact can
//! say can be recorded, replayed and made up by a simulation.
//!
//! The encoding is postcard's (variable-length integers, fields in order), and the kernel programs'
//! records are kept as the bytes that came over the wire: fixed size, host order (little-endian).
//! New facts and new fields of a kind go to the end; [`VERSION`] counts changes that old readers
//! can't take.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tcptrace_common::{
    counters::{Counters, Histogram},
    event::{Holding, Origin, Queued, Socket, Streamed, Transition},
    normal::NormalOf,
};

pub use super::wire::{Records, Wire};
use super::{
    blocked::reading::Reading,
    close::CloseAttempt,
    handshakes::Handshakes,
    record::{BootNs, ProcessId},
    stack::Stack,
    time_wait::TimeWaits,
    usage::{NetworkUsage, Usage},
    waiting::Waiting,
};

/// The version of the encoding.
pub const VERSION: u32 = 1;

/// A fact and when it became known, ns of the boot clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// When.
    pub at: BootNs,
    /// What.
    pub fact: Fact,
}

/// Something that became known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    /// Which host it is. The first fact.
    Host(Host),
    /// Time of day minus boot clock, ns: at the start, and whenever somebody set the clock.
    Clock {
        /// ns to add to the boot clock.
        offset_ns: i64,
    },
    /// What is known of a process. Comes before the fact that names the process, and again when it
    /// may have changed.
    Process(Box<Process>),
    /// Where a cgroup v2 is in its hierarchy.
    Cgroup {
        /// Its id: the inode number of its directory (kernfs).
        id: u64,
        /// From `/`; may hold anything.
        path: String,
    },
    /// A change of state, or the end of a socket, from the ring buffer.
    Change(Wire<Transition>),
    /// A change of state from the streams.
    Streamed(Wire<Streamed>),
    /// A scan begins. Changes that come between this and its [`Fact::Scan`] happened beside it: it
    /// may or may not have seen them.
    ScanBegan,
    /// A scan has ended.
    Scan(Box<Scan>),
    /// What was counted, without a scan.
    Counts(Box<Counts>),
    /// Records that made no sense to the source.
    Skipped {
        /// How many.
        count: u64,
    },
    /// What the threads of a process wait in, as it was asked for ([`super::watch::Wants`]).
    Threads(Box<Waiting>),
    /// Who opened sockets and who read from them: before the scan that lists them, and at first.
    Origins(Box<Origins>),
    /// A user stack that [`Fact::Origins`] names, in words; comes before that.
    Stack(Box<NamedStack>),
    /// What processes wait for, followed from process to process; comes with their
    /// [`Fact::Threads`].
    Blocked(Box<Reading>),
    /// A connection is about to be closed from outside, because it was asked for.
    Closing {
        /// Its cookie.
        cookie: u64,
    },
    /// What came of that.
    Attempt(Box<CloseAttempt>),
    /// How long stays were where the next scan's sockets lead; before that, what has changed.
    Normals(Vec<NormalRow>),
    /// How much is in use of what may run out, as it was asked for ([`super::watch::Wants`]).
    Usage(Box<Usage>),
    /// The same of what network namespaces have.
    NetworkUsage(Box<NetworkUsage>),
    /// Handshakes under way in each of these network namespaces, and SYN cookies sent: before the
    /// scan whose listeners they belong to.
    Handshakes(Vec<Handshakes>),
    /// TIME_WAIT, counted in the network namespaces that are looked at.
    TimeWaits {
        /// Which of them: [`Selection::ends`](super::select::Selection::ends).
        of: String,
        /// Each list has at most [`TimeWaits::MOST`], those with most first.
        all: Box<TimeWaits>,
    },
}

/// How long stays were in one state, of connections that lead to one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormalRow {
    /// The place and the state.
    pub of: Wire<NormalOf>,
    /// There was no room to count them.
    pub no_room: bool,
    /// Histogram buckets that are not empty, see [`tcptrace_common::counters::bucket`], and stays.
    pub stays: Vec<(u8, u64)>,
}

impl NormalRow {
    /// Stays that have ended.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.stays.iter().fold(0, |sum, (_, n)| sum.saturating_add(*n))
    }
}

/// What the kernel programs kept of where connections come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origins {
    /// Of sockets that the next scan lists. One that is listed there and not here is not known.
    pub list: Records<Origin>,
    /// Reads are traced.
    pub reads: bool,
    /// Only calls of certain processes, or in certain cgroups, are looked at.
    pub narrowed: bool,
    /// Moments that were not kept since the start, because all places were taken.
    pub full: u64,
    /// User stacks that were not handed over since the start: too many at once.
    pub stacks_lost: u64,
    /// Holders of sockets whose opening was not seen that have an io_uring: pid and start.
    pub rings: Vec<(u32, BootNs)>,
}

/// A user stack and the name it has in the kernel programs' records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedStack {
    /// [`CallMoment::stack`](tcptrace_common::event::CallMoment::stack).
    pub name: u64,
    /// What it says.
    pub stack: Stack,
}

/// The host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Kernel release, as `uname -r` has it.
    pub kernel: String,
    /// Every process of the host can be seen, so what no descriptor leads to is held elsewhere.
    pub all_processes: bool,
}

/// What is known of a process. Text may hold anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// When it started, ns of the boot clock, to a clock tick (1/100 s); 0: unknown.
    pub start_ns: BootNs,
    /// Its parent's pid; 0: none in our pid namespace.
    pub ppid: u32,
    /// Command name.
    pub comm: String,
    /// Command line; empty where it hides it.
    pub command: Vec<String>,
    /// The text of `/proc/PID/cgroup`; `None`: it could not be read.
    pub cgroups: Option<String>,
    /// Its pid in the pid namespace it runs in, where that is below ours.
    pub inner_pid: Option<u32>,
    /// Descriptors in use.
    pub descriptors: Option<u64>,
    /// Descriptors it may have (soft RLIMIT_NOFILE).
    pub descriptor_limit: Option<u64>,
}

impl Process {
    /// Its name among all processes of this boot.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        ProcessId { pid: self.pid, start_ns: self.start_ns }
    }
}

/// One scan: what was there between its beginning and its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// Ages are as of this moment, ns of the boot clock: just before it began.
    pub now_ns: BootNs,
    /// It lists every live stay, not only those that are due for a report.
    pub complete: bool,
    /// Sockets without a stay were adopted just before.
    pub adopted: bool,
    /// It only lists who has a descriptor for what: no stay is reported by it.
    pub only_holders: bool,
    /// Stays in socket storage, those included that have just moved there.
    pub sockets: Records<Socket>,
    /// Stays that have passed min-age in a slot of the nursery, and that no descriptor leads to.
    pub unplaced: Vec<Unplaced>,
    /// Cookies of all stays in the nursery; of a complete scan only.
    pub young: Vec<u64>,
    /// Listening sockets, once for each descriptor.
    pub listeners: Records<Socket>,
    /// Descriptors: of the sockets listed, and of the listeners.
    pub holders: Records<Holding>,
    /// Connections in the queues of listeners.
    pub queued: Records<Queued>,
    /// What was counted, after all else.
    pub counts: Counts,
}

/// What was counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// When, ns of the boot clock.
    pub at_ns: BootNs,
    /// By the kernel programs.
    pub counters: Wire<Counters>,
    /// By the kernel: runs of the programs that it could not make.
    pub missed: u64,
    /// How long the stays were that have ended; `None`: not asked for.
    pub histogram: Option<Box<Wire<Histogram>>>,
}

/// A stay in a slot of the nursery that no descriptor leads to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unplaced {
    /// The slot's number.
    pub slot: u32,
    /// What the slot says of it.
    pub socket: Wire<Socket>,
}

/// Why bytes are no frame of a fact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// They end before the frame does: more may come.
    #[error("the frame is cut short")]
    Short,
    /// They are something else.
    #[error("not a fact: {0}")]
    Garbled(String),
}

/// Appends a fact as a frame: its length (u32, little-endian, without these four bytes), then its
/// encoding.
pub fn write(fact: &Timed, to: &mut BytesMut) {
    let start = to.len();
    to.put_u32_le(0);
    // Writing to memory does not fail.
    if let Ok(whole) = postcard::to_extend(fact, std::mem::take(to)) {
        *to = whole;
    }
    let length = u32::try_from(to.len() - start - 4).unwrap_or(u32::MAX);
    to[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Takes the fact of the first frame off the bytes.
///
/// # Errors
/// [`BadFrame`]; the bytes are then as they were.
pub fn read(from: &mut Bytes) -> Result<Timed, BadFrame> {
    let length = from.first_chunk::<4>().map(|n| u32::from_le_bytes(*n) as usize);
    let end = length.and_then(|n| n.checked_add(4)).ok_or(BadFrame::Short)?;
    let frame = from.get(4..end).ok_or(BadFrame::Short)?;
    let fact = postcard::from_bytes(frame).map_err(|e| BadFrame::Garbled(e.to_string()))?;
    drop(from.split_to(end));
    Ok(fact)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::FromZeros;

    use super::*;
    use crate::engine::usage::{InUse, ProcessUsage};

    fn scan(cookie: u64, sockets: usize) -> Scan {
        let mut socket = Socket::new_zeroed();
        socket.cookie = cookie;
        Scan {
            now_ns: 9,
            complete: true,
            sockets: Records(vec![socket; sockets]),
            unplaced: vec![Unplaced { slot: 3, socket: Wire(socket) }],
            young: vec![cookie],
            counts: Counts { missed: 2, ..Counts::default() },
            ..Scan::default()
        }
    }

    fn facts() -> impl Strategy<Value = Fact> {
        let process = (any::<u32>(), any::<u64>(), ".*", proptest::collection::vec(".*", 0..4));
        prop_oneof![
            ".*".prop_map(|kernel| Fact::Host(Host { kernel, all_processes: true })),
            any::<i64>().prop_map(|offset_ns| Fact::Clock { offset_ns }),
            process.prop_map(|(pid, start_ns, comm, command)| {
                let cgroups = Some(format!("0::/{comm}"));
                Fact::Process(Box::new(Process {
                    pid,
                    start_ns,
                    comm,
                    command,
                    cgroups,
                    ..Process::default()
                }))
            }),
            (any::<u64>(), ".*").prop_map(|(id, path)| Fact::Cgroup { id, path }),
            any::<u64>().prop_map(|time_ns| {
                Fact::Change(Wire(Transition { time_ns, ..Transition::new_zeroed() }))
            }),
            any::<u64>().prop_map(|cookie| {
                Fact::Streamed(Wire(Streamed { cookie, ..Streamed::new_zeroed() }))
            }),
            Just(Fact::ScanBegan),
            (any::<u64>(), 0usize..5).prop_map(|(c, n)| Fact::Scan(Box::new(scan(c, n)))),
            any::<u64>().prop_map(|count| Fact::Skipped { count }),
            (any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(pid, used, limit)| {
                let descriptors = InUse { used, limit };
                let process = ProcessUsage { pid, start_ns: used, descriptors };
                Fact::Usage(Box::new(Usage { processes: vec![process], files: None }))
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            list in proptest::collection::vec((any::<u64>(), facts()), 0..6),
        ) {
            let mut bytes = BytesMut::new();
            let list: Vec<Timed> = list.into_iter().map(|(at, fact)| Timed { at, fact }).collect();
            list.iter().for_each(|fact| write(fact, &mut bytes));
            let mut bytes = bytes.freeze();
            for fact in &list {
                prop_assert_eq!(&read(&mut bytes).expect("a fact"), fact);
            }
            prop_assert_eq!(read(&mut bytes), Err(BadFrame::Short));
        }

        #[test]
        fn a_frame_that_is_cut_is_short(fact in facts(), cut in 1usize..100) {
            let mut bytes = BytesMut::new();
            write(&Timed { at: 1, fact }, &mut bytes);
            let cut = bytes.len().saturating_sub(cut);
            let mut bytes = bytes.freeze().slice(..cut);
            prop_assert_eq!(read(&mut bytes), Err(BadFrame::Short));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&mut Bytes::from(bytes));
        }
    }
}

//! One scan of what exists: sock_diag says which sockets, the descriptor tables who holds them.

mod dumped;

use std::{io, panic::resume_unwind, path::PathBuf, thread, thread::ScopedJoinHandle};

use tcptrace_common::{
    event::{HAS_SOCKET, Socket},
    state::TcpState,
};

use self::dumped::{Dumped, Limits, limits_of};
use crate::{
    engine::{
        assemble,
        counted::counted,
        fact::Process,
        holdings::{self, ByCookie, Holdings},
        record::{BootNs, Connection, Holder, ProcessId, Record},
        report::Listening,
        select::Selection,
        time_wait::TimeWaits,
    },
    source::live::{
        bpf::{iter::Listing, loader::DescriptorScan},
        cgroupfs::CgroupIds,
        holders,
        holders::ByProc,
        lookup::Known,
        netns,
        netns::Netns,
        process,
    },
};

/// What is asked for.
#[derive(Debug)]
pub struct Query {
    /// Which sockets.
    pub selection: Selection,
    /// In which states: bit `1 << number`.
    pub states: u32,
    /// Without BPF.
    pub without_bpf: bool,
    /// The file with the kernel's BTF.
    pub btf: PathBuf,
    /// The boot clock.
    pub clock: fn() -> BootNs,
}

/// What one scan found.
#[derive(Debug)]
pub struct Snapshot {
    query: Query,
    /// When the sockets were listed.
    pub now: BootNs,
    /// Those in the states asked for, the oldest first.
    sockets: Vec<Socket>,
    /// Listening sockets, whatever was asked for.
    listeners: Vec<Socket>,
    /// Who holds what.
    pub holdings: Holdings,
    /// TIME_WAIT, where it was asked for.
    pub time_waits: Option<TimeWaits>,
    /// All TCP sockets by state number.
    counts: [u64; 16],
    /// Namespaces looked into.
    pub namespaces: Vec<Netns>,
    /// What could not be seen, and why, a line each.
    pub missing: Vec<String>,
    cgroup_ids: CgroupIds,
    known: Known,
}

impl Snapshot {
    /// Takes it.
    ///
    /// # Errors
    /// What sock_diag or the iterator answers.
    pub fn take(query: Query) -> io::Result<Self> {
        let (mut namespaces, hidden) = netns::all();
        if !query.selection.netns.is_empty() {
            namespaces.retain(|n| query.selection.netns.contains(&n.inode));
        }
        let mut missing = Vec::new();
        if hidden > 0 && query.selection.netns.is_empty() {
            missing.push(format!(
                "the network namespaces of {} can't be told without CAP_SYS_PTRACE: their \
                 sockets are not seen",
                counted(hidden as u64, "process", "processes")
            ));
        }
        let mut known = Known::default();
        // Listing the sockets takes about as long as loading and going through all descriptors.
        let (descriptors, mut dumped) = thread::scope(|scope| {
            let listed = scope.spawn(|| Dumped::of(&namespaces, &query));
            let descriptors = load(&query)
                .map(|descriptors| DescriptorsScanned::run(descriptors, &query, &mut known));
            (descriptors, joined(listed))
        });
        if dumped.blind {
            let why = dumped.missing.pop().unwrap_or_default();
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        let descriptors = descriptors.map_err(|why| missing.extend(why)).ok().transpose()?;
        let mut holdings = match descriptors {
            Some(descriptors) => dumped.held(descriptors, &namespaces, &query, &mut known)?,
            None => {
                dumped.sockets.retain(|s| query.asks_for(s));
                let ByProc { holders, all_seen } =
                    holders::by_proc(&dumped.sockets, &dumped.listeners);
                let processes = known.of(&holders);
                let holdings =
                    holdings::of_scan(&dumped.listeners, &[], &holders, processes, all_seen);
                let unheld = dumped.sockets.iter().filter(|s| {
                    s.flags & HAS_SOCKET != 0 && !holdings.by_cookie.contains_key(&s.cookie)
                });
                dumped.forget_the_closed(unheld.copied().collect(), &namespaces, &query);
                holdings
            }
        };
        dumped.handshakes.iter().for_each(|all| holdings.count_handshakes(all));
        missing.append(&mut dumped.missing);
        dumped.sockets.sort_unstable_by_key(|s| (s.latest_ns, s.earliest_ns, s.cookie));
        let Dumped { sockets, listeners, counts, time_waits, at: now, .. } = dumped;
        Ok(Self {
            query,
            now,
            sockets,
            listeners,
            holdings,
            time_waits,
            counts,
            namespaces,
            missing,
            cgroup_ids: CgroupIds::default(),
            known,
        })
    }

    /// How many sockets there are in each state that has any.
    #[must_use]
    pub fn states(&self) -> Vec<(TcpState, u64)> {
        let count = |state: TcpState| self.counts.get(state as usize).copied().unwrap_or(0);
        TcpState::ALL
            .into_iter()
            .map(|state| (state, count(state)))
            .filter(|(_, n)| *n > 0)
            .collect()
    }

    /// What is known of a process that was named.
    #[must_use]
    pub fn process(&self, id: ProcessId) -> Option<&Process> {
        self.known.processes().get(id)
    }

    /// All listeners and who holds them.
    pub fn listeners(&self) -> impl Iterator<Item = (Listening, &[Holder])> {
        self.listeners.iter().map(|s| {
            let local = Connection::new(s.cookie, &s.tuple, s.protocol).local;
            let (queue, limit, drops) = (s.backlog, s.max_backlog, s.drops);
            let holders = self.holdings.by_cookie.get(&s.cookie).map_or(&[][..], Vec::as_slice);
            (Listening { local, queue, limit, drops, shared_with: Vec::new() }, holders)
        })
    }

    /// The records that are asked for, the oldest first.
    pub fn records(&mut self) -> impl Iterator<Item = Record> {
        let Self { sockets, holdings, cgroup_ids, known, query, now, .. } = self;
        let (now, processes) = (*now, known.processes());
        sockets.iter().filter_map(move |socket| {
            let cgroup = cgroup_ids.path(socket.cgroup);
            let record = assemble::record(socket, holdings, cgroup, None, now);
            let descends = |pid: u32, roots: &[ProcessId]| processes.descends(pid, roots);
            let asked = query.selection.matches_record(&record, &descends);
            asked.then_some(record)
        })
    }
}

const LOST_WITHOUT_BPF: &str = "connections that are over and still have a descriptor (ghost-fd) \
                                are not seen, nor who connected";

/// The scan of descriptors; or why there is none, where nobody asked for that.
fn load(query: &Query) -> Result<DescriptorScan, Option<String>> {
    if !holders::kernel_names_processes() {
        return Err(Some(process::OTHER_PIDS.to_owned()));
    }
    if query.without_bpf {
        return Err(None);
    }
    DescriptorScan::load(query.states, query.selection.only_netns().unwrap_or(0), &query.btf)
        .map_err(|refusal| Some(format!("{LOST_WITHOUT_BPF}: {refusal}")))
}

impl Query {
    fn asks_for(&self, s: &Socket) -> bool {
        self.states & 1 << s.state != 0
            && self.selection.matches_connection(&Connection::new(s.cookie, &s.tuple, s.protocol))
    }
}

/// What a thread returned; if it panicked, so does this one.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// All descriptors, scanned.
struct DescriptorsScanned {
    descriptors: DescriptorScan,
    listing: Listing,
    by_cookie: ByCookie,
    limits: Limits,
    between: Between,
}

/// The time that a scan took.
#[derive(Clone, Copy, Debug)]
struct Between {
    began_ns: BootNs,
    ended_ns: BootNs,
}

impl DescriptorsScanned {
    fn run(descriptors: DescriptorScan, query: &Query, known: &mut Known) -> io::Result<Self> {
        let began_ns = (query.clock)();
        let listing = descriptors.list()?;
        let between = Between { began_ns, ended_ns: (query.clock)() };
        let by_cookie = holdings::by_cookie(&listing.holders, known.of(&listing.holders));
        let limits = limits_of(&listing.holders);
        Ok(Self { descriptors, listing, by_cookie, limits, between })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "a namespace")]
    fn a_thread_that_panics_is_no_empty_answer() {
        let none: Vec<Socket> =
            thread::scope(|scope| joined(scope.spawn(|| panic!("a namespace"))));
        assert!(none.is_empty());
    }
}

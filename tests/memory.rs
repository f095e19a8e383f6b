//! What an agent keeps, in bytes, whoever comes and goes.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use tcptrace::{
    engine::{
        accounts::Accounts,
        fact::{Fact, Process, Scan, Timed},
        watch::{Plan, Watch},
    },
    view::{
        Clock,
        metrics::{around::Around, exposition::Exposition, metrics},
    },
};
use tcptrace_common::{
    event::{HAS_SOCKET, HAS_TCP, Holding, KIND_HOLDING, KIND_SOCKET, Socket},
    state::TcpState,
};
use zerocopy::FromZeros;

/// The system's allocator, and how much of it is in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is the system allocator's, which is one; what is counted beside it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Relaxed);
        // SAFETY: as of our caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as of our caller.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SECOND: u64 = 1_000_000_000;
/// 36,000 processes with as many names in all, and 180,000 remotes.
const ROUNDS: u32 = 18;
const PROCESSES: u32 = 2_000;
const SOCKETS: u32 = 10_000;
/// So many processes are known as ever are, those that are gone among them.
const FULL: usize = 9;

/// What an agent has of the host: its watch, and what it counts for who asks.
struct Known {
    watch: Watch,
    accounts: Accounts,
}

impl Known {
    fn take(&mut self, at: u64, facts: Vec<Fact>) {
        let mut said = Vec::new();
        for fact in facts {
            self.watch.take(&Timed { at, fact }, &mut said);
        }
        said.iter().for_each(|said| self.accounts.take(said));
    }

    fn series(&self, at: u64) -> usize {
        let clock = Clock::new(jiff::Timestamp::UNIX_EPOCH, 0, true);
        let Self { watch, accounts } = self;
        let around = Around::default();
        let text = metrics(watch, accounts, &clock, at, &around, Exposition::Text);
        text.lines().filter(|line| !line.starts_with('#')).count()
    }
}

/// Processes that were never there before, each with five sockets that leak, to as many remotes.
fn leaks(round: u32, at: u64) -> Vec<Fact> {
    let mut scan = Scan { now_ns: at, complete: true, ..Scan::default() };
    let first = round * PROCESSES + 1;
    let processes = (first..first + PROCESSES).map(|pid| {
        let comm = format!("job-{pid}");
        Fact::Process(Box::new(Process { pid, start_ns: 1, comm, ..Process::default() }))
    });
    for n in round * SOCKETS..(round + 1) * SOCKETS {
        let (mut s, mut h) = (Socket::new_zeroed(), Holding::new_zeroed());
        (s.kind, s.cookie, s.state, s.protocol) =
            (KIND_SOCKET, u64::from(n) + 1, TcpState::CloseWait as u8, 6);
        let since = at - 50 * SECOND;
        (s.flags, s.earliest_ns, s.latest_ns) = (HAS_SOCKET | HAS_TCP, since, since);
        (s.recv_q, s.inode) = (1, n + 1);
        s.tuple.raddr[12..].copy_from_slice(&n.to_be_bytes());
        let pid = first + n % PROCESSES;
        (h.kind, h.cookie, h.pid, h.tid, h.fd, h.start_ns) =
            (KIND_HOLDING, u64::from(n) + 1, pid, pid, 4, 1);
        let comm = format!("job-{pid}");
        h.comm[..comm.len()].copy_from_slice(comm.as_bytes());
        scan.sockets.0.push(s);
        scan.holders.0.push(h);
    }
    processes.chain([Fact::Scan(Box::new(scan))]).collect()
}

#[test]
fn series_and_memory_stay_flat_whoever_comes_and_goes() {
    let states = TcpState::CloseWait.bit();
    let watch = Watch::new(Plan { states, min_age_ns: SECOND, ..Plan::default() });
    let mut known = Known { watch, accounts: Accounts::new(50) };
    let (mut series, mut kept) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let at = (100 + u64::from(round) * 120) * SECOND;
        known.take(at, leaks(round, at));
        series.push(known.series(at));
        assert_eq!(known.accounts.sharing(), u64::from(PROCESSES) - 50);
        // And all are gone, which one scan alone would not say.
        for later in [20, 30] {
            let now_ns = at + later * SECOND;
            let scan = Scan { now_ns, complete: true, ..Scan::default() };
            known.take(now_ns, vec![Fact::Scan(Box::new(scan))]);
        }
        assert_eq!(known.accounts.sharing(), 0);
        kept.push(IN_USE.load(Relaxed));
    }
    eprintln!("series {series:?}, bytes kept {kept:?}");
    assert!(series[1..].iter().all(|n| *n == series[1]), "{series:?}");
    let (full, last) = (kept[FULL], kept[kept.len() - 1]);
    assert!(last <= full + full / 50, "{kept:?}");
}

//! One look at what exists: sock_diag says which sockets, the descriptor tables who holds them.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::PathBuf,
    thread,
};

use tcptrace_common::{
    event::{HAS_SOCKET, NO_LIMIT, SEEDED, Socket},
    state::TcpState,
};

use crate::{
    engine::{
        assemble,
        assemble::Holdings,
        record::{BootNs, Connection, Holder, Record},
        report::Listening,
        select::Selection,
    },
    formats::sock_diag::{Detail, MPTCP, TCP},
    source::live::{
        bpf::{iter::Listing, loader::Descriptors},
        cgroupfs::CgroupIds,
        holders, netns,
        netns::Netns,
        process,
        process::Processes,
        sock_diag,
    },
};

/// What to look for.
#[derive(Debug)]
pub struct Plan {
    /// Which sockets.
    pub selection: Selection,
    /// In which states: bit `1 << number`.
    pub states: u32,
    /// Younger ones are not asked for, ns.
    pub min_age_ns: u64,
    /// Without BPF.
    pub without_bpf: bool,
    /// The file with the kernel's BTF.
    pub btf: PathBuf,
    /// The boot clock.
    pub clock: fn() -> BootNs,
}

/// What one look found.
#[derive(Debug)]
pub struct Survey {
    plan: Plan,
    /// When it was taken.
    pub now: BootNs,
    /// Those in the states asked for, the oldest first.
    sockets: Vec<Socket>,
    /// Listening sockets, whatever was asked for.
    listeners: Vec<Socket>,
    /// Who holds what.
    pub holdings: Holdings,
    /// All TCP sockets by state number.
    counts: [u64; 16],
    /// Namespaces looked into.
    pub namespaces: Vec<Netns>,
    /// What could not be seen, and why, a line each.
    pub missing: Vec<String>,
    cgroup_ids: CgroupIds,
}

/// All states that sock_diag knows but TCP_BOUND_INACTIVE, which is not TCP's.
const COUNTED: u32 = (1 << 13) - 2;

impl Survey {
    /// Takes it.
    ///
    /// # Errors
    /// What sock_diag or the iterator answers.
    pub fn take(plan: Plan) -> io::Result<Self> {
        let (mut namespaces, hidden) = netns::all();
        if !plan.selection.netns.is_empty() {
            namespaces.retain(|n| plan.selection.netns.contains(&n.inode));
        }
        let mut missing = Vec::new();
        if hidden > 0 && plan.selection.netns.is_empty() {
            missing.push(format!(
                "the network namespaces of {hidden} processes can't be told without \
                 CAP_SYS_PTRACE: their sockets are not seen"
            ));
        }
        // Loading and counting together take about as long as asking does.
        let (bpf, counts, mut look) = thread::scope(|scope| {
            let asked = scope.spawn(|| dump(&namespaces, &plan));
            let bpf = load(&plan);
            let counts = count(&namespaces, &plan);
            (bpf, counts, asked.join().unwrap_or_default())
        });
        look.add(counts);
        missing.append(&mut look.missing);
        let bpf = bpf.map_err(|why| missing.extend(why)).ok();
        let processes = Processes::default();
        let now = (plan.clock)();
        let holdings = match &bpf {
            Some(descriptors) => {
                let listing = descriptors.list()?;
                look.learn(&listing, now);
                look.sockets.retain(|s| plan.asks_for(s));
                holders::from_kernel(&look.listeners, &listing.queued, &listing.holders, &processes)
            }
            None => {
                look.sockets.retain(|s| plan.asks_for(s));
                holders::from_proc(&look.sockets, &look.listeners, &[], &processes)
            }
        };
        look.forget_the_closed(&holdings, &namespaces, &plan);
        look.sockets.sort_by_key(|s| (s.latest_ns, s.earliest_ns, s.cookie));
        let Look { sockets, listeners, counts, .. } = look;
        let cgroup_ids = CgroupIds::default();
        Ok(Self {
            plan,
            now,
            sockets,
            listeners,
            holdings,
            counts,
            namespaces,
            missing,
            cgroup_ids,
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
        self.sockets.iter().filter_map(|socket| {
            let cgroup = self.cgroup_ids.path(socket.cgroup);
            let record = assemble::record(socket, &self.holdings, cgroup, None, self.now);
            let asked = record.age(self.now).min_ns >= self.plan.min_age_ns
                && self.plan.selection.matches_record(&record, &process::descends);
            asked.then_some(record)
        })
    }
}

const LOST_WITHOUT_BPF: &str = "connections that are over and still have a descriptor (ghost-fd) \
                                are not seen, nor who connected";

/// The pass over descriptors; or why there is none, where nobody asked for that.
fn load(plan: &Plan) -> Result<Descriptors, Option<String>> {
    if !holders::kernel_names_processes() {
        return Err(Some(process::OTHER_PIDS.to_owned()));
    }
    if plan.without_bpf {
        return Err(None);
    }
    Descriptors::load(plan.states, plan.selection.only_netns().unwrap_or(0), &plan.btf)
        .map_err(|refusal| Some(format!("{LOST_WITHOUT_BPF}: {refusal}")))
}

impl Plan {
    fn asks_for(&self, s: &Socket) -> bool {
        self.states & 1 << s.state != 0
            && self.selection.matches_connection(&Connection::new(s.cookie, &s.tuple, s.protocol))
    }
}

/// What sock_diag answered, all namespaces together.
#[derive(Default)]
struct Look {
    sockets: Vec<Socket>,
    listeners: Vec<Socket>,
    counts: [u64; 16],
    /// What could not be asked.
    missing: Vec<String>,
}

const LISTEN: u32 = TcpState::Listen.bit();

/// How many there are in each of the states that nobody asked for.
fn count(namespaces: &[Netns], plan: &Plan) -> Vec<[u64; 16]> {
    let others = COUNTED & !plan.states & !LISTEN;
    let (counts, _) = netns::each(namespaces, |netns| {
        sock_diag::dump(netns.inode, TCP, others, Detail::Count, plan.clock).map(|dump| dump.states)
    });
    counts
}

fn dump(namespaces: &[Netns], plan: &Plan) -> Look {
    let asked = plan.states & COUNTED & !LISTEN;
    let (dumps, failed) = netns::each(namespaces, |netns| {
        let ask = |protocol, states, detail| {
            sock_diag::dump(netns.inode, protocol, states, detail, plan.clock)
        };
        let mptcp = ask(MPTCP, asked | LISTEN, Detail::Connection);
        let tcp = [ask(TCP, LISTEN, Detail::Listener)?, ask(TCP, asked, Detail::Connection)?];
        // A kernel without MPTCP has no such sockets.
        Ok((tcp, mptcp.map(|dump| dump.sockets).unwrap_or_default()))
    });
    let mut look = Look::default();
    if let Some((netns, e)) = failed.first() {
        let path = netns.path.display();
        look.missing.push(format!(
            "{} network namespaces could not be looked into ({path}: {e})",
            failed.len()
        ));
    }
    for (tcp, mptcp) in dumps {
        look.sockets.extend(mptcp);
        for dump in tcp {
            look.add([dump.states]);
            look.sockets.extend(dump.sockets);
        }
    }
    look.listeners =
        look.sockets.iter().filter(|s| s.state == TcpState::Listen as u8).copied().collect();
    look
}

/// Since when a connection is over: not before the last acknowledgement, and no more is known.
fn ghost(s: &Socket, now: BootNs) -> Socket {
    let earliest_ns =
        if s.acked_ago_ns == u64::MAX { 0 } else { now.saturating_sub(s.acked_ago_ns) };
    Socket { flags: s.flags | SEEDED, earliest_ns, latest_ns: now, ..*s }
}

impl Look {
    fn add(&mut self, counts: impl IntoIterator<Item = [u64; 16]>) {
        for states in counts {
            for (sum, n) in self.counts.iter_mut().zip(states) {
                *sum += n;
            }
        }
    }

    /// What only the pass over descriptors shows: connections that are over, and who connected.
    fn learn(&mut self, listing: &Listing, now: BootNs) {
        let limits: HashMap<u64, u32> =
            listing.holders.iter().map(|h| (h.cookie, h.max_backlog)).collect();
        for socket in &mut self.sockets {
            if let Some(limit) =
                limits.get(&socket.cookie).filter(|_| socket.state != TcpState::Listen as u8)
            {
                socket.max_backlog = *limit;
                socket.flags &= !NO_LIMIT;
            }
        }
        let mut known: HashSet<u64> = self.sockets.iter().map(|s| s.cookie).collect();
        // Listed once for each descriptor.
        let ghosts = listing
            .sockets
            .iter()
            .filter(|s| s.state == TcpState::Close as u8 && known.insert(s.cookie));
        self.sockets.extend(ghosts.map(|s| ghost(s, now)));
    }

    /// A socket that was closed between the two looks has no holder, and must not be taken for one
    /// that is held where nobody can see it.
    fn forget_the_closed(&mut self, holdings: &Holdings, namespaces: &[Netns], plan: &Plan) {
        let unheld =
            |s: &Socket| s.flags & HAS_SOCKET != 0 && !holdings.by_cookie.contains_key(&s.cookie);
        if !self.sockets.iter().any(unheld) {
            return;
        }
        let still: HashMap<u64, u64> =
            dump(namespaces, plan).sockets.iter().map(|s| (s.cookie, s.inode)).collect();
        self.sockets.retain(|s| !unheld(s) || still.get(&s.cookie) == Some(&s.inode));
    }
}

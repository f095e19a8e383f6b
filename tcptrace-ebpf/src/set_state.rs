//! The hot path: every change of state of every TCP socket of the machine passes here.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use tcptrace_common::{
    counters::{Histogram, PerCpu, SLOTS, STATES, slot},
    event::{KIND_DESTROY, KIND_TRANSITION, NO_SOCKET, OPEN, Streamed, Transition},
};

use crate::{
    filter::{CLOSE, CLOSE_WAIT, SYN_RECV, SYN_SENT, in_netns, matches_ends, watched},
    maps::{self, EVENTS, Stay},
    nursery, offsets,
    sock::{IPPROTO_MPTCP, Sock, bytes_sent, is_subflow},
    stream,
};

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn set_state(ctx: BtfTracePointContext) -> i32 {
    let (old, new) = (ctx.arg::<u32>(1), ctx.arg::<u32>(2));
    if let (Some(sk), Some(cpu)) = (Sock::new(ctx.arg(0)), maps::this_cpu()) {
        change(sk, old, new, cpu);
    }
    0
}

#[inline(always)]
fn change(sk: Sock, old: u32, new: u32, cpu: &mut PerCpu) {
    if !in_netns(sk) {
        return;
    }
    cpu.counters.seen += 1;
    let (left, entered) = (watched(old), watched(new));
    if !(left || entered) {
        cpu.counters.filtered += 1;
        return;
    }
    // Before all that the socket is asked for: reading the clock waits for what was begun to be
    // read.
    // SAFETY: the helper takes no argument.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // The pointers that a socket has, once and before anything branches: for each that is read, on
    // each path, the verifier searches the kernel's types by name.
    let (netns, has_socket, has_storage) = (sk.netns(), sk.has_socket(), sk.has_storage());
    // SCTP uses the tracepoint too.
    if !sk.is_tcp() || !matches_ends(sk, old == CLOSE || new == SYN_SENT || new == SYN_RECV) {
        cpu.counters.filtered += 1;
        return;
    }
    // A packet may end the connection, but not the descriptor: the socket stays on, as a ghost.
    // Without a descriptor it goes at once.
    let above = if new == CLOSE && has_socket { sk.above() } else { NO_SOCKET };
    let stays = if new == CLOSE { above == OPEN } else { entered };
    // A subflow's stays say nothing about the program: those of the socket above it do.
    let tcp = if stays { sk.tcp() } else { None };
    let stays = stays && !is_subflow(tcp);
    let (ended, kept) =
        if left { leave(sk, old, has_storage, stays) } else { (Ended::UNKNOWN, false) };
    if stays
        && !nursery::begin(sk, tcp, (netns, has_socket), (old, new), now, kept)
        && !settle(sk, new, now)
    {
        cpu.counters.storage_failed += 1;
    }

    let aged = left && ended.aged(now);
    if left {
        ended.count(&mut cpu.histogram, old, now);
    }
    let emitted = if offsets::transitions() != 0 && !aged && ended.is_exact() {
        stream::put(&mut cpu.cursor, || streamed(sk, netns, above, (old, new), now, ended))
    } else if offsets::transitions() != 0 || aged {
        emit(sk, netns, KIND_TRANSITION, (old, new), now, ended)
    } else {
        cpu.counters.filtered += 1;
        return;
    };
    if emitted {
        cpu.counters.emitted += 1;
    } else {
        cpu.counters.ring_full += 1;
    }
}

/// Ends the stay in state `old`, wherever it is kept. `keep`: another one begins now, and its slot,
/// if it had one, is kept for that; the second answer says whether it is.
#[inline(always)]
fn leave(sk: Sock, old: u32, has_storage: bool, keep: bool) -> (Ended, bool) {
    // A look that is moving it to storage at this moment finds it gone, and takes it back there.
    if let Some(since) = nursery::end(sk, keep) {
        return (Ended::exactly(since), keep);
    }
    let ended = match has_storage.then(|| maps::stay(sk)).flatten() {
        Some(stay) => {
            let ended = Ended::of(stay, old);
            stay.state = 0;
            ended
        }
        None => Ended::UNKNOWN,
    };
    (ended, false)
}

/// Begins a stay in socket storage. False: the kernel has no memory.
#[inline(always)]
fn settle(sk: Sock, new: u32, now: u64) -> bool {
    let sent_before = if new == CLOSE_WAIT { bytes_sent(sk.tcp()) } else { 0 };
    let Some(stay) = maps::stay_or_new(sk) else { return false };
    *stay = Stay {
        earliest_ns: now,
        latest_ns: now,
        due_ns: 0,
        sent_before,
        look: 0,
        state: new as u8,
        flags: 0,
        pad: 0,
    };
    true
}

/// When the stay that just ended had begun.
#[derive(Clone, Copy)]
pub struct Ended {
    earliest_ns: u64,
    latest_ns: u64,
}

impl Ended {
    /// Nobody timed it.
    pub const UNKNOWN: Self = Self { earliest_ns: 0, latest_ns: 0 };

    /// It began at that moment.
    #[inline(always)]
    pub fn exactly(since: u64) -> Self {
        Self { earliest_ns: since, latest_ns: since }
    }

    /// Of a socket that leaves state `old`.
    #[inline(always)]
    pub fn of(stay: &Stay, old: u32) -> Self {
        if u32::from(stay.state) == old {
            Self { earliest_ns: stay.earliest_ns, latest_ns: stay.latest_ns }
        } else {
            Self::UNKNOWN
        }
    }

    /// Whether it certainly passed min-age.
    #[inline(always)]
    pub fn aged(self, now: u64) -> bool {
        self.latest_ns != 0 && now.wrapping_sub(self.latest_ns) >= offsets::min_age_ns()
    }

    /// Whether its beginning was traced, or nothing at all is known of it.
    #[inline(always)]
    fn is_exact(self) -> bool {
        self.latest_ns == self.earliest_ns
    }

    /// Adds it to the histogram, where its length is known.
    #[inline(always)]
    fn count(self, histogram: &mut Histogram, old: u32, now: u64) {
        if self.latest_ns != 0 && self.is_exact() {
            let slot = slot(now.wrapping_sub(self.latest_ns));
            histogram.stays[old as usize & (STATES - 1)][slot & (SLOTS - 1)] += 1;
        }
    }
}

#[inline(always)]
fn streamed(
    sk: Sock,
    netns: u32,
    above: u8,
    (old, new): (u32, u32),
    now: u64,
    ended: Ended,
) -> Streamed {
    Streamed {
        time_ns: now,
        cookie: sk.cookie_unless_listener(old, new),
        since_ns: ended.latest_ns,
        tuple: sk.tuple_in(netns),
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        mptcp: u8::from(sk.protocol() == IPPROTO_MPTCP),
        socket: above,
        old: old as u8,
        new: new as u8,
    }
}

/// Hands an event to user space, with who is on the CPU.
#[inline(always)]
pub fn emit(
    sk: Sock,
    netns: u32,
    kind: u8,
    (old, new): (u32, u32),
    now: u64,
    ended: Ended,
) -> bool {
    let event = Transition {
        time_ns: now,
        cookie: sk.cookie_unless_listener(old, new),
        earliest_ns: ended.earliest_ns,
        latest_ns: ended.latest_ns,
        tuple: sk.tuple_in(netns),
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        protocol: sk.protocol(),
        kind,
        socket: sk.above(),
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
        old: old as u8,
        new: new as u8,
        flags: 0,
        pad: [0; 5],
        recv_q: 0,
        send_q: 0,
        bytes_sent: 0,
        sent_ago_ns: u64::MAX,
    };
    // Who streams polls. Else only ends of long stays come here, which are rare, and wake the
    // reader.
    let flags = if offsets::transitions() != 0 && kind != KIND_DESTROY {
        u64::from(BPF_RB_NO_WAKEUP)
    } else {
        0
    };
    EVENTS.output(event, flags).is_ok()
}

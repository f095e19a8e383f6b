//! The hot path: every change of state of every TCP socket of the machine passes here.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use tcptrace_common::{
    counters::{Counters, SLOTS, STATES, slot},
    event::{KIND_DESTROY, KIND_TRANSITION, OPEN, Transition},
};

use crate::{
    filter::{CLOSE, CLOSE_WAIT, SYN_RECV, SYN_SENT, in_netns, matches_ends, watched},
    maps::{self, EVENTS, Stay},
    nursery, offsets,
    sock::{Sock, bytes_sent, is_subflow},
};

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn set_state(ctx: BtfTracePointContext) -> i32 {
    let (old, new) = (ctx.arg::<u32>(1), ctx.arg::<u32>(2));
    if let (Some(sk), Some(counters)) = (Sock::new(ctx.arg(0)), maps::counters()) {
        change(sk, old, new, counters);
    }
    0
}

#[inline(always)]
fn change(sk: Sock, old: u32, new: u32, counters: &mut Counters) {
    if !in_netns(sk) {
        return;
    }
    counters.seen += 1;
    let (left, entered) = (watched(old), watched(new));
    // SCTP uses the tracepoint too.
    if !(left || entered) || !sk.is_tcp() || !matches_ends(sk, old == CLOSE || new == SYN_SENT || new == SYN_RECV) {
        counters.filtered += 1;
        return;
    }
    // SAFETY: the helper takes no argument.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // A packet may end the connection, but not the descriptor: the socket stays on, as a ghost.
    let ghost = left && new == CLOSE && sk.above() == OPEN;

    let ended = if left { leave(sk, old) } else { Ended::UNKNOWN };
    // A subflow's stays say nothing about the program: those of the socket above it do.
    let tcp = if entered { sk.tcp() } else { None };
    let entered = entered && !is_subflow(tcp);
    if (ghost || entered && !nursery::begin(sk, tcp, old, new, now)) && !settle(sk, new, now) {
        counters.storage_failed += 1;
    }

    let aged = left && ended.aged(now);
    if left {
        ended.count(old, now);
    }
    if offsets::transitions() == 0 && !aged {
        counters.filtered += 1;
    } else if emit(sk, KIND_TRANSITION, (old, new), now, ended, aged) {
        counters.emitted += 1;
    } else {
        counters.ring_full += 1;
    }
}

/// Ends the stay in state `old`, wherever it is kept.
#[inline(always)]
fn leave(sk: Sock, old: u32) -> Ended {
    // A look that is moving it to storage at this moment finds it gone, and takes it back there.
    if let Some(since) = nursery::end(sk) {
        return Ended::exactly(since);
    }
    match sk.has_storage().then(|| maps::stay(sk)).flatten() {
        Some(stay) => {
            let ended = Ended::of(stay, old);
            stay.state = 0;
            ended
        }
        None => Ended::UNKNOWN,
    }
}

/// Begins a stay in socket storage. False: the kernel has no memory.
#[inline(always)]
fn settle(sk: Sock, new: u32, now: u64) -> bool {
    let sent_before = if new == CLOSE_WAIT { bytes_sent(sk.tcp()) } else { 0 };
    let Some(stay) = maps::stay_or_new(sk) else { return false };
    *stay =
        Stay { earliest_ns: now, latest_ns: now, due_ns: 0, sent_before, look: 0, state: new as u8, flags: 0, pad: 0 };
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

    /// Adds it to the histogram, where its length is known.
    #[inline(always)]
    pub fn count(self, old: u32, now: u64) {
        if self.latest_ns != 0
            && self.latest_ns == self.earliest_ns
            && let Some(histogram) = maps::histogram()
        {
            let slot = slot(now.wrapping_sub(self.latest_ns));
            histogram.stays[old as usize & (STATES - 1)][slot & (SLOTS - 1)] += 1;
        }
    }
}

/// Hands an event to user space. `name_task`: who is on the CPU matters.
#[inline(always)]
pub fn emit(sk: Sock, kind: u8, (old, new): (u32, u32), now: u64, ended: Ended, name_task: bool) -> bool {
    let event = Transition {
        time_ns: now,
        cookie: sk.cookie_unless_listener(old, new),
        earliest_ns: ended.earliest_ns,
        latest_ns: ended.latest_ns,
        tuple: sk.tuple(),
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        protocol: sk.protocol(),
        kind,
        socket: sk.above(),
        comm: if name_task { bpf_get_current_comm().unwrap_or([0; 16]) } else { [0; 16] },
        old: old as u8,
        new: new as u8,
        pad: [0; 6],
    };
    // Streamed transitions are many and the reader polls for them; ends of long stays are rare
    // and wake it.
    let flags = if offsets::transitions() != 0 && kind != KIND_DESTROY { u64::from(BPF_RB_NO_WAKEUP) } else { 0 };
    EVENTS.output(event, flags).is_ok()
}

//! The hot path: every change of state of every TCP socket of the machine passes here.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid,
        generated::{bpf_get_current_task, bpf_ktime_get_boot_ns},
    },
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use tcptrace_common::{
    counters::{BUCKETS, PerCpu, STATES, bucket},
    event::{
        EXITING, HAS_TCP, KIND_DESTROY, KIND_TRANSITION, NO_SOCKET, OPEN, Step, Streamed,
        Transition,
    },
    slot::Found,
};

use crate::{
    filter::{CLOSE, CLOSE_WAIT, LISTEN, SYN_RECV, SYN_SENT, in_netns, matches_ends, watched},
    log::say,
    maps::{self, EVENTS, Kept, count},
    nursery::{Cradle, Entry},
    offsets::{self, off},
    sock::{Address, IPPROTO_MPTCP, Sock, bytes_sent, is_subflow, jiffies_since, recv_q, send_q},
    stream,
};

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn set_state(ctx: BtfTracePointContext) -> i32 {
    enter::<false>(&ctx)
}

/// The same, and its events say whether the task on the CPU is ending: loaded in its place where
/// that is asked for.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn set_state_of_run(ctx: BtfTracePointContext) -> i32 {
    enter::<true>(&ctx)
}

#[inline(always)]
fn enter<const ENDS: bool>(ctx: &BtfTracePointContext) -> i32 {
    let (old, new) = (ctx.arg::<u32>(1), ctx.arg::<u32>(2));
    if let (Some(sk), Some(cpu)) = (Sock::new(ctx.arg(0)), maps::this_cpu()) {
        change::<ENDS>(sk, old, new, cpu);
    }
    0
}

#[inline(always)]
fn change<const ENDS: bool>(sk: Sock, old: u32, new: u32, cpu: &mut PerCpu) {
    if !in_netns(sk) {
        return;
    }
    count(&mut cpu.counters.seen);
    // A ghost has a stay in CLOSE, watched or not; it may connect again.
    let (left, entered) = (watched(old) || old == CLOSE && sk.has_storage(), watched(new));
    // Who asks for CLOSE_WAIT wants to know of every connection that is over and has a descriptor.
    let ghost = new == CLOSE && watched(CLOSE_WAIT) && is_connected(old) && sk.has_socket();
    if !(left || entered || ghost) {
        count(&mut cpu.counters.filtered);
        return;
    }
    // Before all that the socket is asked for: reading the clock waits for what was begun to be
    // read.
    // SAFETY: the helper takes no argument.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let has_socket = sk.has_socket();
    // SCTP uses the tracepoint too.
    if !sk.is_tcp() {
        count(&mut cpu.counters.filtered);
        return;
    }
    // It may have passed before, while its ports were not set: what it holds it gives back.
    let refused = !matches_ends(sk, old == CLOSE || new == SYN_SENT || new == SYN_RECV);
    // A packet may end the connection, but not the descriptor: the socket stays on, as a ghost.
    // Without a descriptor it goes at once.
    let descriptor = if new == CLOSE && has_socket { sk.descriptor() } else { NO_SOCKET };
    let stays = !refused && if new == CLOSE { descriptor == OPEN } else { entered };
    // A subflow's stays say nothing about the program: those of the socket above it do.
    let tcp = if stays { sk.tcp() } else { None };
    let stays = stays && !is_subflow(tcp);

    let cradle = Cradle::of(sk);
    let (ended, ours) = if left { leave(sk, cradle, old, now) } else { (Ended::UNKNOWN, false) };
    if stays {
        let entry = Entry { tcp, has_socket, old, new, now };
        if !cradle.is_some_and(|cradle| cradle.begin(sk, &entry, ours)) && !settle(sk, &entry) {
            count(&mut cpu.counters.storage_failed);
            say!(sk, "no memory for a stay of socket {}, until now in state {}");
        }
    } else if ours && let Some(cradle) = cradle {
        cradle.free();
    }
    if refused || !(left || entered) {
        count(&mut cpu.counters.filtered);
        return;
    }

    let aged = left && ended.aged(now);
    if left && ended.is_timed() {
        let bucket = bucket(now.wrapping_sub(ended.latest_ns)) & (BUCKETS - 1);
        count(&mut cpu.histogram.stays[old as usize & (STATES - 1)][bucket]);
    }
    let change = Change { sk, old, new, now };
    let emitted = if offsets::stream() != 0 && !aged && ended.fits(now) {
        stream::put(&mut cpu.cursor, || change.streamed(descriptor, ended))
    } else if offsets::transitions() != 0 || aged {
        change.emit::<ENDS>(KIND_TRANSITION, ended)
    } else {
        count(&mut cpu.counters.filtered);
        return;
    };
    if emitted {
        count(&mut cpu.counters.emitted);
    } else {
        count(&mut cpu.counters.ring_full);
    }
}

/// Whether the task on the CPU is ending: it gets the flag before its descriptors are closed
/// (`exit_signals`, then `exit_files` in `do_exit`, kernel/exit.c), by whatever it was ended.
#[inline(always)]
fn is_exiting() -> bool {
    // include/linux/sched.h
    const PF_EXITING: u32 = 0x4;
    // SAFETY: the helper takes no argument.
    let task = Address::new(unsafe { bpf_get_current_task() });
    task.read::<u32>(off!(task_flags)) & PF_EXITING != 0
}

/// Whether a socket in this state has, or had, another end that answered.
#[inline(always)]
fn is_connected(state: u32) -> bool {
    !matches!(state, CLOSE | LISTEN | SYN_SENT | SYN_RECV)
}

/// Ends the stay in state `old`, wherever it is kept. True: the slot of the nursery is ours now.
#[inline(always)]
fn leave(sk: Sock, cradle: Option<Cradle>, old: u32, now: u64) -> (Ended, bool) {
    let found = cradle.map_or(Found::Nothing, |cradle| cradle.end(old));
    match (found, cradle) {
        (Found::Ended(since), Some(cradle)) => {
            let mut ended = Ended { earliest_ns: since, latest_ns: since, ..Ended::UNKNOWN };
            // What costs a look at the slot is asked of long stays only.
            if ended.aged(now) {
                if !cradle.is_of(sk) {
                    say!(sk, "the slot of socket {}, state {}, had an earlier socket's stay");
                    return (Ended::UNKNOWN, true);
                }
                ended.sent_before = cradle.sent_before();
            }
            return (ended, true);
        }
        (Found::Stale, _) => {
            say!(sk, "the slot of socket {}, state {}, had a stay in another state");
            return (Ended::UNKNOWN, true);
        }
        _ => {}
    }
    if !sk.has_storage() {
        return (Ended::UNKNOWN, false);
    }
    if let (Found::Moving(since), Some(cradle), Some(storage)) = (found, cradle, maps::storage(sk))
    {
        // Before it ends: then the slot is the scan's to free.
        let sent_before = cradle.sent_before();
        if Kept::place(&raw mut storage.moved).end_moving(since) {
            return (Ended { earliest_ns: since, latest_ns: since, sent_before, flags: 0 }, false);
        }
    }
    (end_in_storage(sk, old), false)
}

/// Ends the stay in state `old` in socket storage. One in another state, whose end was missed, goes
/// too.
#[inline(always)]
pub fn end_in_storage(sk: Sock, old: u32) -> Ended {
    let mut ended = Ended::UNKNOWN;
    let Some(storage) = maps::storage(sk) else { return ended };
    for kept in [&raw mut storage.moved, &raw mut storage.settled] {
        let Some(since) = Kept::place(kept).since() else { continue };
        // SAFETY: a valid map value.
        let (state, there) = unsafe {
            let there = Ended {
                earliest_ns: (*kept).earliest_ns,
                latest_ns: since,
                sent_before: (*kept).sent_before,
                flags: (*kept).flags,
            };
            ((*kept).state, there)
        };
        let same = u32::from(state) == old;
        if Kept::place(kept).end(since) && same {
            ended = there;
        }
        if !same {
            say!(sk, "the storage of socket {}, state {}, had a stay in another state");
        }
    }
    ended
}

/// Begins a stay in socket storage. False: the kernel has no memory.
#[inline(always)]
fn settle(sk: Sock, entry: &Entry) -> bool {
    let sent_before = if entry.new == CLOSE_WAIT { bytes_sent(entry.tcp) } else { 0 };
    let Some(storage) = maps::storage_or_new(sk) else { return false };
    let kept = &raw mut storage.settled;
    // A scan that reads what a missed end left here is not to take it for what begins now.
    Kept::place(kept).empty();
    // SAFETY: a valid map value, and only we write to this place.
    unsafe {
        (*kept).earliest_ns = entry.now;
        (*kept).sent_before = sent_before;
        (*kept).state = entry.new as u8;
        (*kept).flags = 0;
    }
    Kept::place(kept).begin(entry.now);
    true
}

/// What is known of the stay that just ended.
#[derive(Clone, Copy)]
pub struct Ended {
    earliest_ns: u64,
    latest_ns: u64,
    sent_before: u64,
    flags: u8,
}

impl Ended {
    /// Nobody timed it.
    pub const UNKNOWN: Self = Self { earliest_ns: 0, latest_ns: 0, sent_before: 0, flags: 0 };

    /// Whether it certainly passed min-age.
    #[inline(always)]
    pub fn aged(self, now: u64) -> bool {
        self.latest_ns != 0 && now.wrapping_sub(self.latest_ns) >= offsets::min_age_ns()
    }

    /// Whether its length is known.
    #[inline(always)]
    fn is_timed(self) -> bool {
        self.latest_ns != 0 && self.latest_ns == self.earliest_ns
    }

    /// Whether a record of the stream can say it.
    #[inline(always)]
    fn fits(self, now: u64) -> bool {
        self.latest_ns == self.earliest_ns
            && (self.latest_ns == 0 || now.wrapping_sub(self.latest_ns) < Step::TOO_LONG_NS)
    }
}

/// A change of state.
#[derive(Clone, Copy)]
pub struct Change {
    pub sk: Sock,
    pub old: u32,
    pub new: u32,
    pub now: u64,
}

impl Change {
    #[inline(always)]
    fn streamed(self, descriptor: u8, ended: Ended) -> Streamed {
        let Self { sk, old, new, now } = self;
        let stayed_ns = (ended.latest_ns != 0).then(|| now.wrapping_sub(ended.latest_ns) as u32);
        let step = Step {
            stayed_ns,
            pid: (bpf_get_current_pid_tgid() >> 32) as u32,
            mptcp: sk.protocol() == IPPROTO_MPTCP,
            socket: descriptor,
            old: old as u8,
            new: new as u8,
        };
        Streamed::new(now, sk.cookie_unless_listener(old, new), sk.tuple_in(sk.netns()), step)
    }

    /// Hands it to user space, with who is on the CPU; `ENDS`: and whether that is ending.
    #[inline(always)]
    pub fn emit<const ENDS: bool>(self, kind: u8, ended: Ended) -> bool {
        let Self { sk, old, new, now } = self;
        let mut event = Transition {
            time_ns: now,
            cookie: sk.cookie_unless_listener(old, new),
            earliest_ns: ended.earliest_ns,
            latest_ns: ended.latest_ns,
            tuple: sk.tuple_in(sk.netns()),
            pid: (bpf_get_current_pid_tgid() >> 32) as u32,
            protocol: sk.protocol(),
            kind,
            socket: sk.descriptor(),
            comm: bpf_get_current_comm().unwrap_or([0; 16]),
            bytes_sent: 0,
            sent_ago_ns: u64::MAX,
            recv_q: 0,
            send_q: 0,
            old: old as u8,
            new: new as u8,
            flags: ended.flags,
            pad: [0; 5],
        };
        if ended.latest_ns != 0
            && let Some(tcp) = sk.tcp()
        {
            event.bytes_sent = bytes_sent(Some(tcp)).saturating_sub(ended.sent_before);
            event.sent_ago_ns = jiffies_since(tcp.read(off!(tcp_lsndtime))) * offsets::jiffy_ns();
            (event.recv_q, event.send_q) = (recv_q(tcp), send_q(tcp));
            event.flags |= HAS_TCP;
        }
        if ENDS && is_exiting() {
            event.flags |= EXITING;
        }
        // Who streams polls. Else only ends of long stays come here, which are rare, and wake the
        // reader.
        let flags = if offsets::transitions() != 0 && kind != KIND_DESTROY {
            u64::from(BPF_RB_NO_WAKEUP)
        } else {
            0
        };
        EVENTS.output(event, flags).is_ok()
    }
}

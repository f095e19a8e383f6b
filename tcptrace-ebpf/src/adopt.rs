//! Sockets in a watched state that have no stay: those that were there before us, and those whose
//! change of state nobody saw. Each gets one whose beginning is an interval. It may be done at any
//! time, beside whatever else goes on.

use aya_ebpf::{
    cty::c_void,
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_skc_to_tcp_sock},
};
use tcptrace_common::event::ADOPTED;

use crate::{
    filter::{CLOSE, CLOSE_WAIT, matches, watched},
    log::say,
    maps::{self, CONTROL, Kept},
    nursery::Cradle,
    offsets::{self, off},
    scan::live,
    seq::context,
    sock::{Sock, bytes_sent, is_subflow, jiffies_since},
};

/// Jiffies of slack on each side: the kernel rounds.
const SLACK: u64 = 2;

#[unsafe(link_section = "iter/tcp")]
#[unsafe(no_mangle)]
pub extern "C" fn adopt(ctx: *mut c_void) -> i32 {
    // The context: meta, sk_common, uid. Request and TIME_WAIT sockets are no full sockets: the
    // helper answers null for them, and for the null that ends the scan the check comes first.
    let common: *mut c_void = context(ctx, 1);
    if !common.is_null() {
        // SAFETY: the helper takes any socket the verifier vouches for.
        let tcp = unsafe { bpf_skc_to_tcp_sock(common) };
        if let Some(sk) = Sock::new(tcp.cast()) {
            adopt_one(sk);
        }
    }
    0
}

/// Gives the socket a stay if it is in a watched state and has none.
///
/// Its state is read before its stays are looked for: a stay in it that was traced had begun by
/// then, because a change is traced just before it is made.
#[inline(always)]
pub fn adopt_one(sk: Sock) {
    let state = sk.state();
    // Ghosts have stays whether CLOSE is watched or not.
    let stays = watched(u32::from(state)) || u32::from(state) == CLOSE;
    if !stays || !matches(sk) || is_subflow(sk.tcp()) {
        return;
    }
    // One in CLOSE that was never connected is new.
    if u32::from(state) == CLOSE && sk.rport() == 0 {
        return;
    }
    let Some(control) = CONTROL.get(0) else { return };
    // Timed already, or about to change.
    if Cradle::of(sk).and_then(|cradle| cradle.since(sk, control.now_ns)).is_some() {
        return;
    }
    let Some(storage) = maps::storage_or_new(sk) else {
        maps::scan_failed();
        say!(sk, "no memory to adopt socket {}, state {}");
        return;
    };
    if live(sk, &raw mut storage.settled, state, control.now_ns).is_some()
        || live(sk, &raw mut storage.moved, state, control.now_ns).is_some()
    {
        return;
    }
    let moved = &raw mut storage.moved;
    // Not the scan's time: it may have come here since that.
    // SAFETY: the helper takes no argument.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let (earliest_ns, latest_ns) = bounds(sk, u32::from(state), now);
    // What ended while it was being moved here may have left its mark.
    Kept::place(moved).empty();
    // SAFETY: a valid map value, and only scans write to this place while it is empty.
    unsafe {
        (*moved).earliest_ns = earliest_ns;
        (*moved).sent_before = bytes_sent(sk.tcp());
        (*moved).flags = ADOPTED;
        (*moved).state = state;
    }
    let adopted = Kept::place(moved).adopt(latest_ns);
    if adopted {
        say!(sk, "adopted socket {}, state {}");
    }
    // It went on meanwhile, and what it entered is timed elsewhere.
    if adopted && sk.state() != state {
        Kept::place(moved).end(latest_ns);
    }
}

/// When the stay began. The FIN came after the last data and carried an acknowledgement, so
/// CLOSE_WAIT lies between the two; keepalive answers move the second. Other states: unknown.
#[inline(always)]
fn bounds(sk: Sock, state: u32, now: u64) -> (u64, u64) {
    let Some(tcp) = sk.tcp() else { return (0, now) };
    if state != CLOSE_WAIT {
        return (0, now);
    }
    let data = jiffies_since(tcp.read(off!(icsk_lrcvtime))) + SLACK;
    let ack = jiffies_since(tcp.read(off!(tcp_rcv_tstamp))).saturating_sub(SLACK);
    let ns = |jiffies: u64| now.saturating_sub(jiffies * offsets::jiffy_ns());
    // 0 would mean that there is none.
    (ns(data), ns(ack).max(1))
}

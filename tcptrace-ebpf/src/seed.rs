//! Sockets that were there before us: each gets a stay whose beginning is an interval.

use aya_ebpf::{cty::c_void, helpers::generated::bpf_skc_to_tcp_sock};
use tcptrace_common::event::SEEDED;

use crate::{
    filter::{CLOSE_WAIT, matches, watched},
    maps::{self, CONTROL},
    nursery,
    offsets::{self, off},
    seq::context,
    sock::{Sock, bytes_sent, is_subflow, jiffies_since},
};

/// Jiffies of slack on each side: the kernel rounds.
const SLACK: u64 = 2;

#[unsafe(link_section = "iter/tcp")]
#[unsafe(no_mangle)]
pub extern "C" fn seed(ctx: *mut c_void) -> i32 {
    // The context: meta, sk_common, uid. Request and TIME_WAIT sockets are no full sockets: the
    // helper answers null for them, and for the null that ends the pass the check comes first.
    let common: *mut c_void = context(ctx, 1);
    if !common.is_null() {
        // SAFETY: the helper takes any socket the verifier vouches for.
        let tcp = unsafe { bpf_skc_to_tcp_sock(common) };
        if let Some(sk) = Sock::new(tcp.cast()) {
            adopt(sk);
        }
    }
    0
}

/// Gives the socket a stay if it is in a watched state and has none.
#[inline(always)]
pub fn adopt(sk: Sock) {
    let state = sk.state();
    if !watched(u32::from(state)) || !matches(sk) || is_subflow(sk.tcp()) {
        return;
    }
    // One that changed state since we attached is timed already.
    if nursery::since(sk).is_some() {
        return;
    }
    let Some(control) = CONTROL.get(0) else { return };
    let Some(stay) = maps::stay_or_new(sk) else {
        if let Some(cpu) = maps::this_cpu() {
            cpu.counters.seed_failed += 1;
        }
        return;
    };
    if stay.state != 0 {
        return;
    }
    let (earliest_ns, latest_ns) = bounds(sk, u32::from(state), control.now_ns);
    stay.earliest_ns = earliest_ns;
    stay.latest_ns = latest_ns;
    stay.due_ns = 0;
    stay.sent_before = bytes_sent(sk.tcp());
    stay.flags = SEEDED;
    stay.state = state;
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
    (ns(data), ns(ack))
}

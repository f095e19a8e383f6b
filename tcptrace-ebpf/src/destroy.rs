//! The end of a socket. A stay in CLOSE (a ghost's) ends here and nowhere else.

use aya_ebpf::{helpers::generated::bpf_ktime_get_boot_ns, macros::btf_tracepoint, programs::BtfTracePointContext};
use tcptrace_common::event::KIND_DESTROY;

use crate::{
    filter::{CLOSE, watched},
    maps, nursery,
    set_state::{Ended, emit},
    sock::Sock,
};

#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn destroy(ctx: BtfTracePointContext) -> i32 {
    if let Some(sk) = Sock::new(ctx.arg(0)) {
        end(sk);
    }
    0
}

#[inline(always)]
fn end(sk: Sock) {
    // All other states are left by a change of state, which ends their stays.
    let young = if watched(CLOSE) { nursery::end(sk) } else { None };
    let stay = if sk.has_storage() { maps::stay(sk) } else { None };
    let settled = match stay {
        Some(stay) if stay.state != 0 => {
            let state = u32::from(stay.state);
            let ended = Ended::of(stay, state);
            stay.state = 0;
            Some((ended, state))
        }
        _ => None,
    };
    let Some((ended, state)) = settled.or(young.map(|since| (Ended::exactly(since), CLOSE))) else { return };
    // SAFETY: the helper takes no argument.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if !ended.aged(now) {
        return;
    }
    let Some(counters) = maps::counters() else { return };
    if emit(sk, sk.netns(), KIND_DESTROY, (state, state), now, ended, true) {
        counters.destroy_emitted += 1;
    } else {
        counters.destroy_ring_full += 1;
    }
}

//! The end of a socket. A stay in CLOSE (a ghost's) ends here and nowhere else.

use aya_ebpf::{
    helpers::generated::bpf_ktime_get_boot_ns, macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use tcptrace_common::event::KIND_DESTROY;

use crate::{
    maps,
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
    let Some(stay) = sk.has_storage().then(|| maps::stay(sk)).flatten() else { return };
    if stay.state == 0 {
        return;
    }
    let state = u32::from(stay.state);
    let ended = Ended::of(stay, state);
    stay.state = 0;
    // SAFETY: the helper takes no argument.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if !ended.aged(now) {
        return;
    }
    let Some(cpu) = maps::this_cpu() else { return };
    if emit(sk, sk.netns(), KIND_DESTROY, (state, state), now, ended) {
        cpu.counters.destroy_emitted += 1;
    } else {
        cpu.counters.destroy_ring_full += 1;
    }
}

//! The end of a socket. A stay in CLOSE (a ghost's) ends here, unless the descriptor connects
//! again.

use aya_ebpf::{
    helpers::generated::bpf_ktime_get_boot_ns, macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use tcptrace_common::event::KIND_DESTROY;

use crate::{
    maps,
    set_state::{Change, end_in_storage},
    sock::Sock,
};

#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn destroy(ctx: BtfTracePointContext) -> i32 {
    enter::<false>(&ctx)
}

/// See `set_state_of_run`.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn destroy_of_run(ctx: BtfTracePointContext) -> i32 {
    enter::<true>(&ctx)
}

#[inline(always)]
fn enter<const ENDS: bool>(ctx: &BtfTracePointContext) -> i32 {
    if let Some(sk) = Sock::new(ctx.arg(0)) {
        end::<ENDS>(sk);
    }
    0
}

#[inline(always)]
fn end<const ENDS: bool>(sk: Sock) {
    // All other states are left by a change of state, which ends their stays.
    if !sk.has_storage() {
        return;
    }
    let state = u32::from(sk.state());
    // SAFETY: the helper takes no argument.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let ended = end_in_storage(sk, state);
    if !ended.aged(now) {
        return;
    }
    let Some(cpu) = maps::this_cpu() else { return };
    if (Change { sk, old: state, new: state, now }).emit::<ENDS>(KIND_DESTROY, ended) {
        maps::count(&mut cpu.counters.destroy_emitted);
    } else {
        maps::count(&mut cpu.counters.destroy_ring_full);
    }
}

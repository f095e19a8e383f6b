//! What sock_diag does not show: who has a descriptor, who waits in which queue, and connections
//! that are over and still have a descriptor.

use core::mem::zeroed;

use aya_ebpf::cty::c_void;
use tcptrace_common::event::Socket;

use crate::{
    filter::{CLOSE, LISTEN, in_netns, watched},
    holders::{holder, opened, queue},
    seq::Output,
};

#[unsafe(link_section = "iter/task_file")]
#[unsafe(no_mangle)]
pub extern "C" fn snapshot(ctx: *mut c_void) -> i32 {
    let out = Output::of(ctx);
    let Some((task, fd, sk)) = opened(ctx) else { return 0 };
    if !in_netns(sk) {
        return 0;
    }
    let state = u32::from(sk.state());
    if state != LISTEN && !watched(state) {
        return 0;
    }
    if state == CLOSE {
        // One with a remote end was connected once; one without is new.
        if sk.rport() == 0 {
            return 0;
        }
        // SAFETY: all-zero bytes are a valid record.
        let mut socket: Socket = unsafe { zeroed() };
        sk.describe(&mut socket);
        if !out.write(&socket) {
            return 0;
        }
    }
    // The turn of all comes again where one does not fit.
    out.write(&holder(task, fd, sk));
    if state == LISTEN {
        queue(out, sk);
    }
    0
}

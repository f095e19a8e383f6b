//! What sock_diag does not show: who has a descriptor, who waits in which queue, and connections
//! that are over and still have a descriptor.

use aya_ebpf::cty::c_void;

use crate::{
    filter::{CLOSE, LISTEN, in_netns, watched},
    holders::{holder, opened, queue},
    seed::write,
};

#[unsafe(link_section = "iter/task_file")]
#[unsafe(no_mangle)]
pub extern "C" fn snapshot(ctx: *mut c_void) -> i32 {
    let Some((task, fd, sk)) = opened(ctx) else { return 0 };
    if !in_netns(sk) {
        return 0;
    }
    let state = u32::from(sk.state());
    if state == LISTEN {
        // Its turn comes again as a whole where one of these does not fit.
        write(ctx, &holder(task, fd, sk));
        queue(ctx, sk);
    } else if state == CLOSE {
        // One with a remote end was connected once; one without is new.
        if watched(CLOSE) && sk.rport() != 0 && write(ctx, &sk.describe()) {
            write(ctx, &holder(task, fd, sk));
        }
    } else if watched(state) {
        write(ctx, &holder(task, fd, sk));
    }
    0
}

//! A look at the live stays, in all network namespaces at once. It costs by the number of stays,
//! not by the number of connections.

use core::mem::zeroed;

use aya_ebpf::cty::c_void;
use tcptrace_common::{config::LOOK_ALL, event::Socket};

use crate::{
    maps::{CONTROL, Stay},
    offsets,
    seq::{Output, context},
    sock::Sock,
};

/// With `--min-age 0` a stay is first reported at once; from then on its age doubles from here.
const FIRST_REPEAT_NS: u64 = 1_000_000_000;
/// From this age on a stay's state is its socket's.
const SETTLED_NS: u64 = 100_000_000;

#[unsafe(link_section = "iter/bpf_sk_storage_map")]
#[unsafe(no_mangle)]
pub extern "C" fn look(ctx: *mut c_void) -> i32 {
    let out = Output::of(ctx);
    // The context: meta, map, sk, value. A null sk ends the pass.
    let (sk, stay) = (Sock::new(context(ctx, 2)), context(ctx, 3).cast::<Stay>());
    if let Some(sk) = sk
        // SAFETY: the verifier knows the value's size, and that it may be null.
        && let Some(stay) = unsafe { stay.as_mut() }
    {
        report(out, sk, stay);
    }
    0
}

#[inline(always)]
fn report(out: Output, sk: Sock, stay: &mut Stay) {
    let Some(control) = CONTROL.get(0) else { return };
    let state = stay.state;
    if state == 0 {
        return;
    }
    let age = control.now_ns.saturating_sub(stay.latest_ns);
    // Its end was missed: the kernel could not run the program. (A change of state is traced just
    // before it is made, so a young stay may be ahead of its socket.)
    if age >= SETTLED_NS && state != sk.state() {
        stay.state = 0;
        return;
    }
    let min_age = offsets::min_age_ns();
    let due = if stay.due_ns == 0 { age >= min_age } else { control.now_ns >= stay.due_ns };
    if !due && control.mode & LOOK_ALL == 0 {
        return;
    }
    // SAFETY: all-zero bytes are a valid record.
    let mut socket: Socket = unsafe { zeroed() };
    sk.describe(&mut socket);
    socket.state = state;
    socket.flags |= stay.flags;
    socket.earliest_ns = stay.earliest_ns;
    socket.latest_ns = stay.latest_ns;
    socket.bytes_sent = socket.bytes_sent.saturating_sub(stay.sent_before);
    // A record that did not fit comes again in the next read: mark it only once it is out.
    if out.write(&socket) {
        stay.look = control.look;
        if due {
            stay.due_ns = stay.latest_ns + next_doubling(age);
        }
    }
}

/// The age at which a stay of `age` is reported next: the smallest doubling of min-age above it.
#[inline(always)]
pub fn next_doubling(age: u64) -> u64 {
    let min_age = offsets::min_age_ns();
    let first = if min_age == 0 { FIRST_REPEAT_NS } else { min_age };
    let times = age / first;
    first << (64 - times.leading_zeros())
}

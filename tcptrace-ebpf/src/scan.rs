//! A scan of the live stays, in all network namespaces at once. It costs by the number of stays,
//! not by the number of connections.

use core::mem::zeroed;

use aya_ebpf::cty::c_void;
use tcptrace_common::{config::SCAN_ALL, event::Socket};

use crate::{
    log::say,
    maps::{CONTROL, Kept, Reported, Storage},
    origin,
    seq::{Output, context},
    sock::Sock,
};

/// With `--min-age 0` a stay is first reported at once; from then on its age doubles from here.
const FIRST_REPEAT_NS: u64 = 1_000_000_000;
/// From this age on a stay's state is its socket's. (A change of state is traced just before it is
/// made, so a young stay may be ahead of its socket.)
pub const SETTLED_NS: u64 = 100_000_000;

#[unsafe(link_section = "iter/bpf_sk_storage_map")]
#[unsafe(no_mangle)]
pub extern "C" fn scan(ctx: *mut c_void) -> i32 {
    let out = Output::of(ctx);
    // The context: meta, map, sk, value. A null sk ends the scan.
    let (sk, storage) = (Sock::new(context(ctx, 2)), context(ctx, 3).cast::<Storage>());
    if let Some(sk) = sk
        // SAFETY: the verifier knows the value's size, and that it may be null.
        && let Some(storage) = unsafe { storage.as_mut() }
    {
        report(out, sk, storage);
    }
    0
}

/// When the stay in a place of a socket in `state` began, if there is one. One in another state,
/// whose end was missed, is thrown out.
#[inline(always)]
pub fn live(sk: Sock, kept: *mut Kept, state: u8, now: u64) -> Option<u64> {
    let since = Kept::place(kept).since()?;
    // SAFETY: a valid map value.
    let kept_state = unsafe { (&raw const (*kept).state).read_volatile() };
    if kept_state != state && now.saturating_sub(since) >= SETTLED_NS {
        Kept::place(kept).end(since);
        say!(sk, "the storage of socket {}, state {}, had a stay in another state");
        return None;
    }
    Some(since)
}

#[inline(always)]
fn report(out: Output, sk: Sock, storage: &mut Storage) {
    let Some(control) = CONTROL.get(0) else { return };
    let (settled, moved) = (&raw mut storage.settled, &raw mut storage.moved);
    let state = sk.state();
    // Two only where an end was missed: what the hot path put there is the newer one.
    let now = control.now_ns;
    let (here, there) = (live(sk, settled, state, now), live(sk, moved, state, now));
    let kept = if here.is_some() { settled } else { moved };
    let Some(latest_ns) = here.or(there) else { return };
    if let (Some(_), Some(stale)) = (here, there) {
        Kept::place(moved).end(stale);
    }
    let age = control.now_ns.saturating_sub(latest_ns);
    let min_age = control.min_age_ns;
    let due_ns = if storage.reported.of == latest_ns { storage.reported.due_ns } else { 0 };
    let due = if due_ns == 0 { age >= min_age } else { control.now_ns >= due_ns };
    if !due && control.mode & SCAN_ALL == 0 {
        return;
    }
    // SAFETY: all-zero bytes are a valid record.
    let mut socket: Socket = unsafe { zeroed() };
    sk.describe(&mut socket);
    socket.latest_ns = latest_ns;
    // SAFETY: a valid map value.
    let sent_before = unsafe {
        socket.state = (&raw const (*kept).state).read_volatile();
        socket.flags |= (&raw const (*kept).flags).read_volatile();
        socket.earliest_ns = (&raw const (*kept).earliest_ns).read_volatile();
        (&raw const (*kept).sent_before).read_volatile()
    };
    socket.bytes_sent = socket.bytes_sent.saturating_sub(sent_before);
    // It ended meanwhile, and what was read may belong to the next.
    if Kept::place(kept).since() != Some(latest_ns) {
        return;
    }
    // A record that did not fit comes again in the next read: mark it only once it is out.
    if origin::list(out, sk) && out.write(&socket) {
        let due_ns = if due { latest_ns + next_doubling(age, min_age) } else { due_ns };
        storage.reported = Reported { of: latest_ns, due_ns, scan: control.scan, pad: 0 };
    }
}

/// The age at which a stay of `age` is reported next: the smallest doubling of min-age above it.
#[inline(always)]
pub fn next_doubling(age: u64, min_age: u64) -> u64 {
    let first = if min_age == 0 { FIRST_REPEAT_NS } else { min_age };
    let times = age / first;
    first << (64 - times.leading_zeros())
}

//! Who has a descriptor: one scan of every descriptor table of this pid namespace.

use core::mem::zeroed;

use aya_ebpf::{cty::c_void, helpers::generated::bpf_sock_from_file};
use tcptrace_common::{
    config::{ADOPT, ALL_DESCRIPTORS, Control, PROMOTE},
    event::{Holding, KIND_HOLDING, KIND_QUEUED, NO_MEMORY, Queued, Socket},
};

use crate::{
    adopt::adopt_one,
    filter::{LISTEN, in_netns},
    log::say,
    maps::{self, CONTROL, Kept, Reported},
    nursery::Cradle,
    offsets::{known, off},
    origin,
    scan::next_doubling,
    seq::{Output, context},
    sock::{Kernel, Sock, cgroup_id},
};

#[unsafe(link_section = "iter/task_file")]
#[unsafe(no_mangle)]
pub extern "C" fn holders(ctx: *mut c_void) -> i32 {
    let out = Output::of(ctx);
    if let Some((task, fd, sk)) = opened(ctx) {
        descriptor(out, task, fd, sk);
    }
    0
}

/// The task, the descriptor and the TCP socket that this step of the scan is about.
#[inline(always)]
pub fn opened(ctx: *mut c_void) -> Option<(Kernel, u32, Sock)> {
    // The context: meta, task, fd (u32), file. A null file ends the scan.
    let (task, file) = (Kernel::new(context(ctx, 1))?, context(ctx, 3));
    // SAFETY: the verifier checks the access against the iterator's context type.
    let fd = unsafe { ctx.cast::<u32>().add(4).read_volatile() };
    if file.is_null() {
        return None;
    }
    // SAFETY: the helper takes any file the verifier vouches for.
    let socket = Kernel::new(unsafe { bpf_sock_from_file(file.cast()) }.cast())?;
    let sk = socket.follow(off!(socket_sk)).map(Sock::from_kernel)?;
    sk.is_tcp().then_some((task, fd, sk))
}

#[inline(always)]
fn descriptor(out: Output, task: Kernel, fd: u32, sk: Sock) {
    let Some(control) = CONTROL.get(0) else { return };
    if control.mode & ADOPT != 0 {
        adopt_one(sk);
        return;
    }
    let listening = u32::from(sk.state()) == LISTEN;
    let aged = if listening || control.mode & PROMOTE == 0 {
        None
    } else {
        Cradle::of(sk).and_then(|cradle| cradle.since(sk, control.now_ns))
    };
    if !listening && aged.is_none() {
        let asked = control.mode & ALL_DESCRIPTORS != 0
            || sk.has_storage()
                && maps::storage(sk).is_some_and(|s| s.reported.scan == control.scan);
        if asked {
            out.write(&holder(task, fd, sk));
        }
        return;
    }
    let age = aged.map_or(u64::MAX, |since| control.now_ns.saturating_sub(since));
    if age < control.min_age_ns || listening && !in_netns(sk) {
        return;
    }
    // Before it moves: where there is no room, this step comes again, and must find it as it was.
    if !listening && !origin::list(out, sk) {
        return;
    }
    // In one place for both: the verifier goes through it once, and one record is on the stack.
    // SAFETY: all-zero bytes are a valid record.
    let mut found: Found = unsafe { zeroed() };
    sk.describe(&mut found.socket);
    found.holder = holder(task, fd, sk);
    match aged {
        Some(since) => promote(out, &mut found, sk, since, control),
        None => {
            if out.write(&found) {
                queue(out, sk);
            }
        }
    }
}

/// Connections at the head of an accept queue that are listed. Only where several listeners share a
/// port (SO_REUSEPORT) does it matter in whose queue one waits.
const QUEUE: u32 = 64;

/// Lists who waits in the listener's queue. Nothing locks it here: what is read of a request that
/// is being accepted may be stale, never more than read.
#[inline(always)]
pub fn queue(out: Output, sk: Sock) {
    let Some(tcp) = sk.tcp() else { return };
    let listener = sk.cookie();
    let mut request = tcp.address().follow(off!(icsk_accept_head));
    for _ in 0..QUEUE {
        if request.is_null() {
            return;
        }
        let cookie = request.follow(off!(req_sk)).read(off!(sk_cookie));
        out.write(&Queued { kind: KIND_QUEUED, pad: 0, cookie, listener });
        request = request.follow(off!(req_next));
    }
}

/// A socket and its holder in one record: both are handed over, or neither.
#[repr(C)]
struct Found {
    socket: Socket,
    holder: Holding,
}

/// Moves a stay that has aged from the nursery to socket storage, and reports it.
#[inline(always)]
fn promote(out: Output, found: &mut Found, sk: Sock, since: u64, control: &Control) {
    // Found again: across what lies between, the verifier would forget what it points to.
    let Some(cradle) = Cradle::of(sk) else { return };
    // Should the stay end now, what is read here is not used.
    let (state, sent_before) = (cradle.state(), cradle.sent_before());
    let socket = &mut found.socket;
    (socket.state, socket.earliest_ns, socket.latest_ns) = (state, since, since);
    socket.bytes_sent = socket.bytes_sent.saturating_sub(sent_before);
    let Some(storage) = maps::storage_or_new(sk) else {
        maps::scan_failed();
        say!(sk, "no memory to move the stay of socket {}, state {}");
        socket.flags |= NO_MEMORY;
        out.write(found);
        return;
    };
    let (moved, reported) = (&raw mut storage.moved, &raw mut storage.reported);
    let promoted = cradle.promote(since, Kept::place(moved), || {
        let age = control.now_ns.saturating_sub(since);
        // SAFETY: valid map values, and only scans write to them.
        unsafe {
            (*moved).earliest_ns = since;
            (*moved).sent_before = sent_before;
            (*moved).state = state;
            (*moved).flags = 0;
            *reported = Reported {
                of: since,
                due_ns: since + next_doubling(age, control.min_age_ns),
                scan: control.scan,
                pad: 0,
            };
        }
        // A record that did not fit comes again in the next read, and the slot is still there then.
        out.write(found)
    });
    if !promoted {
        say!(
            sk,
            "the stay of socket {}, state {}, ended before it was moved, or there was no room"
        );
    }
}

#[inline(always)]
pub fn holder(task: Kernel, fd: u32, sk: Sock) -> Holding {
    let task = task.address();
    let leader = task.follow(off!(task_leader));
    let comm: [u64; 2] = [leader.read(off!(task_comm)), leader.read(off!(task_comm) + 8)];
    let cgroup = if known(off!(css_set_dfl)) {
        cgroup_id(task.follow(off!(task_cgroups)).follow(off!(css_set_dfl)))
    } else {
        0
    };
    Holding {
        kind: KIND_HOLDING,
        fd,
        cookie: sk.cookie(),
        start_ns: leader.read(off!(task_start)),
        cgroup,
        pid: task.read(off!(task_tgid)),
        tid: task.read(off!(task_pid)),
        ppid: leader.follow(off!(task_real_parent)).read(off!(task_tgid)),
        max_backlog: sk.max_backlog(),
        // SAFETY: two u64 are 16 plain bytes.
        comm: unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(comm) },
    }
}

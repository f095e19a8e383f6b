//! Where connections come from, and who reads from them (`--origins`): three moments in the life of
//! a connection, each with the thread whose call it was and the name of its user stack. Nothing
//! here is loaded unless it is asked for.
//!
//! A connection is found again by its socket's address, which is its own until `forget` sees it
//! freed.

use core::mem::zeroed;

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_ANY,
    btf_maps::{HashMap, PerCpuArray},
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid,
        generated::{
            bpf_get_current_ancestor_cgroup_id, bpf_get_current_task, bpf_ktime_get_boot_ns,
        },
    },
    macros::{btf_map, btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use tcptrace_common::{
    config::{BY_CGROUP, BY_DESCENT, BY_PROCESS, CGROUPS},
    counters::OriginCounts,
    event::{ACCEPTED, CONNECTED, CallMoment, KIND_ORIGIN, Origin},
};

use crate::{
    filter::{CLOSE_WAIT, SYN_SENT, in_netns},
    maps::count,
    offsets::{self, off},
    seq::Output,
    sock::{Address, Sock, is_tcp},
    stack::{self, Registers},
};

/// What is known of a connection.
#[derive(Clone, Copy)]
#[repr(C)]
struct Known {
    opened: CallMoment,
    read: CallMoment,
    end: CallMoment,
    /// Where `read` was, see [`Registers::place`].
    place: u64,
    /// [`ACCEPTED`] or [`CONNECTED`].
    flags: u32,
    pad: u32,
}

/// By the address of the socket; user space sets the length.
#[btf_map]
static ORIGINS: HashMap<u64, Known, 1> = HashMap::new();

/// The processes of [`BY_PROCESS`], by pid; user space sets the length and fills it.
#[btf_map]
static ASKED: HashMap<u32, u32, 1> = HashMap::new();

/// Where a connection is put together that nothing was known of: it would fill the stack.
#[btf_map]
static NEW: PerCpuArray<Known, 1> = PerCpuArray::new();

/// What was not kept.
#[btf_map]
static LOST: PerCpuArray<OriginCounts, 1> = PerCpuArray::new();

/// Descent is followed over so many generations.
const GENERATIONS: u32 = 8;
/// Of a system call's exit, behind what all tracepoints have: its number, then what it returned.
const RETURNED: usize = 16;
/// Flag of recv() (include/linux/socket.h).
const MSG_PEEK: u32 = 2;

/// At the exit of accept() and accept4(): the descriptor is in the caller's table by now.
#[tracepoint]
pub fn accepted(ctx: TracePointContext) -> u32 {
    // SAFETY: a field of this tracepoint, see its format in tracefs.
    let fd = unsafe { ctx.as_ptr().byte_add(RETURNED).cast::<i64>().read_volatile() };
    if fd < 0 || !is_asked_for() {
        return 0;
    }
    if let Some(sk) = socket_of(fd as u64) {
        opened(ctx.as_ptr(), sk, ACCEPTED);
    }
    0
}

/// connect() enters SYN_SENT in the thread that calls it.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn connected(ctx: BtfTracePointContext) -> i32 {
    if ctx.arg::<u32>(2) == SYN_SENT
        && is_asked_for()
        && let Some(sk) = Sock::new(ctx.arg(0))
        && in_netns(sk)
        && sk.is_tcp()
    {
        opened(ctx.as_ptr(), sk.as_ptr() as u64, CONNECTED);
    }
    0
}

/// A read of a socket has returned.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn received(ctx: BtfTracePointContext) -> i32 {
    let (got, flags) = (ctx.arg::<i32>(1), ctx.arg::<u32>(2));
    if got >= 0
        && flags & MSG_PEEK == 0
        && is_asked_for()
        && let Some(sk) = Sock::new(ctx.arg(0))
        && in_netns(sk)
        && sk.is_tcp()
    {
        read(ctx.as_ptr(), sk, got);
    }
    0
}

/// The kernel frees a socket: its address will be another's.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn forget(ctx: BtfTracePointContext) -> i32 {
    let _ = ORIGINS.remove(ctx.arg::<u64>(0));
    0
}

#[inline(always)]
fn opened(ctx: *mut core::ffi::c_void, sk: u64, flags: u32) {
    let Some(new) = unknown() else { return };
    new.flags = flags;
    new.opened = moment(ctx, Registers::of_the_call());
    keep(sk, new);
}

/// Room for what becomes known of a connection, with nothing in it.
#[inline(always)]
fn unknown() -> Option<&'static mut Known> {
    let new = NEW.get_ptr_mut(0)?;
    // SAFETY: a valid map value, and this CPU's own: nothing that uses it comes in between, because
    // all of this runs for calls, and a call is not preempted here.
    unsafe {
        *new = zeroed();
        Some(&mut *new)
    }
}

#[inline(always)]
fn read(ctx: *mut core::ffi::c_void, sk: Sock, got: i32) {
    let ended = got == 0;
    // A read of no bytes returns 0, too.
    if ended && (u32::from(sk.state()) != CLOSE_WAIT || !sk.is_read_up()) {
        return;
    }
    let key = sk.as_ptr() as u64;
    let regs = Registers::of_the_call();
    let place = regs.place();
    // SAFETY: a valid map value. Two threads that read from one socket at once may leave a mixture
    // of two moments behind; the same happens to what they read.
    let known = ORIGINS.get_ptr_mut(key).map(|known| unsafe { &mut *known });
    let is_new = known.is_none();
    // The usual case by far: the same thread at the same place, again.
    if let Some(known) = &known
        && !ended
        && known.place == place
    {
        let read = (&raw const known.read.time_ns).cast_mut();
        // SAFETY: as above; the helper takes no argument.
        unsafe { read.write(bpf_ktime_get_boot_ns()) };
        return;
    }
    // Once: the verifier goes through all of it at each place.
    let moment = moment(ctx, regs);
    let known = match known {
        Some(known) => known,
        None => {
            let Some(new) = unknown() else { return };
            new
        }
    };
    if ended {
        known.end = moment;
    } else {
        known.read = moment;
        known.place = place;
    }
    if is_new {
        keep(key, known);
    }
}

#[inline(always)]
fn keep(sk: u64, known: &Known) {
    if ORIGINS.insert(sk, known, u64::from(BPF_ANY)).is_err()
        && let Some(lost) = lost()
    {
        count(&mut lost.full);
    }
}

/// What this CPU has not kept.
#[inline(always)]
pub fn lost() -> Option<&'static mut OriginCounts> {
    // SAFETY: a valid map value, this CPU's own, which lives as long as the program.
    LOST.get_ptr_mut(0).map(|lost| unsafe { &mut *lost })
}

/// The thread, and where in its code it is.
#[inline(always)]
fn moment(ctx: *mut core::ffi::c_void, regs: Registers) -> CallMoment {
    // SAFETY: the helper takes no argument.
    let time_ns = unsafe { bpf_ktime_get_boot_ns() };
    let task = bpf_get_current_pid_tgid();
    let (pid, tid) = ((task >> 32) as u32, task as u32);
    let start_ns = current().follow(off!(task_leader)).read(off!(task_start));
    CallMoment {
        time_ns,
        stack: stack::name(ctx, regs, time_ns, start_ns),
        start_ns,
        pid,
        tid,
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
    }
}

#[inline(always)]
pub fn current() -> Address {
    // SAFETY: the helper takes no argument.
    Address::new(unsafe { bpf_get_current_task() })
}

/// The socket that a descriptor of the caller's leads to; `None` where it is not of TCP. Another
/// thread may have closed it since: what is read then is checked by nobody, and is found by nobody,
/// since it is no live socket's address.
#[inline(always)]
fn socket_of(fd: u64) -> Option<u64> {
    let table = current().follow(off!(task_files)).follow(off!(files_fdt));
    if fd >= u64::from(table.read::<u32>(off!(fdt_max))) {
        return None;
    }
    let file = table.follow(off!(fdt_fd)).at(8 * fd).follow(0);
    let sk = file.follow(off!(file_private)).follow(off!(socket_sk));
    let tcp = is_tcp(sk.read(off!(sk_family)), sk.read(off!(sk_protocol)));
    let netns = offsets::netns();
    let here = netns == 0 || sk.follow(off!(sk_net)).read::<u32>(off!(net_inum)) == netns;
    (tcp && here).then_some(sk.number())
}

/// Whether the calling thread's doings are asked for.
#[inline(always)]
fn is_asked_for() -> bool {
    let how = offsets::origins_of();
    (how & BY_PROCESS == 0 || is_of_process(how)) && (how & BY_CGROUP == 0 || is_in_cgroup())
}

#[inline(always)]
fn is_of_process(how: u32) -> bool {
    let own = (bpf_get_current_pid_tgid() >> 32) as u32;
    if ASKED.get_ptr(own).is_some() {
        return true;
    }
    if how & BY_DESCENT == 0 {
        return false;
    }
    let mut task = current();
    for _ in 0..GENERATIONS {
        task = task.follow(off!(task_leader)).follow(off!(task_real_parent));
        let pid: u32 = task.read(off!(task_tgid));
        if pid == 0 {
            return false;
        }
        if ASKED.get_ptr(pid).is_some() {
            // From now on it is found at once.
            let _ = ASKED.insert(own, 0, u64::from(BPF_ANY));
            return true;
        }
    }
    false
}

#[inline(always)]
fn is_in_cgroup() -> bool {
    for n in 0..CGROUPS {
        let (id, level) = offsets::cgroup(n);
        // SAFETY: the helper takes any level.
        if id != 0 && unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) } == id {
            return true;
        }
    }
    false
}

/// Lists where the socket comes from; false: no room for that.
#[inline(always)]
pub fn list(out: Output, sk: Sock) -> bool {
    if offsets::origins() == 0 {
        return true;
    }
    let Some(known) = ORIGINS.get_ptr(sk.as_ptr() as u64) else { return true };
    // SAFETY: a valid map value.
    let Known { opened, read, end, flags, .. } = unsafe { known.read() };
    out.write(&Origin { kind: KIND_ORIGIN, flags, cookie: sk.cookie(), opened, read, end })
}

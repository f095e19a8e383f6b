//! User stacks by name. The same calls get the same name, and what stands behind a name is handed
//! over once: registers, return addresses, and a piece of the stack for user space to unwind.
//!
//! Return addresses by frame pointers are exact where the code keeps frame pointers. Most libraries
//! do not; there the name rests on how deep the stack is, and on those of its topmost words that
//! point into the program's own code or near the instruction pointer: return addresses among them,
//! and now and then something that was left behind, which makes two names of one. Two stacks get
//! one name only where all of that is equal.

use core::arch::asm;

use aya_ebpf::{
    bindings::{BPF_F_USER_STACK, BPF_NOEXIST, BPF_RB_NO_WAKEUP},
    btf_maps::{LruHashMap, PerCpuArray, RingBuf},
    cty::c_void,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{
            bpf_get_current_task_btf, bpf_get_stack, bpf_probe_read_user, bpf_task_pt_regs,
        },
    },
    macros::btf_map,
};
use tcptrace_common::event::{CHAIN, STACK_BYTES, UserStack};

use crate::{
    maps::count,
    offsets::{known, off},
    origin::{current, lost},
    sock::Kernel,
};

/// What a stack is named by, put together here.
#[repr(C)]
struct Scratch {
    chain: [u64; CHAIN],
    words: [u64; WORDS],
    /// The second that stacks are counted in, and how many were handed over in it.
    second: u64,
    handed: u64,
}

/// The topmost words of the stack that are looked at: a piece.
const WORDS: usize = PIECE / 8;
/// Code this near the instruction pointer is of the same library.
const NEAR: u64 = 4 << 20;
/// Stacks that one CPU hands over in a second.
const A_SECOND: u64 = 64;
/// The stack is copied in pieces that do not cross a page.
const PIECE: usize = 1 << 10;

#[btf_map]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// Names that were handed over; what is pushed out is handed over again.
#[btf_map]
static NAMED: LruHashMap<u64, u32, 8192> = LruHashMap::new();

/// Where stacks are handed over; user space sets the length.
#[btf_map]
static STACKS: RingBuf<UserStack, 4096> = RingBuf::new();

/// Where a thread was when it made the call that it is in.
#[derive(Clone, Copy)]
pub struct Registers {
    ip: u64,
    sp: u64,
    fp: u64,
    lr: u64,
}

impl Registers {
    #[inline(always)]
    pub fn of_the_call() -> Self {
        // SAFETY: the helpers take no argument, and the task of the first.
        let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *mut c_void;
        let Some(regs) = Kernel::new(regs) else { return Self { ip: 0, sp: 0, fp: 0, lr: 0 } };
        let sp = regs.read(off!(regs_sp));
        if known(off!(regs_ip)) && known(off!(regs_bp)) {
            return Self { ip: regs.read(off!(regs_ip)), sp, fp: regs.read(off!(regs_bp)), lr: 0 };
        }
        if known(off!(regs_pc)) && known(off!(regs_all)) {
            let all = off!(regs_all);
            let (fp, lr) = (regs.read(all + 8 * 29), regs.read(all + 8 * 30));
            return Self { ip: regs.read(off!(regs_pc)), sp, fp, lr };
        }
        Self { ip: 0, sp, fp: 0, lr: 0 }
    }

    /// Tells the places of one thread's calls apart, at a tenth of what a name costs: by the
    /// registers and the topmost words of the stack, the call's return address among them.
    #[inline(always)]
    pub fn place(self) -> u64 {
        let mut top = [0u64; TOP];
        let to = (&raw mut top).cast();
        // SAFETY: as long as is said; what can't be read is all zeroes.
        unsafe { bpf_probe_read_user(to, (TOP * 8) as u32, self.sp as *const c_void) };
        let place = mix(mix(bpf_get_current_pid_tgid(), self.ip), self.sp);
        top.into_iter().fold(place, mix)
    }
}

/// Words of [`Registers::place`].
const TOP: usize = 8;

/// Names the calling thread's user stack, and hands it over if that name is new; 0: it can't be
/// read.
#[inline(always)]
pub fn name(ctx: *mut c_void, regs: Registers, time_ns: u64, start_ns: u64) -> u64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: a valid map value, this CPU's own; see `origin::opened`.
    let scratch = unsafe { &mut *scratch };
    if regs.ip == 0 {
        return 0;
    }
    let chain = (&raw mut scratch.chain).cast();
    // SAFETY: as long as is said, and the helper writes no more.
    let length =
        unsafe { bpf_get_stack(ctx, chain, (CHAIN * 8) as u32, u64::from(BPF_F_USER_STACK)) };
    let calls = if length < 0 { 0 } else { (length as u64 / 8) as u32 };
    let name = fingerprint(scratch, regs, calls, start_ns);
    if NAMED.insert(name, 0u32, u64::from(BPF_NOEXIST)).is_ok()
        && !hand_over(scratch, regs, calls, [name, time_ns, start_ns])
    {
        let _ = NAMED.remove(name);
        if let Some(lost) = lost() {
            count(&mut lost.stacks_lost);
        }
    }
    name
}

#[inline(always)]
fn fingerprint(scratch: &mut Scratch, regs: Registers, calls: u32, start_ns: u64) -> u64 {
    let mut name = mix(start_ns, bpf_get_current_pid_tgid() >> 32);
    // Stacks begin at a page: how deep this one is, and not which thread's it is.
    name = mix(mix(name, regs.ip), regs.sp & 0xfff);
    // With fewer than these it may be no chain at all, but what a register happened to hold. What
    // is not there is 0.
    let exact = below(3, u64::from(calls));
    for n in 0..CHAIN {
        name = mix(name, scratch.chain[n] & exact);
    }
    let mm = current().follow(off!(task_mm));
    let (begin, end): (u64, u64) = (mm.read(off!(mm_start_code)), mm.read(off!(mm_end_code)));
    let words = (&raw mut scratch.words).cast();
    // SAFETY: as long as is said; what can't be read is all zeroes.
    let read = unsafe { bpf_probe_read_user(words, PIECE as u32, regs.sp as *const c_void) };
    if read != 0 {
        // As far as the stack goes: its end is a page's.
        let length = PIECE as u64 - (regs.sp & (PIECE as u64 - 1));
        // SAFETY: that much or less.
        unsafe { bpf_probe_read_user(words, length as u32, regs.sp as *const c_void) };
    }
    for n in 0..WORDS {
        let word = scratch.words[n];
        let own = below(word.wrapping_sub(begin), end.wrapping_sub(begin));
        let near = below(word.wrapping_sub(regs.ip).wrapping_add(NEAR), 2 * NEAR);
        name = mix(name, word & (own | near));
    }
    name | 1
}

#[inline(always)]
fn mix(name: u64, word: u64) -> u64 {
    let mixed = (name ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

/// All ones where `a < b`, else 0, without a branch: the verifier would go both ways, each time.
#[inline(always)]
fn below(a: u64, b: u64) -> u64 {
    // The borrow of a subtraction (Hacker's Delight, 2-13).
    let mut borrow = ((!a & b) | (!(a ^ b) & a.wrapping_sub(b))) >> 63;
    // SAFETY: a register to itself: the compiler must not see that this is a comparison.
    unsafe { asm!("{0} = {0}", inout(reg) borrow, options(pure, nomem, nostack)) };
    0u64.wrapping_sub(borrow)
}

/// Hands a stack over; false: too many, or no room.
#[inline(always)]
fn hand_over(
    scratch: &mut Scratch,
    regs: Registers,
    calls: u32,
    [name, time_ns, start_ns]: [u64; 3],
) -> bool {
    // About a second, without a division.
    let second = time_ns >> 30;
    if scratch.second != second {
        (scratch.second, scratch.handed) = (second, 0);
    }
    if scratch.handed >= A_SECOND {
        return false;
    }
    let Some(mut record) = STACKS.reserve(0) else { return false };
    scratch.handed += 1;
    let task = bpf_get_current_pid_tgid();
    let at = record.as_mut_ptr();
    // SAFETY: reserved for this type, and all of it that is said to be there is filled.
    unsafe {
        (*at).name = name;
        (*at).time_ns = time_ns;
        (*at).start_ns = start_ns;
        (*at).pid = (task >> 32) as u32;
        (*at).tid = task as u32;
        ((*at).ip, (*at).sp, (*at).fp, (*at).lr) = (regs.ip, regs.sp, regs.fp, regs.lr);
        (*at).calls = calls;
        for n in 0..CHAIN {
            (*at).chain[n] = scratch.chain[n];
        }
        (*at).length = copy((&raw mut (*at).bytes).cast(), regs.sp);
    }
    record.submit(u64::from(BPF_RB_NO_WAKEUP));
    true
}

/// Copies the stack from `sp` up, as far as it goes; how many bytes. Without a branch, see
/// [`below`].
#[inline(always)]
fn copy(to: *mut c_void, sp: u64) -> u32 {
    let piece = PIECE as u64;
    let first = piece - (sp & (piece - 1));
    // SAFETY: a piece at most, and there is room for many.
    let failed = unsafe { bpf_probe_read_user(to, first as u32, sp as *const c_void) };
    // All ones until a piece can't be read.
    let mut there = below(failed as u64, 1);
    let mut length = first & there;
    for n in 0..(STACK_BYTES / PIECE - 1) as u64 {
        let at = first + n * piece;
        let from = (sp + at) as *const c_void;
        // SAFETY: `at` is at least a piece below the end.
        let failed = unsafe { bpf_probe_read_user(to.byte_add(at as usize), PIECE as u32, from) };
        there &= below(failed as u64, 1);
        length += piece & there;
    }
    length as u32
}

//! One thread: stopped, copied, let go.

use std::{
    io,
    time::{Duration, Instant},
};

use libc::{c_int, c_void, iovec, pid_t};

use crate::{engine::stack::threads::Skipped, source::live::remote::read};

/// Bytes of a stack that are copied, at most.
const STACK: usize = 64 << 10;
/// A thread that has not stopped by then is left alone.
const STOP: Duration = Duration::from_millis(100);
/// elf(5): the registers of general use.
const NT_PRSTATUS: usize = 1;
/// Stopped because we asked (uapi/linux/ptrace.h).
const PTRACE_EVENT_STOP: c_int = 128;

/// What was copied of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer register.
    pub fp: u64,
    /// Link register, where there is one; else 0.
    pub lr: u64,
    /// Memory from the stack pointer up.
    pub memory: Vec<u8>,
}

/// Calls ptrace(2) on a thread, with numbers for arguments.
fn ptrace(request: libc::c_uint, tid: pid_t, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: the requests made here with numbers do not touch our memory; the one that does
    // (PTRACE_GETREGSET) is given an iovec that outlives the call, by `registers`.
    let result = unsafe { libc::ptrace(request as _, tid, address, data) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A thread that is ours from PTRACE_SEIZE on; let go when dropped.
struct Seized {
    tid: pid_t,
    /// The signal that it is to get when it goes on, because it stopped for that; 0: none.
    signal: usize,
}

impl Seized {
    fn new(tid: pid_t) -> Result<Self, Skipped> {
        match ptrace(libc::PTRACE_SEIZE as _, tid, 0, 0) {
            Ok(()) => Ok(Self { tid, signal: 0 }),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Err(Skipped::Ended),
            Err(_) => Err(Skipped::NotPermitted),
        }
    }

    /// Stops it, and waits until it has.
    fn stop(&mut self) -> Result<(), Skipped> {
        ptrace(libc::PTRACE_INTERRUPT as _, self.tid, 0, 0).map_err(|_| Skipped::Ended)?;
        let deadline = Instant::now() + STOP;
        let mut nap = Duration::from_micros(5);
        loop {
            let mut status = 0;
            // SAFETY: the status is ours to be written to.
            let found =
                unsafe { libc::waitpid(self.tid, &raw mut status, libc::__WALL | libc::WNOHANG) };
            if found == self.tid {
                if !libc::WIFSTOPPED(status) {
                    return Err(Skipped::Ended);
                }
                // Another signal may have come first; our stop is forgotten with the rest then.
                if status >> 16 != PTRACE_EVENT_STOP {
                    self.signal = usize::try_from(libc::WSTOPSIG(status)).unwrap_or(0);
                }
                return Ok(());
            }
            if found == -1 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return Err(Skipped::Ended);
            }
            if Instant::now() >= deadline {
                return Err(Skipped::NotStopped);
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(1));
        }
    }
}

impl Drop for Seized {
    fn drop(&mut self) {
        // It fails for a thread that did not stop: the kernel lets go of that when this one ends.
        let _ = ptrace(libc::PTRACE_DETACH as _, self.tid, 0, self.signal);
    }
}

/// Stops a thread, copies what tells where it is, and lets it go on.
///
/// # Errors
/// Why there is nothing.
pub fn copy(pid: u32, tid: u32) -> Result<Copied, Skipped> {
    let tid = pid_t::try_from(tid).map_err(|_| Skipped::Ended)?;
    let mut seized = Seized::new(tid)?;
    seized.stop()?;
    let mut copied = registers(tid)?;
    copied.memory = read(pid, copied.sp, STACK);
    Ok(copied)
}

#[cfg(target_arch = "x86_64")]
type Registers = libc::user_regs_struct;
#[cfg(target_arch = "aarch64")]
type Registers = libc::user_regs_struct;

fn registers(tid: pid_t) -> Result<Copied, Skipped> {
    // SAFETY: numbers only, for which all zeros are a value.
    let mut registers: Registers = unsafe { std::mem::zeroed() };
    let mut place =
        iovec { iov_base: (&raw mut registers).cast::<c_void>(), iov_len: size_of::<Registers>() };
    ptrace(libc::PTRACE_GETREGSET as _, tid, NT_PRSTATUS, (&raw mut place).addr())
        .map_err(|_| Skipped::Ended)?;
    // A 32-bit program's are fewer.
    if place.iov_len != size_of::<Registers>() {
        return Err(Skipped::Foreign);
    }
    let r = &registers;
    #[cfg(target_arch = "x86_64")]
    let copied = Copied { ip: r.rip, sp: r.rsp, fp: r.rbp, lr: 0, memory: Vec::new() };
    #[cfg(target_arch = "aarch64")]
    let copied = Copied { ip: r.pc, sp: r.sp, fp: r.regs[29], lr: r.regs[30], memory: Vec::new() };
    Ok(copied)
}

//! A command that waits to be begun, gets our signals, and whose end is waited for.

use std::{
    ffi::{OsStr, OsString},
    io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write, pipe},
    mem::MaybeUninit,
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Child, Command},
    ptr,
    sync::atomic::{AtomicI32, Ordering},
    thread::{self, JoinHandle},
};

use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, wait};

/// Whom signals are forwarded to; 0: nobody.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// What is forwarded. The terminal sends its own to the whole foreground group.
const FORWARDED: [i32; 6] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2];

/// A process that is to become the command.
#[derive(Debug)]
pub struct StandBy {
    pid: u32,
    begin: PipeWriter,
    starting: JoinHandle<io::Result<Child>>,
}

impl StandBy {
    /// Makes it. From here on what the command starts and leaves is handed to us.
    pub fn new(words: &[OsString]) -> io::Result<Self> {
        set_child_subreaper(Some(getpid()))?;
        let (mut told, tell) = pipe()?;
        let (wait_for, begin) = pipe()?;
        let [program, arguments @ ..] = words else {
            return Err(io::Error::from(ErrorKind::InvalidInput));
        };
        let mut command = Command::new(program);
        command.args(arguments);
        let ours = begin.as_raw_fd();
        // SAFETY: system calls alone, in a child that has one thread.
        unsafe { command.pre_exec(move || stand_by(ours, &tell, &wait_for)) };
        // Starting ends when the command has begun.
        let starting = thread::Builder::new().name("start".to_owned()).spawn(move || {
            let started = command.spawn();
            drop(command);
            started
        })?;
        let mut pid = [0; 4];
        if let Err(e) = told.read_exact(&mut pid) {
            drop(begin);
            return Err(ended(starting).err().unwrap_or(e));
        }
        Ok(Self { pid: u32::from_ne_bytes(pid), begin, starting })
    }

    /// Its pid.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets it become the command.
    pub fn begin(mut self) -> io::Result<()> {
        forward_to(self.pid);
        self.begin.write_all(&[1])?;
        // Who waits for it is `reap`.
        ended(self.starting).map(drop)
    }
}

fn ended(starting: JoinHandle<io::Result<Child>>) -> io::Result<Child> {
    starting.join().unwrap_or_else(|_| Err(io::Error::other("it could not be started")))
}

/// Says its pid and waits for a byte. Where none comes, there will be no command.
fn stand_by(others: i32, tell: &PipeWriter, wait_for: &PipeReader) -> io::Result<()> {
    // SAFETY: this copy of the writing end is the child's own; with it, the end would never come.
    unsafe { libc::close(others) };
    let (mut tell, mut wait_for) = (tell, wait_for);
    tell.write_all(&std::process::id().to_ne_bytes())?;
    let mut byte = [0];
    match wait_for.read(&mut byte)? {
        // Not an error to be handed on: who would take it may have ended already, and the library
        // aborts then, with words of its own.
        // SAFETY: of a child that has one thread; nothing of the parent's is undone.
        0 => unsafe { libc::_exit(127) },
        _ => Ok(()),
    }
}

/// The exit code of a shell for what could not be started.
pub fn not_started(e: &io::Error) -> u8 {
    if e.kind() == ErrorKind::NotFound { 127 } else { 126 }
}

/// Children that have ended.
#[derive(Debug, Default)]
pub struct Reaped {
    /// What the command ended with, if it did.
    pub status: Option<u8>,
    /// Whether there are no others.
    pub none_left: bool,
}

/// Takes leave of all children that have ended.
pub fn reap(command: u32) -> Reaped {
    let mut reaped = Reaped::default();
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if is(pid, command) => {
                let signal = status.terminating_signal().map(|signal| 128 + signal);
                let code = status.exit_status().or(signal).unwrap_or(1);
                reaped.status = Some(u8::try_from(code).unwrap_or(u8::MAX));
            }
            Ok(Some(_)) => {}
            Ok(None) => return reaped,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => {
                reaped.none_left = true;
                return reaped;
            }
        }
    }
}

fn is(pid: Pid, command: u32) -> bool {
    pid.as_raw_nonzero().get().unsigned_abs() == command
}

/// From here on, what is sent to us is sent on. What we were started to ignore (nohup) stays
/// ignored.
fn forward_to(pid: u32) {
    CHILD.store(pid.cast_signed(), Ordering::SeqCst);
    for signal in FORWARDED {
        // SAFETY: the structures are ours and whole; the handler makes one system call.
        unsafe {
            let mut before = MaybeUninit::<libc::sigaction>::zeroed();
            if libc::sigaction(signal, ptr::null(), before.as_mut_ptr()) != 0
                || before.assume_init().sa_sigaction == libc::SIG_IGN
            {
                continue;
            }
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = forward;
            action.sa_sigaction = handler as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            libc::sigaction(signal, &raw const action, ptr::null_mut());
        }
    }
}

/// Sends a signal on that somebody sent to us alone. Those of the kernel (SI_KERNEL, of a terminal)
/// went to the command, too, which is in our process group.
extern "C" fn forward(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel fills it; kill is async-signal-safe (signal-safety(7)).
    unsafe {
        let child = CHILD.load(Ordering::SeqCst);
        if child > 0 && !info.is_null() && (*info).si_code <= 0 {
            let errno = libc::__errno_location();
            let before = *errno;
            libc::kill(child, signal);
            *errno = before;
        }
    }
}

/// The command in one line.
pub fn told(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| OsStr::to_string_lossy(word)).collect();
    words.join(" ")
}

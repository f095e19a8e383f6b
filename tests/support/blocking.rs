//! Calls that an actor does not come back from soon: polls, event loops, pools behind a lock.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::mpsc,
    thread,
};

use super::actor::Sockets;

/// Where the writing end of a pipe is kept until somebody asks for it.
const PIPE_END: RawFd = -2;

/// Does what the words say; see the actor's table.
pub fn act(words: &[&str], sockets: &mut Sockets) -> io::Result<String> {
    let bad = || io::Error::other(format!("no such command: {}", words.join(" ")));
    let number = |n: usize| words.get(n).and_then(|w| w.parse::<i32>().ok()).ok_or_else(bad);
    let fd = || sockets.get(&number(1)?).ok_or_else(bad);
    match words[0] {
        "pipe" => {
            let (reads, writes) = io::pipe()?;
            let told = reads.as_raw_fd();
            sockets.insert(PIPE_END, writes.into());
            sockets.insert(told, reads.into());
            Ok(told.to_string())
        }
        "unix" => {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
            let told = ours.as_raw_fd();
            sockets.insert(PIPE_END, theirs.into());
            sockets.insert(told, ours.into());
            Ok(told.to_string())
        }
        "pipe-end" => {
            let writes = sockets.remove(&PIPE_END).ok_or_else(bad)?;
            let told = writes.as_raw_fd();
            sockets.insert(told, writes);
            Ok(told.to_string())
        }
        "read" => Ok(rustix::io::read(fd()?, &mut [0; 16])?.to_string()),
        "poll" => poll(fd()?),
        "epoll" => {
            let fds = words[1..].iter().filter_map(|w| sockets.get(&w.parse().ok()?));
            epoll(&fds.collect::<Vec<_>>())
        }
        "pool" => pool(fd()?.try_clone()?, number(2)?),
        _ => fork_sleeping(),
    }
}

/// Waits for one descriptor, as a library does that reads with a timeout.
fn poll(fd: &OwnedFd) -> io::Result<String> {
    let mut request = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one request, as the count says, that outlives the call.
    let n = unsafe { libc::poll(&raw mut request, 1, 600_000) };
    Ok(n.to_string())
}

/// Waits for any of several, as an event loop does.
fn epoll(fds: &[&OwnedFd]) -> io::Result<String> {
    // SAFETY: plain system calls; the event outlives them, and the instance ends with the process.
    let n = unsafe {
        let instance = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        for fd in fds {
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
            libc::epoll_ctl(instance, libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event);
        }
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        libc::epoll_wait(instance, &raw mut event, 1, 600_000)
    };
    Ok(n.to_string())
}

/// A child that keeps every descriptor and sleeps until its parent is gone.
fn fork_sleeping() -> io::Result<String> {
    // SAFETY: the actor has one thread; the child calls only async-signal-safe functions.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: plain system calls.
        0 => unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            let hour = libc::timespec { tv_sec: 3_600, tv_nsec: 0 };
            loop {
                libc::nanosleep(&raw const hour, std::ptr::null_mut());
            }
        },
        pid => Ok(pid.to_string()),
    }
}

/// A lock that outlives its threads.
struct Lock(std::cell::UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: it is only used through the functions that are made for that.
unsafe impl Sync for Lock {}

static LOCK: Lock = Lock(std::cell::UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));

/// So many threads wait for a lock, and the thread that has it reads from a socket, for ever.
fn pool(fd: OwnedFd, threads: i32) -> io::Result<String> {
    let (say, has) = mpsc::channel();
    thread::spawn(move || {
        let mut byte = 0u8;
        // SAFETY: a static lock; one byte, as the length says, that outlives the call.
        unsafe {
            libc::pthread_mutex_lock(LOCK.0.get());
            let _ = say.send(());
            libc::recv(fd.as_raw_fd(), (&raw mut byte).cast(), 1, 0);
            libc::pthread_mutex_unlock(LOCK.0.get());
        }
    });
    has.recv().map_err(io::Error::other)?;
    for _ in 0..threads {
        // SAFETY: as above.
        thread::spawn(|| unsafe { libc::pthread_mutex_lock(LOCK.0.get()) });
    }
    Ok("0".to_owned())
}

/// The child goes on, in a session of its own; the parent ends and closes nothing.
pub fn daemonise() -> io::Result<String> {
    // SAFETY: the actor has one thread: the child is as whole as it was.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            rustix::process::setsid()?;
            Ok("0".to_owned())
        }
        // SAFETY: it does not return.
        _ => unsafe { libc::_exit(0) },
    }
}

//! A process that does with sockets what it is told, a line at a time, so that each test composes
//! its own leak. The same executable plays it: started as `EXE actor`, it calls [`play`].

use std::{
    collections::HashMap,
    ffi::CString,
    io::{self, BufRead, BufReader, IoSlice, Write},
    mem::MaybeUninit,
    net::SocketAddr,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    time::Duration,
};

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown,
    SocketFlags, SocketType, accept_with, bind, connect, getsockname, ipproto, listen, recv, send,
    sendmsg, shutdown, socket_with, socketpair, sockopt,
};

use super::{blocking, netns::Netns, options};

/// The test's end of an actor. It ends with it.
pub struct Actor {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Actor {
    /// Starts one in a namespace, with this executable.
    pub fn start(netns: Option<&Netns>) -> io::Result<Self> {
        Self::begin(netns, Command::new(std::env::current_exe()?))
    }

    /// Starts one whose command line begins with this name, and that is called so.
    pub fn start_as(netns: Option<&Netns>, name: &str) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg0(name);
        let mut actor = Self::begin(netns, command)?;
        actor.tell(&format!("name {name}"))?;
        Ok(actor)
    }

    fn begin(netns: Option<&Netns>, mut command: Command) -> io::Result<Self> {
        command.arg("actor").stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(netns) = netns {
            netns.enter_in(&mut command)?;
        }
        let mut child = command.spawn()?;
        let missing = || io::Error::other("a pipe of the actor is missing");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        Ok(Self { child, input: Some(input), output })
    }

    /// Starts one by a command that takes what to run as its last arguments.
    pub fn start_by(netns: &Netns, mut command: Command) -> io::Result<Self> {
        command.arg(std::env::current_exe()?);
        Self::begin(Some(netns), command)
    }

    /// Waits until who was started has ended; a daemon that it left still listens to us.
    pub fn ended(&mut self) -> io::Result<std::process::ExitStatus> {
        self.child.wait()
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it something and returns its answer.
    pub fn tell(&mut self, command: &str) -> io::Result<String> {
        let input = self.input.as_mut().ok_or_else(|| io::Error::other("the actor has ended"))?;
        writeln!(input, "{command}")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        match line.trim_end().split_once(' ') {
            Some(("ok", answer)) => Ok(answer.to_owned()),
            _ => Err(io::Error::other(format!("actor, told {command:?}: {:?}", line.trim_end()))),
        }
    }

    /// Tells it something that it does not come back from: no answer is waited for.
    pub fn leave_with(&mut self, command: &str) -> io::Result<()> {
        let input = self.input.as_mut().ok_or_else(|| io::Error::other("the actor has ended"))?;
        writeln!(input, "{command}")
    }

    /// As [`Self::tell`], for answers that are a descriptor number, a pid or a count.
    pub fn number(&mut self, command: &str) -> io::Result<u32> {
        self.tell(command)?.parse().map_err(io::Error::other)
    }

    /// As [`Self::tell`], for answers that are an address.
    pub fn address(&mut self, command: &str) -> io::Result<SocketAddr> {
        self.tell(command)?.parse().map_err(io::Error::other)
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // The end of its input is the end of it; if it is stuck, so be it by force.
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays the actor, or the server of a load, if the command line says so: what every executable
/// that starts them does first.
pub fn played() -> Option<ExitCode> {
    let played = match std::env::args().nth(1)?.as_str() {
        "actor" => play(),
        "serve" => super::serve::serve(),
        _ => return None,
    };
    Some(match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("actor: {e}");
            ExitCode::FAILURE
        }
    })
}

/// What an actor's descriptors are.
pub type Sockets = HashMap<RawFd, OwnedFd>;

/// Plays the actor until its input ends. One command a line:
///
/// | command | answer |
/// |---|---|
/// | `listen ADDR BACKLOG` | the listener's descriptor |
/// | `listen-shared ADDR BACKLOG` | the same with SO_REUSEPORT |
/// | `bind ADDR` | the descriptor of a socket that is bound and no more |
/// | `address FD` | its local address |
/// | `accept FD` | the connection's descriptor |
/// | `connect ADDR` | the connection's descriptor |
/// | `connect-from LOCAL ADDR` | the same from this end |
/// | `reconnect FD ADDR` | `0`: connected anew |
/// | `connect-later ADDR` | the descriptor of a socket that has sent a SYN |
/// | `connect-mptcp ADDR`, `listen-mptcp ADDR BACKLOG` | the same over MPTCP |
/// | `send FD N`, `recv FD N` | bytes moved |
/// | `try-send FD N` | bytes moved; 0: the peer takes no more |
/// | `keepalive FD` | `0`: probes every second |
/// | `recv-fin FD N` | the same, once the peer's FIN is there |
/// | `shutdown FD` | `0`: no more will be sent |
/// | `reset FD` | `0`: closed with a reset |
/// | `close FD` | `0` |
/// | `post FD` | `0`: it is in flight over a unix socket, and in no table |
/// | `fix FD` | `0`: it is in the table of a ring (io_uring), and in no process's |
/// | `fork` | the pid of a child that holds all descriptors and does nothing |
/// | `fork-inside` | the same, as pid 1 of a new pid namespace; nothing can be forked after that |
/// | `fork-as PID` | the same with this pid, which nobody has |
/// | `end PID` | `0`: that child is gone |
/// | `exit` | none: it ends, and closes nothing |
/// | `daemonise` | `0`, from a child that goes on in its place: it has ended |
/// | `name TEXT` | `0`: command name set, `\xNN` escapes allowed |
/// | `pipe` | the descriptor of a pipe's reading end; the writing end is the next one told |
/// | `unix` | the same of a pair of unix sockets |
/// | `pipe-end` | that |
/// | `fork-sleeping` | the pid of a child that holds all descriptors and sleeps |
/// | `read FD` | bytes read, of a pipe |
/// | `poll FD` | `1`: it can be read |
/// | `epoll FD FD…` | `1`: one of them can be read |
/// | `pool FD N` | `0`, at once: N threads wait for a lock, and its owner reads from FD |
/// | `thread FD` | the tid of a thread with a descriptor table of its own, in which FD is |
fn play() -> io::Result<()> {
    let mut sockets = Sockets::new();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let answer = match act(&line, &mut sockets) {
            Ok(answer) => format!("ok {answer}"),
            Err(e) => format!("error {e}"),
        };
        writeln!(io::stdout(), "{answer}")?;
    }
    Ok(())
}

fn act(line: &str, sockets: &mut Sockets) -> io::Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let bad = || io::Error::other(format!("no such command: {line}"));
    let number = |n: usize| words.get(n).and_then(|w| w.parse::<i32>().ok()).ok_or_else(bad);
    let address =
        |n: usize| words.get(n).and_then(|w| w.parse::<SocketAddr>().ok()).ok_or_else(bad);
    let fd = || -> io::Result<&OwnedFd> { sockets.get(&number(1)?).ok_or_else(bad) };
    let keep = |sockets: &mut Sockets, fd: OwnedFd| {
        let n = fd.as_raw_fd();
        sockets.insert(n, fd);
        Ok(n.to_string())
    };
    match words[0] {
        "listen" | "listen-shared" | "listen-mptcp" => {
            let (address, backlog) = (address(1)?, number(2)?);
            let fd = tcp(address, words[0].ends_with("mptcp"))?;
            sockopt::set_socket_reuseaddr(&fd, true)?;
            sockopt::set_socket_reuseport(&fd, words[0].ends_with("shared"))?;
            bind(&fd, &address)?;
            listen(&fd, backlog)?;
            // A test that waits for a connection which never comes is to fail, not to hang.
            sockopt::set_socket_timeout(
                &fd,
                sockopt::Timeout::Recv,
                Some(Duration::from_secs(20)),
            )?;
            keep(sockets, fd)
        }
        "bind" => {
            let address = address(1)?;
            let fd = tcp(address, false)?;
            bind(&fd, &address)?;
            keep(sockets, fd)
        }
        "address" => {
            let address: SocketAddr = getsockname(fd()?)?.try_into().map_err(|_| bad())?;
            Ok(address.to_string())
        }
        "accept" => {
            let fd = accept_with(fd()?, SocketFlags::CLOEXEC)?;
            keep(sockets, fd)
        }
        "connect" | "connect-mptcp" => {
            let address = address(1)?;
            let fd = tcp(address, words[0].ends_with("mptcp"))?;
            connect(&fd, &address)?;
            keep(sockets, fd)
        }
        "connect-from" => {
            let (local, address) = (address(1)?, address(2)?);
            let fd = tcp(local, false)?;
            sockopt::set_socket_reuseaddr(&fd, true)?;
            bind(&fd, &local)?;
            connect(&fd, &address)?;
            keep(sockets, fd)
        }
        "reconnect" => {
            let fd = fd()?;
            rustix::net::connect_unspec(fd)?;
            connect(fd, &address(2)?)?;
            Ok("0".to_owned())
        }
        "connect-later" => {
            let address = address(1)?;
            let fd = tcp(address, false)?;
            rustix::io::ioctl_fionbio(&fd, true)?;
            match connect(&fd, &address) {
                Ok(()) | Err(rustix::io::Errno::INPROGRESS) => keep(sockets, fd),
                Err(e) => Err(e.into()),
            }
        }
        "try-send" => {
            let bytes = vec![b'x'; number(2)?.unsigned_abs() as usize];
            match send(fd()?, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Err(rustix::io::Errno::AGAIN) => Ok("0".to_owned()),
                sent => Ok(sent?.to_string()),
            }
        }
        "send" => {
            Ok(send(fd()?, &vec![b'x'; number(2)?.unsigned_abs() as usize], SendFlags::NOSIGNAL)?
                .to_string())
        }
        "recv-fin" => {
            wait_for_fin(fd()?)?;
            act(&line.replacen("recv-fin", "recv", 1), sockets)
        }
        "end" => {
            let child = rustix::process::Pid::from_raw(number(1)?).ok_or_else(bad)?;
            rustix::process::kill_process(child, rustix::process::Signal::KILL)?;
            rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty())?;
            Ok("0".to_owned())
        }
        "recv" => {
            let mut buffer = vec![0; number(2)?.unsigned_abs() as usize];
            let (n, _) = recv(fd()?, &mut buffer[..], RecvFlags::empty())?;
            Ok(n.to_string())
        }
        "shutdown" => shutdown(fd()?, Shutdown::Write).map(|()| "0".to_owned()).map_err(Into::into),
        "close" => {
            sockets.remove(&number(1)?).ok_or_else(bad)?;
            Ok("0".to_owned())
        }
        "post" => post(sockets.remove(&number(1)?).ok_or_else(bad)?, sockets),
        "fix" => fix(sockets.remove(&number(1)?).ok_or_else(bad)?, sockets),
        "exit" => std::process::exit(0),
        "daemonise" => blocking::daemonise(),
        "fork" => fork_idle(),
        "fork-as" => fork_idle_as(number(1)?),
        "fork-inside" => {
            // SAFETY: a plain system call; it changes what fork() does, nothing else.
            match unsafe { libc::unshare(libc::CLONE_NEWPID) } {
                0 => fork_idle(),
                _ => Err(io::Error::last_os_error()),
            }
        }
        "name" => {
            let name = CString::new(unescape(line.strip_prefix("name ").unwrap_or_default()))?;
            rustix::thread::set_name(&name)?;
            Ok("0".to_owned())
        }
        "keepalive" | "reset" => options::act(&words, sockets),
        "pipe" | "unix" | "pipe-end" | "read" | "poll" | "epoll" | "pool" | "fork-sleeping" => {
            blocking::act(&words, sockets)
        }
        "thread" => own_table(sockets.remove(&number(1)?).ok_or_else(bad)?),
        _ => Err(bad()),
    }
}

fn tcp(address: SocketAddr, mptcp: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let protocol = if mptcp { ipproto::MPTCP } else { ipproto::TCP };
    Ok(socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(protocol))?)
}

/// Waits until the peer has closed its side, with a deadline.
fn wait_for_fin(fd: &OwnedFd) -> io::Result<()> {
    let mut request = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: one request, as the count says, that outlives the call.
    match unsafe { libc::poll(&raw mut request, 1, 20_000) } {
        1 => Ok(()),
        _ => Err(io::Error::other("the peer has not closed")),
    }
}

/// Sends a descriptor into a unix socket pair and closes it: it is on its way for ever.
fn post(fd: OwnedFd, sockets: &mut Sockets) -> io::Result<String> {
    let (from, to) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let carried = [fd.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&carried));
    sendmsg(&from, &[IoSlice::new(b"x")], &mut control, SendFlags::empty())?;
    sockets.insert(from.as_raw_fd(), from);
    sockets.insert(to.as_raw_fd(), to);
    Ok("0".to_owned())
}

/// Registers a descriptor with a ring and closes it (io_uring_register(2)): the ring holds the
/// file.
fn fix(fd: OwnedFd, sockets: &mut Sockets) -> io::Result<String> {
    const IORING_REGISTER_FILES: libc::c_uint = 2;
    let mut params = [0u8; 120];
    // SAFETY: the parameters are as large as the kernel's struct and outlive the call.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) };
    let ring =
        i32::try_from(ring).ok().filter(|ring| *ring >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel just made this descriptor for us.
    let ring = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(ring) };
    let files = [fd.as_raw_fd()];
    // SAFETY: one descriptor, as the count says, readable during the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring.as_raw_fd(),
            IORING_REGISTER_FILES,
            files.as_ptr(),
            1,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    sockets.insert(ring.as_raw_fd(), ring);
    Ok("0".to_owned())
}

/// A child that keeps every descriptor and sleeps until its parent is gone.
fn fork_idle() -> io::Result<String> {
    // SAFETY: the actor has one thread; the child calls only async-signal-safe functions.
    idle_in_child(i64::from(unsafe { libc::fork() }))
}

/// The same with a pid of one's choice: clone3(2).
fn fork_idle_as(pid: i32) -> io::Result<String> {
    // SAFETY: all-zero bytes are valid: a fork that nobody is told the end of.
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    how.exit_signal = libc::SIGCHLD as u64;
    (how.set_tid, how.set_tid_size) = (&raw const pid as u64, 1);
    // SAFETY: as for fork(); what it points to outlives the call.
    idle_in_child(unsafe { libc::syscall(libc::SYS_clone3, &raw const how, size_of_val(&how)) })
}

/// On both sides of a fork.
fn idle_in_child(forked: i64) -> io::Result<String> {
    match forked {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: plain system calls.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                loop {
                    libc::pause();
                }
            }
        }
        pid => Ok(pid.to_string()),
    }
}

/// A thread with its own copy of the descriptor table; the process itself then closes `fd`.
fn own_table(fd: OwnedFd) -> io::Result<String> {
    let (say, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // SAFETY: unshare and gettid are plain system calls.
        let tid = unsafe {
            libc::unshare(libc::CLONE_FILES);
            libc::gettid()
        };
        let _ = say.send(tid);
        loop {
            std::thread::park();
        }
    });
    let tid = heard.recv().map_err(io::Error::other)?;
    drop(fd);
    Ok(tid.to_string())
}

/// `\xNN` and `\n` become the bytes they stand for.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        if let Some(after) = rest.strip_prefix(b"n") {
            out.push(b'\n');
            rest = after;
        } else if rest.len() >= 3 && rest[0] == b'x' {
            let hex = std::str::from_utf8(&rest[1..3]).unwrap_or("3f");
            out.push(u8::from_str_radix(hex, 16).unwrap_or(b'?'));
            rest = &rest[3..];
        }
    }
    out
}

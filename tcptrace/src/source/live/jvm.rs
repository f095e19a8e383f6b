//! A HotSpot JVM's own thread dump, by its attach mechanism, as `jcmd PID Thread.print` gets it
//! (src/hotspot/os/linux/attachListener_linux.cpp of JDK 17): a file `/tmp/.attach_pidN` and
//! SIGQUIT make the JVM listen on the unix socket `/tmp/.java_pidN`, both in its own root and with
//! its pid in its own pid namespace. No other code is run than the JVM's for the dump.
//!
//! Without the file, a JVM that is sent SIGQUIT writes the dump to its own output; one that does
//! not catch SIGQUIT is ended by it. So a JVM gets it once, only if it does not listen yet, and
//! only after a look whether it catches it. One that comes to it only when the file has been taken
//! back, after the bound on all this, writes the dump to its own output too: that is all it does.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, open, openat, openat2, statat, unlinkat},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
    process::{Pid, PidfdFlags, Signal, getegid, geteuid, pidfd_open, pidfd_send_signal},
    thread::{set_thread_res_gid, set_thread_res_uid},
};

use super::{process, symbols::file::mapped, text};
use crate::{
    engine::{
        record::{ProcessId, same_start},
        stack::{NoDump, jvm::combine, threads::ThreadStack},
    },
    formats::{
        elf::{Elf, ReadAt},
        jvm_dump, lines,
        maps::{self, Mapping},
    },
};

/// The JVM has to have answered by then.
const ANSWER: Duration = Duration::from_secs(5);
/// Bytes of an answer, at most.
const BYTES: u64 = 16 << 20;
/// Bytes of the names in a `libjvm.so`, at most.
const NAMES: u64 = 16 << 20;
/// Protocol version, command, and three arguments that are empty.
const REQUEST: &[u8] = b"1\0threaddump\0\0\0\0";
/// Between two looks whether it listens.
const NAP: Duration = Duration::from_millis(10);

/// A JVM that can be asked.
#[derive(Debug)]
pub struct Jvm {
    id: ProcessId,
    /// Its pid in its own pid namespace.
    inner_pid: u32,
    user: User,
}

/// Effective ids, in our user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: u32,
}

impl Jvm {
    /// The process's JVM.
    ///
    /// # Errors
    /// Why it can't be asked, or is not to be.
    pub fn of(id: ProcessId) -> Result<Self, NoDump> {
        let maps = text(&format!("/proc/{}/maps", id.pid)).map_err(|e| reason(&e))?;
        let mappings = maps::parse(&maps, 4096);
        let library = |m: &&Mapping| m.is_file() && m.path.ends_with("/libjvm.so");
        let mapping = mappings.iter().find(library).ok_or(NoDump::NoJvm)?;
        if !is_hotspot(id.pid, mapping).unwrap_or(false) {
            return Err(NoDump::NotHotSpot);
        }
        if is_disabled(id.pid) {
            return Err(NoDump::Disabled);
        }
        let status = text(&format!("/proc/{}/status", id.pid)).map_err(|e| reason(&e))?;
        let user = User::parse(&status).ok_or(NoDump::Gone)?;
        let inner_pid = process::inner_pid(&status).unwrap_or(id.pid);
        Ok(Self { id, inner_pid, user })
    }

    /// Puts what the JVM says of its threads in place of what is known of them; says of how many.
    ///
    /// # Errors
    /// Why it said nothing.
    pub fn complete(self, threads: &mut [ThreadStack]) -> Result<usize, NoDump> {
        let pid = self.id.pid;
        let dump = jvm_dump::parse(&self.dump()?);
        if dump.is_empty() {
            return Err(NoDump::Refused);
        }
        let native = |tid| {
            let status = text(&format!("/proc/{pid}/task/{tid}/status")).unwrap_or_default();
            process::inner_pid(&status).unwrap_or(tid)
        };
        Ok(combine(threads, dump, native))
    }

    /// Asks, on a thread of its own: that becomes the JVM's user, and nobody else does.
    fn dump(self) -> Result<String, NoDump> {
        let deadline = Instant::now() + ANSWER;
        let (tell, told) = mpsc::channel();
        let asks = move || {
            // Nobody hears it that waited no longer.
            let _ = tell.send(self.ask(deadline));
        };
        thread::Builder::new().spawn(asks).map_err(|_| NoDump::Silent)?;
        // Each step has the same bound; this one is for what nobody thought of.
        told.recv_timeout(ANSWER + ANSWER / 5).unwrap_or(Err(NoDump::Silent))
    }

    fn ask(&self, deadline: Instant) -> Result<String, NoDump> {
        let pid = i32::try_from(self.id.pid).ok().and_then(Pid::from_raw).ok_or(NoDump::Gone)?;
        let jvm = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| reason(&e.into()))?;
        let (stat, start_ns) = process::stat_and_start(self.id.pid).ok_or(NoDump::Gone)?;
        if !same_start(start_ns, self.id.start_ns) {
            return Err(NoDump::Gone);
        }
        if stat.state == 'T' {
            return Err(NoDump::Stopped);
        }
        let place = self.temporary().map_err(|e| reason(&e))?;
        self.user.become_it()?;
        if let Some(stream) = self.connected(&place) {
            return answer(stream, deadline);
        }
        let _asked = Asked::new(&place, self)?;
        if !catches_quit(self.id.pid) {
            return Err(NoDump::NotCaught);
        }
        pidfd_send_signal(&jvm, Signal::QUIT).map_err(|e| reason(&e.into()))?;
        while Instant::now() < deadline {
            if let Some(stream) = self.connected(&place) {
                return answer(stream, deadline);
            }
            if process::find(self.id.pid).is_none() {
                return Err(NoDump::Gone);
            }
            thread::sleep(NAP);
        }
        Err(NoDump::Silent)
    }

    /// `/tmp` as the JVM sees it, whatever links lead there.
    fn temporary(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(format!("/proc/{}/root", self.id.pid), flags, Mode::empty())?;
        Ok(openat2(root, "tmp", flags, Mode::empty(), ResolveFlags::IN_ROOT)?)
    }

    /// A connection to the JVM, if it listens. A socket of somebody else's, or one that a JVM with
    /// the same pid left behind, is none.
    fn connected(&self, place: &OwnedFd) -> Option<UnixStream> {
        let name = format!(".java_pid{}", self.inner_pid);
        let stat = statat(place, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
            return None;
        }
        let path = format!("/proc/self/fd/{}/{name}", place.as_raw_fd());
        let address = SocketAddrUnix::new(path).ok()?;
        // Who does not accept does not keep us.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
        connect(&socket, &address).ok()?;
        let listens = listener(&socket)?;
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false).ok()?;
        (u32::try_from(listens.pid) == Ok(self.id.pid) && listens.uid == self.user.uid)
            .then_some(stream)
    }
}

/// Who called listen() (unix(7), `SO_PEERCRED`); pid 0: somebody whom our pid namespace lacks.
fn listener(socket: &OwnedFd) -> Option<libc::ucred> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes no more than `length` bytes, all of them numbers, into `peer`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(peer)
}

/// The request that is a file, taken back when dropped if it is ours.
struct Asked<'a> {
    place: &'a OwnedFd,
    name: String,
    ours: bool,
}

impl<'a> Asked<'a> {
    fn new(place: &'a OwnedFd, jvm: &Jvm) -> Result<Self, NoDump> {
        let name = format!(".attach_pid{}", jvm.inner_pid);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        match openat(place, &name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(_) => Ok(Self { place, name, ours: true }),
            // Somebody else asks, or was ended before it was taken back.
            Err(Errno::EXIST) => {
                let stat = statat(place, &name, AtFlags::SYMLINK_NOFOLLOW);
                // The JVM heeds no other's.
                let heeds = stat.is_ok_and(|s| s.st_uid == jvm.user.uid);
                if heeds { Ok(Self { place, name, ours: false }) } else { Err(NoDump::NoPlace) }
            }
            Err(_) => Err(NoDump::NoPlace),
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.ours {
            let _ = unlinkat(self.place, &self.name, AtFlags::empty());
        }
    }
}

impl User {
    /// From the text of `/proc/PID/status`.
    fn parse(status: &str) -> Option<Self> {
        // Real, effective, saved and file system's.
        let effective = |name| lines::value(status, name)?.split_whitespace().nth(1)?.parse().ok();
        Some(Self { uid: effective("Uid")?, gid: effective("Gid")? })
    }

    /// Gives the calling thread, and no other one, these effective ids: a JVM listens to its own
    /// user only, one of Java 8 not even to root.
    fn become_it(self) -> Result<(), NoDump> {
        let denied = |_| NoDump::NotPermitted;
        if getegid().as_raw() != self.gid {
            let gid = rustix::fs::Gid::from_raw(self.gid);
            set_thread_res_gid(None, Some(gid), None).map_err(denied)?;
        }
        if geteuid().as_raw() != self.uid {
            let uid = rustix::fs::Uid::from_raw(self.uid);
            set_thread_res_uid(None, Some(uid), None).map_err(denied)?;
        }
        Ok(())
    }
}

/// Sends the request and reads what comes.
fn answer(mut stream: UnixStream, deadline: Instant) -> Result<String, NoDump> {
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(NoDump::Silent) } else { Ok(Some(left)) }
    };
    let silent = |_| NoDump::Silent;
    stream.set_write_timeout(left()?).map_err(silent)?;
    stream.write_all(REQUEST).map_err(silent)?;
    let mut bytes = Vec::new();
    let mut piece = vec![0; 64 << 10];
    while (bytes.len() as u64) < BYTES {
        stream.set_read_timeout(left()?).map_err(silent)?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(NoDump::Silent),
        }
    }
    said(&bytes).ok_or(NoDump::Refused)
}

/// What the answer has behind its first line, which is 0 where the request was understood.
fn said(bytes: &[u8]) -> Option<String> {
    let text = bytes.strip_prefix(b"0\n")?;
    // Where it is longer than what was read, the last thread is not whole.
    let whole = if (bytes.len() as u64) < BYTES {
        text.len()
    } else {
        text.windows(2).rposition(|end| end == b"\n\n")?
    };
    Some(String::from_utf8_lossy(&text[..whole]).into_owned())
}

/// Whether the library is HotSpot's: it says where its own structures are
/// (src/hotspot/share/runtime/vmStructs.cpp), as no other JVM's does.
fn is_hotspot(pid: u32, mapping: &Mapping) -> Option<bool> {
    const NAME: &[u8] = b"\0gHotSpotVMStructs\0";
    let file = mapped(pid, mapping)?;
    let elf = Elf::parse(&file)?;
    let names = elf.section(".dynstr").filter(|s| s.size <= NAMES)?;
    let names = file.read_at(names.offset, usize::try_from(names.size).ok()?)?;
    Some(names.windows(NAME.len()).any(|window| window == NAME))
}

/// Whether it was told not to listen, by its command line or by a variable that JVMs read.
fn is_disabled(pid: u32) -> bool {
    const OFF: &str = "+DisableAttachMechanism";
    const VARIABLES: [&str; 3] = ["JAVA_TOOL_OPTIONS=", "JDK_JAVA_OPTIONS=", "_JAVA_OPTIONS="];
    let environment = text(&format!("/proc/{pid}/environ")).unwrap_or_default();
    let options = |v: &String| VARIABLES.iter().any(|name| v.starts_with(name)) && v.contains(OFF);
    process::command(pid).iter().any(|word| word.contains(OFF))
        || process::words(&environment).iter().any(options)
}

/// Whether it catches SIGQUIT.
fn catches_quit(pid: u32) -> bool {
    let status = text(&format!("/proc/{pid}/status")).unwrap_or_default();
    has_signal(&status, libc::SIGQUIT)
}

/// Whether `SigCgt` has the signal: bit 0 is signal 1.
fn has_signal(status: &str, signal: i32) -> bool {
    let mask = lines::value(status, "SigCgt").unwrap_or_default();
    u64::from_str_radix(mask, 16).is_ok_and(|mask| mask >> (signal - 1) & 1 == 1)
}

fn reason(e: &io::Error) -> NoDump {
    match e.raw_os_error() {
        Some(libc::ESRCH | libc::ENOENT) => NoDump::Gone,
        Some(libc::EACCES | libc::EPERM) => NoDump::NotPermitted,
        _ => NoDump::NoPlace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_says() {
        // A JVM's, shortened.
        let status = "Name:\tjava\nUid:\t1000\t1001\t1001\t1001\nGid:\t100\t101\t101\t101\n\
                      SigIgn:\t0000000000000004\nSigCgt:\t2000000101005ccd\n";
        assert_eq!(User::parse(status), Some(User { uid: 1001, gid: 101 }));
        assert_eq!(User::parse("Uid:\t0\n"), None);
        assert!(has_signal(status, libc::SIGQUIT) && has_signal(status, libc::SIGHUP));
        assert!(!has_signal(status, libc::SIGINT), "bit 1 of 0xd");
        // With -Xrs.
        assert!(!has_signal("SigCgt:\t2000000101001cc8\n", libc::SIGQUIT));
        assert!(!has_signal("", libc::SIGQUIT));
    }

    #[test]
    fn answers() {
        assert_eq!(said(b"0\n\"x\" nid=1\n").as_deref(), Some("\"x\" nid=1\n"));
        assert_eq!(said(b"0\n").as_deref(), Some(""));
        for none in [&b"100\nunknown command"[..], b"", b"0", b"00\n"] {
            assert_eq!(said(none), None, "{none:?}");
        }
        let mut long = b"0\nwhole\n\n\"x\" nid=1".to_vec();
        long.resize(BYTES as usize, b'x');
        assert_eq!(said(&long).as_deref(), Some("whole"));
    }

    #[test]
    fn we_are_no_jvm() {
        let us = process::find(std::process::id()).expect("we run");
        assert_eq!(Jvm::of(us).map(|_| ()), Err(NoDump::NoJvm));
    }
}

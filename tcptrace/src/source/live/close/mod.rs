//! Ends connections of this host, each only if it is still what was judged, and looks what became
//! of it.

mod descriptor;
pub mod helper;
pub mod wire;

use std::{
    collections::HashMap,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
};

use rustix::{
    net::{AddressFamily, SocketType, socket},
    process::getuid,
};
use tcptrace_common::{event::Socket, state::TcpState};
use zerocopy::FromZeros;

pub use self::descriptor::copies;

use super::{boot_now, is_gone, netns, netns::Netns, sock_diag::SockDiag};
use crate::{
    engine::{
        close::{CloseAttempt, CloseResult, CloseWay, Operator, StillHeld},
        record::{Connection, Holder, HolderSource, Record},
    },
    formats::{
        descriptor::socket_inode,
        sock_diag::{Detail, MPTCP, TCP},
    },
};

/// What is to be ended, as it was judged.
#[derive(Clone, Debug)]
pub struct CloseTarget {
    /// The connection.
    pub connection: Connection,
    /// Its state.
    pub state: TcpState,
    /// Its file's inode number; 0: it had none.
    pub inode: u64,
    /// Descriptors for it.
    pub holders: Vec<Handle>,
}

/// A descriptor of a process, or of a thread that has a table of its own.
#[derive(Clone, Debug)]
pub struct Handle {
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: Option<u32>,
    /// The descriptor.
    pub fd: u32,
    /// The process's command name; may hold anything.
    pub comm: Rc<str>,
}

impl CloseTarget {
    /// A connection as a scan saw it.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let handle = |h: &Holder| {
            let fd = h.fd?;
            Some(Handle { pid: h.process.pid, tid: h.tid, fd, comm: Rc::clone(&h.comm) })
        };
        let held = record.holder_source == HolderSource::FdTable;
        Self {
            connection: record.connection,
            state: record.state,
            inode: record.evidence.inode.unwrap_or(0),
            holders: if held {
                record.holders.iter().filter_map(handle).collect()
            } else {
                Vec::new()
            },
        }
    }
}

/// Why a connection was not ended.
#[derive(Debug)]
pub struct NotClosed {
    /// In a word.
    pub outcome: CloseResult,
    /// In a sentence, where there is more to say.
    pub why: Option<String>,
}

impl NotClosed {
    fn new(outcome: CloseResult, why: impl Into<String>) -> Self {
        Self { outcome, why: Some(why.into()) }
    }

    fn gone() -> Self {
        Self { outcome: CloseResult::GoneBefore, why: None }
    }

    fn changed(to: TcpState) -> Self {
        Self::new(CloseResult::Changed, format!("it is in {} now", to.name()))
    }
}

impl From<io::Error> for NotClosed {
    fn from(e: io::Error) -> Self {
        let refused = e.kind() == io::ErrorKind::PermissionDenied;
        let outcome = if refused { CloseResult::NotAllowed } else { CloseResult::Failed };
        Self::new(outcome, e.to_string())
    }
}

/// What became of one that was told to end in this way; `state`: what the kernel shows of it.
#[must_use]
pub fn became(
    target: &CloseTarget,
    how: CloseWay,
    state: io::Result<Option<TcpState>>,
) -> CloseAttempt {
    let failed = |why| NotClosed::new(CloseResult::Failed, why);
    let became = match &state {
        Ok(None) => NotClosed { outcome: CloseResult::Closed, why: None },
        // What the kernel destroys is gone when it answers.
        Ok(Some(state)) if how == CloseWay::Destroy || *state == target.state => {
            failed(format!("the kernel said that it was done, and it is in {} now", state.name()))
        }
        Ok(Some(_)) => NotClosed { outcome: CloseResult::Closing, why: None },
        Err(e) => failed(format!("what became of it can't be seen: {e}")),
    };
    attempt(target, how, became, state.unwrap_or(None))
}

/// What is to be said of one that is shown in `state` now.
#[must_use]
pub fn attempt(
    target: &CloseTarget,
    how: CloseWay,
    NotClosed { outcome, why: error }: NotClosed,
    state: Option<TcpState>,
) -> CloseAttempt {
    let still_held = still_held(target);
    // A descriptor that leads to a socket which the kernel does not list any more.
    let ghost = still_held.as_ref().is_some_and(|held| !held.is_empty());
    let state_after = state.or_else(|| ghost.then_some(TcpState::Close)).map(|state| state as u8);
    let cookie = target.connection.cookie;
    CloseAttempt { cookie, how, by: by(), outcome, state_after, still_held, error }
}

/// Ways into the network namespaces of what is to be ended.
#[derive(Debug, Default)]
pub struct Closer {
    places: HashMap<u32, Place>,
}

/// A network namespace.
#[derive(Debug)]
struct Place {
    diag: SockDiag,
    /// What forbids to destroy connections there, if anything does.
    destroys: Result<(), Cannot>,
    /// Interfaces of sockets that are bound to one, by cookie: the kernel finds them by it only.
    bound: HashMap<u64, u32>,
}

/// Why connections can't be destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cannot {
    /// The kernel was built without CONFIG_INET_DIAG_DESTROY, or is older than 4.5.
    Kernel,
    /// CAP_NET_ADMIN is missing in the user namespace that the network namespace belongs to.
    Rights,
}

impl Closer {
    /// Enters these namespaces, each once; also, those that could not be entered.
    #[must_use]
    pub fn enter(list: &[Netns]) -> (Self, Vec<(Netns, io::Error)>) {
        let (places, failed) = netns::each(list, |netns| {
            let mut diag = SockDiag::open(netns.inode, boot_now)?;
            let destroys = tried(&mut diag);
            Ok(Place { diag, destroys, bound: HashMap::new() })
        });
        let places = places.into_iter().map(|place| (place.diag.netns(), place)).collect();
        (Self { places }, failed)
    }

    /// Whether connections can be destroyed in a namespace, as far as that can be told without
    /// doing it.
    ///
    /// # Errors
    /// Why not.
    pub fn destroys(&self, netns: u32) -> Result<(), Cannot> {
        self.places.get(&netns).map_or(Ok(()), |place| place.destroys)
    }

    /// Ends a connection, if it is still the one that was judged.
    ///
    /// # Errors
    /// Why it was left alone.
    pub fn end(&mut self, target: &CloseTarget, how: CloseWay) -> Result<(), NotClosed> {
        match how {
            CloseWay::Shutdown => self.shut_down(target),
            CloseWay::Destroy => self.destroy(target),
        }
    }

    fn shut_down(&mut self, target: &CloseTarget) -> Result<(), NotClosed> {
        // Also, where it is to be looked for afterwards.
        if self.find(&target.connection, target.state.bit())?.is_none() {
            return Err(NotClosed::gone());
        }
        let mut other = None;
        let mut refused = None;
        for holder in &target.holders {
            match descriptor::shut_down(holder, target) {
                Ok(()) => return Ok(()),
                Err(why) if why.outcome == CloseResult::Changed => other = Some(why),
                Err(why) if why.outcome == CloseResult::GoneBefore => {}
                Err(why) => refused = Some(why),
            }
        }
        if let Some(why) = refused.or(other) {
            return Err(why);
        }
        // No holder has it any more where it was: is it anywhere?
        match self.now(&target.connection)? {
            None => Err(NotClosed::gone()),
            Some(now) if now != target.state => Err(NotClosed::changed(now)),
            Some(_) => {
                Err(NotClosed::new(CloseResult::Changed, "other descriptors lead to it now"))
            }
        }
    }

    fn destroy(&mut self, target: &CloseTarget) -> Result<(), NotClosed> {
        let Some((now, interface)) = self.find(&target.connection, target.state.bit())? else {
            return Err(NotClosed::gone());
        };
        if now.state != target.state as u8 {
            return Err(NotClosed::changed(state_of(now.state)));
        }
        if u64::from(now.inode) != target.inode {
            return Err(NotClosed::new(
                CloseResult::Changed,
                "it was accepted meanwhile, or closed",
            ));
        }
        let place = self.place(target.connection.netns)?;
        place.destroys.map_err(|cannot| {
            let outcome = match cannot {
                Cannot::Kernel => CloseResult::Failed,
                Cannot::Rights => CloseResult::NotAllowed,
            };
            NotClosed { outcome, why: None }
        })?;
        match place.diag.destroy(&now, interface)? {
            true => Ok(()),
            false => Err(NotClosed::gone()),
        }
    }

    /// The state that the kernel shows of a connection; `None`: it has no such one any more, or one
    /// that is over (it lists MPTCP's own sockets until their descriptors are closed).
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn now(&mut self, connection: &Connection) -> io::Result<Option<TcpState>> {
        let found = self.find(connection, !TcpState::TimeWait.bit())?;
        let state = found.map(|(socket, _)| state_of(socket.state));
        Ok(state.filter(|state| *state != TcpState::Close))
    }

    /// How long ago data was sent on a connection, ns; `None`: it is gone, or the kernel does not
    /// say.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn sent_ago(&mut self, connection: &Connection) -> io::Result<Option<u64>> {
        let found = self.find(connection, TcpState::CloseWait.bit())?;
        Ok(found.map(|(socket, _)| socket.sent_ago_ns).filter(|ago| *ago != u64::MAX))
    }

    /// The connection as it is now, and what it is bound to. `states`: where one that is bound to
    /// an interface nobody knows is looked for; all of a state are listed for that.
    fn find(&mut self, connection: &Connection, states: u32) -> io::Result<Option<(Socket, u32)>> {
        let place = self.place(connection.netns)?;
        let cookie = connection.cookie;
        if connection.mptcp {
            let dump = place.diag.dump(MPTCP, u32::MAX, Detail::Connection)?;
            return Ok(dump.sockets.into_iter().find(|s| s.cookie == cookie).map(|s| (s, 0)));
        }
        let known = place.bound.get(&cookie).copied();
        let interface = known.unwrap_or(0);
        if let Some(socket) = place.diag.find(&wire(connection), interface)? {
            place.bound.insert(cookie, interface);
            return Ok(Some((socket, interface)));
        }
        // One that was found so before is gone; another may be bound to an interface. A socket with
        // this cookie and other ends was connected anew: this connection is gone.
        if known.is_some() {
            return Ok(None);
        }
        let found = place.diag.by_cookie(states, cookie)?;
        let ends = |s: &Socket| {
            let now = Connection::new(s.cookie, &s.tuple, TCP);
            (now.local, now.remote) == (connection.local, connection.remote)
        };
        let found = found.filter(|(socket, _)| ends(socket));
        if let Some((_, interface)) = found {
            place.bound.insert(cookie, interface);
        }
        Ok(found)
    }

    fn place(&mut self, netns: u32) -> io::Result<&mut Place> {
        let none = || io::Error::other("its network namespace could not be entered, or is gone");
        self.places.get_mut(&netns).ok_or_else(none)
    }
}

/// TCP_BOUND_INACTIVE (13) is sock_diag's own word for some in CLOSE (net/ipv4/inet_diag.c).
fn state_of(number: u8) -> TcpState {
    TcpState::from_number(number).unwrap_or(TcpState::Close)
}

/// A connection as requests name it.
fn wire(c: &Connection) -> Socket {
    let mut socket = Socket::new_zeroed();
    (socket.cookie, socket.protocol, socket.tuple) = (c.cookie, TCP, c.tuple());
    socket
}

/// Tries what destroying takes, on nothing: a connection that can't be there, and a right that the
/// kernel asks for in the same way of a socket of our own.
fn tried(diag: &mut SockDiag) -> Result<(), Cannot> {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (cookie, netns) = (u64::MAX - 1, 0);
    let nobodys = Connection { cookie, netns, local: nowhere, remote: nowhere, mptcp: false };
    match diag.destroy(&wire(&nobodys), 0) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Err(Cannot::Rights),
        Err(_) => return Err(Cannot::Kernel),
        Ok(_) => {}
    }
    match may_administrate() {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(Cannot::Rights),
        // Where that can't be told, destroying tells.
        _ => Ok(()),
    }
}

/// Switches a new socket's repair mode off, which it is: that takes the right to destroy, too
/// (net/ipv4/tcp.c: `tcp_can_repair_sock`; net/core/sock_diag.c: `sock_diag_destroy`), which is
/// CAP_NET_ADMIN in the user namespace that the socket's network namespace belongs to.
fn may_administrate() -> io::Result<()> {
    use std::os::fd::AsRawFd;
    static TCP_REPAIR_OFF: libc::c_int = 0;
    let probe = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    // SAFETY: the value is an int, as the length says, and outlives the call.
    let done = unsafe {
        libc::setsockopt(
            probe.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR,
            (&raw const TCP_REPAIR_OFF).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether connections of the calling thread's network namespace can be destroyed, as
/// [`Closer::destroys`] says it.
///
/// # Errors
/// Why not.
pub fn destroys_here() -> Result<(), Cannot> {
    // The number is for the records only, and none is asked for.
    SockDiag::open(0, boot_now).map_err(|_| Cannot::Kernel).and_then(|mut diag| tried(&mut diag))
}

/// The descriptors that still lead to a connection's socket; `None`: not all can be seen.
#[must_use]
pub fn still_held(target: &CloseTarget) -> Option<Vec<StillHeld>> {
    let mut held = Vec::new();
    for Handle { pid, tid, fd, comm } in &target.holders {
        let table = tid.map_or_else(String::new, |tid| format!("/task/{tid}"));
        match fs::read_link(format!("/proc/{pid}{table}/fd/{fd}")) {
            Ok(link) if link.to_str().and_then(socket_inode) == Some(target.inode) => {
                held.push(StillHeld { pid: *pid, fd: *fd, comm: comm.to_string() });
            }
            Ok(_) => {}
            Err(e) if is_gone(&e, *pid) => {}
            Err(_) => return None,
        }
    }
    Some(held)
}

/// This process, and whose it is.
#[must_use]
pub fn by() -> Operator {
    let login = fs::read_to_string("/proc/self/loginuid").ok();
    let login = login.and_then(|text| text.trim().parse().ok());
    Operator {
        pid: std::process::id(),
        uid: getuid().as_raw(),
        // (uid_t) -1: nobody logged in (proc_pid_loginuid(5)).
        login_uid: login.filter(|uid| *uid != u32::MAX),
    }
}

/// The processes that this one descends from, without the first of all.
#[must_use]
pub fn ancestors() -> Vec<u32> {
    const MOST: usize = 64;
    let parent = |pid: &u32| {
        let (stat, _) = super::process::stat_and_start(*pid)?;
        (stat.ppid > 1).then_some(stat.ppid)
    };
    std::iter::successors(Some(std::process::id()), parent).skip(1).take(MOST).collect()
}

#[cfg(test)]
mod tests;

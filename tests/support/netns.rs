//! A network namespace that lives as long as its guard.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{fs::MetadataExt, process::CommandExt},
    },
    path::PathBuf,
    process::Command,
    thread,
};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// A fresh network namespace with its loopback up. It is kept by a descriptor of this process, so
/// nothing is left behind when that ends, however it ends.
pub struct Netns(File);

impl Netns {
    /// Makes one. Needs CAP_SYS_ADMIN.
    pub fn new() -> io::Result<Self> {
        let made = thread::spawn(|| -> io::Result<File> {
            // SAFETY: only descriptor tables are unsafe to unshare (CLONE_FILES); this is the
            // network.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
            loopback_up()?;
            File::open("/proc/thread-self/ns/net")
        });
        made.join()
            .map_err(|_| io::Error::other("the thread that makes a namespace panicked"))?
            .map(Self)
    }

    /// A path that leads there from this process and its children.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()))
    }

    /// Its inode number, the name that tcptrace prints.
    pub fn inode(&self) -> u64 {
        self.0.metadata().map_or(0, |m| m.ino())
    }

    /// Makes a command run in it.
    pub fn enter_in(&self, command: &mut Command) -> io::Result<()> {
        let fd: OwnedFd = self.0.as_fd().try_clone_to_owned()?;
        // SAFETY: setns is async-signal-safe, and the descriptor lives in the closure.
        unsafe {
            command.pre_exec(move || {
                Ok(move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::Network))?)
            });
        }
        Ok(())
    }

    /// Moves the calling thread into it, for good.
    pub fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?)
    }
}

/// Joins two namespaces by a pair of interfaces (veth), with ip(8); the address of each.
pub fn join(one: &Netns, other: &Netns) -> io::Result<[&'static str; 2]> {
    const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
    let ip = |within: &Netns, args: &[&str]| {
        let mut command = Command::new("ip");
        command.args(args);
        within.enter_in(&mut command)?;
        let status = command.status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("ip {args:?}"))) }
    };
    let path = other.path();
    let path = path.to_str().ok_or_else(|| io::Error::other("no plain path"))?;
    ip(one, &["link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", path])?;
    for (netns, interface, address) in [(one, "v0", ADDRESSES[0]), (other, "v1", ADDRESSES[1])] {
        ip(netns, &["address", "add", &format!("{address}/24"), "dev", interface])?;
        ip(netns, &["link", "set", interface, "up"])?;
    }
    Ok(ADDRESSES)
}

/// Sets IFF_UP on `lo` of the calling thread's namespace (netdevice(7)).
fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a valid ifreq and outlives the call.
    let done = unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &raw const request)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

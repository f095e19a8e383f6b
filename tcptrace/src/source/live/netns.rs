//! All network namespaces of the host: those of processes, the named ones and other bind mounts.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::{
        fd::AsFd,
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::formats::mounts;

/// Where `ip netns` keeps its names (ip-netns(8)).
pub const NAMED: &str = "/run/netns";

/// What namespace files lie on (uapi/linux/magic.h).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// A namespace and a way into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netns {
    /// Inode number: its name in the kernel.
    pub inode: u32,
    /// A file that leads there.
    pub path: PathBuf,
}

impl Netns {
    /// The namespace that a file leads to.
    ///
    /// # Errors
    /// What stat answers; or that the file is no namespace's.
    pub fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        if rustix::fs::statfs(path)?.f_type as u64 != NSFS_MAGIC {
            return Err(io::Error::other("not a network namespace"));
        }
        let inode =
            u32::try_from(meta.ino()).map_err(|_| io::Error::other("not a network namespace"))?;
        Ok(Self { inode, path: path.to_owned() })
    }
}

/// Every namespace that can be found, each once, and how many processes hide theirs from us.
#[must_use]
pub fn all() -> (Vec<Netns>, usize) {
    let mut found = HashMap::new();
    let mut hidden = 0;
    let mut add = |path: PathBuf| match Netns::of(&path) {
        Ok(netns) => drop(found.entry(netns.inode).or_insert(netns)),
        // Kernel threads live where init does, and are seldom hidden where it is.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied && !path.starts_with("/proc/1/") => {
            hidden += 1
        }
        // The process is gone.
        Err(_) => {}
    };
    for path in mounted() {
        add(path);
    }
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if entry.file_name().as_bytes().iter().all(u8::is_ascii_digit) {
            add(entry.path().join("ns/net"));
        }
    }
    let mut list: Vec<Netns> = found.into_values().collect();
    list.sort_by_key(|n| n.inode);
    (list, hidden)
}

/// Bind-mounted namespaces that can be reached from here.
fn mounted() -> Vec<PathBuf> {
    let mounts = mounts::parse(&fs::read("/proc/self/mountinfo").unwrap_or_default());
    let netns = mounts
        .into_iter()
        .filter(|m| m.fs_type == "nsfs" && m.root.as_os_str().as_bytes().starts_with(b"net:"));
    netns.map(|m| m.at).collect()
}

/// Runs `work` once in each namespace, on a thread of its own, and returns what came of it, and the
/// namespaces that could not be entered.
pub fn each<W, T>(list: &[Netns], work: W) -> (Vec<T>, Vec<(Netns, io::Error)>)
where
    W: Fn(&Netns) -> io::Result<T> + Sync,
    T: Send,
{
    thread::scope(|scope| {
        let visit = || {
            let (mut done, mut failed) = (Vec::new(), Vec::new());
            for netns in list {
                match enter(netns).and_then(|()| work(netns)) {
                    Ok(result) => done.push(result),
                    // It went with its last process since it was found.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => failed.push((netns.clone(), e)),
                }
            }
            (done, failed)
        };
        scope.spawn(visit).join().unwrap_or_default()
    })
}

fn enter(netns: &Netns) -> io::Result<()> {
    // No need to enter where we are: without CAP_SYS_ADMIN this one can still be read.
    if Netns::of(Path::new("/proc/thread-self/ns/net")).is_ok_and(|here| here.inode == netns.inode)
    {
        return Ok(());
    }
    let file = File::open(&netns.path)?;
    Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
}

//! All network namespaces of the host: those of processes, the named ones and other bind mounts.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::{self, File},
    io, iter,
    os::{
        fd::AsFd,
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{formats::mounts, source::live::numbers};

/// Where `ip netns` keeps its names (ip-netns(8)).
pub const NAMED: &str = "/run/netns";

/// What namespace files lie on (uapi/linux/magic.h).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// A namespace and the ways into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netns {
    /// Inode number: its name in the kernel.
    pub inode: u32,
    /// A file that leads there.
    pub path: PathBuf,
    /// Others that do: the first may be a process's, and go with it.
    others: Vec<PathBuf>,
}

/// More ways than these are not kept.
const WAYS: usize = 8;

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
        Ok(Self { inode, path: path.to_owned(), others: Vec::new() })
    }

    /// Whether one of the ways still leads there.
    #[must_use]
    pub fn exists(&self) -> bool {
        let leads = |path: &PathBuf| {
            fs::metadata(path).is_ok_and(|meta| meta.ino() == u64::from(self.inode))
        };
        iter::once(&self.path).chain(&self.others).any(leads)
    }

    /// A process that is in it, or was when it was found.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        let pid =
            |path: &PathBuf| path.to_str()?.strip_prefix("/proc/")?.split_once('/')?.0.parse().ok();
        iter::once(&self.path).chain(&self.others).find_map(pid)
    }
}

/// Every namespace that can be found, each once, and how many processes hide theirs from us.
#[must_use]
pub fn all() -> (Vec<Netns>, usize) {
    let mut found: HashMap<u32, Netns> = HashMap::new();
    let mut hidden = 0;
    let mut add = |path: PathBuf| match Netns::of(&path) {
        Ok(netns) => match found.entry(netns.inode) {
            Entry::Vacant(entry) => drop(entry.insert(netns)),
            Entry::Occupied(mut entry) if entry.get().others.len() < WAYS - 1 => {
                entry.get_mut().others.push(path);
            }
            Entry::Occupied(_) => {}
        },
        // Kernel threads live where init does, and are seldom hidden where it is.
        Err(e)
            if e.kind() == io::ErrorKind::PermissionDenied
                && !path.starts_with("/proc/1/")
                && !is_gone(&path) =>
        {
            hidden += 1
        }
        // The process is gone.
        Err(_) => {}
    };
    for path in mounted() {
        add(path);
    }
    for pid in numbers("/proc").unwrap_or_default() {
        add(format!("/proc/{pid}/ns/net").into());
    }
    let mut list: Vec<Netns> = found.into_values().collect();
    list.sort_by_key(|n| n.inode);
    (list, hidden)
}

/// Whether the process behind `/proc/PID/ns/net` has ended: the kernel answers EACCES, too, for one
/// that does so meanwhile.
fn is_gone(path: &Path) -> bool {
    path.ancestors().nth(2).is_some_and(|process| !process.exists())
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
/// namespaces that could not be entered, or where `work` failed.
///
/// # Panics
/// As `work` does.
pub fn each<W, T>(list: &[Netns], work: W) -> (Vec<T>, Vec<(Netns, io::Error)>)
where
    W: Fn(&Netns) -> io::Result<T> + Sync,
    T: Send,
{
    let visit = || {
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for netns in list {
            match enter(netns) {
                Ok(true) => match work(netns) {
                    Ok(result) => done.push(result),
                    Err(e) => failed.push((netns.clone(), e)),
                },
                // It went with its last process since it was found.
                Ok(false) => {}
                Err(e) => failed.push((netns.clone(), e)),
            }
        }
        (done, failed)
    };
    thread::scope(|scope| match thread::Builder::new().spawn_scoped(scope, visit) {
        Ok(worker) => worker.join().unwrap_or_else(|panic| resume_unwind(panic)),
        Err(e) => {
            let failed = |netns: &Netns| (netns.clone(), io::Error::from(e.kind()));
            (Vec::new(), list.iter().map(failed).collect())
        }
    })
}

/// Enters it by the first way that still leads there; false: none does.
fn enter(netns: &Netns) -> io::Result<bool> {
    // No need to enter where we are: without CAP_SYS_ADMIN this one can still be read.
    if Netns::of(Path::new("/proc/thread-self/ns/net")).is_ok_and(|here| here.inode == netns.inode)
    {
        return Ok(true);
    }
    let mut refused = None;
    for path in iter::once(&netns.path).chain(&netns.others) {
        match enter_by(path, netns.inode) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound || is_gone(path) => {}
            Err(e) => refused = Some(e),
        }
    }
    refused.map_or(Ok(false), Err)
}

/// Enters the namespace that a file leads to, if it is this one: another process may have the pid
/// by now.
fn enter_by(path: &Path, inode: u32) -> io::Result<bool> {
    let file = File::open(path)?;
    if file.metadata()?.ino() != u64::from(inode) {
        return Ok(false);
    }
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Netns {
        Netns::of(Path::new("/proc/self/ns/net")).expect("we are in one")
    }

    #[test]
    #[should_panic(expected = "not silent")]
    fn a_worker_that_panics_is_not_taken_for_an_empty_host() {
        let _ = each(&[here()], |_| -> io::Result<()> { panic!("not silent") });
    }

    #[test]
    fn work_that_finds_nothing_where_it_looks_is_no_namespace_that_went() {
        let (done, failed) =
            each(&[here()], |_| -> io::Result<()> { Err(io::ErrorKind::NotFound.into()) });
        assert_eq!((done.len(), failed.len()), (0, 1));
    }

    /// As after the process has gone by which it was found, and another has its pid.
    #[test]
    fn a_namespace_outlives_the_process_that_it_was_found_by() {
        let gone = PathBuf::from("/proc/1073741824/ns/net");
        let other = PathBuf::from("/proc/self/ns/pid");
        let ways = |others: &[&PathBuf]| Netns {
            // No namespace has this number: it can't be here already.
            inode: 1,
            path: gone.clone(),
            others: others.iter().map(|path| (*path).clone()).collect(),
        };
        let none = each(&[ways(&[&gone, &other])], |_| Ok(()));
        assert!(none.0.is_empty() && none.1.is_empty(), "it went: {none:?}");
        let inode = fs::metadata(&other).expect("it is there").ino();
        let last = Netns { inode: inode.try_into().expect("a number"), ..ways(&[&gone, &other]) };
        // It leads there, and the kernel says what it is: no network namespace.
        let (_, failed) = each(&[last], |_| Ok(()));
        assert_eq!(failed.len(), 1, "the last way is tried");
    }

    #[test]
    fn ways_into_ours() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a child");
        let (all, _) = all();
        child.kill().and_then(|()| child.wait()).expect("it ends");
        let ours = all.iter().find(|n| n.inode == here().inode).expect("it is there");
        // Ours and the child's, at least.
        assert!((1..WAYS).contains(&ours.others.len()), "{ours:?}");
        assert!(!ours.others.contains(&ours.path));
    }
}

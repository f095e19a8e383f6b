//! What a process has in the kernel: programs, maps, links. Each has an id that is not given out
//! again soon, so that it shows whether it is still there when the process is not.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{FromRawFd, OwnedFd},
};

/// Kinds of objects: their line in `/proc/PID/fdinfo/FD`, and the command that opens one by its id
/// (uapi/linux/bpf.h).
const KINDS: [(&str, libc::c_long); 3] = [("prog_id", 13), ("map_id", 14), ("link_id", 30)];

/// Objects by kind and id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held(BTreeSet<(&'static str, u32)>);

impl Held {
    /// What the process has descriptors for. A link's descriptor names its program too.
    pub fn by(pid: u32) -> io::Result<Self> {
        let mut held = BTreeSet::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
            // Closed meanwhile.
            let Ok(info) = fs::read_to_string(entry?.path()) else { continue };
            for (kind, _) in KINDS {
                let id = info
                    .lines()
                    .find_map(|l| l.strip_prefix(kind)?.strip_prefix(':')?.trim().parse().ok());
                held.extend(id.map(|id| (kind, id)));
            }
        }
        Ok(Self(held))
    }

    /// How many of a kind.
    pub fn count(&self, kind: &str) -> usize {
        self.0.iter().filter(|(k, _)| *k == kind).count()
    }

    /// What of it the kernel still has.
    pub fn left(&self) -> Self {
        Self(self.0.iter().filter(|(kind, id)| exists(kind, *id)).copied().collect())
    }

    /// Whether it is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn exists(kind: &str, id: u32) -> bool {
    let Some((_, command)) = KINDS.into_iter().find(|(k, _)| *k == kind) else { return false };
    let attr = [id, 0, 0];
    // SAFETY: the attribute is three u32 for these commands and outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attr, size_of_val(&attr)) };
    if fd >= 0 {
        // SAFETY: the kernel just made this descriptor for us.
        drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    }
    fd >= 0
}

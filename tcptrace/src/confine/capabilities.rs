//! Giving up rights once they have been used (capabilities(7)).

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// What the time after attaching needs: each scan opens an iterator, which kernels before 5.19
/// refuse without CAP_BPF; other users' `/proc/PID` links need CAP_SYS_PTRACE, and the fallback
/// that reads descriptor tables there CAP_DAC_READ_SEARCH.
const KEPT: CapabilitySet =
    CapabilitySet::BPF.union(CapabilitySet::SYS_PTRACE).union(CapabilitySet::DAC_READ_SEARCH);

/// What closing connections for a watch needs: copies of other processes' descriptors
/// (pidfd_getfd), SOCK_DESTROY, ways into other network namespaces (setns).
const CLOSES: CapabilitySet =
    CapabilitySet::SYS_PTRACE.union(CapabilitySet::NET_ADMIN).union(CapabilitySet::SYS_ADMIN);

/// Gives up every capability of this thread that a watch does not need any more, for good. To be
/// called before other threads start.
///
/// # Errors
/// What the kernel answers.
pub fn drop_unneeded() -> io::Result<()> {
    keep_only(KEPT).map(drop)
}

/// The same of who closes connections for a watch. The names of those that it needs and never had.
///
/// # Errors
/// What the kernel answers.
pub fn keep_closing() -> io::Result<Vec<String>> {
    let have = keep_only(CLOSES)?;
    Ok(CLOSES.difference(have).iter_names().map(|(name, _)| format!("CAP_{name}")).collect())
}

/// Gives up all of them: for a thread that needs none.
///
/// # Errors
/// What the kernel answers.
pub fn drop_all() -> io::Result<()> {
    keep_only(CapabilitySet::empty()).map(drop)
}

fn keep_only(wanted: CapabilitySet) -> io::Result<CapabilitySet> {
    set_no_new_privs(true)?;
    let have = capabilities(None)?;
    let kept = have.permitted & wanted;
    // Only who has CAP_SETPCAP may shrink the bounding set; without it there is nothing to gain.
    if have.effective.contains(CapabilitySet::SETPCAP) {
        for cap in CapabilitySet::all().difference(wanted).iter() {
            // The kernel may not know the newest of the library's list.
            let _ = remove_capability_from_bounding_set(cap);
        }
    }
    let _ = clear_ambient_capability_set();
    set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )?;
    Ok(kept)
}

//! The memory of other processes.

use libc::{c_void, iovec, pid_t};

/// A process's memory, so much as can be read from `address` on (process_vm_readv(2)).
#[must_use]
pub fn read(pid: u32, address: u64, most: usize) -> Vec<u8> {
    const PAGE: usize = 4096;
    let Ok(pid) = pid_t::try_from(pid) else { return Vec::new() };
    let mut bytes = vec![0; most];
    let local = iovec { iov_base: bytes.as_mut_ptr().cast::<c_void>(), iov_len: most };
    // In pieces, each of which is copied whole or not at all: the last ones may not be there.
    let mut pieces = Vec::new();
    let (Ok(mut at), mut left) = (usize::try_from(address), most) else { return Vec::new() };
    while left > 0 {
        let length = (PAGE - at % PAGE).min(left);
        pieces.push(iovec { iov_base: std::ptr::without_provenance_mut(at), iov_len: length });
        let Some(next) = at.checked_add(length) else { break };
        (at, left) = (next, left - length);
    }
    // IOV_MAX.
    pieces.truncate(1024);
    // SAFETY: our memory is `bytes`, of this length; the other addresses are the process's, which
    // the kernel checks.
    let read = unsafe {
        libc::process_vm_readv(pid, &raw const local, 1, pieces.as_ptr(), pieces.len() as _, 0)
    };
    bytes.truncate(usize::try_from(read).unwrap_or(0));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_far_as_there_is_some() {
        let own = [7_u8; 10_000];
        let at = own.as_ptr().addr() as u64;
        let pid = std::process::id();
        assert_eq!(read(pid, at, 10_000), own);
        assert!(read(pid, at, 0).is_empty());
        assert!(read(pid, 0, 64).is_empty(), "nothing is mapped there");
        assert!(read(pid, u64::MAX - 8, 64).is_empty());
        assert!(read(1 << 30, at, 64).is_empty());
    }
}

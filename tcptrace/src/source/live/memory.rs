//! Memory that was needed once.

/// Makes the allocator return large pieces of free memory at once, whichever thread had them. By
/// itself it raises the limit above which it does so to twice the largest piece that was freed
/// (mallopt(3)), and [`give_back`] does not reach the last free piece of other threads' memory.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10);
    }
}

/// Has all threads share one arena: a second one would look up how the kernel counts memory
/// (`/proc/sys/vm/overcommit_memory`) whenever it shrinks, in a thread that may open no files.
pub fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Makes the allocator return what is free to the kernel, instead of keeping it for later.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

//! Memory that was needed once.

/// Makes the allocator return what is free to the kernel, instead of keeping it for later.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

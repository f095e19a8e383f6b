//! What the programs do on paths that are hardly ever taken, in words, where they are built with
//! the feature `kernel-log` (`cargo xtask run --kernel-log`). Without it, it is not one
//! instruction.

/// Says something of a socket; the text has places for its cookie and its state.
macro_rules! say {
    ($sk:expr, $text:tt) => {{
        #[cfg(feature = "kernel-log")]
        {
            // A function of its own has a stack of its own.
            #[inline(never)]
            fn line(cookie: u64, state: u32) {
                aya_log_ebpf::info!((), $text, cookie, state);
            }
            line($sk.cookie(), u32::from($sk.state()));
        }
        #[cfg(not(feature = "kernel-log"))]
        let _ = $sk;
    }};
}
pub(crate) use say;

//! The ring buffer as a source of events.

use std::io;

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;

/// The kernel programs' ring buffer.
pub struct Ring(AsyncFd<RingBuf<MapData>>);

impl Ring {
    /// Watches the ring buffer. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What epoll answers.
    pub fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: the ring buffer owns its map's descriptor, never replaces it, and goes with us.
        unsafe { AsyncFd::register(ring) }.map(Self).map_err(|e| e.into_parts().1)
    }

    /// Waits until the kernel says that there is something. It says so only for what is rare;
    /// streams are to be polled.
    ///
    /// # Errors
    /// What epoll answers.
    pub async fn ready(&mut self) -> io::Result<()> {
        self.0.readable_mut().await.map(|mut guard| guard.clear_ready())
    }

    /// The oldest record's bytes, taken out of the ring.
    pub fn take(&mut self) -> Option<impl std::ops::Deref<Target = [u8]> + '_> {
        self.0.get_mut().next()
    }
}

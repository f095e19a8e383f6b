//! What scans use of the kernel programs: iterators, the nursery, counters. It may be used from
//! another thread than the programs are attached from.

use std::io;

use aya::maps::{Array, MapData};
use tcptrace_common::config::{ADOPT, ALL_DESCRIPTORS, Control, PROMOTE, SCAN_ALL};
use zerocopy::IntoBytes;

use super::{
    counts::KernelCounts,
    iter::{LinkedIter, Listing},
    normals::NormalTable,
    nursery::Nursery,
    origins::OriginMaps,
};

/// The iterators and what they share with the programs.
pub struct Scans {
    pub(super) control: Array<MapData, [u8; size_of::<Control>()]>,
    pub(super) nursery: Nursery,
    pub(super) stays: LinkedIter,
    pub(super) holders: LinkedIter,
    pub(super) adopt: LinkedIter,
    pub(super) counts: KernelCounts,
    pub(super) origins: Option<OriginMaps>,
    pub(super) normals: Option<NormalTable>,
    pub(super) scans: u32,
    pub(super) min_age_ns: u64,
}

impl Scans {
    /// From now on younger stays are left alone, ns; not less than what the programs were loaded
    /// with.
    pub fn set_min_age(&mut self, min_age_ns: u64) {
        self.min_age_ns = min_age_ns;
    }

    /// Lists the live stays in socket storage that are due for a report at `now_ns`, or all of
    /// them.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn stays(&mut self, now_ns: u64, all: bool) -> io::Result<Listing> {
        self.scans = self.scans.wrapping_add(1).max(1);
        self.set_control(now_ns, if all { SCAN_ALL } else { 0 })?;
        self.stays.run()
    }

    /// Lists who has a descriptor for the sockets that the last [`Self::stays`] listed, and all
    /// listeners with theirs. `promote`: also the stays of the nursery that have aged, which move
    /// to socket storage; where the kernel has no memory for that, they come with
    /// [`NO_MEMORY`](tcptrace_common::event::NO_MEMORY) each time.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn holders(&mut self, now_ns: u64, promote: bool) -> io::Result<Listing> {
        self.set_control(now_ns, if promote { PROMOTE } else { 0 })?;
        self.holders.run()
    }

    /// Lists who has a descriptor for any matching TCP socket.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn descriptors(&mut self, now_ns: u64) -> io::Result<Listing> {
        self.set_control(now_ns, ALL_DESCRIPTORS)?;
        self.holders.run()
    }

    /// Gives every matching socket of any namespace that a descriptor leads to a stay, where it has
    /// none. To be called at any time: a socket whose stay is young is left alone, one whose stay
    /// is in another state than itself loses that and gets a new one.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn adopt_by_descriptor(&mut self, now_ns: u64) -> io::Result<()> {
        self.set_control(now_ns, ADOPT)?;
        self.holders.run().map(drop)
    }

    /// The same for every matching socket of the calling thread's network namespace, those that
    /// nobody has accepted included. It takes no privilege. The stays it makes carry the time of
    /// the last [`Self::adopt_by_descriptor`].
    #[must_use]
    pub fn adopt_by_namespace(&self) -> &LinkedIter {
        &self.adopt
    }

    fn set_control(&mut self, now_ns: u64, mode: u32) -> io::Result<()> {
        let control = Control { now_ns, min_age_ns: self.min_age_ns, scan: self.scans, mode };
        let mut bytes = [0; size_of::<Control>()];
        bytes.copy_from_slice(control.as_bytes());
        self.control.set(0, bytes, 0).map_err(io::Error::other)
    }

    /// What the programs counted.
    #[must_use]
    pub fn counts(&self) -> &KernelCounts {
        &self.counts
    }

    /// What the programs know of origins, where that was asked for.
    pub fn origins(&mut self) -> Option<&mut OriginMaps> {
        self.origins.as_mut()
    }

    /// How long stays last as a rule, where that was asked for.
    pub fn normals(&mut self) -> Option<&mut NormalTable> {
        self.normals.as_mut()
    }

    /// Where young stays are.
    #[must_use]
    pub fn nursery(&self) -> &Nursery {
        &self.nursery
    }
}

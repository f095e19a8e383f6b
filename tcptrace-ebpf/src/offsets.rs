//! The frozen configuration, offsets included. Every read is volatile: the compiler must not fold
//! the placeholder in, the verifier folds the real value in.

use tcptrace_common::config::{Ancestor, Config, MISSING, Offsets};

#[unsafe(no_mangle)]
static CONFIG: Config = Config::NONE;

macro_rules! read {
    ($field:ident: $ty:ty) => {
        #[inline(always)]
        pub fn $field() -> $ty {
            // SAFETY: a static is valid for reads.
            unsafe { core::ptr::read_volatile(&raw const CONFIG.$field) }
        }
    };
}

read!(min_age_ns: u64);
read!(jiffy_ns: u64);
read!(states: u32);
read!(transitions: u32);
read!(netns: u32);
read!(family: u32);
read!(lport: u32);
read!(rport: u32);
read!(nursery: u32);
read!(stream: u32);
read!(weakly_ordered: u32);
read!(nests: u32);
read!(origins: u32);
read!(exits: u32);
read!(origins_of: u32);

/// The `n`th cgroup that is asked for; 0: none.
#[inline(always)]
pub fn cgroup(n: usize) -> (u64, u32) {
    // SAFETY: a static is valid for reads, and `n` is below its length.
    unsafe {
        let cgroup = (&raw const CONFIG.cgroups).cast::<Ancestor>().add(n);
        ((&raw const (*cgroup).id).read_volatile(), (&raw const (*cgroup).level).read_volatile())
    }
}

/// An address that never moves.
#[inline(always)]
pub fn anchor() -> *const Config {
    &raw const CONFIG
}

/// One offset.
#[inline(always)]
pub fn offset(pick: impl FnOnce(*const Offsets) -> *const u32) -> u32 {
    // SAFETY: `pick` projects to a field of the static.
    unsafe { core::ptr::read_volatile(pick(&raw const CONFIG.offsets)) }
}

/// Whether this kernel has the member.
#[inline(always)]
pub fn known(offset: u32) -> bool {
    offset != MISSING
}

/// The offset of one member of a kernel struct on this kernel.
macro_rules! off {
    ($field:ident) => {
        $crate::offsets::offset(
            // SAFETY: projects to a field of the pointed-to struct without reading it.
            |o| unsafe { &raw const (*o).$field },
        )
    };
}
pub(crate) use off;

//! Words that several CPUs and user space change at once: the kernel's side of
//! `tcptrace_common::slot`.

use core::{
    arch::asm,
    intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg, atomic_xchg},
};

use tcptrace_common::slot::Word;

use crate::offsets;

/// A u64 in a map's value, aligned to 8. It may be null nowhere: the verifier checks.
#[derive(Clone, Copy)]
pub struct Shared(pub *mut u64);

impl Word for Shared {
    #[inline(always)]
    fn load(self) -> u64 {
        if offsets::weakly_ordered() != 0 {
            // SAFETY: a valid map value, by the type's invariant.
            return unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(self.0, 0, 0) }.0;
        }
        // SAFETY: as above; then no instruction, which the compiler moves no load across.
        unsafe {
            let value = self.0.read_volatile();
            asm!("", options(nostack));
            value
        }
    }

    #[inline(always)]
    fn store(self, value: u64) {
        if offsets::weakly_ordered() != 0 {
            // SAFETY: a valid map value, by the type's invariant.
            unsafe { atomic_xchg::<u64, { SeqCst }>(self.0, value) };
        } else {
            // SAFETY: no instruction, which the compiler moves no store across; then as above.
            unsafe {
                asm!("", options(nostack));
                self.0.write_volatile(value);
            }
        }
    }

    #[inline(always)]
    fn exchange(self, from: u64, to: u64) -> bool {
        // SAFETY: a valid map value, by the type's invariant.
        let (_, done) = unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(self.0, from, to) };
        done
    }
}

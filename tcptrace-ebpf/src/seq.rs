//! What all iterators share: their context, and the way out.

use aya_ebpf::{cty::c_void, helpers::generated::bpf_seq_write};

/// The `n`th member of an iterator's context. All have `meta` first.
#[inline(always)]
pub fn context(ctx: *mut c_void, n: usize) -> *mut c_void {
    // SAFETY: the verifier checks the access against the iterator's context type.
    unsafe { ctx.cast::<*mut c_void>().add(n).read_volatile() }
}

/// Where an iterator's reader takes records from.
#[derive(Clone, Copy)]
pub struct Output(*mut c_void);

impl Output {
    /// To be asked for once: on each path where a typed pointer is followed, the verifier searches
    /// the kernel's types by name.
    #[inline(always)]
    pub fn of(ctx: *mut c_void) -> Self {
        // SAFETY: `struct bpf_iter_meta` begins with its seq_file, by the iterators' ABI
        // (include/linux/bpf.h).
        Self(unsafe { context(ctx, 0).cast::<*mut c_void>().read_volatile() })
    }

    /// Hands a record to the reader; false: no room. Then all records of this step of the scan are
    /// taken back, and the step comes again (bpf_seq_read).
    #[inline(always)]
    pub fn write<T>(self, record: &T) -> bool {
        let record = core::ptr::from_ref(record).cast_mut().cast();
        // SAFETY: the record is initialised to its last byte.
        unsafe { bpf_seq_write(self.0.cast(), record, size_of::<T>() as u32) == 0 }
    }
}

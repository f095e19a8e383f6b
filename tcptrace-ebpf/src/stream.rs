//! The way out for what is much: a buffer for each CPU, which user space maps and polls. There is
//! nobody to wait for and nobody to wake; a ring buffer that all CPUs share costs an event two
//! and a half times as much.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE, btf_maps::Array, helpers::bpf_get_smp_processor_id, macros::btf_map,
};
use tcptrace_common::{counters::Cursor, event::Streamed, slot::Word};

use crate::{offsets, word::Shared};

/// CPU after CPU; user space sets the length.
#[btf_map]
pub static STREAM: Array<Streamed, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Adds a record to this CPU's buffer. False: it is full. To be called by one program only, and
/// only where the kernel does not run it twice at once on one CPU.
#[inline(always)]
pub fn put(cursor: &mut Cursor, record: impl FnOnce() -> Streamed) -> bool {
    let size = offsets::stream();
    let written = cursor.written;
    // SAFETY: a valid map value, which user space writes to.
    let taken = unsafe { (&raw const cursor.taken).read_volatile() };
    if written.wrapping_sub(taken) >= u64::from(size) {
        return false;
    }
    // SAFETY: the helper takes no argument.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let index = cpu * size + (written as u32 & size.wrapping_sub(1));
    let Some(place) = STREAM.get_ptr_mut(index) else { return false };
    // SAFETY: a valid map value, and user space does not read it before it is published.
    unsafe { place.write(record()) };
    // With it, all that was stored before can be seen.
    Shared(&raw mut cursor.written).store(written + 1);
    true
}

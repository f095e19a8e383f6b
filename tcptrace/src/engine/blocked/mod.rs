//! What a process does instead of taking, reading and closing its connections: what its threads
//! wait for, followed from process to process to its end.
//!
//! One file a step: `reading` is what was read, as a fact; `awaited` what one thread waits for;
//! `chain` follows that; `blockage` makes one finding of cause and effect.

pub mod awaited;
pub mod blockage;
pub mod chain;
pub mod reading;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use super::{processes::same_start, record::BootNs};
use crate::formats::threads::{ThreadGroup, Whereabouts};

/// Whether two starts are one; an unknown one is any.
fn same(a: BootNs, b: BootNs) -> bool {
    a == 0 || b == 0 || same_start(a, b)
}

/// The name of the call that a group of threads is in.
fn call(group: &ThreadGroup) -> Option<Rc<str>> {
    if let Whereabouts::Call(name) = group.place { Some(name.into()) } else { None }
}

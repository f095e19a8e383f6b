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
pub(crate) mod tests;

use std::rc::Rc;

use crate::formats::threads::{ThreadGroup, Whereabouts};

/// The name of the call that a group of threads is in.
fn call(group: &ThreadGroup) -> Option<Rc<str>> {
    if let Whereabouts::Call(name) = group.place { Some(name.into()) } else { None }
}

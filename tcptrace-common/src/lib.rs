//! The wire between tcptrace's kernel programs and its user space: plain structs of fixed layout.
//!
//! Everything here is `repr(C)`, little-endian as the host, without implicit padding, and read in
//! user space through `zerocopy` only. Both sides are built from one commit and travel in one
//! binary, so there is no version field.
#![no_std]
#![forbid(unsafe_code)]

pub mod config;
pub mod counters;
pub mod event;
pub mod normal;
pub mod slot;
pub mod state;

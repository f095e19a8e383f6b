//! The kernel side: what this host allows, where its structs keep things, loading and reading the
//! programs.

pub mod counts;
mod cpus;
pub mod iter;
pub mod loader;
#[cfg(feature = "kernel-log")]
mod log;
pub mod mapped;
pub mod normals;
pub mod nursery;
pub mod origins;
pub mod preflight;
pub mod probe;
mod programs;
pub mod scans;
pub mod stream;
mod sys;
mod tracepoint;

//! The kernel side: what this host allows, where its structs keep things, loading and reading the
//! programs.

pub mod btf;
pub mod iter;
pub mod loader;
pub mod mapped;
pub mod nursery;
pub mod preflight;
pub mod probe;
mod programs;
pub mod stream;
mod sys;

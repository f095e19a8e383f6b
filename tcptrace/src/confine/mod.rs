//! What a running watch gives up once all is loaded: capabilities, system calls, memory.

pub mod capabilities;
pub mod memory;
pub mod seccomp;

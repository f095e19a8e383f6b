//! What a running watch gives up once all is loaded: capabilities, system calls.

pub mod capabilities;
pub mod seccomp;

//! What a running watch gives up once all is loaded, and who closes connections for it:
//! capabilities, system calls.

pub mod capabilities;
pub mod closing;
pub mod http;
pub mod outgoing;
mod rules;
pub mod seccomp;

//! What tcptrace knows and concludes. Pure: bytes and times come in as arguments, updates go out;
//! no kernel, file, clock or output here, so a recording gives what the live run gave.

pub mod assemble;
pub mod census;
pub mod cgroup;
pub mod check;
pub mod container;
pub mod cure;
pub mod decode;
pub mod descriptor;
pub mod diag;
pub mod event;
pub mod filter;
pub mod mounts;
pub mod opener;
pub mod parse;
pub mod report;
pub mod stat;
pub mod threads;
pub mod tracker;
pub mod unknown;
pub mod verdict;

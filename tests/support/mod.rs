//! What live tests, the demo and the benchmarks share: network namespaces of their own, processes
//! that do with sockets what they are told, and a running tcptrace.

pub mod actor;
pub mod agent;
mod blocking;
pub mod bpf;
pub mod cgroup;
pub mod load;
pub mod netns;
mod options;
pub mod serve;

//! Where sockets and events come from: the network namespaces of this host, and the ring buffer.

pub mod diag;
pub mod netns;
pub mod ring;

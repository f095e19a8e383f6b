//! Where sockets come from: the network namespaces of this host.

pub mod netns;

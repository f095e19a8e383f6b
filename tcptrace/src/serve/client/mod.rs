//! Requests that go out, to who was named: a collector, the kubelet. What comes back is bounded,
//! whoever answers.

pub mod address;
pub mod connection;
pub mod retry;
pub mod unverified;

//! What the node's own kubelet says of its pods: `GET /pods` at intervals, from a thread of its
//! own. No watch, and nothing is asked of the API server, but for what the kubelet itself asks it:
//! whose token that is, and what it may.
//!
//! It wants a token that may `get` `nodes/pods`, or `nodes/proxy` before Kubernetes 1.33
//! (KEP-2862, KubeletFineGrainedAuthz: beta in 1.33, stable in 1.36; pkg/kubelet/server/auth.go).
//! Port 10250 is its own, with TLS; 10255, without, is off unless `readOnlyPort` is set.

pub mod address;
pub mod ask;
pub mod poll;
pub mod token;

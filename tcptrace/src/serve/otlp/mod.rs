//! What the agent knows, sent to an OpenTelemetry collector (OTLP 1.x, over HTTP or gRPC): what
//! happens as log records, and the metrics of `/metrics`.
//!
//! `logs` and `metrics` make messages of it on the watch's thread; `queue` keeps so many of them.
//! `send` takes them from there on a thread of its own and decides what is tried again
//! (`client::retry`) by what the collector says (`answer`), over connections (`channel`) to an
//! `endpoint`. A collector that is slow, down or hostile costs that thread's time and bounded
//! memory.

pub mod answer;
pub mod attributes;
pub mod channel;
pub mod endpoint;
pub mod logs;
pub mod metrics;
pub mod queue;
pub mod send;

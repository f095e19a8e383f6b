//! Names the process that never calls `close()`.
//!
//! | module | is about | may use |
//! |---|---|---|
//! | [`engine`] | what is known and concluded: pure, time is an argument | common |
//! | [`bpf`] | the kernel programs: offsets, loading, passes | common |
//! | [`source`] | network namespaces | engine |
//! | [`enrich`] | processes, cgroups, holders, threads, limits, mounts | engine, common |
//! | [`sink`] | table, JSON, CSV | engine |
//! | [`pipeline`] | from the kernel to the sink | all of these |
//! | [`cli`] | commands, flags | all |
//!
//! `cargo xtask tidy` checks the last column.

pub mod bpf;
pub mod cli;
pub mod engine;
pub mod enrich;
pub mod exit;
pub mod memory;
pub mod pipeline;
pub mod privileges;
pub mod seccomp;
pub mod sink;
pub mod source;

//! Names the process that never calls `close()`.
//!
//! | module | is about | may use |
//! |---|---|---|
//! | [`engine`] | what is known and concluded: pure, time is an argument | formats, common |
//! | [`formats`] | readers of what others wrote: pure | common |
//! | [`prose`] | all text for people | engine, formats |
//! | [`source`] | where facts come from: this host, a recording, a simulation | engine, formats, common |
//! | [`view`] | table, JSON, CSV, the full screen | engine, prose, formats |
//! | [`serve`] | the agent's HTTP side, and what it sends to a collector | engine, formats, prose, view |
//! | [`confine`] | what a running watch gives up | |
//! | [`cli`] | commands, flags | all |
//!
//! `cargo xtask tidy` checks the last column.

pub mod cli;
pub mod confine;
pub mod engine;
pub mod exit;
pub mod formats;
pub mod prose;
pub mod serve;
pub mod source;
pub mod view;

/// Says why a unit test can't run here: of one that passes, the harness keeps what it prints.
#[cfg(test)]
pub(crate) fn skipped(why: &str) {
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("SKIPPED: {why}\n"));
}

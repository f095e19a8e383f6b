//! The full screen: who lets sockets sit, live.
//!
//! [`app`] is plain data, [`update`] takes in what happens and answers with what is to be done,
//! [`draw`] reads it. Whatever is shown comes from the core's rows; only what ended in the last
//! minute, and counts of the last minutes, are kept here.

pub mod app;
pub mod columns;
pub mod draw;
pub mod ends;
pub mod filter;
pub mod help;
pub mod history;
pub mod page;
pub mod rows;
pub mod screen;
pub mod seen;
pub mod sort;
#[cfg(test)]
mod tests;
pub mod update;

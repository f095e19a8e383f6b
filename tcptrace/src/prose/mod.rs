//! All text for people: advice, cures, evidence in words, remedies. What a translation would touch.

pub mod advice;
pub mod blocked;
pub mod check;
pub mod close;
pub mod cure;
pub mod doctor;
pub mod dump;
pub mod forecast;
pub mod last_word;
pub mod left;
pub mod origins;
pub mod reasons;
pub mod report;
pub mod stacks;
pub mod threads;
pub mod time;
pub mod time_wait;
pub mod told;
pub mod words;

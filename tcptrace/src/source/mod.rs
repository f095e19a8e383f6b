//! Where facts come from.

pub mod live;

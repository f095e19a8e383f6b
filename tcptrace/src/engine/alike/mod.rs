//! What is said of sockets that are alike, all at once.

mod common;

use std::rc::Rc;

pub use self::common::Common;
use super::{
    record::{Age, ClosedBy, Record},
    unknown::Reason,
    verdict::Verdict,
};

/// What is said of several sockets, or of one.
#[derive(Clone, Debug)]
pub enum Report {
    /// One socket of few.
    Socket {
        /// What is known of it.
        record: Rc<Record>,
        /// Open ones in its group.
        count: u64,
        /// It was not told before.
        new: bool,
    },
    /// Many.
    Group(GroupReport),
    /// Some of a group have left the state.
    Ended {
        /// The last of them, as last reported.
        record: Rc<Record>,
        /// Open ones that are left.
        left: u64,
        /// How many have left the state since that was told last.
        count: u64,
        /// How long the longest stayed.
        stayed: Age,
        /// By whom the last one was ended, where a program did it.
        closed_by: Option<ClosedBy>,
        /// Why that is unknown.
        unknown: Reason,
        /// What the group has in common, where that was asked for.
        value: Option<String>,
    },
}

/// Sockets that are alike, told together.
#[derive(Clone, Debug)]
pub struct GroupReport {
    /// What they have in common, where that was asked for; it may hold anything.
    pub value: Option<String>,
    /// The oldest of them.
    pub oldest: Rc<Record>,
    /// Its age.
    pub age: Age,
    /// Open ones.
    pub count: u64,
    /// Of those: not told before.
    pub new: u64,
    /// Of those: leaks.
    pub leaks: u64,
    /// Their verdicts and how many have each, the most frequent first; `None`: unknown.
    pub verdicts: Vec<(Option<Verdict>, u64)>,
    /// Whether all have the same holders.
    pub same_holders: bool,
    /// Local ends, as far as they are common.
    pub local: Common,
    /// Remote ends.
    pub remote: Common,
}

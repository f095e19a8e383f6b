//! What sockets are told together by.

use clap::ValueEnum;

use crate::engine::group::GroupBy;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Process that holds them, or their listener
    Holder,
    /// Why they are there
    Verdict,
    /// Remote address
    Remote,
    /// Listener that they came in by
    Listener,
    /// Container of the process that holds them
    Container,
    /// Kubernetes pod of the process that holds them
    Pod,
    /// Cgroup of the process that holds them
    Cgroup,
    /// Nothing: a line a socket
    None,
}

impl By {
    /// What is grouped by; `None`: nothing is.
    pub fn what(self) -> Option<GroupBy> {
        Some(match self {
            Self::Holder => GroupBy::Holder,
            Self::Verdict => GroupBy::Verdict,
            Self::Remote => GroupBy::Remote,
            Self::Listener => GroupBy::Listener,
            Self::Container => GroupBy::Container,
            Self::Pod => GroupBy::Pod,
            Self::Cgroup => GroupBy::Cgroup,
            Self::None => return None,
        })
    }
}

//! What goes out: what is said of sockets, processes and hosts, and what could not be seen.

use std::{collections::BTreeMap, net::IpAddr, rc::Rc};

use tcptrace_common::{
    counters::{Histogram, below},
    state::TcpState,
};

use super::{
    alike::Report,
    blocked::blockage::Kept,
    check::{Finding, Offers},
    close::{Closed, Closes, Planned},
    doctor::Checkup,
    fleet::Fleet,
    forecast::told::Forecast,
    group::{Group, HolderNames, Overview},
    record::{Age, ClosedBy, Connection, Record},
    report::{Explanation, ProcessReport, ProcessStacks},
    stories::CodeStory,
    time_wait::TimeWaits,
    unknown::Reason,
    worst::Worst,
};

/// A change of state, as streamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The connection; its cookie may be unknown.
    pub connection: Connection,
    /// State before.
    pub old: TcpState,
    /// State after.
    pub new: TcpState,
    /// How long the state before lasted, where it was watched and timed.
    pub stayed: Option<Age>,
    /// Process on the CPU: not an owner.
    pub on_cpu_pid: u32,
}

/// Counts of what could not be seen or shown, all since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Events that found the ring buffer full.
    pub ring_full: u64,
    /// Stays that could not be timed for want of kernel memory.
    pub storage_failed: u64,
    /// Transitions during which the kernel could not run the program.
    pub recursion: u64,
    /// Records that user space could not make sense of.
    pub skipped: u64,
    /// Stays that no descriptor leads to and whose ends may be among those that nobody saw: given
    /// up.
    pub unverified: u64,
}

impl Lost {
    /// The counts by the names that output uses.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 5] {
        [
            ("ring_full", self.ring_full),
            ("storage_failed", self.storage_failed),
            ("recursion", self.recursion),
            ("skipped", self.skipped),
            ("unverified", self.unverified),
        ]
    }

    /// All kinds together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.named().iter().fold(0, |sum, (_, n)| sum.saturating_add(*n))
    }
}

/// The stays in one state that have ended, and how long half and nearly all of them were, to the
/// power of two above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stays {
    /// The state.
    pub state: TcpState,
    /// How many.
    pub count: u64,
    /// Half were below this, ns; `None`: they were longer than anything that is told apart.
    pub half_below_ns: Option<u64>,
    /// 99 of 100 were below this, ns.
    pub most_below_ns: Option<u64>,
}

impl Stays {
    /// The states that were left, in the kernel's order.
    #[must_use]
    pub fn all(histogram: &Histogram) -> Vec<Self> {
        let row = |state: TcpState| Self::new(state, histogram.stays.get(state as usize)?);
        TcpState::ALL.into_iter().filter_map(row).collect()
    }

    /// From a histogram's row; `None` where it is empty.
    #[must_use]
    pub fn new(state: TcpState, row: &[u64]) -> Option<Self> {
        // A recording may claim any numbers.
        let count = row.iter().fold(0, |sum: u64, n| sum.saturating_add(*n));
        let quantile = |hundredths: u64| {
            let wanted = (u128::from(count) * u128::from(hundredths)).div_ceil(100);
            let mut sum = 0;
            let slot = row.iter().position(|n| {
                sum += u128::from(*n);
                sum >= wanted
            });
            slot.and_then(below)
        };
        (count > 0).then(|| Self {
            state,
            count,
            half_below_ns: quantile(50),
            most_below_ns: quantile(99),
        })
    }
}

/// The last word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Sockets that passed min-age and matched.
    pub stuck: u64,
    /// Of those: left the state.
    pub resolved: u64,
    /// Of those: still in it.
    pub still_open: u64,
    /// Of those: leaks, by their last verdict.
    pub leaks: u64,
    /// Of those: still open.
    pub leaks_open: u64,
    /// Stuck ones by holder (`comm[pid]`).
    pub by_holder: BTreeMap<String, u64>,
    /// What people call those, where that is more; it may hold anything.
    pub names: HolderNames,
    /// Stuck ones by verdict.
    pub by_verdict: BTreeMap<&'static str, u64>,
    /// Stuck ones by remote address, without the port.
    pub by_remote: BTreeMap<IpAddr, u64>,
    /// Holders beyond those that are told apart: sockets of theirs.
    pub other_holders: u64,
    /// Remote addresses beyond those that are told apart: sockets of theirs.
    pub other_remotes: u64,
    /// How long those stays were that have ended, by state.
    pub stays: Vec<Stays>,
    /// Transitions that reached the program.
    pub seen: u64,
    /// Of those: not wanted.
    pub filtered: u64,
    /// Of those: handed over.
    pub emitted: u64,
    /// What was not seen or shown.
    pub lost: Lost,
    /// Who has most leaks open, at the end.
    pub worst: Option<Box<Worst>>,
    /// TIME_WAIT, where it is watched, as counted last.
    pub time_waits: Option<Box<TimeWaits>>,
    /// What will be full within a day, at the end, the first of it first.
    pub forecasts: Vec<Forecast>,
    /// What keeps those that hold leaks from their work, the worst first.
    pub kept: Vec<Kept>,
    /// Where the leaks that are open come from, at the end, the most frequent first.
    pub stories: Vec<CodeStory>,
}

/// What goes to the views.
#[derive(Clone, Debug)]
pub enum Update {
    /// From here on, the time of day is the boot clock plus so many ns.
    Clock(i64),
    /// A change of state.
    Transition(Change),
    /// A stay passed min-age, or its age doubled since.
    Stuck(Rc<Record>),
    /// A socket that was reported left the state.
    Resolved {
        /// As last reported.
        record: Rc<Record>,
        /// How long it stayed in all.
        stayed: Age,
        /// By whom it was ended, where a program did it.
        closed_by: Option<ClosedBy>,
        /// Why `closed_by` is unknown.
        unknown: Reason,
    },
    /// What is said of several sockets, or of one, in place of [`Self::Stuck`] and
    /// [`Self::Resolved`].
    Report(Box<Report>),
    /// A socket as one scan saw it.
    Socket(Rc<Record>),
    /// Sockets that have something in common.
    Group(Box<Group>),
    /// What one scan saw in all.
    Overview(Box<Overview>),
    /// What is known of a process.
    Process(Box<ProcessReport>),
    /// Where the threads of a process are.
    Stacks(Box<ProcessStacks>),
    /// Why a socket, or several of a process's, are where they are, and what to do.
    Explanation(Box<Explanation>),
    /// A connection that is to be closed, or is left alone.
    Planned(Box<Planned>),
    /// What came of closing one.
    Closed(Box<Closed>),
    /// The same of all.
    Closes(Box<Closes>),
    /// What this host offers in one respect.
    Finding(Box<Finding>),
    /// What works on this host in all.
    Offers(Box<Offers>),
    /// What ails this host.
    Checkup(Box<Checkup>),
    /// Who leaks on many hosts.
    Fleet(Box<Fleet>),
    /// Where leaks come from.
    Stories(Vec<CodeStory>),
    /// Something will be full: once, and again whenever half of the time left has gone.
    Forecast(Box<Forecast>),
    /// Connections in TIME_WAIT, which no event tells of: at first, and again when there are twice
    /// or half as many.
    TimeWaits(Box<TimeWaits>),
    /// Something could not be seen or shown.
    Lost(Lost),
    /// The end.
    Summary(Box<Summary>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_stays() {
        let stays = |row: &[u64]| {
            Stays::new(TcpState::CloseWait, row)
                .map(|s| (s.count, s.half_below_ns, s.most_below_ns))
        };
        assert_eq!(stays(&[0; 32]), None);
        assert_eq!(stays(&[3]), Some((3, Some(1024), Some(1024))));
        assert_eq!(stays(&[50, 49, 1]), Some((100, Some(1024), Some(2048))));
        assert_eq!(stays(&[1, 0, 0, 1]), Some((2, Some(1024), Some(8192))));
        let mut longest = [0; 32];
        longest[31] = 1;
        assert_eq!(stays(&longest), Some((1, None, None)));
    }
}

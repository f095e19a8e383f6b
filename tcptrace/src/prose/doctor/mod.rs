//! What the doctor finds, in words: what it is, what that rests on, what it means, what helps and
//! what doesn't, and where the kernel says so.

mod cures;
mod facts;
pub mod settings;

pub use self::{
    cures::{meaning, no_help, remedy, source},
    facts::{evidence, headline},
};
use super::time::human;
use crate::engine::{
    counted::counted,
    doctor::{
        NamedProcess,
        findings::{Confidence, Grounds, Harm, Remark},
    },
};

/// `nginx[812]`, and its container, where it is in one; may hold anything.
#[must_use]
pub fn named(process: &NamedProcess) -> String {
    let NamedProcess { name, pid, container, .. } = process;
    let container = container.as_ref().map(|id| {
        // As docker ps shows it.
        format!(" (container {})", id.get(..12).unwrap_or(id))
    });
    format!("{name}[{pid}]{}", container.unwrap_or_default())
}

/// Processes that are named; more are counted.
const NAMED: usize = 4;

/// Several of them.
fn all_named(processes: &[NamedProcess]) -> String {
    let names: Vec<String> = processes.iter().take(NAMED).map(named).collect();
    let more = processes.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.join(", ") + &more
}

/// How sure a finding is, and what it rests on.
#[must_use]
pub fn rests_on(confidence: Confidence, basis: Grounds, apart_ns: u64) -> String {
    let basis = match basis {
        Grounds::Now => "counted at this moment".to_owned(),
        Grounds::Rate => format!("counters that rose in the {} of looking", human(apart_ns)),
    };
    format!("{}: {basis}", confidence.name())
}

/// What a harm means.
#[must_use]
pub const fn harm(harm: Harm) -> &'static str {
    match harm {
        Harm::Low => "it costs something, or grows; nothing fails for it",
        Harm::Medium => "a limit is near, or some connections suffer",
        Harm::High => "connections or calls fail now, or are about to",
    }
}

/// A remark in a sentence.
#[must_use]
pub fn remark(remark: &Remark, apart_ns: u64) -> String {
    match remark {
        Remark::TimeWait { count, limit, .. } => {
            let of = limit.map_or_else(String::new, |limit| format!(", of {limit} that may be"));
            format!(
                "{}{of}: by design. Who closes first keeps a connection's ends for 60 s, so that \
                 late segments find nobody else. They have no descriptor, and little memory.",
                counted(*count, "socket is in TIME_WAIT", "sockets are in TIME_WAIT")
            )
        }
        Remark::Ports { used, available, reused, .. } => {
            let waits = match (used.time_wait, *reused) {
                (0, _) => String::new(),
                (n, true) => format!(
                    ", and {n} more in TIME_WAIT, which connect() takes again after a second \
                     (tcp_tw_reuse)"
                ),
                (n, false) => format!(", and {n} more in TIME_WAIT"),
            };
            format!(
                "of {available} ephemeral ports, {} to {}, which uses most of them, are in use{waits}. \
                 Each other destination address or port has all of them.",
                used.open, used.destination
            )
        }
        Remark::History { counters, .. } => {
            let counters: Vec<String> =
                counters.iter().map(|(name, n)| format!("{name} {n}")).collect();
            format!(
                "since boot, or since the network namespace began: {}. None rose in the {} of \
                 looking; --for 1m looks longer.",
                counters.join(", "),
                human(apart_ns)
            )
        }
        Remark::FewLeaks { leaks, processes } => format!(
            "{} of {}, too few to matter yet; tcptrace snapshot lists them.",
            counted(*leaks, "leaked connection", "leaked connections"),
            counted(*processes, "process", "processes")
        ),
    }
}

#[cfg(test)]
mod tests;

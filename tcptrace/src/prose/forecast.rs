//! When something will be full, in words.

use super::time::human;
use crate::engine::{
    counted::counted,
    forecast::{
        Between, NoForecast,
        told::{Forecast, What},
    },
    record::BootNs,
    report::Count,
};

/// What fills up, how fast, and when it is full, as of `now`.
#[must_use]
pub fn forecast(f: &Forecast, now: BootNs) -> String {
    let who = match &f.what {
        What::Descriptors { process, .. } => {
            format!("{}[{}]", process.called(), process.process.pid)
        }
        What::FileTable => "the host".to_owned(),
        What::Ports { source, .. } => source.to_string(),
        What::AcceptQueue { local, .. } => format!("the accept queue of {local}"),
        What::Conntrack { .. } => "connection tracking".to_owned(),
        What::Memory => "TCP's buffers".to_owned(),
    };
    let place = f.what.place().filter(|place| !place.own);
    let place = place.map(|place| format!(" in netns {}", place.netns)).unwrap_or_default();
    let things = match &f.what {
        What::Descriptors { .. } => "descriptors".to_owned(),
        What::FileTable => "open files".to_owned(),
        What::Ports { to, .. } => format!("local ports to {to} in use"),
        What::AcceptQueue { .. } => "places taken".to_owned(),
        What::Conntrack { .. } => "entries".to_owned(),
        What::Memory => "pages".to_owned(),
    };
    let share = f.what.sockets().map(share).unwrap_or_default();
    let verb = if matches!(f.what, What::Memory) { "have" } else { "has" };
    let Between { min, max, .. } = f.estimate.per_hour;
    let pace = if min == max { min.to_string() } else { format!("{min} to {max}") };
    let full = full(f.left(now));
    let (used, limit) = (f.estimate.used, f.estimate.limit);
    format!("{who}{place} {verb} {used} of {limit} {things}{share}, gaining {pace} an hour: {full}")
}

/// `full in 16s to 18s`.
#[must_use]
pub fn full(left: Between<u64>) -> String {
    if left.max == 0 { "full now".to_owned() } else { format!("full in {}", span(left)) }
}

/// Why that isn't told.
#[must_use]
pub const fn none(why: NoForecast) -> &'static str {
    match why {
        NoForecast::TooFew => "too little of it was seen",
        NoForecast::NotGrowing => "they do not become more",
        NoForecast::TooNoisy => "they do not come at a steady pace",
        NoForecast::TooFar => "not within a hundred times as long as was looked at",
        NoForecast::NoLimit => "no limit is known",
    }
}

fn share(sockets: &[Count]) -> String {
    let Some(most) = sockets.iter().max_by_key(|count| count.count) else {
        return String::new();
    };
    let verdict = most.verdict.map_or(String::new(), |verdict| format!(" {}", verdict.name()));
    let n = counted(most.count, "is", "are");
    format!(" ({n} {}{verdict})", most.state.name())
}

/// An interval of time, as long as it is one for people.
#[must_use]
pub fn span(left: Between<u64>) -> String {
    let (min, max) = (human(left.min), human(left.max));
    if min == max { max } else { format!("{min} to {max}") }
}

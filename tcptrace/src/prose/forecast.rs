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
    let (who, has, things) = match &f.what {
        What::Descriptors { process, .. } => {
            let who = format!("{}[{}]", process.called(), process.process.pid);
            (who, "has", "descriptors".to_owned())
        }
        What::FileTable => ("the host".to_owned(), "has", "open files".to_owned()),
        What::Ports { source, to, .. } => {
            (source.to_string(), "has", format!("local ports to {to} in use"))
        }
        What::AcceptQueue { local, .. } => {
            (format!("the accept queue of {local}"), "has", "places taken".to_owned())
        }
        What::Conntrack { .. } => ("connection tracking".to_owned(), "has", "entries".to_owned()),
        What::Memory => ("TCP's buffers".to_owned(), "have", "pages".to_owned()),
    };
    let place = f.what.place().filter(|place| !place.own);
    let place = place.map(|place| format!(" in netns {}", place.netns)).unwrap_or_default();
    let share = f.what.sockets().map(share).unwrap_or_default();
    let Between { min, max, .. } = f.estimate.per_hour;
    let pace = if min == max { min.to_string() } else { format!("{min} to {max}") };
    let full = full(f.left(now));
    let (used, limit) = (f.estimate.used, f.estimate.limit);
    format!("{who}{place} {has} {used} of {limit} {things}{share}, gaining {pace} an hour: {full}")
}

/// `full in 16s to 18s`.
fn full(left: Between<u64>) -> String {
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

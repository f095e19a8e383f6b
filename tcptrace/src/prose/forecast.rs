//! When something will be full, in words.

use super::time::human;
use crate::engine::{
    counted::counted,
    forecast::{
        Between,
        told::{Forecast, What},
    },
    record::BootNs,
};

/// What fills up, how fast, and when it is full, as of `now`.
#[must_use]
pub fn forecast(f: &Forecast, now: BootNs) -> String {
    let (who, things) = match &f.what {
        What::Descriptors { process, .. } => {
            (format!("{}[{}]", process.called(), process.process.pid), "descriptors")
        }
        What::FileTable => ("the host".to_owned(), "open files"),
    };
    let Between { min, max, .. } = f.per_hour;
    let pace = if min == max { min.to_string() } else { format!("{min} to {max}") };
    let full = match f.left(now) {
        Between { max: 0, .. } => "full now".to_owned(),
        left => format!("full in {}", span(left)),
    };
    let share = match &f.what {
        What::Descriptors { sockets, .. } => share(sockets),
        What::FileTable => String::new(),
    };
    format!("{who} has {} of {} {things}{share}, gaining {pace} an hour: {full}", f.used, f.limit)
}

fn share(sockets: &[crate::engine::report::Count]) -> String {
    let Some(most) = sockets.iter().max_by_key(|count| count.count) else {
        return String::new();
    };
    let verdict = most.verdict.map_or("without a verdict", |verdict| verdict.name());
    let n = counted(most.count, "is", "are");
    format!(" ({n} {} {verdict})", most.state.name())
}

/// An interval of time, as long as it is one for people.
#[must_use]
pub fn span(left: Between<u64>) -> String {
    let (min, max) = (human(left.min), human(left.max));
    if min == max { max } else { format!("{min} to {max}") }
}

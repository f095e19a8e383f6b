//! What a watch ends with: a verdict in words.

use crate::{
    engine::{forecast::NoForecast, record::BootNs, update::Summary, worst::Worst},
    prose::{forecast::span, time::human},
};

/// Who leaks most, since when, how fast, and what to type next. `time` writes a time of day.
#[must_use]
pub fn last_word(s: &Summary, time: &dyn Fn(BootNs) -> String) -> Vec<String> {
    let Some(worst) = &s.worst else { return vec![nobody(s)] };
    let pid = worst.holder.process.pid;
    let who = format!("{}[{pid}]", worst.holder.called());
    let count = match (worst.leaks, s.leaks_open) {
        (1, 1) => format!("{who} holds the only leak"),
        (n, all) if n == all => format!("{who} holds all {n} leaks"),
        (n, all) => format!("{who} holds {n} of {all} leaks"),
    };
    let age = human(worst.oldest.min_ns);
    let since = if worst.oldest.is_exact() {
        format!("since {} ({age})", time(worst.since_ns))
    } else {
        format!("for at least {age}")
    };
    let oldest = if worst.leaks == 1 { "" } else { "the oldest " };
    vec![format!("{count}, {oldest}{since}."), pace(worst), format!("Next: tcptrace explain {pid}")]
}

fn nobody(s: &Summary) -> String {
    match (s.leaks, s.leaks_open) {
        (0, _) => "No leaks.",
        (_, 0) => "All leaks have been closed.",
        _ => "No process is known to hold the leaks that are open.",
    }
    .to_owned()
}

fn pace(worst: &Worst) -> String {
    let limit = match (worst.limit, worst.full_in_ns) {
        (Some(limit), Some(left)) => {
            format!("; at this pace its {limit} descriptors run out in {}", span(left))
        }
        (Some(limit), None) => format!("; its limit is {limit} descriptors"),
        (None, _) => String::new(),
    };
    let short = || format!("The watch was too short to tell how fast it grows{limit}.");
    match (worst.per_minute, worst.gained) {
        (Ok(n), _) => format!("It is gaining about {} a minute{limit}.", rounded(n)),
        (Err(NoForecast::TooFew), _) => short(),
        (Err(_), 0) => format!("It has gained none{}{limit}.", lately(worst)),
        (Err(_), n) => format!("It has gained {n}{}, at no steady pace{limit}.", lately(worst)),
    }
}

/// ` in the last 5m`: how long was looked at.
#[must_use]
pub fn lately(worst: &Worst) -> String {
    format!(" in the last {}", human(worst.window_ns))
}

/// To two digits: a pace is no more exact.
#[must_use]
pub fn rounded(n: u64) -> u64 {
    let unit = 10_u64.pow(n.max(1).ilog10().saturating_sub(1));
    n.saturating_add(unit / 2) / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits() {
        for (n, expected) in [(0, 0), (7, 7), (42, 42), (123, 120), (19_317, 19_000), (995, 1_000)]
        {
            assert_eq!(rounded(n), expected);
        }
        assert_eq!(nobody(&Summary::default()), "No leaks.");
    }
}

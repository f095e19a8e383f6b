//! TIME_WAIT, counted.

use crate::engine::{
    counted::counted,
    time_wait::{PortUse, TimeWaits},
};

/// Lines of a kind; more are counted.
const MOST: usize = 5;

/// What is said of one kind of place.
#[derive(Debug)]
pub struct Told {
    /// Which kind.
    pub title: &'static str,
    /// A line each, those with most first.
    pub lines: Vec<String>,
}

/// All of it, a title and its lines after the other.
#[must_use]
pub fn told(all: &TimeWaits) -> Vec<Told> {
    let many = all.places.len() > 1;
    let place = |netns: u32| if many { format!(" (netns {netns})") } else { String::new() };
    let places = all.places.iter().map(|p| {
        let limit = p.bounds.limit.map_or_else(
            || "how many may be can't be read".to_owned(),
            |limit| format!("{limit} may be (tcp_max_tw_buckets)"),
        );
        format!("{} in TIME_WAIT{}, {limit}", p.count, place(p.netns))
    });
    let served = all.served.iter().map(|s| {
        format!("{}{}: {}, this server closed first", s.listener, place(s.netns), s.count)
    });
    let opened = all.opened.iter().map(|o| format!("{}{}", ports(o), place(o.netns)));
    let kinds = [
        ("time wait", places.collect(), "network namespace", "network namespaces"),
        ("by listener", served.collect(), "listener", "listeners"),
        ("by target", opened.collect(), "target", "targets"),
    ];
    kinds.into_iter().map(|(title, lines, one, many)| shortened(title, lines, one, many)).collect()
}

fn shortened(title: &'static str, mut lines: Vec<String>, one: &str, many: &str) -> Told {
    let more = lines.len().saturating_sub(MOST) as u64;
    lines.truncate(MOST);
    if more > 0 {
        let rest = counted(more, &format!("more {one}"), &format!("more {many}"));
        lines.push(format!("and {rest}"));
    }
    Told { title, lines }
}

/// How many local ports there are left for a target.
fn ports(o: &PortUse) -> String {
    let used = match o.ports {
        Some(ports) => format!("{} of {ports} local ports used", o.used),
        None => counted(o.used, "local port used", "local ports used"),
    };
    format!(
        "{} to {}: {used}, {} of them in TIME_WAIT: this client closed first",
        o.from, o.to, o.time_wait
    )
}

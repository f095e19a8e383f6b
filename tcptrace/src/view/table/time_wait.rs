//! TIME_WAIT, counted.

use std::io::{self, Write};

use super::{DIM, Table, words::pad};
use crate::engine::{
    counted::counted,
    time_wait::{PortUse, TimeWaits},
};

/// Lines of a kind; more are counted.
const MOST: usize = 5;

impl<W: Write> Table<W> {
    pub(super) fn time_waits(&mut self, all: &TimeWaits) -> io::Result<()> {
        if all.count == 0 {
            return Ok(());
        }
        let many = all.places.len() > 1;
        let place = |netns: u32| if many { format!(" (netns {netns})") } else { String::new() };
        let mut places: Vec<String> = Vec::new();
        for p in &all.places {
            let limit = p.bounds.limit.map_or_else(
                || "how many may be can't be read".to_owned(),
                |limit| format!("{limit} may be (tcp_max_tw_buckets)"),
            );
            places.push(format!("{} in TIME_WAIT{}, {limit}", p.count, place(p.netns)));
        }
        self.lines("time wait", places, "network namespace", "network namespaces")?;
        let served = all.served.iter().map(|s| {
            format!("{}{}: {}, this server closed first", s.listener, place(s.netns), s.count)
        });
        self.lines("by listener", served.collect(), "listener", "listeners")?;
        let opened = all.opened.iter().map(|o| format!("{}{}", ports(o), place(o.netns)));
        self.lines("by target", opened.collect(), "target", "targets")
    }

    /// A title, and a line each.
    fn lines(&mut self, title: &str, list: Vec<String>, one: &str, many: &str) -> io::Result<()> {
        let more = list.len().saturating_sub(MOST) as u64;
        let rest = (more > 0).then(|| {
            format!("and {}", counted(more, &format!("more {one}"), &format!("more {many}")))
        });
        let mut title = title;
        for line in list.into_iter().take(MOST).chain(rest) {
            write!(self.out, "  {DIM}{}{DIM:#}", pad(title, 13))?;
            self.continued(15, 16, line.split(' '))?;
            title = "";
        }
        Ok(())
    }
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

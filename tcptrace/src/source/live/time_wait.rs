//! TIME_WAIT in one network namespace, as sock_diag and its settings have it.

use std::{fs, io};

use tcptrace_common::event::Socket;

use super::sock_diag::SockDiag;
use crate::{
    engine::{
        record::Connection,
        select::Selection,
        time_wait::{Bounds, TimeWaitCounter, TimeWaits},
    },
    formats::ports::LocalPorts,
};

/// Counts one network namespace's TIME_WAIT sockets, and what else has local ports. None of them is
/// kept.
///
/// # Errors
/// What sock_diag answers.
pub fn count(
    diag: &mut SockDiag,
    bounds: Bounds,
    listeners: &[Socket],
    selection: &Selection,
) -> io::Result<TimeWaits> {
    let of = |s: &Socket| Connection::new(s.cookie, &s.tuple, s.protocol);
    let listeners = listeners.iter().map(|s| of(s).local);
    let mut tally = TimeWaitCounter::new(diag.netns(), bounds, listeners);
    diag.each(&mut |c, state| tally.take(c, state, selection.matches_connection(c)))?;
    Ok(tally.counted())
}

/// What the calling thread's network namespace allows.
pub fn bounds() -> Bounds {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok();
    let reserved = read("ip_local_reserved_ports").unwrap_or_default();
    Bounds {
        ports: read("ip_local_port_range").and_then(|range| LocalPorts::parse(&range, &reserved)),
        limit: read("tcp_max_tw_buckets").and_then(|text| text.trim().parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_ports() {
        let bounds = bounds();
        assert!(bounds.ports.is_some_and(|ports| ports.count() > 0), "it has a range");
        assert!(bounds.limit > Some(0));
    }
}

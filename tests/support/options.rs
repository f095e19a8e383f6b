//! What an actor sets on its sockets.

use std::{io, time::Duration};

use rustix::net::sockopt;

use super::actor::Sockets;

/// Does what the words say; see the actor's table.
pub fn act(words: &[&str], sockets: &mut Sockets) -> io::Result<String> {
    let bad = || io::Error::other(format!("no such command: {}", words.join(" ")));
    let number = |n: usize| words.get(n).and_then(|w| w.parse::<i32>().ok()).ok_or_else(bad);
    let fd = sockets.get(&number(1)?).ok_or_else(bad)?;
    if words[0] == "reset" {
        // Lingering for no time at all means a reset (socket(7)).
        sockopt::set_socket_linger(fd, Some(Duration::ZERO))?;
        sockets.remove(&number(1)?);
    } else {
        sockopt::set_socket_keepalive(fd, true)?;
        sockopt::set_tcp_keepidle(fd, Duration::from_secs(1))?;
        sockopt::set_tcp_keepintvl(fd, Duration::from_secs(1))?;
        // So many unanswered probes end the connection.
        if let Ok(probes) = number(2) {
            sockopt::set_tcp_keepcnt(fd, probes.unsigned_abs())?;
        }
    }
    Ok("0".to_owned())
}

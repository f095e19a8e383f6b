//! A line for the host's journal: journald's own protocol, or syslog's where there is only that.

use std::{io, os::unix::net::UnixDatagram};

/// systemd's Native Journal Protocol: a datagram of `NAME=value` lines.
const JOURNALD: &str = "/run/systemd/journal/socket";
/// syslog(3).
const SYSLOG: &str = "/dev/log";
/// LOG_NOTICE: normal, and worth to be read.
const NOTICE: u8 = 5;
/// LOG_AUTHPRIV (10), as what is done with rights is logged.
const FACILITY: u8 = 10;
/// What it calls itself there.
const NAME: &str = "tcptrace";

/// A way to it.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    native: bool,
}

impl Journal {
    /// The one that this host has.
    ///
    /// # Errors
    /// It has none, or it can't be reached.
    pub fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // A journal that does not read is not waited for.
        socket.set_nonblocking(true)?;
        if socket.connect(JOURNALD).is_ok() {
            return Ok(Self { socket, native: true });
        }
        socket.connect(SYSLOG)?;
        Ok(Self { socket, native: false })
    }

    /// Writes a line. `message` is for people and `event` the same as JSON; neither has a line end
    /// or another control character.
    ///
    /// # Errors
    /// What sending answers.
    pub fn write(&self, message: &str, event: &str) -> io::Result<()> {
        self.socket.send(&datagram(self.native, message, event)).map(drop)
    }
}

fn datagram(native: bool, message: &str, event: &str) -> Vec<u8> {
    let text = if native {
        format!(
            "PRIORITY={NOTICE}\nSYSLOG_FACILITY={FACILITY}\nSYSLOG_IDENTIFIER={NAME}\n\
             MESSAGE={}\nTCPTRACE_EVENT={}\n",
            line(message),
            line(event)
        )
    } else {
        let (priority, pid) = (u16::from(FACILITY) << 3 | u16::from(NOTICE), std::process::id());
        format!("<{priority}>{NAME}[{pid}]: {}", line(message))
    };
    text.into_bytes()
}

/// A line end would begin a field of somebody else's choice.
fn line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line() {
        let native = String::from_utf8(datagram(true, "a\nPRIORITY=0", "{}")).expect("text");
        assert_eq!(native.lines().filter(|l| l.starts_with("PRIORITY=")).count(), 1, "{native}");
        assert!(native.ends_with("MESSAGE=a PRIORITY=0\nTCPTRACE_EVENT={}\n"), "{native}");
        let syslog = String::from_utf8(datagram(false, "a\nb", "{}")).expect("text");
        assert!(syslog.starts_with("<85>tcptrace[") && syslog.ends_with("]: a b"), "{syslog}");
    }
}

//! Counters of a network namespace (`/proc/PID/net/netstat`, net/ipv4/proc.c).

use std::fs;

/// Connections that the listeners of a process's network namespace dropped because their queues
/// were full.
///
/// # Errors
/// Why it is not known.
pub fn listen_overflows(pid: u32) -> Result<u64, &'static str> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/netstat")).map_err(
        |_| "/proc/PID/net/netstat can't be read: the process is gone, or not ours to look at",
    )?;
    field(&text, "TcpExt", "ListenOverflows").ok_or("the kernel does not count them")
}

/// SYN cookies that all listeners of the calling thread's network namespace sent.
///
/// # Errors
/// Why it is not known.
pub fn syncookies_sent() -> Result<u64, &'static str> {
    let text = fs::read_to_string("/proc/thread-self/net/netstat")
        .map_err(|_| "/proc/thread-self/net/netstat can't be read")?;
    cookies_of(&text).ok_or("the kernel does not count them")
}

/// The same, from the file's text.
#[must_use]
pub fn cookies_of(text: &str) -> Option<u64> {
    field(text, "TcpExt", "SyncookiesSent")
}

/// A counter: each group has a line of names and a line of numbers below it.
#[must_use]
pub fn field(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|l| l.strip_prefix(group)?.strip_prefix(':'));
    let at = lines.next()?.split_whitespace().position(|n| n == name)?;
    lines.next()?.split_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_above_numbers() {
        let text = concat!(
            "TcpExt: SyncookiesSent ListenOverflows ListenDrops\n",
            "TcpExt: 1 22 333\n",
            "IpExt: InOctets\n",
            "IpExt: 5\n",
        );
        assert_eq!(field(text, "TcpExt", "ListenOverflows"), Some(22));
        assert_eq!(field(text, "IpExt", "InOctets"), Some(5));
        assert_eq!(field(text, "TcpExt", "Nothing"), None);
        assert!(listen_overflows(std::process::id()).is_ok(), "this kernel's own");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "((TcpExt|IpExt)?:?[ A-Za-z0-9]*\n)*") {
            let _ = field(&text, "TcpExt", "ListenOverflows");
        }
    }
}

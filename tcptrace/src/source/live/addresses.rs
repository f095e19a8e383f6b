//! Whether an address is this host's own.

use std::{fs, net::IpAddr};

use crate::formats::local_addresses::{of_fib_trie, of_if_inet6};

/// What is sent there stays on this host: loopback, or an address that this network namespace has,
/// or that of the first process (a container that sees the host's processes knows the host's
/// addresses by it).
#[must_use]
pub fn is_own(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let has = |process: &str| {
        let read = |file: &str| {
            fs::read_to_string(format!("/proc/{process}/net/{file}")).unwrap_or_default()
        };
        match address {
            IpAddr::V4(_) => of_fib_trie(&read("fib_trie")).any(|own| own == address),
            IpAddr::V6(_) => of_if_inet6(&read("if_inet6")).any(|own| own == address),
        }
    };
    address.is_loopback() || has("thread-self") || has("1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_ones_and_others() {
        for own in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert!(is_own(own.parse().expect("an address")), "{own}");
        }
        for other in ["192.0.2.7", "0.0.0.0", "2001:db8::7", "::"] {
            assert!(!is_own(other.parse().expect("an address")), "{other}");
        }
    }
}

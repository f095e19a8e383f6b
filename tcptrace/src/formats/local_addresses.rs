//! Addresses that are a host's own, from `/proc/PID/net/fib_trie` (IPv4) and
//! `/proc/PID/net/if_inet6`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the kernel's routes say is delivered here (net/ipv4/fib_trie.c: `fib_trie_seq_show`): a
/// leaf, and below it `/32 host LOCAL`.
pub fn of_fib_trie(text: &str) -> impl Iterator<Item = IpAddr> {
    let mut leaf = None;
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
            None
        } else {
            leaf.filter(|_| line == "/32 host LOCAL").map(IpAddr::V4)
        }
    })
}

/// Those of interfaces (net/ipv6/addrconf.c: `if6_seq_show`): 32 digits, then more.
pub fn of_if_inet6(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let digits = line.split(' ').next().filter(|digits| digits.len() == 32)?;
        let bits = u128::from_str_radix(digits, 16).ok()?;
        Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_kernel_writes_them() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     \
                    |-- 10.0.2.0\n        /24 link UNICAST\nLocal:\n  +-- 0.0.0.0/0 2 0 2\n     |-- \
                    10.0.2.15\n        /32 host LOCAL\n     |-- 10.0.2.255\n        /32 link \
                    BROADCAST\n     |-- 127.0.0.0\n        /8 host LOCAL\n     |-- 127.0.0.1\n       \
                    \x20/32 host LOCAL\n";
        let found: Vec<String> = of_fib_trie(trie).map(|a| a.to_string()).collect();
        assert_eq!(found, ["10.0.2.15", "127.0.0.1"]);
        let of_six = "fd000000000000000000000000000002 02 40 00 80     eth0\n\
                      00000000000000000000000000000001 01 80 10 80       lo\n";
        let found: Vec<String> = of_if_inet6(of_six).map(|a| a.to_string()).collect();
        assert_eq!(found, ["fd00::2", "::1"]);
        for none in ["", "/32 host LOCAL", "|-- x\n/32 host LOCAL", "zz 1", "\u{e9}"] {
            assert_eq!(of_fib_trie(none).count() + of_if_inet6(none).count(), 0, "{none:?}");
        }
    }
}

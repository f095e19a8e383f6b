//! Ends of several connections in one word.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Ends, as far as they are common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The first one.
    pub first: SocketAddr,
    /// So many bits at the beginning of the address are those of all.
    bits: u8,
    /// All have its port.
    same_port: bool,
}

/// Networks larger than these (bits of IPv4, of IPv6) say nothing.
const LARGEST: [u8; 2] = [8, 16];

impl Ends {
    /// Of one socket.
    #[must_use]
    pub fn of(end: SocketAddr) -> Self {
        let bits = if end.is_ipv4() { 32 } else { 128 };
        Self { first: end, bits, same_port: true }
    }

    /// Takes in another.
    pub fn add(&mut self, end: SocketAddr) {
        self.same_port &= end.port() == self.first.port();
        let common = match (self.first.ip(), end.ip()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => 0,
        };
        self.bits = self.bits.min(u8::try_from(common).unwrap_or(u8::MAX));
    }

    /// `10.0.0.1:8080`, `10.0.0.1:*`, `10.0.3.0/24`, `*:8080`, `*`.
    #[must_use]
    pub fn text(&self) -> String {
        let ip = self.first.ip();
        let [all, largest] = if ip.is_ipv4() { [32, LARGEST[0]] } else { [128, LARGEST[1]] };
        let port = || self.first.port().to_string();
        match (self.bits, self.same_port) {
            (bits, true) if bits == all => self.first.to_string(),
            (bits, false) if bits == all && ip.is_ipv6() => format!("[{ip}]:*"),
            (bits, false) if bits == all => format!("{ip}:*"),
            (bits, _) if bits >= largest => match IpNet::new(ip, bits) {
                Ok(net) if self.same_port => format!("{}:{}", net.trunc(), port()),
                Ok(net) => net.trunc().to_string(),
                Err(_) => "*".to_owned(),
            },
            (_, true) => format!("*:{}", port()),
            (_, false) => "*".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(list: &[&str]) -> String {
        let mut list = list.iter().map(|end| end.parse().expect("an end"));
        let mut ends = Ends::of(list.next().expect("one"));
        list.for_each(|end| ends.add(end));
        ends.text()
    }

    #[test]
    fn as_far_as_they_are_common() {
        assert_eq!(text(&["10.0.0.1:80"]), "10.0.0.1:80");
        assert_eq!(text(&["10.0.0.1:80", "10.0.0.1:81"]), "10.0.0.1:*");
        assert_eq!(text(&["10.0.3.4:7", "10.0.3.5:8"]), "10.0.3.4/31");
        assert_eq!(text(&["10.0.3.4:7", "10.0.3.130:8", "10.0.3.9:9"]), "10.0.3.0/24");
        assert_eq!(text(&["10.0.3.4:7", "10.0.3.5:7"]), "10.0.3.4/31:7");
        assert_eq!(text(&["10.0.3.4:7", "192.168.0.1:7"]), "*:7");
        assert_eq!(text(&["10.0.3.4:7", "192.168.0.1:8"]), "*");
        assert_eq!(text(&["[fe80::1]:7", "[fe80::1]:8"]), "[fe80::1]:*");
        assert_eq!(text(&["[2001:db8::1]:7", "[2001:db8::2]:8"]), "2001:db8::/126");
        assert_eq!(text(&["10.0.3.4:7", "[fe80::1]:7"]), "*:7");
    }
}

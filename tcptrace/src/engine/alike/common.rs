//! What many ends have in common.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

/// Wider networks say nothing: they are told as none.
const WIDEST: (u8, u8) = (8, 16);

/// Ends, as far as they are common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// The network that all addresses are in; of one address, itself. `None`: they have nothing in
    /// common.
    pub net: Option<IpNet>,
    /// The port, where all have the same.
    pub port: Option<u16>,
    /// How many addresses.
    pub addresses: u64,
}

impl Common {
    /// The one end that all are.
    #[must_use]
    pub fn one(&self) -> Option<SocketAddr> {
        let net = self.net.filter(|_| self.addresses == 1)?;
        Some(SocketAddr::new(net.addr(), self.port?))
    }
}

impl FromIterator<SocketAddr> for Common {
    fn from_iter<I: IntoIterator<Item = SocketAddr>>(ends: I) -> Self {
        let mut addresses = HashSet::new();
        // The first port, and whether there is another.
        let mut ports: Option<(u16, bool)> = None;
        let mut net: Option<Option<IpNet>> = None;
        for end in ends {
            let (first, several) = ports.unwrap_or((end.port(), false));
            ports = Some((first, several || first != end.port()));
            let ip = end.ip();
            if addresses.insert(ip) {
                net = Some(match net {
                    None => Some(ip.into()),
                    Some(known) => known.and_then(|net| widened(net, ip)),
                });
            }
        }
        let tells = |net: &IpNet| {
            net.prefix_len() >= if net.addr().is_ipv4() { WIDEST.0 } else { WIDEST.1 }
        };
        Self {
            net: net.flatten().filter(tells),
            port: ports.filter(|(_, several)| !several).map(|(port, _)| port),
            addresses: addresses.len() as u64,
        }
    }
}

/// The smallest network that holds both.
fn widened(net: IpNet, ip: IpAddr) -> Option<IpNet> {
    let (same, bits) = match (net.addr(), ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => ((a.to_bits() ^ b.to_bits()).leading_zeros(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => ((a.to_bits() ^ b.to_bits()).leading_zeros(), 128),
        _ => return None,
    };
    let prefix = u8::try_from(same.min(bits)).ok()?.min(net.prefix_len());
    IpNet::new(net.addr(), prefix).ok().map(|net| net.trunc())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn common(ends: &[&str]) -> Common {
        ends.iter().map(|end| end.parse::<SocketAddr>().expect("an end")).collect()
    }

    #[test]
    fn networks() {
        let net = |ends: &[&str]| common(ends).net.map(|net| net.to_string());
        assert_eq!(net(&["10.0.3.7:1", "10.0.3.7:2"]).as_deref(), Some("10.0.3.7/32"));
        assert_eq!(net(&["10.0.3.7:1", "10.0.3.200:1"]).as_deref(), Some("10.0.3.0/24"));
        assert_eq!(
            net(&["10.0.3.7:1", "10.0.3.6:1", "10.0.2.9:1"]).as_deref(),
            Some("10.0.2.0/23")
        );
        assert_eq!(net(&["10.0.3.7:1", "192.168.0.1:1"]), None);
        assert_eq!(net(&["[fd00::1]:1", "[fd00::2]:1"]).as_deref(), Some("fd00::/126"));
        assert_eq!(net(&["[fd00::1]:1", "10.0.0.1:1"]), None);
        assert_eq!(common(&["10.0.3.7:80", "10.0.3.8:80"]).port, Some(80));
        assert_eq!(common(&["10.0.3.7:80", "10.0.3.7:81"]).port, None);
        assert_eq!(common(&["10.0.3.7:80", "10.0.3.7:80"]).one(), "10.0.3.7:80".parse().ok());
        assert_eq!(common(&[]), Common { net: None, port: None, addresses: 0 });
    }

    proptest! {
        #[test]
        fn all_are_in_the_network(ends in proptest::collection::vec(any::<SocketAddr>(), 1..9)) {
            let common: Common = ends.iter().copied().collect();
            if let Some(net) = common.net {
                prop_assert!(ends.iter().all(|end| net.contains(&end.ip())));
            }
        }
    }
}

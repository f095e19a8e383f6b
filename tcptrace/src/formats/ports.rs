//! Local ports that the kernel gives to who connects (`/proc/sys/net/ipv4/ip_local_port_range` and
//! `ip_local_reserved_ports`, Documentation/networking/ip-sysctl.rst).

use std::{collections::BTreeSet, net::IpAddr, ops::RangeInclusive};

use serde::{Deserialize, Serialize};

use super::sysctl::ranges;

/// The ports of a network namespace that connect() chooses from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalPorts {
    /// From the first to the last.
    pub range: RangeInclusive<u16>,
    /// Of these, those that it never chooses, both ends included.
    pub reserved: Vec<(u16, u16)>,
}

impl LocalPorts {
    /// From the text of the two files; `None`: they make no sense.
    #[must_use]
    pub fn parse(range: &str, reserved: &str) -> Option<Self> {
        let mut ends = range.split_whitespace().map(|port| port.parse().ok());
        let range: RangeInclusive<u16> = ends.next()??..=ends.next()??;
        let reserved = ranges(reserved)?;
        let whole = ends.next().is_none() && reserved.iter().all(|(low, high)| low <= high);
        whole.then_some(Self { range, reserved })
    }

    /// Whether it chooses this one, if it is free.
    #[must_use]
    pub fn holds(&self, port: u16) -> bool {
        let reserved = |(low, high): &(u16, u16)| (*low..=*high).contains(&port);
        self.range.contains(&port) && !self.reserved.iter().any(reserved)
    }

    /// How many there are that are not reserved.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.available(&BTreeSet::new())
    }

    /// How many of those no listener has.
    #[must_use]
    pub fn available(&self, listening: &BTreeSet<u16>) -> u32 {
        let free = |port: &u16| self.holds(*port) && !listening.contains(port);
        self.range.clone().filter(free).count() as u32
    }
}

/// Whether `net.ipv4.tcp_tw_reuse` lets connect() take ports in TIME_WAIT between these ends, after
/// a second: 1 everywhere, 2 where an end is a loopback address; both only with
/// `net.ipv4.tcp_timestamps` (`tcp_twsk_unique`, net/ipv4/tcp_ipv4.c).
#[must_use]
pub fn reuses(source: IpAddr, to: IpAddr, tw_reuse: Option<u64>, timestamps: Option<u64>) -> bool {
    timestamps != Some(0)
        && match tw_reuse {
            Some(1) => true,
            Some(2) => source.is_loopback() || to.is_loopback(),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_the_kernel_writes_them() {
        let usual = LocalPorts::parse("32768\t60999\n", "\n").expect("a range");
        assert_eq!((usual.range.clone(), usual.count()), (32768..=60999, 28_232));
        let reserved = LocalPorts::parse("10 20\n", "5,9-11,20,50000-50001\n").expect("a range");
        assert_eq!(reserved.count(), 8, "10, 11 and 20 are not given");
        assert_eq!(LocalPorts::parse("32768", ""), None);
        assert_eq!(LocalPorts::parse("1 2", "4-3"), None);
        assert_eq!(LocalPorts::parse("0 65535", "0-65535").map(|ports| ports.count()), Some(0));
    }

    #[test]
    fn reserved_ports_and_listeners_are_not_available() {
        let ports = LocalPorts { range: 32_768..=32_777, reserved: vec![(32_770, 32_771)] };
        assert_eq!(ports.available(&BTreeSet::new()), 8);
        assert_eq!(ports.available(&BTreeSet::from([80, 32_768, 32_770])), 7);
        assert!(ports.holds(32_777) && !ports.holds(32_778) && !ports.holds(32_770));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(range in "[0-9 \t]{0,12}", reserved in "[0-9,\\-\n]{0,24}") {
            if let Some(ports) = LocalPorts::parse(&range, &reserved) {
                prop_assert!(ports.count() as usize <= ports.range.count());
            }
        }

        #[test]
        fn as_many_are_available_as_it_holds(
            range: (u16, u16), reserved: Vec<(u16, u16)>, listening: BTreeSet<u16>,
        ) {
            let ports = LocalPorts { range: range.0..=range.1, reserved };
            let held = (0..=u16::MAX).filter(|port| ports.holds(*port));
            let free = held.filter(|port| !listening.contains(port)).count() as u32;
            prop_assert_eq!(ports.available(&listening), free);
        }
    }
}

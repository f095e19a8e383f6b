//! Local ports that the kernel gives to who connects (`/proc/sys/net/ipv4/ip_local_port_range` and
//! `ip_local_reserved_ports`, Documentation/networking/ip-sysctl.rst).

use std::ops::RangeInclusive;

use super::sysctl::ranges;

/// The ports of a network namespace that connect() chooses from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPorts {
    /// From the first to the last.
    pub range: RangeInclusive<u16>,
    /// How many of them there are that are not reserved.
    pub count: u32,
}

impl LocalPorts {
    /// From the text of the two files; `None`: they make no sense.
    #[must_use]
    pub fn parse(range: &str, reserved: &str) -> Option<Self> {
        let mut ends = range.split_whitespace().map(|port| port.parse().ok());
        let range: RangeInclusive<u16> = ends.next()??..=ends.next()??;
        if ends.next().is_some() {
            return None;
        }
        let mut taken = vec![false; usize::from(u16::MAX) + 1];
        for (first, last) in ranges(reserved)? {
            if first > last {
                return None;
            }
            taken[usize::from(first)..=usize::from(last)].fill(true);
        }
        let free = range.clone().filter(|port| !taken[usize::from(*port)]).count();
        Some(Self { range, count: free as u32 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_the_kernel_writes_them() {
        let usual = LocalPorts::parse("32768\t60999\n", "\n").expect("a range");
        assert_eq!((usual.range, usual.count), (32768..=60999, 28_232));
        let reserved = LocalPorts::parse("10 20\n", "5,9-11,20,50000-50001\n").expect("a range");
        assert_eq!(reserved.count, 8, "10, 11 and 20 are not given");
        assert_eq!(LocalPorts::parse("32768", ""), None);
        assert_eq!(LocalPorts::parse("1 2", "4-3"), None);
        assert_eq!(LocalPorts::parse("0 65535", "0-65535").map(|ports| ports.count), Some(0));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(range in "[0-9 \t]{0,12}", reserved in "[0-9,\\-\n]{0,24}") {
            if let Some(ports) = LocalPorts::parse(&range, &reserved) {
                prop_assert!(ports.count as usize <= ports.range.count());
            }
        }
    }
}

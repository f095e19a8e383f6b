//! What files below `/proc/sys` hold, and `/proc/net/sockstat`, `/proc/net/stat/nf_conntrack`.

/// A file's words, one space between them.
#[must_use]
pub fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Ports and ranges of ports, as net.ipv4.ip_local_reserved_ports has them: `8080,9000-9010`.
#[must_use]
pub fn ranges(text: &str) -> Option<Vec<(u16, u16)>> {
    let parts = text.trim().split(',').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            Some((low.trim().parse().ok()?, high.trim().parse().ok()?))
        })
        .collect()
}

/// A number of `/proc/net/sockstat`: the word behind `name`, in the line of that protocol.
#[must_use]
pub fn sockstat(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(protocol)?.strip_prefix(':'))?;
    let mut words = line.split_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

/// A column of `/proc/net/stat/nf_conntrack`, all CPUs together: names, then a line of hexadecimal
/// numbers for each (net/netfilter/nf_conntrack_standalone.c: `ct_cpu_seq_show`).
#[must_use]
pub fn conntrack(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    let at = lines.next()?.split_whitespace().position(|n| n == name)?;
    let column = |line: &str| u64::from_str_radix(line.split_whitespace().nth(at)?, 16).ok();
    lines.try_fold(0, |sum: u64, line| Some(sum.saturating_add(column(line)?)))
}

/// The first two numbers of a kernel's release: `6.18.4-foo` is 6.18.
#[must_use]
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_the_kernel_writes_them() {
        assert_eq!(words("32768\t60999\n"), "32768 60999");
        assert_eq!(ranges("8080,9000-9010\n"), Some(vec![(8080, 8080), (9000, 9010)]));
        assert_eq!((ranges("\n"), ranges("a-b")), (Some(vec![]), None));
        let text = "sockets: used 14\nTCP: inuse 1 orphan 7 tw 3 alloc 1 mem 12\nUDP: inuse 0\n";
        let number = |name| sockstat(text, "TCP", name);
        assert_eq!((number("orphan"), number("tw"), number("mem")), (Some(7), Some(3), Some(12)));
        assert_eq!((number("none"), sockstat(text, "TCP6", "inuse")), (None, None));
        let text = "entries  clashres found drop early_drop\n0a 00 00 0f 01\n0b 00 00 01 00\n";
        assert_eq!((conntrack(text, "drop"), conntrack(text, "early_drop")), (Some(16), Some(1)));
        assert_eq!((conntrack(text, "gone"), conntrack("drop\nx\n", "drop")), (None, None));
        assert_eq!(
            (version("6.18.44-x"), version("5.4"), version("x")),
            (Some((6, 18)), Some((5, 4)), None)
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "(TCP: |drop|[0-9a-f,. -]|\n|\\PC)*") {
            let _ = (words(&text), ranges(&text), version(&text));
            let _ = (sockstat(&text, "TCP", "mem"), conntrack(&text, "drop"));
        }
    }
}

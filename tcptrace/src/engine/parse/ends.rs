//! Ends of connections, and what a page is asked for.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// An end of a connection: `ADDR`, `ADDR/BITS`, `ADDR:PORT`, `[V6]:PORT`, `[V6]/BITS:PORT`,
/// `:PORT`, `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndPattern {
    /// Any of these addresses; `None`: any at all.
    pub net: Option<IpNet>,
    /// This port; `None`: any.
    pub port: Option<u16>,
}

impl EndPattern {
    /// Whether an end is meant.
    #[must_use]
    pub fn matches(&self, end: std::net::SocketAddr) -> bool {
        self.net.is_none_or(|net| net.contains(&end.ip()))
            && self.port.is_none_or(|port| port == end.port())
    }
}

impl fmt::Display for EndPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        match self.net {
            None => write!(f, "*{port}"),
            Some(net) => {
                match net.addr() {
                    IpAddr::V4(v4) => write!(f, "{v4}")?,
                    IpAddr::V6(v6) => write!(f, "[{v6}]")?,
                }
                if net.prefix_len() < net.max_prefix_len() {
                    write!(f, "/{}", net.prefix_len())?;
                }
                write!(f, "{port}")
            }
        }
    }
}

impl FromStr for EndPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let help = || {
            format!(
                "{text:?} is no address; write for instance 10.0.0.1, 10.0.0.0/8, 10.0.0.1:8080 \
                 or [::1]:80"
            )
        };
        let (address, port) = split_port(text).ok_or_else(help)?;
        let port = match port {
            Some(port) => Some(port.parse::<u16>().map_err(|_| help())?),
            None => None,
        };
        let net = match address {
            "*" => None,
            "" if port.is_some() => None,
            _ => Some(net(address).ok_or_else(help)?),
        };
        Ok(Self { net, port })
    }
}

/// Splits a port off. A bare IPv6 address has colons and no port.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if text.starts_with('[') {
        let close = text.find(']')?;
        return match text[close + 1..].split_once(':') {
            Some((_, port)) => Some((&text[..text.len() - port.len() - 1], Some(port))),
            None => Some((text, None)),
        };
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((address, port)) => Some((address, Some(port))),
        None => Some((text, None)),
    }
}

/// An address or a network; brackets around the address are allowed, mapped addresses are folded.
fn net(text: &str) -> Option<IpNet> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address = match address.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None => address,
    };
    let parsed: IpAddr = address.parse().ok()?;
    match (bits, parsed.to_canonical()) {
        (None, folded) => Some(IpNet::from(folded)),
        // Of a mapped address the first 96 bits say that it is one.
        (Some(bits @ 96..), IpAddr::V4(v4)) if parsed.is_ipv6() => {
            IpNet::new(v4.into(), bits - 96).ok()
        }
        (Some(bits), _) => IpNet::new(parsed, bits).ok(),
    }
}

/// What a page is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A pid, or where no process has it, a cookie.
    Number(u64),
    /// `pid:N`.
    Pid(u32),
    /// `cookie:N`.
    Cookie(u64),
    /// `LOCAL,REMOTE`.
    Ends(EndPattern, EndPattern),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "write a pid, cookie:N, or LOCAL,REMOTE as 10.0.0.1:80,10.0.0.9:51514".to_owned();
        if let Some(pid) = text.strip_prefix("pid:") {
            return pid.parse().map(Self::Pid).map_err(|_| wrong());
        }
        if let Some(cookie) = text.strip_prefix("cookie:") {
            return cookie.parse().ok().filter(|n| *n != 0).map(Self::Cookie).ok_or_else(wrong);
        }
        // As tables and pages show them, and as others write them.
        let both = text.split_once(',').or_else(|| text.split_once("<-"));
        match both {
            Some((local, remote)) => Ok(Self::Ends(local.trim().parse()?, remote.trim().parse()?)),
            None => text.parse().ok().filter(|n| *n != 0).map(Self::Number).ok_or_else(wrong),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Pid(pid) => write!(f, "pid:{pid}"),
            Self::Cookie(cookie) => write!(f, "cookie:{cookie}"),
            Self::Ends(local, remote) => write!(f, "{local},{remote}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ends() {
        let matches = |pattern: &str, end: &str| {
            pattern.parse::<EndPattern>().expect(pattern).matches(end.parse().expect(end))
        };
        assert!(matches("10.0.0.1", "10.0.0.1:99"));
        assert!(matches("10.0.0.0/8", "10.200.0.1:99"));
        assert!(!matches("10.0.0.0/8", "11.0.0.1:99"));
        assert!(matches("10.0.0.0/8:80", "10.0.0.1:80"));
        assert!(!matches("10.0.0.1:80", "10.0.0.1:81"));
        assert!(matches("::1", "[::1]:5"));
        assert!(matches("[::1]:5", "[::1]:5"));
        assert!(matches("[fe80::]/10", "[fe80::9]:5"));
        assert!(matches("[fe80::]/10:5", "[fe80::9]:5"));
        assert!(matches("fe80::/10", "[fe80::9]:5"));
        assert!(matches("::ffff:10.0.0.1", "10.0.0.1:5"));
        assert!(matches("::ffff:10.0.0.0/104", "10.9.9.9:5"));
        assert!(!matches("[::ffff:10.0.0.0]/104:5", "11.0.0.1:5"));
        assert!(matches(":80", "[::1]:80"));
        assert!(matches("*:80", "1.2.3.4:80"));
        assert!(matches("*", "[::1]:80"));
        for text in
            ["", "host", "10.0.0.1:", "10.0.0.1:70000", "10.0.0.0/33", "[::1", "[::1]x", "1.2.3"]
        {
            assert!(text.parse::<EndPattern>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn ends_are_read_back() {
        for text in [
            "10.0.0.1",
            "10.0.0.0/8:80",
            "[fe80::]/10:5",
            "[fe80::]/10",
            "[::1]:5",
            "[::1]",
            "*:80",
            "[::]/0",
            "*",
        ] {
            assert_eq!(text.parse::<EndPattern>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn both_ends_as_they_are_shown() {
        let target = |text: &str| text.parse::<Target>();
        let both = target("10.0.0.1:80,10.0.0.9:5000");
        assert!(matches!(both, Ok(Target::Ends(..))));
        for text in ["10.0.0.1:80 <- 10.0.0.9:5000", "10.0.0.1:80, 10.0.0.9:5000"] {
            assert_eq!(target(text), both);
        }
        assert!(target(":80,10.0.0.9:5000").is_ok(), "as where there is little room");
    }

    proptest! {
        #[test]
        fn an_end_matches_itself(ip: IpAddr, port: u16) {
            let end = std::net::SocketAddr::new(ip.to_canonical(), port);
            prop_assert!(end.to_string().parse::<EndPattern>().expect("an end").matches(end));
        }
    }
}

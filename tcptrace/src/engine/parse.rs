//! What users type: durations, states, addresses. Each error says what would have been right.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use ipnet::IpNet;
use jiff::SignedDuration;
use tcptrace_common::state::TcpState;

use crate::engine::verdict::Verdict;

/// A duration: `0`, `500ms`, `10s`, `5m`, `1h30m`, `2d`.
///
/// # Errors
/// One line with examples.
pub fn duration(text: &str) -> Result<Duration, String> {
    const HELP: &str = "write a duration such as 500ms, 10s, 5m or 1d";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    // The ISO form and words like "ago" are the library's, not ours.
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(HELP.to_owned());
    }
    // Days, which the library leaves to calendars: here one has 24 hours.
    if let Some((days, rest)) = text.split_once('d')
        && let Ok(days) = days.parse::<u64>()
    {
        let seconds = days.checked_mul(86_400).ok_or(HELP)?;
        let rest = if rest.is_empty() { Duration::ZERO } else { duration(rest)? };
        return Duration::from_secs(seconds).checked_add(rest).ok_or_else(|| HELP.to_owned());
    }
    let parsed: SignedDuration = text.parse().map_err(|_| HELP.to_owned())?;
    Duration::try_from(parsed).map_err(|_| HELP.to_owned())
}

/// A state as ss or the kernel spells it, any case, `-` or `_`.
fn state(text: &str) -> Option<TcpState> {
    let key: String =
        text.chars().filter(|c| *c != '-' && *c != '_').map(|c| c.to_ascii_lowercase()).collect();
    let key = key.strip_prefix("tcp").unwrap_or(&key);
    Some(match key {
        "established" | "estab" => TcpState::Established,
        "synsent" => TcpState::SynSent,
        "synrecv" | "synrcv" => TcpState::SynRecv,
        "finwait1" => TcpState::FinWait1,
        "finwait2" => TcpState::FinWait2,
        "timewait" => TcpState::TimeWait,
        "close" | "closed" | "unconn" => TcpState::Close,
        "closewait" => TcpState::CloseWait,
        "lastack" => TcpState::LastAck,
        "listen" | "listening" => TcpState::Listen,
        "closing" => TcpState::Closing,
        _ => return None,
    })
}

/// A set of states: bit `1 << number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States(pub u32);

impl FromStr for States {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut mask = 0;
        for word in text.split(',') {
            if word.eq_ignore_ascii_case("all") {
                mask |= Self::ALL.0;
                continue;
            }
            let state = state(word.trim()).ok_or_else(|| {
                format!(
                    "no TCP state is called {word:?}; write for instance close_wait, fin-wait-2, \
                     estab or all"
                )
            })?;
            mask |= state.bit();
        }
        Ok(Self(mask))
    }
}

impl States {
    /// Those that have names (RFC 9293, 3.3.2).
    pub const ALL: Self = Self(
        TcpState::Established.bit()
            | TcpState::SynSent.bit()
            | TcpState::SynRecv.bit()
            | TcpState::FinWait1.bit()
            | TcpState::FinWait2.bit()
            | TcpState::TimeWait.bit()
            | TcpState::Close.bit()
            | TcpState::CloseWait.bit()
            | TcpState::LastAck.bit()
            | TcpState::Listen.bit()
            | TcpState::Closing.bit(),
    );

    /// Those that the tracepoint shows.
    ///
    /// # Errors
    /// One line, if TIME_WAIT was asked for by name.
    pub fn traceable(self) -> Result<Self, &'static str> {
        const TIME_WAIT: u32 = TcpState::TimeWait.bit();
        if self.0 & TIME_WAIT != 0 && self != Self::ALL {
            return Err("TIME_WAIT can't be traced: the kernel keeps no socket for it; tcptrace \
                        snapshot --state time_wait lists them");
        }
        Ok(Self(self.0 & !TIME_WAIT))
    }
}

impl FromStr for Verdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let key = text.trim().to_ascii_lowercase().replace('_', "-");
        Self::ALL.into_iter().find(|v| v.name() == key).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no verdict is called {text:?}; there are {names}")
        })
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

/// An end of a connection: `ADDR`, `ADDR/BITS`, `ADDR:PORT`, `[V6]:PORT`, `[V6]/BITS:PORT`,
/// `:PORT`.
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
            "" | "*" if port.is_some() => None,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("0", 0),
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("2d12h", 216_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "5",
            "-5s",
            "PT1S",
            "ten seconds",
            "5 parsecs",
            "99999999999999999999s",
            "1dd",
            "99999999999999999d",
            "1day",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn states_in_every_spelling() {
        let close_wait = States(TcpState::CloseWait.bit());
        for text in ["close_wait", "CLOSE-WAIT", "CloseWait", "TCP_CLOSE_WAIT"] {
            assert_eq!(text.parse(), Ok(close_wait), "{text}");
        }
        let two = TcpState::FinWait2.bit() | TcpState::Established.bit();
        assert_eq!("fin-wait-2,ESTAB".parse(), Ok(States(two)));
        assert!("all".parse::<States>().expect("all").0 & close_wait.0 != 0);
        for text in ["", "close_wait,", "closewaiting"] {
            assert!(text.parse::<States>().is_err(), "{text:?}");
        }
        let named = TcpState::ALL.into_iter().filter(|s| States::ALL.0 & s.bit() != 0);
        for state in named {
            assert_eq!(state.name().parse(), Ok(States(state.bit())), "the kernel's own spelling");
        }
        assert!(States(TcpState::TimeWait.bit()).traceable().is_err());
        assert_eq!(States::ALL.traceable(), Ok(States(States::ALL.0 & !TcpState::TimeWait.bit())));
        assert_eq!(close_wait.traceable(), Ok(close_wait));
    }

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
        for text in [
            "",
            "*",
            "host",
            "10.0.0.1:",
            "10.0.0.1:70000",
            "10.0.0.0/33",
            "[::1",
            "[::1]x",
            "1.2.3",
        ] {
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

    #[test]
    fn verdicts() {
        assert_eq!("Never_Accepted".parse(), Ok(Verdict::NeverAccepted));
        assert!("leak".parse::<Verdict>().unwrap_err().contains("never-accepted"));
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "\\PC*") {
            let _ = duration(&text);
            let _ = text.parse::<States>();
            let _ = text.parse::<EndPattern>();
        }

        #[test]
        fn an_end_matches_itself(ip: IpAddr, port: u16) {
            let end = std::net::SocketAddr::new(ip.to_canonical(), port);
            prop_assert!(end.to_string().parse::<EndPattern>().expect("an end").matches(end));
        }
    }
}

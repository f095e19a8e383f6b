//! Sets of TCP states.

use std::str::FromStr;

use tcptrace_common::state::TcpState;

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
    /// How states are written, one spelling of each, and all of them.
    pub const NAMES: [&'static str; 12] = [
        "all",
        "close_wait",
        "close",
        "established",
        "syn_sent",
        "syn_recv",
        "fin_wait1",
        "fin_wait2",
        "time_wait",
        "last_ack",
        "listen",
        "closing",
    ];

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

    /// Whether it is no choice: all of them, or all that can be traced.
    #[must_use]
    pub fn is_all(self) -> bool {
        self.0 | TcpState::TimeWait.bit() == Self::ALL.0
    }

    /// Whether none but TIME_WAIT is among them, which is counted and never listed by a watch: it
    /// has no process.
    #[must_use]
    pub fn is_time_wait_only(self) -> bool {
        self.0 == TcpState::TimeWait.bit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_in_every_spelling() {
        let close_wait = States(TcpState::CloseWait.bit());
        for text in ["close_wait", "CLOSE-WAIT", "CloseWait", "TCP_CLOSE_WAIT"] {
            assert_eq!(text.parse(), Ok(close_wait), "{text}");
        }
        let two = TcpState::FinWait2.bit() | TcpState::Established.bit();
        assert_eq!("fin-wait-2,ESTAB".parse(), Ok(States(two)));
        assert!("all".parse::<States>().expect("all").0 & close_wait.0 != 0);
        let all = States::NAMES.map(|name| name.parse::<States>().expect(name).0);
        assert_eq!(all[1..].iter().fold(0, |states, state| states | state), all[0]);
        for text in ["", "close_wait,", "closewaiting"] {
            assert!(text.parse::<States>().is_err(), "{text:?}");
        }
        let named = TcpState::ALL.into_iter().filter(|s| States::ALL.0 & s.bit() != 0);
        for state in named {
            assert_eq!(state.name().parse(), Ok(States(state.bit())), "the kernel's own spelling");
        }
        assert!(States(TcpState::TimeWait.bit()).is_time_wait_only());
        assert!(!States::ALL.is_time_wait_only() && !close_wait.is_time_wait_only());
        assert!(States::ALL.is_all() && !close_wait.is_all());
    }
}

//! What users type: durations, states, addresses. Each error says what would have been right.

mod ends;
mod states;

use std::{str::FromStr, time::Duration};

use jiff::SignedDuration;

pub use self::{
    ends::{EndPattern, Target},
    states::States,
};
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

/// From which age on a stay is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinAge {
    /// This.
    Longer(Duration),
    /// What is longer than normal.
    Auto,
}

impl MinAge {
    /// The age where it is not known what is normal.
    #[must_use]
    pub const fn duration(self) -> Duration {
        match self {
            Self::Longer(than) => than,
            Self::Auto => Duration::from_secs(1),
        }
    }
}

/// A duration as [`duration`] takes it, or `auto`.
///
/// # Errors
/// One line with examples.
pub fn min_age(text: &str) -> Result<MinAge, String> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(MinAge::Auto);
    }
    duration(text).map(MinAge::Longer).map_err(|help| format!("{help}, or auto"))
}

/// A pid.
///
/// # Errors
/// One line with an example.
pub fn pid(text: &str) -> Result<u32, String> {
    let pid = text.parse().ok().filter(|pid| (1..=i32::MAX.unsigned_abs()).contains(pid));
    pid.ok_or_else(|| "write a pid such as 4711; ps -e lists them".to_owned())
}

/// A port.
///
/// # Errors
/// One line with examples.
pub fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| {
        "write a number from 1 to 65535, or several with commas: 8001,8002".to_owned()
    })
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
    fn pids_and_ports() {
        assert_eq!((pid("4711"), port("65535")), (Ok(4711), Ok(65_535)));
        for text in ["", "0", "-1", "java", "2147483648"] {
            assert!(pid(text).is_err_and(|why| why.contains("4711")), "{text}");
        }
        for text in ["", "0", "http", "8001-8003", "65536"] {
            assert!(port(text).is_err_and(|why| why.contains("8001,8002")), "{text}");
        }
    }

    #[test]
    fn verdicts() {
        assert_eq!("Never_Accepted".parse(), Ok(Verdict::NeverAccepted));
        assert!("leak".parse::<Verdict>().unwrap_err().contains("never-accepted"));
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "\\PC*") {
            let _ = (duration(&text), pid(&text), port(&text));
            let _ = text.parse::<States>();
            let _ = text.parse::<EndPattern>();
            let _ = text.parse::<Target>();
        }
    }
}

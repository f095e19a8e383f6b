//! A moment in a recording, as it is written on the command line.

use std::{str::FromStr, time::Duration};

use jiff::{Timestamp, civil, tz::TimeZone};

use super::nanoseconds;
use crate::{
    engine::{parse, record::BootNs},
    source::recording::Header,
};

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Itself.
    At(Timestamp),
    /// Date and time of day where we are.
    Local(civil::DateTime),
    /// Time of day, the first after the recording began.
    TimeOfDay(civil::Time),
    /// So long after the recording began.
    After(Duration),
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const HELP: &str = "write a time of day (03:04:05), a date and time (2026-01-02T03:04:05, \
                            with Z or +01:00 if it is not local), or +90s: since the beginning";
        if let Some(after) = text.strip_prefix('+') {
            return parse::duration(after).map(Self::After);
        }
        if let Ok(at) = text.parse() {
            return Ok(Self::At(at));
        }
        // The library takes a time of day out of a date and time.
        if !text.contains(['-', 'T', ' ']) {
            return text.parse().map(Self::TimeOfDay).map_err(|_| HELP.to_owned());
        }
        text.parse().map(Self::Local).map_err(|_| HELP.to_owned())
    }
}

impl When {
    /// On the boot clock of the recorded host. Without a zone it is meant in UTC (`utc`) or in the
    /// zone that this process runs in.
    pub fn on_boot_clock(self, header: &Header, utc: bool) -> BootNs {
        let at = self.exactly(header, utc);
        // Times are shown without fractions: the second in which it began is meant.
        let meant = at < header.began_ns && header.began_ns - at < 1_000_000_000;
        if meant { header.began_ns } else { at }
    }

    fn exactly(self, header: &Header, utc: bool) -> BootNs {
        let zone = if utc { TimeZone::UTC } else { TimeZone::system() };
        let boot = |at: Timestamp| {
            let ns = at.as_nanosecond() - i128::from(header.offset_ns);
            BootNs::try_from(ns.max(0)).unwrap_or(BootNs::MAX)
        };
        let local = |at: civil::DateTime| at.to_zoned(zone.clone()).map(|at| at.timestamp());
        match self {
            Self::At(at) => boot(at),
            Self::Local(at) => local(at).map_or(BootNs::MAX, boot),
            Self::TimeOfDay(time) => {
                let began = i128::from(header.began_ns) + i128::from(header.offset_ns);
                let began = Timestamp::from_nanosecond(began).unwrap_or(Timestamp::UNIX_EPOCH);
                let date = began.to_zoned(zone.clone()).date();
                // Seconds that were written without a fraction mean all of the first one.
                let today = local(date.to_datetime(time)).map_or(0, boot);
                if today + 1_000_000_000 > header.began_ns {
                    return today;
                }
                let tomorrow = date.tomorrow().unwrap_or(date).to_datetime(time);
                local(tomorrow).map_or(BootNs::MAX, boot)
            }
            Self::After(after) => header.began_ns.saturating_add(nanoseconds(after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let began: Timestamp = "2026-01-02T23:00:00.5Z".parse().expect("a time");
        let began_ns = 5_000_000_000;
        let offset_ns = i64::try_from(began.as_nanosecond()).expect("now") - began_ns as i64;
        let header = Header { began_ns, offset_ns, ..Header::default() };
        let at = |text: &str| -> i64 {
            let moment: When = text.parse().expect(text);
            let ns = moment.on_boot_clock(&header, true);
            i64::try_from(ns).expect("small") - began_ns as i64
        };
        let second = 1_000_000_000;
        assert_eq!(at("+90s"), 90 * second);
        assert_eq!(at("2026-01-02T23:00:01.5Z"), second);
        assert_eq!(at("2026-01-03T00:00:01.5+01:00"), second);
        assert_eq!(at("2026-01-02 23:00:02"), 3 * second / 2);
        assert_eq!(at("2026-01-02T23:00"), 0, "within the second in which it began");
        assert_eq!(at("23:00"), 0);
        assert_eq!(at("23:01:00"), 119 * second / 2);
        assert_eq!(at("01:00"), 7_200 * second - second / 2, "the next day");
        assert_eq!(at("2020-01-01T00:00:00Z"), -(began_ns as i64), "before all");
        for wrong in ["", "yesterday", "25:00", "90s", "+", "2026-13-01T00:00:00"] {
            assert!(wrong.parse::<When>().is_err(), "{wrong}");
        }
    }
}

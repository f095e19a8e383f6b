//! Where updates go. One trait over one message; each format is one file.

pub mod csv;
pub mod json;
pub mod table;
pub mod text;
pub mod top;

use std::{cell::RefCell, io};

use jiff::{Timestamp, tz::TimeZone};

use crate::engine::{record::BootNs, update::Update};

/// A format.
pub trait View {
    /// Writes one update that became known at `time`.
    ///
    /// # Errors
    /// What writing answers; a closed pipe is `BrokenPipe`.
    fn update(&mut self, time: BootNs, update: &Update) -> io::Result<()>;

    /// Hands what was written to the reader.
    ///
    /// # Errors
    /// As [`Self::update`].
    fn flush(&mut self) -> io::Result<()>;

    /// The clock by which times are shown.
    fn clock(&mut self) -> &mut Clock;
}

/// From the boot clock to the time of day.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Time of day minus boot clock, ns.
    offset_ns: i64,
    zone: TimeZone,
    /// The second that was written last, and how: the next one is mostly the same.
    second: RefCell<(i64, String)>,
}

/// By less than this nobody sets a clock: the two are never read at quite the same moment.
const STEP_NS: i64 = 500_000_000;

impl Clock {
    /// A clock that shows `now` when the boot clock shows `boot`, in local time or in UTC.
    #[must_use]
    pub fn new(now: Timestamp, boot: BootNs, utc: bool) -> Self {
        let offset_ns = offset_ns(now, boot).unwrap_or(0);
        Self {
            offset_ns,
            zone: if utc { TimeZone::UTC } else { TimeZone::system() },
            second: RefCell::default(),
        }
    }

    /// From here on, the time of day is the boot clock plus so many ns. By how much that moves it,
    /// if somebody set the clock. Ages and order go by the boot clock, which nobody sets.
    pub fn set(&mut self, offset_ns: i64) -> Option<i64> {
        let step = offset_ns.saturating_sub(self.offset_ns);
        self.offset_ns = offset_ns;
        (step.saturating_abs() >= STEP_NS).then_some(step)
    }

    fn at(&self, time: BootNs) -> Timestamp {
        let ns = i128::from(time) + i128::from(self.offset_ns);
        Timestamp::from_nanosecond(ns).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// RFC 3339 in UTC, to the microsecond.
    #[must_use]
    pub fn rfc3339(&self, time: BootNs) -> String {
        let mut text = String::with_capacity(27);
        self.rfc3339_into(time, &mut text);
        text
    }

    /// The same in place of what is in `text`: for times by the million.
    pub fn rfc3339_into(&self, time: BootNs, text: &mut String) {
        text.clear();
        let at = self.at(time);
        let (second, us) = (at.as_second(), at.subsec_nanosecond() / 1_000);
        let mut cached = self.second.borrow_mut();
        if cached.0 != second || us < 0 || cached.1.is_empty() {
            text.push_str(&format!("{at:.6}"));
            // Times before 1970 count their fractions backwards.
            if us >= 0
                && let Some(whole) = text.strip_suffix(&format!("{us:06}Z"))
            {
                *cached = (second, whole.to_owned());
            }
            return;
        }
        text.push_str(&cached.1);
        for digit in [100_000, 10_000, 1_000, 100, 10, 1] {
            text.push(char::from(b'0' + (us / digit % 10) as u8));
        }
        text.push('Z');
    }

    /// Hours, minutes and seconds.
    #[must_use]
    pub fn short(&self, time: BootNs) -> String {
        self.at(time).to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string()
    }
}

/// Time of day minus boot clock; `None`: centuries apart.
fn offset_ns(now: Timestamp, boot: BootNs) -> Option<i64> {
    i64::try_from(now.as_nanosecond() - i128::from(boot)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_becomes_the_time_of_day() {
        let now: Timestamp = "2026-01-02T03:04:05.123456Z".parse().expect("a time");
        let clock = Clock::new(now, 1_000_000_000, true);
        assert_eq!(clock.rfc3339(1_000_000_000), "2026-01-02T03:04:05.123456Z");
        assert_eq!(clock.rfc3339(2_500_000_000), "2026-01-02T03:04:06.623456Z");
        for ns in [
            1_000_001_000,
            1_876_543_999,
            1_876_544_000,
            2_499_999_999,
            3_000_000_000,
            1_000_000_000,
        ] {
            assert_eq!(
                clock.rfc3339(ns),
                format!("{:.6}", clock.at(ns)),
                "in whatever order: {ns}"
            );
        }
        assert_eq!(clock.short(0), "03:04:04");
    }

    #[test]
    fn a_clock_that_is_set() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().expect("a time");
        let mut clock = Clock::new(now, 1_000_000_000, true);
        let offset = clock.offset_ns;
        assert_eq!(clock.set(offset + 499_000_000), None, "no step");
        assert_eq!(clock.rfc3339(2_000_000_000), "2026-01-02T03:04:06.499000Z");
        assert_eq!(clock.set(offset - 3_600_000_000_000), Some(-3_600_499_000_000), "back");
        assert_eq!(clock.rfc3339(3_000_000_000), "2026-01-02T02:04:07.000000Z");
    }
}

//! Where updates go. One trait over one message; each format is one file.

pub mod csv;
pub mod json;
pub mod left;
pub mod metrics;
pub mod report;
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

/// A zone's offset from UTC, from a moment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offset {
    /// ms since 1970.
    pub since_ms: i64,
    /// Local time minus UTC, minutes.
    pub minutes: i32,
    /// `CET`.
    pub name: String,
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

    /// Seconds since 1970, to the millisecond.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 ms, 285,000 years")]
    pub fn unix_s(&self, time: BootNs) -> f64 {
        self.at(time).as_millisecond() as f64 / 1_000.0
    }

    /// ns since 1970; 0 before that.
    #[must_use]
    pub fn unix_ns(&self, time: BootNs) -> u64 {
        u64::try_from(self.at(time).as_nanosecond()).unwrap_or(0)
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

    /// Day, time and zone: `2026-01-02 03:04:05 UTC`.
    #[must_use]
    pub fn long(&self, time: BootNs) -> String {
        self.zoned(time).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
    }

    /// Hours, minutes and seconds; on another day than `today`, with the day before it.
    #[must_use]
    pub fn stamp(&self, time: BootNs, today: BootNs) -> String {
        let (at, today) = (self.zoned(time), self.zoned(today));
        let format = if at.date() == today.date() {
            "%H:%M:%S"
        } else if at.year() == today.year() {
            "%m-%d %H:%M:%S"
        } else {
            "%Y-%m-%d %H:%M:%S"
        };
        at.strftime(format).to_string()
    }

    /// Day and hour of what is foretold: `on Friday 2 January 2026 between 03:00 and 04:00 UTC`.
    #[must_use]
    pub fn hour(&self, time: BootNs) -> String {
        let from = self.zoned(time);
        let to = from.checked_add(jiff::Span::new().hours(1)).unwrap_or_else(|_| from.clone());
        let day = from.strftime("on %A %-d %B %Y between %H:00").to_string();
        format!("{day} and {}", to.strftime("%H:00 %Z"))
    }

    /// ms since 1970.
    #[must_use]
    pub fn unix_ms(&self, time: BootNs) -> i64 {
        self.at(time).as_millisecond()
    }

    /// The zone's offsets from UTC between two moments, in order: since when (ms since 1970), by
    /// how many minutes, and the zone's name then.
    #[must_use]
    pub fn offsets(&self, from: BootNs, to: BootNs) -> Vec<Offset> {
        /// Zones change twice a year; what is longer ago than this is told by the last of them.
        const KEPT: usize = 16;
        let zone = &self.zone;
        let since = |at: Timestamp| {
            let info = zone.to_offset_info(at);
            let minutes = info.offset().seconds() / 60;
            Offset { since_ms: at.as_millisecond(), minutes, name: info.abbreviation().to_owned() }
        };
        let (from, to) = (self.at(from), self.at(to));
        let changes = zone.following(from).map(|change| change.timestamp());
        let changes = changes.take_while(|at| *at < to).take(KEPT);
        std::iter::once(from).chain(changes).map(since).collect()
    }

    fn zoned(&self, time: BootNs) -> jiff::Zoned {
        self.at(time).to_zoned(self.zone.clone())
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
        assert_eq!(clock.long(1_000_000_000), "2026-01-02 03:04:05 UTC");
        let days = [0, 1, 400].map(|day| clock.stamp(0, day * 86_400_000_000_000));
        assert_eq!(days, ["03:04:04", "01-02 03:04:04", "2026-01-02 03:04:04"]);
    }

    #[test]
    fn what_is_foretold_has_a_day_and_an_hour() {
        let now: Timestamp = "2026-01-02T23:04:05Z".parse().expect("a time");
        let clock = Clock::new(now, 0, true);
        assert_eq!(clock.hour(0), "on Friday 2 January 2026 between 23:00 and 00:00 UTC");
        assert!(clock.hour(u64::MAX).starts_with("on "), "no overflow");
    }

    #[test]
    fn offsets_change_with_the_season() {
        let now: Timestamp = "2026-03-29T00:30:00Z".parse().expect("a time");
        let mut clock = Clock::new(now, 0, true);
        let hour = 3_600_000_000_000;
        assert_eq!(clock.offsets(0, hour).len(), 1);
        clock.zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone");
        let offsets = clock.offsets(0, hour);
        let minutes: Vec<i32> = offsets.iter().map(|o| o.minutes).collect();
        assert_eq!((minutes, &*offsets[1].name), (vec![60, 120], "CEST"));
        assert_eq!(offsets[1].since_ms - offsets[0].since_ms, 1_800_000);
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

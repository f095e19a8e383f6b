//! Lengths of time, in words.

/// A length of time for people: `17µs`, `350ms`, `1.2s`, `42s`, `3m07s`, `2h05m`, `3d04h`.
#[must_use]
pub fn human(ns: u64) -> String {
    let (s, ms) = (ns / 1_000_000_000, ns / 1_000_000);
    match s {
        0 if ms == 0 && ns > 0 => format!("{}µs", ns / 1_000),
        0 => format!("{ms}ms"),
        1..10 => format!("{s}.{}s", ms / 100 % 10),
        10..60 => format!("{s}s"),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        let cases = [
            (0, "0ms"),
            (350, "350ms"),
            (1_299, "1.2s"),
            (42_000, "42s"),
            (187_000, "3m07s"),
            (7_500_000, "2h05m"),
        ];
        for (ms, text) in cases {
            assert_eq!(human(ms * 1_000_000), text);
        }
        assert_eq!(human(274_000_000_000_000), "3d04h");
        assert_eq!(human(u64::MAX).chars().last(), Some('h'), "no overflow");
    }
}

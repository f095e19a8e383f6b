//! A row's last two columns, who and where, in the room that is left: as much as fits, and never
//! half a reason or half an address.

use unicode_width::UnicodeWidthStr;

/// Ways to say the same, the longest first, and what is lost by each.
#[derive(Clone, Debug, Default)]
pub struct Ways(Vec<(String, u32)>);

impl Ways {
    /// One more, shorter than those before.
    #[must_use]
    pub fn or(mut self, text: impl Into<String>, loss: u32) -> Self {
        self.0.push((text.into(), loss));
        self
    }

    fn shortest(&self) -> &str {
        self.0.iter().map(|(text, _)| &**text).min_by_key(|text| text.width()).unwrap_or("")
    }
}

/// The two texts that lose least and fit into `room` columns with a space between. Where nothing
/// does, the first is cut.
pub fn fit(room: usize, who: &Ways, ends: &Ways) -> (String, String) {
    let pairs = who.0.iter().flat_map(|w| ends.0.iter().map(move |e| (w, e)));
    let space = |ends: &str| usize::from(!ends.is_empty());
    let fitting = pairs.filter(|((w, _), (e, _))| w.width() + space(e) + e.width() <= room);
    match fitting.min_by_key(|((_, lost), (_, too))| lost + too) {
        Some(((who, _), (ends, _))) => (who.clone(), ends.clone()),
        None => {
            let ends = ends.shortest();
            (cut(who.shortest(), room.saturating_sub(ends.width() + space(ends))), ends.to_owned())
        }
    }
}

/// Cuts to `width` columns, and says so with an ellipsis.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        let mut next = out.clone();
        next.push(c);
        if next.width() + 1 > width {
            break;
        }
        out = next;
    }
    out + "…"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_loses_least() {
        let who = Ways::default().or("python3 leak.py[4711]", 0).or("python3[4711]", 5);
        let ends = Ways::default().or("10.0.0.1:80,10.0.3.7:51514", 3).or(":80,10.0.3.7:51514", 4);
        for (room, expected) in [
            (80, "python3 leak.py[4711] 10.0.0.1:80,10.0.3.7:51514"),
            (47, "python3 leak.py[4711] :80,10.0.3.7:51514"),
            (39, "python3[4711] :80,10.0.3.7:51514"),
            (30, "python3[47… :80,10.0.3.7:51514"),
        ] {
            let (who, ends) = fit(room, &who, &ends);
            assert_eq!(format!("{who} {ends}"), expected, "{room}");
        }
    }

    proptest! {
        #[test]
        fn it_fits(room in 20usize..99, who in proptest::collection::vec("\\PC{0,40}", 1..4)) {
            let ways = who.iter().fold(Ways::default(), |ways, text| ways.or(text, 1));
            let (who, ends) = fit(room, &ways, &Ways::default().or("a:1,b:2", 0).or("", 3));
            let space = usize::from(!ends.is_empty());
            prop_assert!(who.width() + space + ends.width() <= room);
        }
    }
}

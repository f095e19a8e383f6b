//! A row's last columns, in the room that is left: as much as fits, and never half a reason or half
//! an address.

use unicode_width::UnicodeWidthStr;

/// Ways to say the same, the longest first, and what is lost by each.
#[derive(Clone, Debug, Default)]
pub struct Ways(Vec<Way>);

#[derive(Clone, Debug)]
struct Way {
    text: String,
    width: usize,
    loss: u32,
}

impl Ways {
    /// One more, shorter than those before.
    #[must_use]
    pub fn or(mut self, text: impl Into<String>, loss: u32) -> Self {
        let text = text.into();
        self.0.push(Way { width: text.width(), text, loss });
        self
    }

    /// One way, which loses nothing.
    #[must_use]
    pub fn only(text: impl Into<String>) -> Self {
        Self::default().or(text, 0)
    }

    fn shortest(&self) -> &str {
        self.0.iter().min_by_key(|way| way.width).map_or("", |way| &way.text)
    }
}

/// Where the connections lead, who holds them, and what else there is to say.
#[derive(Clone, Debug, Default)]
pub struct Last<T> {
    /// The ends: one word.
    pub ends: T,
    /// The processes.
    pub who: T,
    /// The rest.
    pub more: T,
}

/// The texts that lose least and fit into `room` columns with a space between. Where nothing does,
/// who it is is cut.
pub fn fit(room: usize, last: &Last<Ways>) -> Last<String> {
    let Last { ends, who, more } = last;
    let space = |width: usize| usize::from(width > 0);
    let mut best: Option<(u32, [&Way; 3])> = None;
    for e in &ends.0 {
        for w in &who.0 {
            for m in &more.0 {
                let width = e.width + space(e.width) + w.width + space(m.width) + m.width;
                let loss = e.loss + w.loss + m.loss;
                if width <= room && best.is_none_or(|(least, _)| loss < least) {
                    best = Some((loss, [e, w, m]));
                }
            }
        }
    }
    match best {
        Some((_, texts)) => {
            let [ends, who, more] = texts.map(|way| way.text.clone());
            Last { ends, who, more }
        }
        None => {
            let ends = ends.shortest();
            let left = room.saturating_sub(ends.width() + space(ends.width()));
            let who = cut(who.shortest(), left);
            Last { ends: ends.to_owned(), who, more: String::new() }
        }
    }
}

/// Cuts to `width` columns, and says so with an ellipsis.
#[must_use]
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
        let ends = Ways::default().or("10.0.0.1:80,10.0.3.7:51514", 0).or(":80,10.0.3.7:51514", 1);
        let more = Ways::default().or("fd 7", 0).or("", 2);
        let last = Last { ends, who, more };
        for (room, expected) in [
            (80, "10.0.0.1:80,10.0.3.7:51514 python3 leak.py[4711] fd 7"),
            (47, ":80,10.0.3.7:51514 python3 leak.py[4711] fd 7"),
            (41, ":80,10.0.3.7:51514 python3 leak.py[4711]"),
            (38, ":80,10.0.3.7:51514 python3[4711] fd 7"),
            (30, ":80,10.0.3.7:51514 python3[47…"),
        ] {
            let Last { ends, who, more } = fit(room, &last);
            assert_eq!(format!("{ends} {who} {more}").trim_end(), expected, "{room}");
        }
    }

    proptest! {
        #[test]
        fn it_fits(room in 20usize..99, who in proptest::collection::vec("\\PC{0,40}", 1..4)) {
            let who = who.iter().fold(Ways::default(), |ways, text| ways.or(text, 1));
            let ends = Ways::default().or("a:1,b:2", 0).or("-", 3);
            let last = fit(room, &Last { ends, who, more: Ways::only("") });
            prop_assert!(last.ends.width() + 1 + last.who.width() <= room);
        }
    }
}

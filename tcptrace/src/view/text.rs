//! Text that other people chose: process and cgroup names can hold anything, escape sequences and
//! line ends included.

use std::borrow::Cow;

/// The text with everything that steers a terminal or breaks a line written as an escape
/// (`\n`, `\u{1b}`).
#[must_use]
pub fn safe(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if steers(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// The same, and no longer than so many bytes.
#[must_use]
pub fn bounded(text: &str, longest: usize) -> String {
    let safe = safe(text);
    if safe.len() <= longest {
        return safe.into_owned();
    }
    let cut = safe.floor_char_boundary(longest.saturating_sub('…'.len_utf8()));
    format!("{}…", &safe[..cut])
}

/// Control characters (C0, DEL, C1), line and paragraph separators, and format characters
/// (Unicode's Cf): those that turn the direction of writing around, and those that do not show.
#[must_use]
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'
            | '\u{891}' | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}'
            | '\u{e0020}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn terminals_are_not_steered() {
        assert_eq!(safe("java"), "java");
        assert_eq!(safe("\u{1b}[31mred\n"), "\\u{1b}[31mred\\n");
        assert_eq!(safe("\u{9b}2J\u{202e}cod.exe"), "\\u{9b}2J\\u{202e}cod.exe");
        assert_eq!(
            safe("a\u{200b}b\u{feff}\u{e0041}"),
            "a\\u{200b}b\\u{feff}\\u{e0041}",
            "what does not show"
        );
        assert_eq!(safe("naïve 日本 🚀"), "naïve 日本 🚀");
    }

    proptest! {
        #[test]
        fn nothing_that_steers_is_left(text in any::<String>()) {
            prop_assert!(!safe(&text).chars().any(steers));
        }
    }
}

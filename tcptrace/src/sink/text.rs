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

/// Control characters (C0, DEL, C1), line and paragraph separators, and those that turn the
/// direction of writing around (Unicode Bidi_Control).
#[must_use]
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
    }

    proptest! {
        #[test]
        fn nothing_that_steers_is_left(text in any::<String>()) {
            prop_assert!(!safe(&text).chars().any(steers));
        }
    }
}

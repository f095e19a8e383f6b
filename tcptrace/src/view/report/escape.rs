//! Text that others chose, made harmless for a page: it never becomes markup, code or a control
//! character.

use std::{borrow::Cow, fmt::Write};

use crate::view::text::safe;

/// Longer text is cut, characters: no name or command line fills the page.
const LONGEST: usize = 4_096;

/// As HTML, in an element or in a quoted attribute.
#[must_use]
pub fn html(text: &str) -> String {
    let text = shortened(text);
    let mut out = String::with_capacity(text.len() + 8);
    for c in safe(&text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// As a JSON string, quotes included, that is harmless within a script element: nothing in it ends
/// that.
pub fn json(text: &str, out: &mut String) {
    out.push('"');
    for c in safe(&shortened(text)).chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '<' | '>' | '&' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\0'..'\u{20}' => {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// As Markdown, in a paragraph or in a cell of a table: as code, where it holds anything that
/// Markdown might take for its own.
#[must_use]
pub fn markdown(text: &str) -> String {
    let text = shortened(text);
    let text = safe(&text);
    let plain =
        |c: char| c.is_alphanumeric() || matches!(c, ' ' | '.' | ',' | ':' | '-' | '/' | '%');
    if text.chars().all(plain)
        && !text.contains("://")
        && !text.contains("www.")
        && !text.starts_with([' ', '-'])
    {
        return text.into_owned();
    }
    // A pipe ends a cell even within code, and entities are no entities there: it is written as a
    // bar that looks alike.
    let text = text.replace('|', "\u{a6}").replace('`', "\u{2b9}");
    format!("`{}`", text.trim())
}

/// A sentence in Markdown that may quote what others chose: each character that Markdown or HTML
/// might take for its own has a backslash before it, or is an entity.
#[must_use]
pub fn sentence(text: &str) -> String {
    let text = shortened(text);
    let mut out = String::with_capacity(text.len() + 8);
    for c in safe(&text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // A bar ends a cell, whatever stands before it.
            '|' => out.push_str("&#124;"),
            '@' => out.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '~' | '!' | '$' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    // No address becomes a link.
    out.replace("://", ":&#47;/").replace("www.", "www&#46;")
}

/// No longer than a page bears, and saying so.
#[must_use]
pub fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}… (cut)", &text[..end])),
    }
}

/// `1 socket`, `12,345 sockets`.
pub fn several(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(n), if n == 1 { one } else { many })
}

/// `12,345`
#[must_use]
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOSTILE: &str = "</script><img src=x onerror=alert(1)>";

    #[test]
    fn no_name_is_markup() {
        assert_eq!(html(HOSTILE), "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;");
        assert_eq!(html("a\u{202e}b\n'\""), "a\\u{202e}b\\n&#39;&quot;");
        let mut out = String::new();
        json("</script>\u{2028}\"\\", &mut out);
        let read: String = serde_json::from_str(&out).expect("JSON");
        assert_eq!(read, "</script>\\u{2028}\"\\");
        assert!(!out.contains('<'), "{out}");
        assert_eq!(markdown("java shop.jar"), "java shop.jar");
        assert_eq!(markdown("a|b`c` [x](http://y)"), "`a¦bʹcʹ [x](http://y)`");
        assert_eq!(markdown("http://y"), "`http://y`");
        assert_eq!(sentence("<b>|[x](http://y)"), "&lt;b&gt;&#124;\\[x\\](http:&#47;/y)");
    }

    #[test]
    fn long_text_is_cut() {
        let long = "<".repeat(1 << 16);
        assert!(html(&long).len() < 5 * LONGEST && html(&long).ends_with("… (cut)"));
        assert!(markdown(&long).len() < 2 * LONGEST);
        assert_eq!(shortened("short"), "short");
    }

    #[test]
    fn thousands() {
        let numbers = [0, 999, 1_000, 50_000, 1_234_567].map(number);
        assert_eq!(numbers, ["0", "999", "1,000", "50,000", "1,234,567"]);
    }

    proptest! {
        #[test]
        fn nothing_steers(text: String) {
            let mut quoted = String::new();
            json(&text, &mut quoted);
            let read: String = serde_json::from_str(&quoted).expect("JSON");
            prop_assert_eq!(&*read, &*safe(&text));
            let (html, markdown) = (html(&text), markdown(&text));
            for c in ['<', '>', '"', '\'', '\u{202e}', '\n', '\u{1b}'] {
                prop_assert!(!html.contains(c));
            }
            prop_assert!(!quoted.contains(['<', '>', '&', '\u{2028}', '\n']), "{}", quoted);
            // Code begins and ends once, and no cell ends in it.
            prop_assert!([0, 2].contains(&markdown.matches('`').count()));
            prop_assert!(!markdown.contains(['|', '\n']));
            prop_assert!(!markdown.contains('<') || markdown.starts_with('`'));
            let sentence = sentence(&text);
            prop_assert!(!sentence.contains(['|', '<', '>', '\n']) && !sentence.contains("://"));
        }
    }
}

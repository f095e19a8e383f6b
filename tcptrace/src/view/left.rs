//! What a command left behind: lines for people, JUnit's XML, annotations of GitHub.

use std::fmt::Write;

use super::text::safe;
use crate::{
    engine::{counted::counted, left::Left},
    prose::left::{advice, sentence, title},
};

/// The command, and what it left.
#[derive(Debug)]
pub struct Ran<'a> {
    /// As it was typed; may hold anything.
    pub command: &'a str,
    /// The exit code it ended with; 128 and the signal where one ended it.
    pub status: u8,
    /// What it left behind.
    pub left: &'a Left,
    /// What could not be seen, a line each.
    pub missing: &'a [String],
}

impl Ran<'_> {
    /// How much was left, in words.
    fn headline(&self) -> String {
        let all = self.left.findings().len() as u64 + self.left.more();
        match all {
            0 => "nothing left behind".to_owned(),
            all => format!("{} left behind", counted(all, "socket", "sockets")),
        }
    }

    fn more(&self) -> Option<String> {
        let more = self.left.more();
        (more > 0).then(|| format!("{more} more are not told one by one"))
    }
}

/// For people.
#[must_use]
pub fn table(outcome: &Ran<'_>) -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(&safe(text));
        out.push('\n');
    };
    line(&format!("{} by {}", outcome.headline(), outcome.command));
    let mut told = Vec::new();
    for finding in outcome.left.findings() {
        line(&format!("  {}", sentence(finding)));
        if let Some(advice) = advice(finding).filter(|advice| !told.contains(advice)) {
            told.push(advice);
        }
    }
    outcome.more().iter().for_each(|more| line(&format!("  {more}")));
    told.iter().for_each(|advice| line(&format!("  what to do: {advice}")));
    out
}

/// JUnit's XML, as Jenkins, GitLab and others read it: a case for each finding, or one that passed.
#[must_use]
pub fn junit(outcome: &Ran<'_>) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let findings = outcome.left.findings();
    let more = outcome.more();
    let failures = findings.len() + usize::from(more.is_some());
    let tests = failures.max(1);
    let name = xml(outcome.command);
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"0\"");
    // Writing to a string can't fail.
    let _ = writeln!(out, "<testsuites {counts}>");
    let _ = writeln!(out, "  <testsuite name=\"tcptrace run {name}\" {counts} skipped=\"0\">");
    let mut case = |class: &str, name: &str, failure: Option<(&str, &str, &str)>| {
        let head = format!("    <testcase classname=\"tcptrace.{class}\" name=\"{}\"", xml(name));
        let _ = match failure {
            None => writeln!(out, "{head}/>"),
            Some((kind, message, text)) => writeln!(
                out,
                "{head}>\n      <failure type=\"{kind}\" message=\"{}\">{}</failure>\n    \
                 </testcase>",
                xml(message),
                xml(text)
            ),
        };
    };
    for finding in findings {
        let verdict = finding.record().and_then(|r| r.verdict).map_or(finding.kind(), |v| v.name());
        // The same in each run, so that who compares runs knows it again.
        let holder = finding.holder().map_or_else(|| "unknown".to_owned(), |h| h.comm.to_string());
        let name = format!("{holder}: {} ({verdict})", title(finding));
        let text = sentence(finding);
        let told = format!("{text}; {}", advice(finding).unwrap_or_default());
        case(finding.kind(), &name, Some((verdict, &text, &told)));
    }
    if let Some(more) = &more {
        case("more", "more left behind", Some(("more", more, more)));
    }
    if failures == 0 {
        case("run", "nothing left behind", None);
    }
    if !outcome.missing.is_empty() {
        let _ = writeln!(out, "    <system-err>{}</system-err>", xml(&outcome.missing.join("; ")));
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

/// Workflow commands of GitHub Actions: an annotation each.
#[must_use]
pub fn github(outcome: &Ran<'_>) -> String {
    let mut out = String::new();
    let mut annotate = |level: &str, title: &str, text: &str| {
        let _ = writeln!(
            out,
            "::{level} title={}::{}",
            property(&format!("tcptrace: {title}")),
            data(text)
        );
    };
    for finding in outcome.left.findings() {
        let advice = advice(finding).map(|advice| format!("; {advice}")).unwrap_or_default();
        annotate("error", &title(finding), &format!("{}{advice}", sentence(finding)));
    }
    outcome.more().iter().for_each(|more| annotate("error", "more left behind", more));
    outcome.missing.iter().for_each(|text| annotate("warning", "not all was seen", text));
    out
}

/// Text in an element or a quoted attribute of XML 1.0. What has no place there even as a reference
/// (control characters, U+FFFE, U+FFFF: <https://www.w3.org/TR/xml/#charsets>) is written as an
/// escape.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in safe(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\u{fffe}' | '\u{ffff}' => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// The message of a workflow command, as actions/toolkit escapes it (`escapeData`,
/// packages/core/src/command.ts).
fn data(text: &str) -> String {
    safe(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a property of one (`escapeProperty`).
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::{
        left::{LastHolder, LeftListener},
        record::ProcessId,
        watch::{Plan, Watch},
    };

    fn left(comm: &str) -> Left {
        let mut left = Left::since(0);
        let holder =
            LastHolder { process: ProcessId { pid: 4711, start_ns: 0 }, comm: Rc::from(comm) };
        let local = "127.0.0.1:80".parse().expect("an address");
        let listeners = vec![LeftListener { holder, fd: 3, local }];
        left.finish(&Watch::new(Plan::default()), listeners, 0);
        left
    }

    fn outcome<'a>(command: &'a str, left: &'a Left) -> Ran<'a> {
        Ran { command, status: 0, left, missing: &[] }
    }

    #[test]
    fn one_case_that_passed_where_nothing_was_left() {
        let nothing = Left::since(0);
        let xml = junit(&outcome("make test", &nothing));
        assert!(xml.contains("tests=\"1\" failures=\"0\""), "{xml}");
        assert!(!xml.contains("<failure"), "{xml}");
        assert_eq!(github(&outcome("make test", &nothing)), "");
        assert_eq!(table(&outcome("make test", &nothing)), "nothing left behind by make test\n");
    }

    #[test]
    fn github_escapes_as_the_toolkit_does() {
        assert_eq!(data("100%\r\n:,"), "100%25\\r\\n:,");
        assert_eq!(property("a:b,c%"), "a%3Ab%2Cc%25");
        let said = github(&outcome("x", &left("a::b\n::error::c")));
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("::error title=tcptrace%3A listener left behind::"), "{said}");
    }

    proptest! {
        #[test]
        fn xml_holds_only_characters_that_xml_has(text in any::<String>()) {
            let escaped = xml(&text);
            let char = |c: char| matches!(c, ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}'
                | '\u{10000}'..);
            prop_assert!(escaped.chars().all(char));
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            let rest = ["&amp;", "&lt;", "&gt;", "&quot;", "&apos;"]
                .iter()
                .fold(escaped, |text, entity| text.replace(entity, ""));
            prop_assert!(!rest.contains('&'));
        }

        #[test]
        fn an_annotation_is_a_line_whatever_a_process_is_called(comm in any::<String>()) {
            prop_assert_eq!(github(&outcome("x", &left(&comm))).lines().count(), 1);
        }
    }
}

//! How a file looks: its place at the top, its length, the width of its lines.

use super::Breaches;

/// What may lie at the top.
const TOP: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-GPL2",
    "LICENSE-MIT",
    "README.md",
    "README.zh-CN.md",
    "SECURITY.md",
    "clippy.toml",
    "deny.toml",
    "deploy",
    "docs",
    "rustfmt.toml",
    "rust-toolchain.toml",
    "tcptrace",
    "tcptrace-common",
    "tcptrace-ebpf",
    "tests",
    "xtask",
];

/// Beyond this a file holds more than one concept.
const LINES: usize = 450;
/// Columns, as rustfmt.toml has them.
const WIDTH: usize = 100;

/// Names what has no place at the top.
pub fn place(file: &str, breaches: &mut Breaches) {
    let top = file.split('/').next().unwrap_or(file);
    if !top.starts_with('.') && !TOP.contains(&top) {
        breaches.add(file, 0, format!("{top} has no place at the top"));
    }
}

/// Checks the length of a Rust file, and the width of its lines. A line that a text or a row of a
/// table makes long stays: it shows what something looks like.
pub fn rust(file: &str, text: &str, breaches: &mut Breaches) {
    let lines = text.lines().count();
    if lines > LINES {
        breaches.add(file, 0, format!("{lines} lines, more than {LINES}"));
    }
    let mut raw = false;
    for (n, line) in text.lines().enumerate() {
        let inside = raw;
        // Texts of several lines begin with a quote that does not end on its line.
        raw ^= line.replace("\\\"", "").replace("'\"'", "").matches('"').count() % 2 == 1
            && !line.trim_start().starts_with("//");
        let row = line.trim_start().trim_start_matches(['/', '!']).trim_start().starts_with('|');
        let comment = line.trim_start().starts_with("//");
        let exempt = if comment { row } else { inside || line.contains('"') };
        wide(file, n, line, exempt, breaches);
    }
}

/// Checks the width of a document's lines: tables and blocks of code may be wider, and what has no
/// blank to break at.
pub fn markdown(file: &str, text: &str, breaches: &mut Breaches) {
    let mut code = false;
    for (n, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("```") {
            code = !code;
        }
        let alone = trimmed.starts_with('`') && trimmed.trim_matches('`').matches('`').count() == 0
            || !trimmed.trim_start_matches(['-', '*', ' ']).contains(' ');
        wide(file, n, line, code || trimmed.starts_with('|') || alone, breaches);
    }
}

fn wide(file: &str, n: usize, line: &str, exempt: bool, breaches: &mut Breaches) {
    let width = line.chars().count();
    if width > WIDTH && !exempt {
        breaches.add(file, n + 1, format!("{width} columns, more than {WIDTH}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(check: fn(&str, &str, &mut Breaches), text: &str) -> Vec<String> {
        let mut breaches = Breaches::default();
        check("x", text, &mut breaches);
        breaches.0
    }

    #[test]
    fn the_top_is_fixed() {
        let mut breaches = Breaches::default();
        for file in ["README.md", "xtask/src/main.rs", ".github/workflows/ci.yml", "notes.txt"] {
            place(file, &mut breaches);
        }
        assert_eq!(breaches.0, ["notes.txt: notes.txt has no place at the top"]);
    }

    #[test]
    fn files_are_short() {
        assert_eq!(said(rust, &"\n".repeat(LINES)), [""; 0]);
        assert_eq!(said(rust, &"\n".repeat(LINES + 1)), ["x: 451 lines, more than 450"]);
    }

    #[test]
    fn lines_of_code_are_narrow() {
        let long = "x".repeat(101);
        assert_eq!(said(rust, &"é".repeat(100)), [""; 0]);
        assert_eq!(said(rust, &format!("\n{long}")), ["x:2: 101 columns, more than 100"]);
        assert_eq!(said(rust, &format!("// says \"{long}\"")).len(), 1);
        for text in
            [format!("f(\"{long}\")"), format!("//! | {long} |"), format!("f(\"a\n{long}\n\")")]
        {
            assert_eq!(said(rust, &text), [""; 0], "{text}");
        }
        assert_eq!(said(rust, &format!("f(\"a\n b\")\n{long}")).len(), 1);
    }

    #[test]
    fn lines_of_documents_are_narrow() {
        let long = "word ".repeat(21);
        assert_eq!(said(markdown, &format!("a\n\n{long}")), ["x:3: 105 columns, more than 100"]);
        assert_eq!(said(markdown, &format!("```\n```\n{long}")).len(), 1);
        assert_eq!(said(markdown, &format!("`a` {long}")).len(), 1);
        for text in [
            format!("| {long} |"),
            format!("```\n{long}\n```"),
            format!("  `{long}`"),
            format!("- https://{}", "x".repeat(100)),
        ] {
            assert_eq!(said(markdown, &text), [""; 0], "{text}");
        }
    }
}

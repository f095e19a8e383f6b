//! What a program is written in, as far as its name tells.

/// What a program is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// Java and what else runs in a JVM.
    Java,
    /// Go.
    Go,
    /// Python.
    Python,
    /// Node.js.
    Node,
    /// PHP.
    Php,
    /// C, or another language that calls the kernel directly.
    C,
}

impl Language {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Java => "Java",
            Self::Go => "Go",
            Self::Python => "Python",
            Self::Node => "Node.js",
            Self::Php => "PHP",
            Self::C => "C",
        }
    }
}

/// The language that a program's interpreter tells: from the file name of its executable, or from
/// the command name where that is empty. Compiled ones (Go, C) can't be told from a name.
#[must_use]
pub fn language(exe: &str, comm: &str) -> Option<Language> {
    let name = if exe.is_empty() { comm } else { exe };
    // The kernel's mark where the file was replaced, as updates do.
    let name = name.strip_suffix(" (deleted)").unwrap_or(name);
    let version = |c: char| c.is_ascii_digit() || c == '.';
    match name.trim_end_matches(version) {
        "java" | "jsvc" => Some(Language::Java),
        "python" | "pypy" => Some(Language::Python),
        "node" | "nodejs" => Some(Language::Node),
        "php" | "php-fpm" | "php-cgi" => Some(Language::Php),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_by_their_interpreters() {
        for (exe, comm, expected) in [
            ("java", "http-nio-8080-e", Some(Language::Java)),
            ("python3.11", "gunicorn", Some(Language::Python)),
            ("python3.11 (deleted)", "x", Some(Language::Python)),
            ("node", "MainThread", Some(Language::Node)),
            ("php", "php", Some(Language::Php)),
            ("php-fpm8.2", "php-fpm8.2", Some(Language::Php)),
            ("", "java", Some(Language::Java)),
            ("bash", "java", None),
            ("javac", "javac", None),
            ("nodeexporter", "", None),
            ("node_exporter", "", None),
            ("server", "server", None),
            ("", "", None),
        ] {
            assert_eq!(language(exe, comm), expected, "{exe} {comm}");
        }
    }
}

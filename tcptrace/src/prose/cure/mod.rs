//! What a verdict means, what to look for in the code, how the cure is usually spelled, and what
//! does not help. `docs/verdicts.md` says the same at length.

mod states;
mod texts;

pub use self::texts::cure;
use crate::engine::{language::Language, record::Role};

/// What is to be said of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cure {
    /// What happened, no more than the evidence shows.
    pub means: &'static str,
    /// What to look for in the program that is named.
    pub look_for: &'static [Hint],
    /// The usual spelling, by language; a language may have several.
    pub in_code: &'static [Snippet],
    /// What is often tried and changes nothing.
    pub no_help: &'static [&'static str],
}

/// What to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Which side it is about; `None`: either.
    pub role: Option<Role>,
    /// What.
    pub text: &'static str,
}

/// The cure as code spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// In which language.
    pub language: Language,
    /// Which side it is about; `None`: either.
    pub role: Option<Role>,
    /// One line.
    pub code: &'static str,
}

/// For whoever holds the socket.
const fn any(text: &'static str) -> Hint {
    Hint { role: None, text }
}

/// For who accepted the connection.
const fn server(text: &'static str) -> Hint {
    Hint { role: Some(Role::Server), text }
}

/// For who opened it.
const fn client(text: &'static str) -> Hint {
    Hint { role: Some(Role::Client), text }
}

const fn code(language: Language, Hint { role, text }: Hint) -> Snippet {
    Snippet { language, role, code: text }
}

/// Whether something about one side is for a socket of a role: where that is unknown, all is.
fn is_for(about: Option<Role>, role: Option<Role>) -> bool {
    about.is_none() || role.is_none() || about == role
}

impl Cure {
    /// What to look for at a socket of this role; `None`: unknown, or several.
    pub fn look_for(&self, role: Option<Role>) -> impl Iterator<Item = &'static str> + use<> {
        let hints = self.look_for.iter().filter(move |hint| is_for(hint.role, role));
        hints.map(|hint| hint.text)
    }

    /// [`Self::in_code`] for a socket of this role, those of one language first.
    #[must_use]
    pub fn in_code_for(&self, first: Option<Language>, role: Option<Role>) -> Vec<Snippet> {
        let snippets = self.in_code.iter().filter(|snippet| is_for(snippet.role, role));
        let mut list: Vec<Snippet> = snippets.copied().collect();
        list.sort_by_key(|snippet| Some(snippet.language) != first);
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::verdict::Verdict;

    const DOCUMENT: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/verdicts.md"));

    /// From a verdict's heading to the next.
    fn section(verdict: Verdict) -> &'static str {
        let heading = format!("\n## {}\n", verdict.name());
        let (_, after) = DOCUMENT
            .split_once(&heading)
            .unwrap_or_else(|| panic!("docs/verdicts.md: no {heading:?}"));
        after.split("\n## ").next().unwrap_or_default()
    }

    /// Lines are wrapped there as they are here.
    fn one_line(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_document_has_each_verdict_and_its_code() {
        for verdict in Verdict::ALL {
            let section = section(verdict);
            for word in ["**Evidence**", "**Means**", "**In `ss`**"] {
                assert!(section.contains(word), "{}: {word}", verdict.name());
            }
            for Snippet { language, role, code } in cure(verdict).in_code {
                let role = role.map_or_else(String::new, |role| format!(" ({})", role.name()));
                let item = one_line(&format!("- {}{role}: `{code}`", language.name()));
                assert!(
                    one_line(section).contains(&item),
                    "docs/verdicts.md, {}: {item}",
                    verdict.name()
                );
            }
        }
        assert_eq!(
            DOCUMENT.matches("\n## ").count(),
            Verdict::ALL.len() + 2,
            "what helps nobody, and sources"
        );
    }

    #[test]
    fn every_leak_has_a_cure() {
        for verdict in Verdict::ALL {
            let cure = cure(verdict);
            let leak = verdict.is_leak();
            assert!(
                (2..=3).contains(&cure.means.matches(['.']).count()) || !leak,
                "{}: a few sentences",
                verdict.name()
            );
            assert!(!cure.in_code.is_empty() || !leak, "{}", verdict.name());
            // Nobody tries to help what is normal, but for TIME_WAIT.
            let tried = !verdict.is_normal() || verdict == Verdict::ClosedFirst;
            assert_eq!(!cure.no_help.is_empty(), tried, "{}", verdict.name());
            assert!(!cure.look_for.is_empty());
            for text in cure.in_code.iter().map(|s| s.code).chain([cure.means]) {
                assert!(
                    !text.contains(['\n', '`']) && !text.contains("        "),
                    "one line: {text}"
                );
            }
        }
    }

    #[test]
    fn the_programs_own_language_comes_first() {
        let cure = cure(Verdict::EofNotClosed);
        let of = |list: Vec<Snippet>| list.into_iter().map(|s| s.language).collect::<Vec<_>>();
        let order = of(cure.in_code_for(Some(Language::Php), None));
        assert_eq!(order[..3], [Language::Php, Language::Php, Language::Java]);
        assert_eq!(cure.in_code_for(None, None), cure.in_code);
    }

    /// Who accepted a connection does not close a response, and who opened it has no handler.
    #[test]
    fn each_language_has_words_for_each_side() {
        let leaks = Verdict::ALL.into_iter().filter(|verdict| !cure(*verdict).in_code.is_empty());
        for (verdict, role) in leaks.flat_map(|v| [Role::Server, Role::Client].map(|r| (v, r))) {
            let cure = cure(verdict);
            let other = |about: Option<Role>| about.is_some_and(|about| about != role);
            let code = cure.in_code_for(None, Some(role));
            assert!(!code.iter().any(|snippet| other(snippet.role)), "{verdict:?} {role:?}");
            assert!(cure.look_for(Some(role)).count() > 0, "{verdict:?} {role:?}");
            for language in [Language::Java, Language::Go, Language::Python, Language::C] {
                let has = code.iter().any(|snippet| snippet.language == language);
                assert!(has, "{verdict:?} {role:?} {language:?}");
            }
        }
        let leak = cure(Verdict::EofNotClosed).in_code_for(Some(Language::Python), None);
        let plain = |role| leak.iter().find(|snippet| snippet.role == Some(role)).map(|s| s.code);
        assert!(plain(Role::Server).is_some_and(|code| code.starts_with("with conn:")));
        assert!(plain(Role::Client).is_some_and(|code| code.starts_with("with requests")));
    }
}

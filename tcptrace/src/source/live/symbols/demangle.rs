//! Names of functions as their authors wrote them, from those that compilers made of them.

use std::fmt::{self, Write};

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};

/// Bytes of a name that is taken apart, at most.
const MANGLED: usize = 4096;
/// Bytes of what comes out, at most: a few bytes may stand for gigabytes.
const NAME: usize = 1024;
/// Templates within templates.
const NESTED: u32 = 64;

/// Text that ends where it gets long.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > NAME {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// The name, without parameters and without Rust's hash; what is in no such spelling comes as it
/// is.
#[must_use]
pub fn demangled(raw: &[u8]) -> String {
    let raw = &raw[..raw.len().min(MANGLED)];
    let text = String::from_utf8_lossy(raw);
    // A local symbol's suffix: `recv@@GLIBC_2.2.5`.
    let text = text.split('@').next().filter(|t| !t.is_empty()).unwrap_or(&text);
    let name = rust(text).or_else(|| cpp(text)).unwrap_or_else(|| text.to_owned());
    cut(name)
}

/// At most so long.
#[must_use]
pub fn cut(mut name: String) -> String {
    name.truncate(name.floor_char_boundary(NAME));
    name
}

fn rust(text: &str) -> Option<String> {
    let name = rustc_demangle::try_demangle(text).ok()?;
    let mut out = Bounded(String::new());
    write!(out, "{name:#}").ok()?;
    Some(out.0)
}

fn cpp(text: &str) -> Option<String> {
    // Anything else is a type to the demangler: `i` would be `int`.
    if !text.starts_with("_Z") {
        return None;
    }
    // GCC's copies of a function: `_ZN3fooEv.part.0`, `.constprop.0`, `.cold`.
    let text = text.split('.').next().unwrap_or(text);
    let parse = ParseOptions::default().recursion_limit(NESTED);
    let symbol = Symbol::new_with_options(text, &parse).ok()?;
    let options = DemangleOptions::new().no_params().no_return_type().recursion_limit(NESTED);
    let mut out = Bounded(String::new());
    symbol.structured_demangle(&mut out, &options).ok()?;
    Some(out.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        for (raw, name) in [
            ("recv", "recv"),
            ("main.(*Crawler).fetch", "main.(*Crawler).fetch"),
            ("_ZN7crawler5fetch17h0123456789abcdefE", "crawler::fetch"),
            ("_RNvCs1234_7mycrate3foo", "mycrate::foo"),
            ("_ZN7Crawler5fetchEiPKc", "Crawler::fetch"),
            ("_ZN7Crawler5fetchEiPKc.part.0", "Crawler::fetch"),
            (
                "_ZNSt6vectorIiSaIiEE9push_backERKi",
                "std::vector<int, std::allocator<int> >::push_back",
            ),
            ("_Z", "_Z"),
            ("i", "i"),
            ("recv@@GLIBC_2.2.5", "recv"),
            ("_ZTIi@x", "typeinfo for int"),
        ] {
            assert_eq!(demangled(raw.as_bytes()), name, "{raw}");
        }
    }

    #[test]
    fn a_name_that_would_never_end() {
        // Each substitution doubles what comes out: 2^60 times `f`.
        let mut bomb = String::from("_Z1fI");
        for _ in 0..60 {
            bomb.push_str("St4pairIS_S_E");
        }
        bomb.push_str("EvT_");
        assert!(demangled(bomb.as_bytes()).len() <= NAME);
        assert!(demangled(&[b'x'; 100_000]).len() <= NAME);
    }

    proptest! {
        #[test]
        fn none_makes_it_panic(name in "(_Z|_R|_ZN|_RNv)?[A-Za-z0-9_.$]{0,200}") {
            prop_assert!(demangled(name.as_bytes()).len() <= NAME);
        }
    }
}

//! The names that virtual machines give to their code in perf maps, taken apart.

/// Who writes names like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spelling {
    /// Java's: HotSpot by itself (`jcmd PID Compiler.perfmap`), or with perf-map-agent.
    Java,
    /// V8: Node.js with `--perf-basic-prof`.
    Node,
    /// CPython with `-X perf`.
    Python,
}

/// A name, taken apart. Parts may hold anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Whose spelling it is, where that shows.
    pub machine: Option<Spelling>,
    /// The function; empty: one without a name.
    pub function: String,
    /// The source file.
    pub file: Option<String>,
    /// The line where the function begins.
    pub line: Option<u32>,
    /// It is no function of a program, but the machine's own code.
    pub machinery: bool,
}

/// Takes a name apart.
#[must_use]
pub fn named(name: &str) -> Named {
    python(name).or_else(|| node(name)).or_else(|| java(name)).unwrap_or_else(|| Named {
        machine: None,
        function: name.to_owned(),
        file: None,
        line: None,
        machinery: false,
    })
}

/// `py::Crawler.fetch:/app/crawler.py`.
fn python(name: &str) -> Option<Named> {
    let (function, file) = name.strip_prefix("py::")?.split_once(':')?;
    Some(Named {
        machine: Some(Spelling::Python),
        function: function.to_owned(),
        file: Some(file.to_owned()),
        line: None,
        machinery: false,
    })
}

/// `LazyCompile:*fetch /app/crawler.js:12:3`, `JS:~fetch file:///app/crawler.mjs:12:3`,
/// `Builtin:ArrayMap`.
fn node(name: &str) -> Option<Named> {
    const SCRIPT: [&str; 5] = ["JS", "LazyCompile", "Function", "Eval", "Script"];
    const MACHINE: [&str; 6] =
        ["Builtin", "BytecodeHandler", "RegExp", "Stub", "Handler", "LoadGlobalIC"];
    let (tag, rest) = name.split_once(':')?;
    let machine = Some(Spelling::Node);
    if MACHINE.contains(&tag) {
        let function = rest.to_owned();
        return Some(Named { machine, function, file: None, line: None, machinery: true });
    }
    if !SCRIPT.contains(&tag) {
        return None;
    }
    // How it was compiled, by one character (Code::kind in V8's log).
    let rest = rest.trim_start_matches(['*', '~', '^', '+', '\'']);
    let (function, place) = match [" /", " file:", " node:"].iter().find_map(|m| rest.find(m)) {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => rest.rsplit_once(' ').unwrap_or((rest, "")),
    };
    let mut parts = place.rsplitn(3, ':');
    let (column, line, file) = (parts.next(), parts.next(), parts.next());
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<u32>().ok());
    let (file, line) = match (file, number(line), number(column)) {
        (Some(file), Some(line), Some(_)) => (file, Some(line)),
        _ => (place, None),
    };
    let file = file.strip_prefix("file://").unwrap_or(file);
    Some(Named {
        machine,
        function: function.to_owned(),
        file: (!file.is_empty()).then(|| file.to_owned()),
        line,
        machinery: false,
    })
}

/// `Lcom/foo/Bar;::fetch`, `void com.foo.Bar.fetch(int, java.lang.String)`, `Interpreter`.
fn java(name: &str) -> Option<Named> {
    let machine = Some(Spelling::Java);
    let function = |function| Named { machine, function, file: None, line: None, machinery: false };
    if let Some((class, method)) = name.strip_prefix('L').and_then(|n| n.split_once(";::")) {
        let method = method.split('(').next().unwrap_or(method);
        return Some(function(format!("{}.{method}", class.replace('/', "."))));
    }
    let (before, _) = name.split_once('(')?;
    let full = before.rsplit_once(' ').map_or(before, |(_, full)| full);
    // What a method's name begins with: a class, in no other language's way.
    let plain = |c: char| c.is_alphanumeric() || "._$<>/-+".contains(c);
    let method = full.contains('.') && !full.contains("::") && full.chars().all(plain);
    if method && name.ends_with(')') {
        return Some(function(full.to_owned()));
    }
    None
}

/// Whether it is a name of HotSpot's own code, which has no class.
#[must_use]
pub fn is_hotspot_machinery(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "Interpreter",
        "StubRoutines",
        "I2C/C2I adapters",
        "ExceptionBlob",
        "UncommonTrapBlob",
        "DeoptimizationBlob",
        "RuntimeStub",
        "vtable stub",
        "itable stub",
        "MethodHandlesAdapterBlob",
    ];
    NAMES.iter().any(|n| name.starts_with(n)) || name.ends_with("_blob")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_functions() {
        use Spelling::{Java, Node, Python};
        for (name, machine, function, file, line) in [
            (
                "py::Crawler.fetch:/app/crawler.py",
                Some(Python),
                "Crawler.fetch",
                Some("/app/crawler.py"),
                None,
            ),
            (
                "py::f.<locals>.<lambda>:<string>",
                Some(Python),
                "f.<locals>.<lambda>",
                Some("<string>"),
                None,
            ),
            (
                "LazyCompile:*fetch /app/a b.js:12:3",
                Some(Node),
                "fetch",
                Some("/app/a b.js"),
                Some(12),
            ),
            ("JS:~ file:///app/x.mjs:1:1", Some(Node), "", Some("/app/x.mjs"), Some(1)),
            (
                "JS:^get size node:internal/x:7:9",
                Some(Node),
                "get size",
                Some("node:internal/x"),
                Some(7),
            ),
            ("JS:+fetch", Some(Node), "fetch", None, None),
            ("Script:~ x.js:1:1", Some(Node), "", Some("x.js"), Some(1)),
            ("Lcom/foo/Bar;::fetch", Some(Java), "com.foo.Bar.fetch", None, None),
            (
                "void com.foo.Bar.fetch(int, java.lang.String)",
                Some(Java),
                "com.foo.Bar.fetch",
                None,
                None,
            ),
            ("com.foo.Bar.<init>()", Some(Java), "com.foo.Bar.<init>", None, None),
            (
                "int32 [App] Program::Main(string[])[Tier0]",
                None,
                "int32 [App] Program::Main(string[])[Tier0]",
                None,
                None,
            ),
            ("$gen_tcp:recv/3", None, "$gen_tcp:recv/3", None, None),
        ] {
            let named = named(name);
            assert_eq!(
                (named.machine, &*named.function, named.file.as_deref(), named.line),
                (machine, function, file, line),
                "{name}"
            );
            assert!(!named.machinery, "{name}");
        }
        assert!(named("Builtin:ArrayMap").machinery && named("BytecodeHandler:Ldar").machinery);
        assert!(is_hotspot_machinery("StubRoutines (1)") && !is_hotspot_machinery("Main.run"));
    }

    proptest! {
        #[test]
        fn no_name_makes_it_panic(
            name in "(py::|JS:[*~]?|LazyCompile:|L|Eval:)?\\PC{0,20}[ :;(/]{0,3}\\PC{0,20}(:[0-9]{0,12}){0,3}",
        ) {
            let _ = (named(&name), is_hotspot_machinery(&name));
        }
    }
}

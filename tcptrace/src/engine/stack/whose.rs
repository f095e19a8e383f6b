//! Whose code a frame is, from what is known of it.

use super::Code;
use crate::engine::name::file_name;

/// What a function is written in, as far as that decides whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodeKind {
    /// Machine code of C, C++, Rust and the like.
    Native,
    /// Go's machine code.
    Go,
    /// A function of a Java program.
    Java,
    /// A script's of Node.js.
    Node,
    /// A script's of Python.
    Python,
    /// The code of a virtual machine or of an interpreter.
    Machinery,
    /// Code made while the program runs, by nobody known.
    Made,
}

/// A frame, as far as it decides whose it is.
#[derive(Clone, Copy, Debug)]
pub struct CodePlace<'a> {
    /// What it is written in.
    pub kind: CodeKind,
    /// The file that the code was mapped from.
    pub module: Option<&'a str>,
    /// That is the program's executable.
    pub main: bool,
    /// The function.
    pub function: Option<&'a str>,
    /// The source file.
    pub file: Option<&'a str>,
}

impl<'a> CodePlace<'a> {
    /// Of a function that is in no machine code of its own.
    #[must_use]
    pub fn script(kind: CodeKind, function: &'a str, file: Option<&'a str>) -> Self {
        Self { kind, module: None, main: false, function: Some(function), file }
    }
}

/// Whose it is.
#[must_use]
pub fn code(place: &CodePlace<'_>) -> Code {
    let function = place.function.unwrap_or_default();
    let file = place.file.unwrap_or_default();
    match place.kind {
        CodeKind::Machinery => Code::Runtime,
        CodeKind::Made => Code::Unknown,
        CodeKind::Python => own_unless(is_pythons(file)),
        CodeKind::Node => own_unless(file.starts_with("node:") || file.contains("/node_modules/")),
        CodeKind::Java => own_unless(JAVAS.iter().any(|prefix| function.starts_with(prefix))),
        CodeKind::Go | CodeKind::Native => {
            let module = place.module.unwrap_or_default();
            if is_machine(module, place.main) {
                Code::Runtime
            } else if !place.main && is_systems(module) {
                Code::Library
            } else if place.kind == CodeKind::Go {
                own_unless(is_gos(function, file))
            } else {
                own_unless(is_languages(function, file))
            }
        }
    }
}

const fn own_unless(library: bool) -> Code {
    if library { Code::Library } else { Code::Own }
}

/// What runs programs: executables, by the beginnings of their names before versions.
const INTERPRETERS: [&str; 12] = [
    "python", "pypy", "node", "nodejs", "java", "php", "php-fpm", "php-cgi", "ruby", "perl",
    "beam.smp", "lua",
];
/// The same as libraries.
const MACHINES: [&str; 11] = [
    "libjvm.",
    "libpython",
    "libnode.",
    "libv8",
    "libruby",
    "libperl.",
    "libphp",
    "libcoreclr.",
    "libclrjit.",
    "libmono",
    "libuv.",
];

/// Whether the module is an interpreter or a virtual machine.
#[must_use]
pub fn is_machine(module: &str, main: bool) -> bool {
    let name = file_name(module);
    let version = |c: char| c.is_ascii_digit() || c == '.' || c == '-';
    let plain = name.trim_end_matches(version);
    if main {
        return INTERPRETERS.contains(&plain) || INTERPRETERS.contains(&name);
    }
    MACHINES.iter().any(|m| name.starts_with(m))
}

/// Whether the module is the system's: what is installed, and not the program.
fn is_systems(module: &str) -> bool {
    const PLACES: [&str; 8] = [
        "/lib/",
        "/lib32/",
        "/lib64/",
        "/usr/lib/",
        "/usr/lib64/",
        "/usr/libexec/",
        "/usr/local/lib/",
        "/nix/store/",
    ];
    // The kernel's own, and what comes with Python and with Java.
    module.starts_with('[')
        || PLACES.iter().any(|place| module.starts_with(place))
        || is_pythons(module)
        || matches!(
            file_name(module),
            "libjava.so" | "libnet.so" | "libnio.so" | "libzip.so" | "libjli.so"
        )
        || file_name(module).starts_with("libc.so")
        || file_name(module).starts_with("ld-linux")
        || file_name(module).starts_with("ld-musl")
}

/// Java's own classes, and of its languages.
const JAVAS: [&str; 8] =
    ["java.", "javax.", "jdk.", "sun.", "com.sun.", "kotlin.", "kotlinx.", "scala."];

/// Whether a script is Python's standard library, or an installed package.
fn is_pythons(file: &str) -> bool {
    if file.starts_with("<frozen ") || file.starts_with("<__array_function__") {
        return true;
    }
    if file.contains("/site-packages/") || file.contains("/dist-packages/") {
        return true;
    }
    // `lib/python3.11/`, wherever Python is installed; its zip archive, too.
    let version = |rest: &str| {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        digits.len() < rest.len() && (digits.starts_with('/') || digits.starts_with("t/"))
    };
    file.match_indices("/lib/python").any(|(at, found)| version(&file[at + found.len()..]))
}

/// Crates that are Rust's own, or its runtimes.
const CRATES: [&str; 20] = [
    "std",
    "core",
    "alloc",
    "hashbrown",
    "backtrace",
    "gimli",
    "tokio",
    "tokio_util",
    "mio",
    "hyper",
    "hyper_util",
    "h2",
    "futures",
    "futures_util",
    "futures_core",
    "async_std",
    "smol",
    "polling",
    "rustls",
    "tower",
];

/// Whether a function of the program's executable is its language's, or a library's that was linked
/// into it.
fn is_languages(function: &str, file: &str) -> bool {
    const FILES: [&str; 6] = [
        "/rustc/",
        "/.cargo/registry/",
        "/.cargo/git/",
        "/usr/include/",
        "/rustlib/src/",
        "/usr/src/",
    ];
    // What the C library links into every program, and what rustc does.
    const STARTS: [&str; 10] = [
        "_start",
        "__libc_start_main",
        "__libc_csu_init",
        "_init",
        "_fini",
        "frame_dummy",
        "__rust_begin_short_backtrace",
        "rust_begin_unwind",
        "__rust_try",
        "__clone",
    ];
    if STARTS.contains(&function) || FILES.iter().any(|place| file.contains(place)) {
        return true;
    }
    // `<std::io::Lines<B> as Iterator>::next` is std's, `<app::Conn as tokio::io::AsyncRead>::poll`
    // is the program's.
    let of = function.trim_start_matches(['<', '&', '*']);
    let of = of.strip_prefix("mut ").or_else(|| of.strip_prefix("dyn ")).unwrap_or(of);
    of.split_once("::").is_some_and(|(first, _)| CRATES.contains(&first))
        || of.starts_with("__gnu_cxx::")
        || of.starts_with("__cxxabiv1::")
        || of.starts_with("boost::")
}

/// The first elements of the import paths of Go's standard library, that no other package has.
const GOS: [&str; 54] = [
    "archive",
    "bufio",
    "bytes",
    "cmp",
    "compress",
    "container",
    "context",
    "crypto",
    "database",
    "debug",
    "embed",
    "encoding",
    "errors",
    "expvar",
    "flag",
    "fmt",
    "go",
    "hash",
    "html",
    "image",
    "index",
    "internal",
    "io",
    "iter",
    "log",
    "maps",
    "math",
    "mime",
    "net",
    "os",
    "path",
    "plugin",
    "reflect",
    "regexp",
    "runtime",
    "slices",
    "sort",
    "strconv",
    "strings",
    "structs",
    "sync",
    "syscall",
    "testing",
    "text",
    "time",
    "unicode",
    "unique",
    "unsafe",
    "vendor",
    "weak",
    "type:",
    "_cgo_topofstack",
    "gogo",
    "_rt0_amd64_linux",
];

/// Whether a function is of Go's standard library, or of a module that the program uses.
fn is_gos(function: &str, file: &str) -> bool {
    // `net/http.(*conn).serve`, `runtime.goexit`, `github.com/x/y/z.f`.
    let path = function.split(['(', '[']).next().unwrap_or(function);
    let first = path.split(['/', '.']).next().unwrap_or(path);
    if path.starts_with("main.") {
        return false;
    }
    let dotted = path.split_once('/').is_some_and(|(first, _)| first.contains('.'));
    GOS.contains(&first) && !dotted
        || path.starts_with("golang.org/x/")
        || path.starts_with("google.golang.org/")
        || file.contains("/pkg/mod/")
        || file.contains("/vendor/")
        // Built with -trimpath: `github.com/x/y@v1.2.3/z.go`.
        || file.split_once("@v").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Whether a thread begins with this function: nothing calls it.
#[must_use]
pub fn is_first(function: &str) -> bool {
    matches!(
        function,
        "_start"
            | "start_thread"
            | "clone"
            | "clone3"
            | "__clone"
            | "__clone3"
            | "runtime.goexit"
            | "runtime.goexit.abi0"
            | "runtime.mstart"
            | "runtime.mstart.abi0"
            | "runtime.rt0_go"
            | "runtime.rt0_go.abi0"
    )
}

#[cfg(test)]
mod tests;

//! The fuzz targets as ordinary tests: each on its corpus, on what becomes of that by small
//! changes, and on any bytes. `cargo xtask fuzz` looks longer and deeper.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestRunner},
};
use tcptrace::formats::{
    sock_diag,
    sock_diag::{Detail, Dump},
};

#[path = "fuzz/records.rs"]
mod records;
#[path = "fuzz/targets.rs"]
mod targets;

macro_rules! targets {
    ($($target:ident)*) => {
        const TARGETS: &[&str] = &[$(stringify!($target)),*];
        $(
            #[test]
            fn $target() {
                check(stringify!($target), targets::$target);
            }
        )*
    };
}

targets! { answers btf cgroups iter netlink proc_files recording ring selection settings stacks }

#[test]
fn cargo_fuzz_has_the_same_targets() {
    let mut binaries: Vec<_> =
        files("fuzz_targets").into_iter().map(|f| f.with_extension("")).collect();
    binaries.sort();
    assert_eq!(
        binaries,
        TARGETS.iter().map(|t| folder("fuzz_targets").join(t)).collect::<Vec<_>>()
    );
}

#[test]
fn the_corpus_has_records_as_they_are_now() {
    let write = std::env::var_os("TCPTRACE_RENEW").is_some();
    for (target, name, record) in records::all() {
        let path = folder("corpus").join(target).join(name);
        if write {
            fs::write(&path, &record).expect("a file of the corpus");
        }
        let told = "its layout has changed: TCPTRACE_RENEW=1 cargo test --test fuzz records \
                    writes it again";
        assert!(fs::read(&path).is_ok_and(|there| there == record), "{}: {told}", path.display());
    }
}

#[test]
fn what_the_kernel_said_is_understood() {
    let file = |name: &str| {
        fs::read(folder("corpus").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    for name in ["connections4", "connections6", "listeners4", "listeners6", "mptcp"] {
        let mut dump = Dump::new(1, sock_diag::TCP, Detail::Connection);
        assert_eq!(dump.take(&file(&format!("netlink/{name}"))[1..], 1), Ok(true), "{name}");
        assert!(!dump.sockets.is_empty() && dump.skipped == 0, "{name}: {} skipped", dump.skipped);
    }
    tcptrace::formats::btf::needed(&file("btf/made")).expect("all that is needed");
}

#[test]
fn files_name_their_functions() {
    // `fetch` at 0x400110, with `twice` inlined into it: plain, with packed debugging information,
    // with unwinding information in .debug_frame only.
    for name in ["plain", "packed", "frame"] {
        let content = fs::read(folder("corpus").join("stacks").join(name)).expect("a file");
        let at = 0x40_0000 | u64::from(content[9]) << 8 | u64::from(content[10]);
        let (names, unwinds) = tcptrace::source::live::symbols::in_file(content, at).expect("ELF");
        assert_eq!(names.last().map(String::as_str), Some("fetch"), "{name}: {names:?}");
        assert!(unwinds, "{name}");
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz").join(name)
}

fn files(name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(name)).unwrap_or_else(|e| panic!("tests/fuzz/{name}: {e}"));
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn check(name: &str, target: fn(&[u8])) {
    let mut corpus = Vec::new();
    for path in files(&format!("corpus/{name}")) {
        let input = fs::read(&path).expect("a file of the corpus");
        // Shown where the target panics.
        eprintln!("{}", path.display());
        target(&input);
        corpus.push(input);
    }
    assert!(!corpus.is_empty(), "tests/fuzz/corpus/{name} is empty");

    let changed =
        (select(corpus.clone()), vec(change(corpus), 1..4)).prop_map(|(input, changes)| {
            changes.iter().fold(input, |input, change| change.apply(input))
        });
    let inputs = prop_oneof![1 => vec(any::<u8>(), 0..300), 4 => changed];
    let config = Config { cases: 1_000, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&inputs, |input| {
        target(&input);
        Ok(())
    });
    run.unwrap_or_else(|e| panic!("{e}"));
}

/// A small change of an input.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Flip(Index, u8),
    Cut(Index),
    /// Goes on as another input does.
    Splice(Index, Vec<u8>, Index),
}

fn change(corpus: Vec<Vec<u8>>) -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), prop_oneof![Just(0), Just(0xff), any::<u8>()])
            .prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), 0..8u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        at().prop_map(Change::Cut),
        (at(), select(corpus), at()).prop_map(|(at, other, from)| Change::Splice(at, other, from)),
    ]
}

impl Change {
    fn apply(&self, mut input: Vec<u8>) -> Vec<u8> {
        let len = input.len();
        match self {
            _ if len == 0 => {}
            Self::Set(at, byte) => input[at.index(len)] = *byte,
            Self::Flip(at, bit) => input[at.index(len)] ^= 1 << bit,
            Self::Cut(at) => input.truncate(at.index(len)),
            Self::Splice(at, other, from) => {
                input.truncate(at.index(len));
                input.extend(&other[from.index(other.len() + 1)..]);
            }
        }
        input
    }
}

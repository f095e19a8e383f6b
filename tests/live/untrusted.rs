//! Names that other people chose, made to steer the terminal, break a line, or be taken for a
//! formula: through every command and every format.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    process::{Command, Output},
};

use rustix::{
    fs::{CWD, Mode, OFlags, mkdir, openat},
    mount::{MountFlags, mount, mount_bind},
};
use serde_json::Value;

use crate::{
    check::own_mounts,
    limits::as_nobody,
    support::{cgroup::Cgroup, netns::Netns},
    tests,
    tracer::{Pair, netns, start, tcptrace},
};

tests![
    a_watch_of_processes_with_bad_names,
    a_snapshot_of_them,
    a_page_on_each,
    cgroups_with_bad_names,
    namespaces_with_bad_names,
    a_mount_whose_path_is_no_text,
    bad_arguments,
];

/// Command names, at most 15 bytes.
const NAMES: &[&[u8]] = &[
    b"\x1b]0;owned\x07x",
    b"\x1b[2J\x1b[1;31m\x7f",
    b"\xc2\x9b2J\xc2\x9d0;x\xc2\x9c",
    b"\x9b2J\x90\xff\xfe",
    b"a\nCLOSE_WAIT b",
    b"a\r\tb\x08\x0bc\x00",
    b"\"a,b\";'c\\n\\\"",
    b"=1+1",
    b"@SUM(A1)",
    b"+1",
    b"-1",
    b"\t=1",
    b"x;=1+1",
    b"x,=1+1,\"=1",
    b"\xef\xbc\x9d1+1",
    b"\xe2\x80\xaeexe\xe2\x81\xa6\xd8\x9c",
    b"a\xe2\x80\x8b\xef\xbb\xbf\xc2\xadb",
    b"\xf3\xa0\x81\x81\xe2\x80\xa8x\xe2\x80\xa9",
];

/// Servers with these names, each with a leak.
struct Leaks {
    ns: Netns,
    pairs: Vec<(Pair, &'static [u8])>,
}

impl Leaks {
    fn new() -> Self {
        let ns = netns();
        let pairs = NAMES.iter().map(|name| {
            let mut pair = Pair::new(&ns);
            let escaped: String = name.iter().map(|b| format!("\\x{b:02x}")).collect();
            // A name ends at its first NUL, and the actor's does where it says so.
            let escaped = escaped.trim_end_matches("\\x00");
            pair.server.tell(&format!("name {escaped}")).expect("renames itself");
            pair.client_closes();
            (pair, name.strip_suffix(b"\0").unwrap_or(name))
        });
        let pairs = pairs.collect();
        Self { ns, pairs }
    }

    fn scope(&self) -> [String; 2] {
        ["--netns".to_owned(), self.ns.path().to_str().expect("plain").to_owned()]
    }

    /// The servers' names by pid, as far as they are text.
    fn names(&self) -> HashMap<u64, String> {
        let name = |(pair, name): &(Pair, &[u8])| {
            (pair.server.pid().into(), String::from_utf8_lossy(name).into_owned())
        };
        self.pairs.iter().map(name).collect()
    }
}

/// Text that a terminal takes for nothing but text, in lines.
fn harmless(bytes: &[u8]) -> &str {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    let bad = |c: &char| {
        let reorders = matches!(*c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}');
        let hidden = matches!(
            *c,
            '\u{ad}' | '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{e0000}'
                ..='\u{e007f}'
        );
        (c.is_control() && *c != '\n') || reorders || hidden
    };
    assert_eq!(text.chars().find(bad), None, "{text}");
    text
}

/// What a command says, which is harmless on both sides.
fn said(command: &mut Command) -> (String, String, Option<i32>) {
    let Output { status, stdout, stderr } = command.output().expect("it runs");
    (harmless(&stdout).to_owned(), harmless(&stderr).to_owned(), status.code())
}

/// The rows of a CSV, whose cells are no formulas, also where semicolons separate.
fn rows(text: &str) -> Vec<HashMap<String, String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().expect("a header").clone();
    let rows = reader.records().map(|row| {
        let row = row.expect("a row of the same width");
        for cell in row.iter().flat_map(|cell| cell.split([';', ','])) {
            assert!(
                !cell.starts_with(['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠']),
                "a formula: {cell:?}"
            );
        }
        header.iter().map(str::to_owned).zip(row.iter().map(str::to_owned)).collect()
    });
    rows.collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

/// The one holder's pid and name.
fn holder(event: &Value) -> (u64, String) {
    let holders = event["holders"].as_array().expect("holders");
    assert_eq!(holders.len(), 1, "{event}");
    (
        holders[0]["pid"].as_u64().expect("a pid"),
        holders[0]["comm"].as_str().expect("a name").to_owned(),
    )
}

/// One command over all the leaks, in each format.
fn each_format(leaks: &Leaks, args: &[&str], event: &str) {
    let names = leaks.names();
    let run = |format: &str| {
        let (out, err, code) = said(
            tcptrace()
                .args(args)
                .args(leaks.scope())
                .args(["--format", format])
                .env("COLUMNS", "300"),
        );
        assert_eq!(code, Some(0), "{err}");
        out
    };
    let events: Vec<Value> =
        lines(&run("json")).into_iter().filter(|e| e["event"] == event).collect();
    assert_eq!(events.iter().map(holder).collect::<HashMap<_, _>>(), names);

    let rows: Vec<_> = rows(&run("csv")).into_iter().filter(|row| row["event"] == event).collect();
    assert_eq!(rows.len(), names.len());
    for pid in names.keys() {
        assert_eq!(
            rows.iter().filter(|row| row["holders"].contains(&format!("[{pid}]:"))).count(),
            1
        );
    }

    // A header, a row a leak, an empty line: a name that broke its row would show here.
    let table = run("table");
    let rows: Vec<&str> = table.lines().skip(1).take_while(|l| !l.is_empty()).collect();
    assert_eq!(rows.len(), names.len(), "{table}");
    assert!(rows.iter().all(|row| row.contains("CLOSE_WAIT") && row.contains(" fd ")), "{table}");
}

fn a_watch_of_processes_with_bad_names() {
    let leaks = Leaks::new();
    let count = NAMES.len().to_string();
    each_format(&leaks, &["watch", "--min-age", "100ms", "--count", &count], "stuck");
}

fn a_snapshot_of_them() {
    let leaks = Leaks::new();
    each_format(&leaks, &["snapshot"], "socket");
    each_format(&leaks, &["snapshot", "--no-bpf"], "socket");
    for format in ["table", "json", "csv"] {
        let args = ["snapshot", "--group-by", "holder", "--format", format];
        let (out, _, code) = said(tcptrace().args(args).args(leaks.scope()));
        assert_eq!(code, Some(0));
        if format == "csv" {
            assert_eq!(
                rows(&out).iter().filter(|row| row["event"] == "group").count(),
                NAMES.len()
            );
        }
    }
}

fn a_page_on_each() {
    let leaks = Leaks::new();
    for (pair, name) in &leaks.pairs {
        let pid = pair.server.pid().to_string();
        let page = |format| {
            // Without BPF: the words are the same, and each page takes a fraction of the time.
            let (out, err, code) =
                said(tcptrace().args(["explain", &pid, "--no-bpf", "--format", format]));
            assert_eq!(code, Some(0), "{err}");
            out
        };
        let title = page("table").lines().next().expect("a title").to_owned();
        assert!(title.ends_with(&format!("[{pid}]")), "{title}");
        assert_eq!(lines(&page("json"))[0]["comm"], *String::from_utf8_lossy(name));
    }
}

/// The kernel lets a cgroup be named anything but what holds a line end.
fn cgroups_with_bad_names() {
    for name in [&b"\x1b]0;owned\x07=x\xc2\x9b\"a,b\";=1\\"[..], b"a b\r", b"\xff\x9b"] {
        let name = OsStr::from_bytes(name);
        let cgroup = Cgroup::new(name).expect("root may make cgroups");
        let ns = netns();
        let server = start(&ns);
        cgroup.take("", &server).expect("moves");
        let mut pair = Pair::between(server, start(&ns), "127.0.0.1:0", "127.0.0.1");
        pair.client_closes();
        let shown = format!("/{}", cgroup.path().file_name().expect("a name").to_string_lossy());
        let path = ns.path();
        let scope = ["--netns", path.to_str().expect("plain")];
        for command in [&["watch", "--min-age", "100ms", "--count", "1"][..], &["snapshot"]] {
            for format in ["table", "json", "csv"] {
                let (out, err, code) =
                    said(tcptrace().args(command).args(scope).args(["--format", format]));
                assert_eq!(code, Some(0), "{err}");
                if format == "json" {
                    let event = &lines(&out)[0];
                    let cgroups = [&event["cgroup"], &event["holders"][0]["cgroup"]];
                    assert_eq!(cgroups, [shown.as_str(), &shown], "{event}");
                }
            }
        }
        let pid = pair.server.pid().to_string();
        for format in ["table", "json"] {
            said(tcptrace().args(["explain", &pid, "--no-bpf", "--format", format]));
        }
        let (out, err, code) =
            said(tcptrace().args(["snapshot", "--format", "json", "--cgroup"]).arg(cgroup.path()));
        match name.to_str() {
            Some(_) => assert_eq!(
                (code, holder(&lines(&out)[0]).0),
                (Some(0), pair.server.pid().into()),
                "{err}"
            ),
            None => assert_eq!((code, err.lines().count()), (Some(2), 1), "{err}"),
        }
    }
}

/// The command in a mount namespace of its own, where `ns` has a name for `ip netns`.
fn named(command: Command, name: &OsStr, ns: &Netns) -> Command {
    let names = PathBuf::from("/run/netns");
    let (file, from) = (names.join(name), ns.path());
    own_mounts(command, move || {
        mount(c"tmpfs", c"/run", c"tmpfs", MountFlags::empty(), None)?;
        mkdir(&names, Mode::from_raw_mode(0o755))?;
        openat(CWD, &file, OFlags::CREATE | OFlags::RDONLY, Mode::from_raw_mode(0o444))?;
        Ok(mount_bind(&from, &file)?)
    })
}

fn namespaces_with_bad_names() {
    for name in ["\u{1b}]0;owned\u{7}=x\u{9b}2J", "a\nb\r\t", "\"a,b\";\u{202e}\\"] {
        let ns = netns();
        let mut pair = Pair::new(&ns);
        pair.client_closes();
        let find = |command: Command, args: &[&str]| {
            said(named(command, OsStr::new(name), &ns).args(args).args(["--netns", name]))
        };
        for format in ["table", "json", "csv"] {
            let (out, err, code) = find(tcptrace(), &["snapshot", "--format", format]);
            assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        }
        let (out, _, code) =
            find(tcptrace(), &["watch", "--min-age", "100ms", "--count", "1", "--format", "json"]);
        assert_eq!((code, holder(&lines(&out)[0]).0), (Some(0), pair.server.pid().into()));
        // Out of reach for want of CAP_SYS_ADMIN, which a warning says with its path.
        let (_, err, code) =
            find(as_nobody("+bpf,+perfmon,+sys_ptrace"), &["watch", "--duration", "50ms"]);
        assert_eq!((code, err.lines().count()), (Some(0), 2), "{err}");
        assert!(err.contains("could not be entered") && err.contains("/run/netns/"), "{err}");
    }
}

/// As who has FUSE may make one: all that is found by the list of mounts is found all the same.
fn a_mount_whose_path_is_no_text() {
    let cgroup = Cgroup::new("mounts").expect("root may make cgroups");
    let ns = netns();
    let server = start(&ns);
    cgroup.take("", &server).expect("moves");
    let mut pair = Pair::between(server, start(&ns), "127.0.0.1:0", "127.0.0.1");
    pair.client_closes();
    let relative = cgroup.path().file_name().expect("a name");
    for command in [&["watch", "--min-age", "100ms", "--count", "1"][..], &["snapshot"]] {
        let mut own = named(tcptrace(), OsStr::from_bytes(b"\xff \x9b"), &ns);
        let (out, err, code) =
            said(own.args(command).args(["--format", "json", "--cgroup"]).arg(relative));
        assert_eq!((code, lines(&out).is_empty()), (Some(0), false), "{err}");
        assert_eq!(
            lines(&out)[0]["cgroup"]
                .as_str()
                .map(|c| c.ends_with(relative.to_str().expect("plain"))),
            Some(true)
        );
    }
}

/// One line that names the flag, exit code 2.
fn bad_arguments() {
    let flags = [
        "--cgroup",
        "--netns",
        "--comm",
        "--container",
        "--pid",
        "--state",
        "--local",
        "--verdict",
        "--btf",
    ];
    let values: [&[u8]; 6] = [
        b"/nonexistent/x\x1b]0;owned\x07",
        b"/nonexistent/x\xc2\x9b2J\r\x7f",
        b"/nonexistent/x\xff\x9b2J",
        b"/nonexistent/x\nUsage: y\n\nz",
        b"/nonexistent/x\xe2\x80\xaecod",
        b"/nonexistent/x\t=1",
    ];
    let mut bad: Vec<Vec<OsString>> = Vec::new();
    for value in values.map(OsStr::from_bytes) {
        let words = |words: &[&OsStr]| words.iter().map(OsString::from).collect::<Vec<_>>();
        bad.extend(flags.iter().map(|flag| words(&["watch".as_ref(), flag.as_ref(), value])));
        bad.push(words(&[value]));
        bad.push(words(&["watch".as_ref(), value]));
        bad.push(words(&["explain".as_ref(), value]));
        let mut flag = OsString::from("--");
        flag.push(value);
        bad.push(words(&["snapshot".as_ref(), &flag]));
    }
    for args in bad {
        let (out, err, code) = said(tcptrace().args(&args));
        assert_eq!((code, out.as_str(), err.lines().count()), (Some(2), "", 1), "{args:?}: {err}");
        assert!(err.starts_with("tcptrace: "), "{err}");
    }
}

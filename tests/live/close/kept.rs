//! What is kept of it: the journal, and a file.

use std::{fs, os::unix::net::UnixDatagram, path::Path, process::Command};

use rustix::mount::mount_bind;
use serde_json::Value;

use super::{Ran, command, would};
use crate::{
    check::own_mounts,
    support::netns::Netns,
    tests,
    tracer::{Pair, netns, tcptrace},
};

tests![in_the_journal_and_a_file, names_that_others_chose, a_file_that_is_none];

/// A journal of the test's own, where the command looks for the host's.
struct Journal {
    run: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Journal {
    fn new() -> Self {
        let run = tempfile::tempdir().expect("a directory");
        let place = run.path().join("systemd/journal");
        fs::create_dir_all(&place).expect("directories");
        let socket = UnixDatagram::bind(place.join("socket")).expect("a socket");
        socket.set_nonblocking(true).expect("it does not wait");
        Self { run, socket }
    }

    fn over(&self, command: Command) -> Command {
        let run = self.run.path().to_owned();
        own_mounts(command, move || Ok(mount_bind(&run, "/run")?))
    }

    /// What was sent to it: a datagram each.
    fn heard(&self) -> Vec<String> {
        let mut heard = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n) = self.socket.recv(&mut buffer) {
            heard.push(String::from_utf8(buffer[..n].to_vec()).expect("UTF-8"));
        }
        heard
    }
}

fn field<'a>(datagram: &'a str, name: &str) -> &'a str {
    let mut values = datagram.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = values.next().expect("the field");
    assert_eq!(values.next(), None, "once");
    value
}

fn leak(ns: &Netns) -> Pair {
    let mut pair = Pair::new(ns);
    pair.client_closes();
    would(ns, &[], 1);
    pair
}

fn in_the_journal_and_a_file() {
    let ns = netns();
    let _pair = leak(&ns);
    let journal = Journal::new();
    let kept = journal.run.path().join("audit.json");
    fs::write(&kept, "{}\n").expect("what was there before");
    let audit = kept.to_str().expect("a plain path");
    let ran = Ran::of(journal.over(command(&ns, &["--yes", "--audit", audit])));
    let closed = ran.only();
    let heard = journal.heard();
    assert_eq!(heard.len(), 1, "{heard:#?}");
    let message = field(&heard[0], "MESSAGE");
    let cookie = format!("cookie:{}", closed["cookie"]);
    assert!(message.starts_with("closed 127.0.0.1:") && message.contains(&cookie), "{message}");
    assert!(message.contains("(by uid 0"), "{message}");
    assert_eq!(field(&heard[0], "SYSLOG_IDENTIFIER"), "tcptrace");
    let event: Value = serde_json::from_str(field(&heard[0], "TCPTRACE_EVENT")).expect("JSON");
    assert_eq!(event, *closed);
    let file = fs::read_to_string(&kept).expect("it is there");
    let lines: Vec<Value> =
        file.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((lines.len(), &lines[1]), (2, closed), "appended");
    assert!(ran.err.is_empty(), "{}", ran.err);
}

/// A command name can't begin a field, nor a line.
fn names_that_others_chose() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.server.tell(r"name \x1b[31m\nPRIORITY=0").expect("renames itself");
    pair.client_closes();
    would(&ns, &[], 1);
    let journal = Journal::new();
    let mut table = tcptrace();
    table.args(["close", "--min-age", "0", "--yes", "--color", "always", "--netns"]);
    table.arg(ns.path());
    let output = journal.over(table).output().expect("it runs");
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(!out.contains("\u{1b}[31m\n") && out.contains(r"\u{1b}[31m\nPRIORIT"), "{out}");
    let heard = journal.heard();
    assert_eq!(heard.len(), 1);
    assert_eq!(field(&heard[0], "PRIORITY"), "5", "one, and ours");
    assert!(field(&heard[0], "MESSAGE").contains(r"\u{1b}[31m\nPRIORIT"), "{}", heard[0]);
    assert_eq!(heard[0].lines().count(), 5, "{}", heard[0]);
}

fn a_file_that_is_none() {
    let ns = netns();
    let _pair = leak(&ns);
    let directory = tempfile::tempdir().expect("a directory");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("/dev/null", &link).expect("a link");
    let none = directory.path().join("none/audit.json");
    for path in [directory.path(), &link, &none, Path::new("/dev/null")] {
        let ran = Ran::of(command(&ns, &["--yes", "--audit", path.to_str().expect("plain")]));
        assert_eq!((ran.code, ran.err.lines().count()), (Some(2), 1), "{}", ran.err);
        assert!(ran.err.contains("--audit"), "{}", ran.err);
    }
    would(&ns, &[], 1);
}

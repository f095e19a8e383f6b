//! Holders that can't be seen by who asks: nothing is concluded from that.

use std::{process::Command, time::Instant};

use serde_json::{Value, json};

use crate::{
    check::own_proc,
    limits::as_nobody,
    support::actor::Actor,
    tests,
    tracer::{DEADLINE, Pair},
};

tests![without_rights, where_other_users_are_hidden, root_without_ptrace];

/// Without any right: the sockets, and one's own processes.
fn without_rights() {
    let err = holders_unknown(|| as_nobody(""), &[]);
    assert!(err.contains("CAP_BPF") && err.contains("ghost-fd"), "{err}");
    assert!(!err.contains("hidepid"), "{err}");
}

/// As root of a container that has the host's pids: descriptors are listed, what they are is not
/// said.
fn root_without_ptrace() {
    let command = || {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]);
        command.arg(env!("CARGO_BIN_EXE_tcptrace"));
        command
    };
    holders_unknown(command, &["--no-bpf"]);
}

/// Other users' processes are not even listed, or can't be read: nothing is concluded from that.
fn where_other_users_are_hidden() {
    for (options, left_out) in
        [(c"hidepid=2", true), (c"hidepid=1", false), (c"hidepid=2,gid=65534", false)]
    {
        let err = holders_unknown(|| own_proc(as_nobody(""), options), &[]);
        assert_eq!(err.contains("mounted with hidepid"), left_out, "{options:?}: {err}");
    }
}

/// A leak of another user's, seen by a command that may not see its holder. Returns what else it
/// says.
fn holders_unknown(command: impl Fn() -> Command, args: &[&str]) -> String {
    let mut pair = Pair::between(plain(), plain(), "127.0.0.1:0", "127.0.0.1");
    pair.client_closes();
    let port = pair.address.port().to_string();
    let deadline = Instant::now() + DEADLINE;
    let (socket, err) = loop {
        let mut command = command();
        command.args(["snapshot", "--format", "json", "--lport", &port, "--local", "127.0.0.1"]);
        let output = command.args(args).output().expect("setpriv is there");
        assert_eq!(output.status.code(), Some(0));
        let out = String::from_utf8(output.stdout).expect("UTF-8");
        let first: Value = serde_json::from_str(out.lines().next().expect("a line")).expect("JSON");
        if first["event"] == "socket" {
            break (first, String::from_utf8(output.stderr).expect("UTF-8"));
        }
        assert!(Instant::now() < deadline, "{out}");
    };
    assert_eq!((&socket["verdict"], &socket["holders"]), (&json!("unread-fin"), &json!([])));
    assert!(
        socket["unknown"]["holders"]
            .as_str()
            .is_some_and(|why| why.contains("some processes can't be seen")),
        "{socket}"
    );
    err
}

/// An actor in the test's own namespace, by whose port alone it is looked for.
fn plain() -> Actor {
    Actor::start(None).expect("an actor")
}

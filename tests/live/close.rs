//! Connections that are ended from outside: how, which never, and what is left of them.

pub mod beside;
pub mod forged;
pub mod kept;
pub mod races;

use std::{process::Command, time::Instant};

use serde_json::{Value, json};
use tcptrace::view::json::schema;

use crate::{
    limits::as_nobody,
    snapshot::snapshot,
    support::{actor::Actor, netns::Netns},
    tests,
    tracer::{DEADLINE, Pair, Unaccepted, netns, start, tcptrace},
};

tests![
    an_accepted_one_is_shut_down,
    one_that_nobody_accepted_is_destroyed,
    one_in_flight_over_a_unix_socket,
    shared_by_fork,
    a_descriptor_of_one_thread,
    over_ipv6,
    mptcp,
    in_other_namespaces,
    what_is_no_leak_takes_force,
    a_ghost_is_for_its_process_to_close,
    no_more_than_max,
    without_rights,
    without_one_capability,
    root_of_a_user_namespace,
];

/// What a run said, and how it ended.
struct Ran {
    lines: Vec<Value>,
    summary: Value,
    code: Option<i32>,
    err: String,
}

impl Ran {
    fn of(mut command: Command) -> Self {
        let output = command.output().expect("it runs");
        let out = String::from_utf8(output.stdout).expect("UTF-8");
        let mut lines: Vec<Value> =
            out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        lines.iter().for_each(|line| assert_eq!(schema::check(line), Ok(()), "docs/json.md"));
        let summary = lines.pop().unwrap_or(Value::Null);
        let err = String::from_utf8(output.stderr).expect("UTF-8");
        Self { lines, summary, code: output.status.code(), err }
    }

    /// The one socket that it did something with.
    fn only(&self) -> &Value {
        assert_eq!((self.lines.len(), self.code), (1, Some(0)), "{:#?} {}", self.lines, self.err);
        &self.lines[0]
    }
}

/// tcptrace close in one namespace's scope, whatever the ages.
fn command(ns: &Netns, args: &[&str]) -> Command {
    within(tcptrace(), ns, args)
}

fn within(mut command: Command, ns: &Netns, args: &[&str]) -> Command {
    command.args(["close", "--format", "json", "--min-age", "0"]);
    command.arg("--netns").arg(ns.path()).args(args);
    command
}

fn close(ns: &Netns, args: &[&str]) -> Ran {
    Ran::of(command(ns, args))
}

/// The dry run, once it selects as many: a FIN needs a moment to arrive.
fn would(ns: &Netns, args: &[&str], count: usize) -> Ran {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let ran = close(ns, args);
        if ran.lines.len() == count {
            assert_eq!((ran.code, &ran.summary["dry_run"]), (Some(0), &json!(true)));
            return ran;
        }
        assert!(Instant::now() < deadline, "{count} sockets wanted: {:#?}", ran.lines);
    }
}

/// The state that the kernel shows of a socket.
fn state_of(ns: &Netns, cookie: &Value) -> Option<Value> {
    let (sockets, _) = snapshot(ns, &["--state", "all", "--no-bpf"]);
    sockets.iter().find(|s| s["cookie"] == *cookie).map(|s| s["state"].clone())
}

fn still_open(actor: &Actor, fd: u32) -> bool {
    let link = std::fs::read_link(format!("/proc/{}/fd/{fd}", actor.pid()));
    link.is_ok_and(|link| link.to_string_lossy().starts_with("socket:"))
}

/// A FIN for the peer, the end of the stream and what came before it for the process.
fn an_accepted_one_is_shut_down() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    let (connected, served) = (pair.connected, pair.served);
    pair.client.tell(&format!("send {connected} 5")).expect("sends");
    pair.client.tell(&format!("shutdown {connected}")).expect("half-closes");
    let would = would(&ns, &[], 1);
    let plan = &would.lines[0];
    assert_eq!((&plan["event"], &plan["how"]), (&json!("planned"), &json!("shutdown")));
    assert_eq!((&plan["state"], &plan["verdict"]), (&json!("CLOSE_WAIT"), &json!("unread-data")));
    assert_eq!(plan["holders"][0]["fd"], served);
    assert_eq!(state_of(&ns, &plan["cookie"]), Some(json!("CLOSE_WAIT")), "nothing was done");

    let ran = close(&ns, &["--yes"]);
    let closed = ran.only();
    assert_eq!((&closed["event"], &closed["cookie"]), (&json!("closed"), &plan["cookie"]));
    assert_eq!((&closed["how"], &closed["result"]), (&json!("shutdown"), &json!("closed")));
    assert_eq!((&closed["state_after"], &closed["error"]), (&json!("CLOSE"), &Value::Null));
    let held = json!([{ "pid": pair.server.pid(), "fd": served, "comm": closed["still_held"][0]["comm"] }]);
    assert_eq!(closed["still_held"], held);
    assert_eq!(closed["by"]["uid"], 0);
    assert_eq!(
        (&ran.summary["results"], &ran.summary["still_held"]),
        (&json!({"closed": 1}), &json!(1))
    );

    assert_eq!(state_of(&ns, &plan["cookie"]), None, "the kernel lists it no more");
    assert!(still_open(&pair.server, served));
    assert_eq!(pair.client.number(&format!("recv-fin {connected} 9")).expect("reads"), 0, "a FIN");
    assert_eq!(pair.server.number(&format!("recv {served} 9")).expect("reads"), 5, "nothing lost");
    assert_eq!(pair.server.number(&format!("recv {served} 9")).expect("reads"), 0, "its end");
}

/// Its place in the queue stays until somebody calls accept().
fn one_that_nobody_accepted_is_destroyed() {
    let ns = netns();
    let mut unaccepted = Unaccepted::new(&ns, 8);
    unaccepted.clients_give_up(1);
    let plan = would(&ns, &[], 1).lines.remove(0);
    assert_eq!((&plan["verdict"], &plan["how"]), (&json!("never-accepted"), &json!("destroy")));
    let only_shutdown = close(&ns, &["--how", "shutdown"]);
    assert_eq!(only_shutdown.only()["refused"], "no-descriptor");

    let ran = close(&ns, &["--yes"]);
    let closed = ran.only();
    assert_eq!((&closed["how"], &closed["result"]), (&json!("destroy"), &json!("closed")));
    assert_eq!((&closed["state_after"], &closed["still_held"]), (&Value::Null, &json!([])));
    assert!(closed["text"][1].as_str().expect("text").contains("accept queue"), "{closed}");
    assert_eq!(state_of(&ns, &plan["cookie"]), None);
    // It is still in the queue: accept() returns at once, and what it returns is over.
    let Unaccepted { server, listener, .. } = &mut unaccepted;
    let served = server.number(&format!("accept {listener}")).expect("accepts");
    assert_eq!(server.number(&format!("recv {served} 9")).expect("reads"), 0);
}

fn one_in_flight_over_a_unix_socket() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.server.tell(&format!("post {}", pair.served)).expect("posts");
    pair.client_closes();
    let plan = would(&ns, &[], 1).lines.remove(0);
    assert_eq!(
        (&plan["holder_source"], &plan["how"]),
        (&json!("outside-fd-tables"), &json!("destroy"))
    );
    assert_eq!(close(&ns, &["--yes"]).only()["result"], "closed");
    assert_eq!(state_of(&ns, &plan["cookie"]), None);
}

/// One shutdown ends it for both, and both keep their descriptors.
fn shared_by_fork() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    let child = pair.server.number("fork").expect("forks");
    pair.client_closes();
    let plan = would(&ns, &[], 1).lines.remove(0);
    assert_eq!(plan["verdict"], "inherited-fd");
    let ran = close(&ns, &["--yes"]);
    let closed = ran.only();
    assert_eq!((&closed["result"], &closed["state_after"]), (&json!("closed"), &json!("CLOSE")));
    let held: Vec<(Option<u64>, Option<u64>)> = closed["still_held"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|h| (h["pid"].as_u64(), h["fd"].as_u64()))
        .collect();
    let both =
        [pair.server.pid(), child].map(|pid| (Some(u64::from(pid)), Some(u64::from(pair.served))));
    assert_eq!(held, both);
    let said = closed["text"][1].as_str().expect("text");
    assert!(said.contains(&pair.server.pid().to_string()) && said.contains(&child.to_string()));
}

/// Only in the table of a thread: by its own pidfd, where the kernel has such.
fn a_descriptor_of_one_thread() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    let tid = pair.server.number(&format!("thread {}", pair.served)).expect("a thread");
    pair.client_closes();
    let plan = would(&ns, &[], 1).lines.remove(0);
    assert_eq!((&plan["holders"][0]["tid"], &plan["how"]), (&json!(tid), &json!("shutdown")));
    let ran = close(&ns, &["--yes"]);
    if ran.code == Some(1) {
        assert!(ran.lines[0]["error"].as_str().expect("why").contains("6.9"), "{}", ran.lines[0]);
        assert_eq!(close(&ns, &["--yes", "--how", "destroy"]).only()["result"], "closed");
    } else {
        assert_eq!(ran.only()["result"], "closed");
    }
    assert_eq!(state_of(&ns, &plan["cookie"]), None);
}

fn over_ipv6() {
    for (listen, by) in [("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")] {
        for how in ["shutdown", "destroy"] {
            let ns = netns();
            let mut pair = Pair::over(&ns, listen, by);
            pair.client_closes();
            let plan = would(&ns, &[], 1).lines.remove(0);
            let ran = close(&ns, &["--yes", "--how", how]);
            assert_eq!(ran.only()["result"], "closed", "{by} {how}");
            assert_eq!(state_of(&ns, &plan["cookie"]), None);
        }
    }
}

fn mptcp() {
    let ns = netns();
    let (mut server, mut client) = (start(&ns), start(&ns));
    let listener = server.number("listen-mptcp 127.0.0.1:0 8").expect("listens");
    let address = server.address(&format!("address {listener}")).expect("an address");
    let connected = client.number(&format!("connect-mptcp {address}")).expect("connects");
    let served = server.number(&format!("accept {listener}")).expect("accepts");
    client.tell(&format!("close {connected}")).expect("closes");
    let plan = would(&ns, &[], 1).lines.remove(0);
    assert_eq!((&plan["protocol"], &plan["how"]), (&json!("mptcp"), &json!("shutdown")));
    assert_eq!(close(&ns, &["--how", "destroy"]).only()["refused"], "mptcp");
    let ran = close(&ns, &["--yes"]);
    assert_eq!(ran.only()["result"], "closed");
    assert_eq!(server.number(&format!("recv {served} 9")).expect("reads"), 0);
}

/// From outside of both: one that is accepted here, one that is not there.
fn in_other_namespaces() {
    let (here, there) = (netns(), netns());
    let mut pair = Pair::new(&here);
    pair.client_closes();
    let mut unaccepted = Unaccepted::new(&there, 8);
    unaccepted.clients_give_up(1);
    would(&here, &[], 1);
    would(&there, &[], 1);
    let path = there.path();
    let ran = close(&here, &["--netns", path.to_str().expect("a plain path"), "--yes"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let mut done: Vec<Value> =
        ran.lines.iter().map(|line| json!([line["netns"], line["how"], line["result"]])).collect();
    done.sort_by_key(|line| line[1].to_string());
    let [destroyed, shut_down] = [(&there, "destroy"), (&here, "shutdown")]
        .map(|(ns, how)| json!([ns.inode(), how, "closed"]));
    assert_eq!(done, [destroyed, shut_down]);
}

fn what_is_no_leak_takes_force() {
    let ns = netns();
    let mut open = Pair::new(&ns);
    let mut used = Pair::new(&ns);
    used.client.tell(&format!("shutdown {}", used.connected)).expect("half-closes");
    while used.server.number(&format!("try-send {} 100000", used.served)).expect("sends") > 0 {}
    let refused = |ran: &Ran| {
        let mut all: Vec<String> = ran
            .lines
            .iter()
            .map(|line| line["refused"].as_str().unwrap_or("-").to_owned())
            .collect();
        all.sort();
        all
    };
    // Two ends that are open, a listener for each pair, a half-close, and its other side.
    let state = ["--state", "established,listen,close_wait,fin_wait2"];
    let ran = would(&ns, &state, 6);
    let none =
        ["established", "established", "half-close-in-use", "listener", "listener", "no-leak"];
    assert_eq!(refused(&ran), none);
    let ran = close(&ns, &[&state[..], &["--yes"]].concat());
    assert_eq!((refused(&ran).len(), &ran.summary["planned"], ran.code), (6, &json!(0), Some(0)));

    let port = open.address.port().to_string();
    let mine = ["--state", "established,listen", "--lport", &port, "--force", "--yes"];
    let ran = close(&ns, &mine);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let listener = ran.lines.iter().find(|line| line["event"] == "planned").expect("a listener");
    assert_eq!(listener["refused"], "listener", "whatever is asked for");
    let closed = ran.lines.iter().find(|line| line["event"] == "closed").expect("a connection");
    assert_eq!((&closed["state"], &closed["how"]), (&json!("ESTABLISHED"), &json!("shutdown")));
    let received = open.client.number(&format!("recv-fin {} 9", open.connected)).expect("reads");
    assert_eq!(received, 0, "its peer was told");
}

/// Nothing is left to be closed but the descriptor.
fn a_ghost_is_for_its_process_to_close() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.client.tell(&format!("reset {}", pair.connected)).expect("resets");
    let ran = would(&ns, &["--state", "close"], 1);
    assert_eq!(ran.lines[0]["refused"], "over");
    let why = ran.lines[0]["why"].as_str().expect("text");
    assert!(why.contains(&format!("has descriptor {}", pair.served)), "{why}");
    assert_eq!(close(&ns, &["--state", "close", "--yes", "--force"]).only()["refused"], "over");
    pair.server_closes();
}

fn no_more_than_max() {
    let ns = netns();
    let mut unaccepted = Unaccepted::new(&ns, 8);
    unaccepted.clients_give_up(3);
    would(&ns, &[], 3);
    let ran = close(&ns, &["--max", "2", "--yes"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(
        (&ran.summary["results"], &ran.summary["refused"]),
        (&json!({"closed": 2}), &json!({"beyond-max": 1}))
    );
    would(&ns, &[], 1);
    assert_eq!(close(&ns, &["--max", "2", "--yes"]).only()["result"], "closed");
}

/// Somebody else's connection, seen by nobody in particular.
fn without_rights() {
    let plain = || Actor::start(None).expect("an actor");
    let mut pair = Pair::between(plain(), plain(), "127.0.0.1:0", "127.0.0.1");
    pair.client_closes();
    let port = pair.address.port().to_string();
    let run = |args: &[&str]| {
        let mut command = as_nobody("");
        command.args(["close", "--format", "json", "--min-age", "0", "--lport", &port]);
        command.args(["--no-bpf", "--state", "close_wait"]).args(args);
        Ran::of(command)
    };
    let deadline = Instant::now() + DEADLINE;
    while run(&[]).lines.is_empty() {
        assert!(Instant::now() < deadline, "the FIN needs a moment");
    }
    assert_eq!(run(&[]).only()["refused"], "holders-hidden");
    let ran = run(&["--yes"]);
    let last = ran.err.lines().last().unwrap_or_default();
    assert_eq!(ran.code, Some(4), "{}", ran.err);
    assert!(
        last.contains("1 connection was left alone") && last.contains("CAP_SYS_PTRACE"),
        "{last}"
    );
    let ran = run(&["--yes", "--how", "destroy"]);
    let last = ran.err.lines().last().unwrap_or_default();
    assert_eq!((ran.code, ran.lines.len()), (Some(4), 0), "{}", ran.err);
    assert!(last.contains("nothing was closed") && last.contains("CAP_NET_ADMIN"), "{last}");
    assert!(still_open(&pair.server, pair.served));
}

/// Root of a container that lacks one of them.
fn without_one_capability() {
    let ns = netns();
    let mut unaccepted = Unaccepted::new(&ns, 8);
    unaccepted.clients_give_up(1);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    would(&ns, &[], 2);
    let without = |capability: &str, args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.arg(format!("--bounding-set=-{capability}"));
        command.arg(format!("--inh-caps=-{capability}"));
        command.arg(env!("CARGO_BIN_EXE_tcptrace"));
        Ran::of(within(command, &ns, args))
    };
    let ran = without("net_admin", &["--yes"]);
    assert_eq!((ran.code, ran.lines.len()), (Some(4), 0), "{}", ran.err);
    assert!(
        ran.err.contains("nothing was closed") && ran.err.contains("CAP_NET_ADMIN"),
        "{}",
        ran.err
    );
    // What takes only a descriptor goes without it.
    let ran = without("net_admin", &["--yes", "--how", "shutdown"]);
    assert_eq!(
        (ran.code, &ran.summary["results"]),
        (Some(0), &json!({"closed": 1})),
        "{}",
        ran.err
    );
    would(&ns, &[], 1);
}

/// Whose rights count in there only: the network namespace belongs to another.
fn root_of_a_user_namespace() {
    let ns = netns();
    let mut unaccepted = Unaccepted::new(&ns, 8);
    unaccepted.clients_give_up(1);
    would(&ns, &[], 1);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", env!("CARGO_BIN_EXE_tcptrace"), "close", "--yes"]);
    let port = unaccepted.address.port().to_string();
    command.args(["--format", "json", "--min-age", "0", "--lport", &port]);
    ns.enter_in(&mut command).expect("a way in");
    let ran = Ran::of(command);
    let last = ran.err.lines().last().unwrap_or_default();
    assert_eq!((ran.code, ran.lines.len()), (Some(4), 0), "{}", ran.err);
    assert!(last.contains("nothing was closed") && last.contains("CAP_NET_ADMIN"), "{last}");
    would(&ns, &[], 1);
}

//! What changes between being chosen and being closed: a command that is stopped in between.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tcptrace::view::json::schema;

use super::{close, command, state_of, would};
use crate::{
    snapshot::snapshot,
    support::netns::Netns,
    tests,
    tracer::{DEADLINE, Pair, Unaccepted, netns, start},
};

tests![
    recycled_just_before_a_shutdown,
    recycled_just_before_a_destroy,
    accepted_just_before_a_destroy,
    ctrl_c_ends_it_before_the_next,
    open_ones_are_never_hit,
];

/// A run with `--yes` of two sockets, stopped when the first of them is closed.
struct Paused {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Paused {
    fn after_the_first(ns: &Netns, args: &[&str]) -> (Self, Value) {
        let mut command = command(ns, &[&["--yes", "--rate", "1/s"], args].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let first = lines.next().expect("a line").expect("text");
        let paused = Self { child, lines };
        paused.signal(Signal::STOP);
        (paused, serde_json::from_str(&first).expect("JSON"))
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("it is there");
    }

    /// What it says from here on.
    fn rest(mut self) -> Vec<Value> {
        self.signal(Signal::CONT);
        let rest = self.lines.by_ref().map(|line| {
            let line = serde_json::from_str(&line.expect("text")).expect("JSON");
            assert_eq!(schema::check(&line), Ok(()), "docs/json.md");
            line
        });
        let rest = rest.collect();
        assert_eq!(self.child.wait().expect("it ends").code(), Some(0));
        rest
    }
}

fn recycled_just_before_a_shutdown() {
    recycled("shutdown");
}

fn recycled_just_before_a_destroy() {
    recycled("destroy");
}

/// Between being chosen and being closed, the second of two is closed by its program, and another
/// connection takes over its addresses, its ports and its descriptor, and leaks in its turn.
fn recycled(how: &str) {
    let ns = netns();
    let mut first = Pair::new(&ns);
    first.client_closes();
    would(&ns, &[], 1);
    let (mut server, mut client) = (start(&ns), start(&ns));
    let listener = server.number("listen 127.0.0.1:0 8").expect("listens");
    let address = server.address(&format!("address {listener}")).expect("an address");
    let connected = client.number(&format!("connect {address}")).expect("connects");
    let from = client.address(&format!("address {connected}")).expect("an address");
    let served = server.number(&format!("accept {listener}")).expect("accepts");
    client.tell(&format!("close {connected}")).expect("closes");
    let chosen = would(&ns, &[], 2).lines.remove(1);
    assert_eq!(chosen["remote"], from.to_string(), "the younger one is the second");

    let (paused, _) = Paused::after_the_first(&ns, &["--how", how]);
    // A reset leaves neither of its ends behind.
    server.tell(&format!("reset {served}")).expect("resets");
    let again = client.number(&format!("connect-from {from} {address}")).expect("connects");
    assert_eq!(server.number(&format!("accept {listener}")).expect("accepts"), served);
    client.tell(&format!("close {again}")).expect("closes");
    let rest = paused.rest();

    assert_eq!(
        (&rest[0]["cookie"], &rest[0]["result"]),
        (&chosen["cookie"], &json!("gone-before"))
    );
    let (now, _) = snapshot(&ns, &["--lport", &address.port().to_string()]);
    assert_eq!(now.len(), 1, "{now:#?}");
    assert_eq!(
        (&now[0]["local"], &now[0]["remote"], &now[0]["holders"][0]["fd"], &now[0]["state"]),
        (&chosen["local"], &chosen["remote"], &json!(served), &json!("CLOSE_WAIT")),
        "its successor was not hit"
    );
    assert_ne!(now[0]["cookie"], chosen["cookie"]);
}

/// One that waited when it was chosen, and then is in its program's hands.
fn accepted_just_before_a_destroy() {
    let ns = netns();
    let mut unaccepted = Unaccepted::new(&ns, 8);
    unaccepted.clients_give_up(2);
    would(&ns, &[], 2);
    let (paused, first) = Paused::after_the_first(&ns, &[]);
    assert_eq!(first["result"], "closed");
    let Unaccepted { server, listener, .. } = &mut unaccepted;
    for _ in 0..2 {
        server.number(&format!("accept {listener}")).expect("accepts");
    }
    let rest = paused.rest();
    assert_eq!(rest[0]["result"], "changed", "{}", rest[0]);
    assert_eq!(state_of(&ns, &rest[0]["cookie"]), Some(json!("CLOSE_WAIT")));
}

fn ctrl_c_ends_it_before_the_next() {
    let ns = netns();
    let mut unaccepted = Unaccepted::new(&ns, 8);
    unaccepted.clients_give_up(3);
    would(&ns, &[], 3);
    let (paused, _) = Paused::after_the_first(&ns, &[]);
    paused.signal(Signal::INT);
    let rest = paused.rest();
    let summary = rest.last().expect("the last word");
    assert_eq!((rest.len(), &summary["not_begun"]), (1, &json!(2)), "{rest:#?}");
    would(&ns, &[], 2);
}

/// Connections that are opened, half closed, and closed by their program, whose ports and
/// descriptors the next ones get, while leaks among them are closed from outside all the time: what
/// is open on both sides still carries what is sent.
fn open_ones_are_never_hit() {
    /// Of each way, at least.
    const CLOSED: u64 = 10;
    let ns = netns();
    let (mut server, mut client) = (start(&ns), start(&ns));
    let listener = server.number("listen 127.0.0.1:0 64").expect("listens");
    let address = server.address(&format!("address {listener}")).expect("an address");
    let over = AtomicBool::new(false);
    let closed = thread::scope(|scope| {
        let closes = scope.spawn(|| {
            let deadline = Instant::now() + DEADLINE;
            let closed = ["shutdown", "destroy"].map(|how| {
                let mut closed = 0;
                while closed < CLOSED && Instant::now() < deadline {
                    let args = ["--yes", "--no-bpf", "--rate", "5000", "--how", how];
                    let ran = close(&ns, &args);
                    assert_eq!(ran.code, Some(0), "{:#?} {}", ran.lines, ran.err);
                    closed += ran.summary["results"]["closed"].as_u64().unwrap_or(0);
                }
                closed
            });
            over.store(true, Ordering::Release);
            closed
        });
        let (mut open, mut leaks) = (VecDeque::new(), VecDeque::new());
        while !over.load(Ordering::Acquire) && !closes.is_finished() {
            let connected = client.number(&format!("connect {address}")).expect("connects");
            let served = server.number(&format!("accept {listener}")).expect("accepts");
            open.push_back((connected, served));
            for (connected, served) in &open {
                client.number(&format!("send {connected} 3")).expect("it is open");
                let got = server.number(&format!("recv {served} 3")).expect("it is open");
                assert_eq!(got, 3, "not its end");
            }
            if open.len() > 4
                && let Some((connected, served)) = open.pop_front()
            {
                client.tell(&format!("close {connected}")).expect("closes");
                leaks.push_back(served);
            }
            if leaks.len() > 200
                && let Some(served) = leaks.pop_front()
            {
                server.tell(&format!("close {served}")).expect("closes");
            }
        }
        closes.join().expect("it does not panic")
    });
    assert!(closed.iter().all(|n| *n >= CLOSED), "leaks were closed meanwhile: {closed:?}");
}

//! Servers that leak, fork, live in cgroups of their own and are killed at random; and ever again
//! what is said of them is held against what ss says. Twenty seconds, or as long as TCPTRACE_CHAOS
//! says (in seconds): `cargo xtask soak` is an hour.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    support::{actor::Actor, cgroup::Cgroup, netns::Netns},
    tests,
    tracer::{DEADLINE, Tracer, netns, run, start},
};

tests![what_is_said_is_what_ss_says];

const SERVERS: usize = 12;
const CLIENTS: usize = 6;
/// Of one server: what its clients can wait in.
const BACKLOG: u32 = 64;
const CONNECTIONS: usize = 300;
/// Between two comparisons.
const STEPS: usize = 300;

fn what_is_said_is_what_ss_says() {
    let seconds = std::env::var("TCPTRACE_CHAOS").ok().and_then(|s| s.parse().ok()).unwrap_or(20);
    let end = Instant::now() + Duration::from_secs(seconds);
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "300ms"]);
    let mut chaos = Chaos::new(&ns);
    let mut open = HashMap::new();
    let mut compared = 0;
    while Instant::now() < end {
        for _ in 0..STEPS {
            chaos.step();
            thread::sleep(Duration::from_millis(5));
        }
        compared += compare(&ns, &mut tracer, &mut open);
        if seconds > 60 {
            eprintln!("{} compared, {} of them now; {:?}", compared, open.len(), chaos.done);
        }
    }
    assert!(compared > 0, "something leaked");
    drop(chaos);
    compare(&ns, &mut tracer, &mut open);
    assert!(open.is_empty(), "all are dead, and still open: {open:?}");
    let (summary, _) = tracer.finish();
    let count = |name: &str| summary[name].as_u64().expect("a count");
    assert_eq!((count("stuck"), count("still_open")), (count("resolved"), 0), "{summary}");
    let transitions = |name: &str| summary["transitions"][name].as_u64().expect("a count");
    assert_eq!(transitions("seen"), transitions("filtered") + transitions("emitted"), "{summary}");
    assert_eq!(
        transitions("lost"),
        summary["lost"]["recursion"].as_u64().expect("a count"),
        "{summary}"
    );
}

/// Waits until what is said is what ss says: which sockets are in CLOSE_WAIT, and who holds each.
/// How many they are.
fn compare(ns: &Netns, tracer: &mut Tracer, open: &mut HashMap<u64, Value>) -> usize {
    let deadline = Instant::now() + DEADLINE;
    loop {
        tracer.hear(Duration::from_millis(200));
        for event in tracer.heard.drain(..) {
            let cookie = event["cookie"].as_u64().unwrap_or(0);
            match event["event"].as_str() {
                Some("stuck") if event["state"] == "CLOSE_WAIT" => drop(open.insert(cookie, event)),
                // A ghost is none of ss's.
                Some("stuck" | "resolved") => drop(open.remove(&cookie)),
                _ => {}
            }
        }
        let (theirs, ours) = (ss(ns), snapshot(ns));
        let said: BTreeSet<u64> = open.keys().copied().collect();
        let exist: BTreeSet<u64> = theirs.keys().copied().collect();
        if said == exist && ours == theirs {
            return exist.len();
        }
        assert!(
            Instant::now() < deadline,
            "said {said:?}\nexist {exist:?}\nours {ours:?}\ntheirs {theirs:?}"
        );
    }
}

/// Who holds which socket in CLOSE_WAIT, by pid; nobody where it waits to be accepted.
type Held = BTreeMap<u64, BTreeSet<u64>>;

fn ss(ns: &Netns) -> Held {
    let mut command = Command::new("ss");
    command.args(["-Htanpe", "state", "close-wait"]);
    ns.enter_in(&mut command).expect("a namespace");
    let output = command.output().expect("ss");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let held = text.lines().map(|line| {
        let cookie =
            line.split(" sk:").nth(1).and_then(|rest| rest.split(' ').next()).expect("a cookie");
        let pids = line
            .split("pid=")
            .skip(1)
            .map(|rest| rest.split(',').next().and_then(|p| p.parse().ok()));
        (
            u64::from_str_radix(cookie, 16).expect("hexadecimal"),
            pids.map(|pid| pid.expect("a pid")).collect(),
        )
    });
    held.collect()
}

fn snapshot(ns: &Netns) -> Held {
    let path = ns.path().display().to_string();
    let (status, out, err) = run(&["snapshot", "--format", "json", "--netns", &path]);
    assert!(status.success(), "{err}");
    let records = out.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
    let sockets = records.filter(|e| e["event"] == "socket" && e["state"] == "CLOSE_WAIT");
    let held = sockets.map(|e| {
        let by_descriptor = e["holder_source"] == "fd-table";
        let holders = e["holders"].as_array().into_iter().flatten().filter(|_| by_descriptor);
        (
            e["cookie"].as_u64().expect("a cookie"),
            holders.map(|h| h["pid"].as_u64().expect("a pid")).collect(),
        )
    });
    held.collect()
}

struct Server {
    actor: Actor,
    listener: u32,
    address: SocketAddr,
    served: Vec<u32>,
    children: Vec<u32>,
    /// Goes after what is in it.
    _cgroup: Option<Cgroup>,
}

/// What goes on.
struct Chaos<'a> {
    ns: &'a Netns,
    servers: Vec<Server>,
    /// Clients with their descriptors.
    clients: Vec<(Actor, Vec<u32>)>,
    random: u64,
    made: u32,
    done: BTreeMap<&'static str, u32>,
}

impl<'a> Chaos<'a> {
    fn new(ns: &'a Netns) -> Self {
        let clients = (0..CLIENTS).map(|_| (start(ns), Vec::new())).collect();
        let random = std::env::var("TCPTRACE_SEED")
            .ok()
            .and_then(|s| s.parse().ok())
            .unwrap_or(u64::from(std::process::id()));
        eprintln!("TCPTRACE_SEED={random}");
        Self {
            ns,
            servers: Vec::new(),
            clients,
            random: random | 1,
            made: 0,
            done: BTreeMap::new(),
        }
    }

    /// Below `n` (xorshift64*).
    fn below(&mut self, n: usize) -> usize {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n.max(1)
    }

    /// One thing that happens. What can't happen now does not.
    fn step(&mut self) {
        let what = match self.below(100) {
            0..3 => self.begin(),
            3..5 => self.kill(),
            5..9 => self.fork(),
            9..12 => self.end_child(),
            12..45 => self.connect(true),
            45..50 => self.connect(false),
            50..75 => self.client_ends("close"),
            75..80 => self.client_ends("reset"),
            80..97 => self.server_ends("close"),
            _ => self.server_ends("shutdown"),
        };
        *self.done.entry(what.unwrap_or("nothing")).or_default() += 1;
    }

    /// A server starts; one in three in a container, as far as its cgroup tells.
    fn begin(&mut self) -> Option<&'static str> {
        if self.servers.len() >= SERVERS {
            return None;
        }
        let mut actor = start(self.ns);
        self.made += 1;
        let cgroup = self.made.is_multiple_of(3).then(|| {
            let cgroup = Cgroup::new(format!("docker-{:064x}.scope", self.made)).expect("a cgroup");
            cgroup.take("below", &actor).expect("moves");
            cgroup
        });
        let listener = actor.number(&format!("listen 127.0.0.1:0 {BACKLOG}")).expect("listens");
        let address = actor.address(&format!("address {listener}")).expect("an address");
        let (served, children) = (Vec::new(), Vec::new());
        self.servers.push(Server { actor, listener, address, served, children, _cgroup: cgroup });
        Some("begin")
    }

    fn some_server(&mut self) -> Option<usize> {
        (!self.servers.is_empty()).then(|| self.below(self.servers.len()))
    }

    /// Killed, with all it holds; its children go with it.
    fn kill(&mut self) -> Option<&'static str> {
        let n = self.some_server()?;
        self.servers.swap_remove(n);
        Some("kill")
    }

    fn fork(&mut self) -> Option<&'static str> {
        let n = self.some_server()?;
        let server = &mut self.servers[n];
        if server.children.len() >= 3 {
            return None;
        }
        server.children.push(server.actor.number("fork").expect("forks"));
        Some("fork")
    }

    fn end_child(&mut self) -> Option<&'static str> {
        let n = self.some_server()?;
        let server = &mut self.servers[n];
        let child = server.children.pop()?;
        server.actor.tell(&format!("end {child}")).expect("ends it");
        Some("end a child")
    }

    fn connect(&mut self, accept: bool) -> Option<&'static str> {
        let (n, c) = (self.some_server()?, self.below(CLIENTS));
        let open: usize = self.clients.iter().map(|(_, fds)| fds.len()).sum();
        let server = &mut self.servers[n];
        // Its backlog must not fill up with those that wait: a client would wait with it.
        if open >= CONNECTIONS || server.served.len() >= BACKLOG as usize / 2 {
            return None;
        }
        let (client, fds) = &mut self.clients[c];
        fds.push(client.number(&format!("connect {}", server.address)).expect("connects"));
        if !accept {
            return (self.below(2) == 0).then_some("connect");
        }
        // Perhaps one that has waited longer.
        server
            .served
            .push(server.actor.number(&format!("accept {}", server.listener)).expect("accepts"));
        Some("connect, accept")
    }

    fn client_ends(&mut self, how: &'static str) -> Option<&'static str> {
        let (c, at) = (self.below(CLIENTS), self.below(1 << 20));
        let (client, fds) = &mut self.clients[c];
        let at = at % fds.len().max(1);
        let fd = (!fds.is_empty()).then(|| fds.swap_remove(at))?;
        client.tell(&format!("{how} {fd}")).expect("ends it");
        Some(how)
    }

    fn server_ends(&mut self, how: &'static str) -> Option<&'static str> {
        let (n, at) = (self.some_server()?, self.below(1 << 20));
        let server = &mut self.servers[n];
        let at = at % server.served.len().max(1);
        let fd = (!server.served.is_empty()).then(|| server.served.swap_remove(at))?;
        // Who was reset can't be shut down.
        let answer = server.actor.tell(&format!("{how} {fd}"));
        if how == "shutdown" {
            server.served.push(fd);
        } else {
            answer.expect("closes");
        }
        Some(how)
    }
}

//! A running tcptrace: its JSON lines, one by one, with a deadline.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tcptrace::view::json::schema;

use crate::support::{actor::Actor, bpf::Held, load::run_load, netns::Netns};

/// No condition takes longer than this on a machine that works; slow ones get a little more.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A watch that prints JSON.
pub struct Tracer {
    child: Child,
    lines: Receiver<String>,
    /// What it has in the kernel.
    held: Held,
    /// Everything heard so far.
    pub heard: Vec<Value>,
}

/// The command, with the binary that was built with this test.
pub fn tcptrace() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcptrace"));
    command.env("LANG", "C.UTF-8").stdin(Stdio::null());
    // Whoever started this test may ignore them, as nohup does, and a shell for what it has in the
    // background; then no shell below can wait for them either (POSIX, trap).
    // SAFETY: signal() is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM] {
                libc::signal(signal.as_raw(), libc::SIG_DFL);
            }
            Ok(())
        });
    }
    command
}

impl Tracer {
    /// Starts `tcptrace watch --format json` in one namespace's scope, and waits until it is
    /// attached.
    pub fn watch(netns: &Netns, args: &[&str]) -> Self {
        let path = netns.path();
        let scope = ["--netns", path.to_str().expect("a plain path")];
        Self::unscoped(&[&scope, args].concat())
    }

    /// As [`Self::watch`]; the arguments must do the selecting.
    pub fn unscoped(args: &[&str]) -> Self {
        let mut command = tcptrace();
        command.args(["watch", "--format", "json"]).args(args);
        Self::start(command)
    }

    /// Starts a command that prints JSON lines and says on stderr when it is watching.
    pub fn start(mut command: Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("tcptrace starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let mut stderr = BufReader::new(child.stderr.take().expect("stderr"));
        let mut said = String::new();
        while !said.contains("watching ") {
            let n = stderr.read_line(&mut said).expect("stderr");
            assert!(n > 0, "tcptrace ended before it was attached: {said}");
        }
        // What else it says must not block it.
        thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let held = Held::by(child.id()).expect("it is watching");
        Self { child, lines, held, heard: Vec::new() }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next event that fits, others are passed over (and kept in `heard`).
    pub fn wait_for(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let event = self.take(&line);
                    if fits(&event) {
                        return event;
                    }
                }
                Err(e) => panic!("no {what} ({e}); heard {:#?}", self.heard),
            }
        }
    }

    /// Takes in what is said within a time.
    pub fn hear(&mut self, within: Duration) {
        let end = Instant::now() + within;
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.take(&line);
        }
    }

    /// The next event of a kind.
    pub fn next(&mut self, event: &str) -> Value {
        self.wait_for(event, |e| e["event"] == event)
    }

    fn take(&mut self, line: &str) -> Value {
        let event: Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON ({e}): {line}"));
        assert_eq!(schema::check(&event), Ok(()), "docs/json.md");
        self.heard.push(event.clone());
        event
    }

    /// What it has in the kernel now.
    pub fn held(&self) -> Held {
        Held::by(self.pid()).expect("it runs")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("the tracer is there");
    }

    /// Ends it with Ctrl-C; returns the summary and how it ended.
    pub fn finish(mut self) -> (Value, ExitStatus) {
        self.held = self.held();
        self.signal(Signal::INT);
        self.ended()
    }

    /// Waits until it ends by itself and nothing of it is left in the kernel; returns the last line
    /// and how it ended.
    pub fn ended(&mut self) -> (Value, ExitStatus) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => drop(self.take(&line)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("tcptrace does not end; heard {:#?}", self.heard)
                }
            }
        }
        let status = self.child.wait().expect("it ended");
        nothing_left(&self.held);
        (self.heard.last().cloned().unwrap_or(Value::Null), status)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the kernel has none of these objects any more: it takes them apart after the
/// process. What a watch has was seen before, or nothing would be shown.
pub fn nothing_left(held: &Held) {
    for kind in ["prog_id", "map_id", "link_id"] {
        assert!(held.count(kind) > 0, "a watch has some {kind}: {held:?}");
    }
    let deadline = Instant::now() + DEADLINE;
    while !held.left().is_empty() {
        assert!(Instant::now() < deadline, "still in the kernel: {:?}", held.left());
        thread::yield_now();
    }
}

/// Runs tcptrace to its end: status, stdout, stderr.
pub fn run(args: &[&str]) -> (ExitStatus, String, String) {
    let mut child = tcptrace()
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tcptrace starts");
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().expect("stdout").read_to_string(&mut out).expect("UTF-8");
    child.stderr.take().expect("stderr").read_to_string(&mut err).expect("UTF-8");
    (child.wait().expect("it ends"), out, err)
}

/// Two processes with a connection between them.
pub struct Pair {
    pub server: Actor,
    pub client: Actor,
    /// The server's descriptor for the connection.
    pub served: u32,
    /// The client's.
    pub connected: u32,
    /// Where the server listens.
    pub address: std::net::SocketAddr,
}

impl Pair {
    /// Over 127.0.0.1.
    pub fn new(netns: &Netns) -> Self {
        Self::over(netns, "127.0.0.1:0", "127.0.0.1")
    }

    /// A server bound to `listen`, a client that connects to it by the address `by`.
    pub fn over(netns: &Netns, listen: &str, by: &str) -> Self {
        Self::between(start(netns), start(netns), listen, by)
    }

    /// As [`Self::over`], between given actors.
    pub fn between(mut server: Actor, mut client: Actor, listen: &str, by: &str) -> Self {
        let listener = server.number(&format!("listen {listen} 8")).expect("listens");
        let address = server.address(&format!("address {listener}")).expect("an address");
        let to = std::net::SocketAddr::new(by.parse().expect("an address"), address.port());
        let connected = client.number(&format!("connect {to}")).expect("connects");
        let served = server.number(&format!("accept {listener}")).expect("accepts");
        Self { server, client, served, connected, address }
    }

    /// The client goes: the server is left with a CLOSE_WAIT.
    pub fn client_closes(&mut self) {
        let fd = self.connected;
        self.client.tell(&format!("close {fd}")).expect("closes");
    }

    /// The server closes what it served.
    pub fn server_closes(&mut self) {
        let fd = self.served;
        self.server.tell(&format!("close {fd}")).expect("closes");
    }
}

/// A server that accepts nobody, and its clients.
pub struct Unaccepted {
    pub server: Actor,
    pub client: Actor,
    /// The server's descriptor for the listener.
    pub listener: u32,
    /// Where it listens.
    pub address: std::net::SocketAddr,
}

impl Unaccepted {
    /// On 127.0.0.1, with a limit for its queue.
    pub fn new(netns: &Netns, backlog: u32) -> Self {
        let (mut server, client) = (start(netns), start(netns));
        let listener = server.number(&format!("listen 127.0.0.1:0 {backlog}")).expect("listens");
        let address = server.address(&format!("address {listener}")).expect("an address");
        Self { server, client, listener, address }
    }

    /// So many clients connect and go: each leaves a CLOSE_WAIT in the queue.
    pub fn clients_give_up(&mut self, count: usize) {
        for _ in 0..count {
            let connected =
                self.client.number(&format!("connect {}", self.address)).expect("connects");
            self.client.tell(&format!("close {connected}")).expect("closes");
        }
    }
}

/// An actor in a namespace.
pub fn start(netns: &Netns) -> Actor {
    Actor::start(Some(netns)).expect("an actor")
}

/// Runs a load to its end: the kernel's too, which may take the last packets in when the programs
/// are done.
pub fn load(ns: &Netns, count: u64) {
    assert_eq!(run_load(ns, count).expect("the load runs").connections, count);
    let deadline = Instant::now() + DEADLINE;
    while last_acks(ns) > 0 {
        assert!(Instant::now() < deadline, "closed, and not acknowledged");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Sockets in LAST_ACK: their peers have passed through all states when these leave.
fn last_acks(ns: &Netns) -> usize {
    const LAST_ACK: &str = "09";
    let look = || {
        ns.enter().expect("enters");
        let text = std::fs::read_to_string("/proc/thread-self/net/tcp").expect("a table");
        text.lines().filter(|line| line.split_whitespace().nth(3) == Some(LAST_ACK)).count()
    };
    thread::scope(|scope| scope.spawn(look).join().expect("it does not panic"))
}

/// A namespace of the test's own.
pub fn netns() -> Netns {
    Netns::new().expect("root may make a network namespace")
}

/// The pids of an event's holders, in order.
pub fn holder_pids(event: &Value) -> Vec<u64> {
    let holders = event["holders"].as_array().expect("holders");
    holders.iter().map(|h| h["pid"].as_u64().expect("a pid")).collect()
}

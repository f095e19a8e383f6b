//! An agent that tests ask.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::Value;

pub use crate::support::agent::Agent;
use crate::{
    support::netns::Netns,
    tracer::{DEADLINE, tcptrace},
};

impl Agent {
    /// Of one network namespace; it listens outside of it.
    pub fn of(ns: &Netns, args: &[&str]) -> Self {
        let agent = Self::start(ns, args);
        let deadline = Instant::now() + DEADLINE;
        while agent.get("/readyz").0 != 200 {
            assert!(Instant::now() < deadline, "it gets ready");
        }
        agent
    }

    /// The same, before it is ready.
    pub fn start(ns: &Netns, args: &[&str]) -> Self {
        let mut command = tcptrace();
        command.args(["serve", "--listen", "127.0.0.1:0", "--min-age", "200ms", "--netns"]);
        Self::serving(command.arg(ns.path()).args(args)).expect("it serves")
    }

    /// A connection to it.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.at).expect("connects");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time out");
        stream
    }

    /// Asks for a path: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        self.ask(path, "")
    }

    /// The same with headers, each ended.
    pub fn ask(&self, path: &str, headers: &str) -> (u16, String) {
        let host = self.at;
        let (status, _, body) =
            self.raw(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}"));
        (status, body)
    }

    /// Status, head and body of a request without its last lines.
    pub fn raw(&self, request: &str) -> (u16, String, String) {
        let (status, head, body) = self.bytes(request);
        (status, head, String::from_utf8_lossy(&body).into_owned())
    }

    /// The same of a body that may be anything.
    pub fn bytes(&self, request: &str) -> (u16, String, Vec<u8>) {
        let mut stream = self.connect();
        let request = format!("{request}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sends");
        let mut answer = Vec::new();
        // Who is refused may be cut off while it still sends.
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let body = end.map(|end| answer[end + 4..].to_vec()).unwrap_or_default();
        answer.truncate(end.unwrap_or(answer.len()));
        let head = String::from_utf8_lossy(&answer).to_lowercase();
        let status = head.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
        (status, head, body)
    }

    /// What a path answers.
    pub fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
    }

    /// The first event of a kind, among those that are kept.
    pub fn first_event(&self, kind: &str) -> Value {
        let mut stream = self.connect();
        let host = self.at;
        // Of another run: it hears all that is kept.
        let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\n");
        let request = format!("{request}Last-Event-ID: 1-1\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("asks");
        let mut is_it = false;
        for line in BufReader::new(stream).lines() {
            let line = line.expect("a line");
            if let Some(data) = line.strip_prefix("data: ").filter(|_| is_it) {
                return serde_json::from_str(data).expect("JSON");
            }
            is_it = line.strip_prefix("event: ").map_or(is_it, |event| event == kind);
        }
        panic!("no {kind}")
    }

    /// The value of a sample; 0 where there is none.
    pub fn metric(&self, sample: &str) -> f64 {
        let (status, body) = self.get("/metrics");
        assert_eq!(status, 200, "{body}");
        let line = body.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Waits until something is so.
    pub fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "{what}: {}", self.get("/metrics").1);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Resident memory, KiB.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

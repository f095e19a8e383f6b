//! What tcptrace says about a namespace, against what the kernel's own table says.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use procfs::{net::TcpState, process::Process};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    support::{actor::Actor, netns::Netns},
    tracer::{DEADLINE, Tracer, netns, run, start},
};

/// The two ends of a socket, as tcptrace writes them: local, remote.
type Ends = (String, String);

/// A socket in the kernel's table: bytes to read, and the inode, which is 0 before accept().
#[derive(Debug, PartialEq, Eq)]
struct Row {
    recv_q: u64,
    inode: u64,
}

/// A network namespace with a watch on it.
pub struct Scene {
    pub ns: Netns,
    pub tracer: Tracer,
    /// Sits in the namespace, so that /proc shows its tables.
    witness: Actor,
}

impl Scene {
    pub fn new() -> Self {
        Self::with_min_age("200ms")
    }

    pub fn with_min_age(min_age: &str) -> Self {
        Self::watched_by(&["--min-age", min_age])
    }

    /// One that keeps what the watch learns.
    pub fn recorded(file: &Path) -> Self {
        let file = file.to_str().expect("a plain path");
        Self::watched_by(&["--min-age", "200ms", "--record", file])
    }

    fn watched_by(args: &[&str]) -> Self {
        let ns = netns();
        let tracer = Tracer::watch(&ns, args);
        let witness = start(&ns);
        Self { ns, tracer, witness }
    }

    /// Waits until `count` sockets are in CLOSE_WAIT, then checks what tcptrace says of them: the
    /// watch, which saw them come, and a snapshot, which finds them there.
    pub fn leaks(&mut self, count: usize, check: impl Fn(&[Value])) {
        // A program may read on for a moment: Recv-Q only shrinks after the FIN, so what was the
        // same before and after the reports was so all the time.
        let (table, watched) = loop {
            let table = self.settled(count);
            let watched = self.watched(&table);
            if self.close_wait() == table {
                break (table, watched);
            }
        };
        agree("the watch", &watched, &table, self.ns.inode());
        check(&watched);
        let found = snapshot(&self.ns, &[]);
        agree("a snapshot", &found, &table, self.ns.inode());
        check(&found);
    }

    /// Waits until `count` leaks of those that were reported are resolved.
    pub fn resolved(&mut self, count: usize) -> Vec<Value> {
        (0..count).map(|_| self.tracer.next("resolved")).collect()
    }

    /// Ends the watch; `open` leaks are left, and nothing of theirs was lost.
    pub fn ends_with(self, open: usize) -> Value {
        let (summary, status) = self.tracer.finish();
        assert_eq!(status.code(), Some(0));
        assert_eq!(summary["still_open"], open, "{summary}");
        // Runs that were missed to recursion are counted for the whole machine: they are others' as
        // well.
        for kind in ["ring_full", "storage_failed", "skipped"] {
            assert_eq!(summary["lost"][kind], 0, "{summary}");
        }
        summary
    }

    /// The same of one that is recorded; all that the watch said.
    pub fn ends_recorded(mut self, open: usize) -> Vec<Value> {
        self.tracer.signal(Signal::INT);
        let (summary, status) = self.tracer.ended();
        assert_eq!((status.code(), &summary["still_open"]), (Some(0), &json!(open)), "{summary}");
        std::mem::take(&mut self.tracer.heard)
    }

    /// The kernel's CLOSE_WAIT sockets, once there are `count`.
    fn settled(&self, count: usize) -> BTreeMap<Ends, Row> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let table = self.close_wait();
            if table.len() == count {
                return table;
            }
            assert!(Instant::now() < deadline, "{count} in CLOSE_WAIT expected: {table:#?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn close_wait(&self) -> BTreeMap<Ends, Row> {
        let process = Process::new(self.witness.pid().cast_signed()).expect("the witness is there");
        let (v4, v6) = (process.tcp().expect("its table"), process.tcp6().unwrap_or_default());
        let rows = v4.into_iter().chain(v6).filter(|e| e.state == TcpState::CloseWait);
        rows.map(|e| {
            let ends = (e.local_address.to_string(), e.remote_address.to_string());
            (ends, Row { recv_q: u64::from(e.rx_queue), inode: e.inode })
        })
        .collect()
    }

    /// What the watch says from now on of each socket in the table, and of any other that is still
    /// open.
    fn watched(&mut self, table: &BTreeMap<Ends, Row>) -> Vec<Value> {
        // What it said before was true then.
        let now = Timestamp::now();
        let mut anew = BTreeSet::new();
        while !table.keys().all(|ends| anew.contains(ends)) {
            let event = self
                .tracer
                .wait_for("new report of each leak", |e| e["event"] == "stuck" && time(e) > now);
            anew.insert(ends(&event));
        }
        // One that was reported before and has not been since is invented, unless it was resolved.
        let mut open: BTreeMap<Ends, Value> = BTreeMap::new();
        for event in &self.tracer.heard {
            match event["event"].as_str() {
                Some("stuck") => drop(open.insert(ends(event), event.clone())),
                Some("resolved") => drop(open.remove(&ends(event))),
                _ => {}
            }
        }
        open.into_values().collect()
    }
}

fn time(event: &Value) -> Timestamp {
    event["time"].as_str().expect("a time").parse().expect("RFC 3339")
}

fn ends(record: &Value) -> Ends {
    let end = |name: &str| record[name].as_str().expect("an address").to_owned();
    (end("local"), end("remote"))
}

/// The records are of the table's sockets: none is missed, none invented, and their evidence is
/// true.
fn agree(who: &str, records: &[Value], table: &BTreeMap<Ends, Row>, netns: u64) {
    let told: BTreeMap<Ends, Row> = records
        .iter()
        .map(|r| {
            let evidence = &r["evidence"];
            let recv_q = evidence["recv_q"].as_u64().unwrap_or_else(|| panic!("Recv-Q: {r}"));
            // Before accept() there is no inode; it must say so.
            let none = || r["unknown"]["inode"].is_string().then_some(0);
            let inode =
                evidence["inode"].as_u64().or_else(none).unwrap_or_else(|| panic!("inode: {r}"));
            (ends(r), Row { recv_q, inode })
        })
        .collect();
    assert_eq!(&told, table, "{who} against /proc/net/tcp");
    assert_eq!(records.len(), table.len(), "no socket twice");
    for r in records {
        assert_eq!(
            (r["state"].as_str(), r["netns"].as_u64()),
            (Some("CLOSE_WAIT"), Some(netns)),
            "{r}"
        );
    }
}

/// What a snapshot of the namespace finds.
pub fn snapshot(netns: &Netns, args: &[&str]) -> Vec<Value> {
    let path = netns.path();
    let (status, out, err) = run(&[
        &["snapshot", "--format", "json", "--netns", path.to_str().expect("a plain path")],
        args,
    ]
    .concat());
    assert_eq!(status.code(), Some(0), "{err}");
    let mut lines: Vec<Value> =
        out.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(lines.pop().expect("a last line")["event"], "summary");
    assert!(lines.iter().all(|l| l["event"] == "socket"), "{lines:#?}");
    lines
}

/// How many records have each value of a field.
pub fn count_by<'a>(
    records: impl IntoIterator<Item = &'a Value>,
    field: &str,
) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for r in records {
        *counts.entry(r[field].as_str().unwrap_or("null").to_owned()).or_insert(0) += 1;
    }
    counts
}

/// The verdict of a socket whose end came at about the time of the client's last recv(): that took
/// the FIN with the data, or it didn't. Recv-Q tells.
pub fn by_queue(record: &Value) -> &'static str {
    match record["evidence"]["recv_q"].as_u64() {
        Some(0) => "eof-not-closed",
        Some(1) => "unread-fin",
        _ => panic!("all data were read: {record}"),
    }
}

//! A watch that asks for origins, programs that leak in its namespace, and what is said of them.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Display,
    fs,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use procfs::{net::TcpState, process::Process};
use serde_json::Value;

use crate::{
    service::Service,
    support::netns::Netns,
    tracer::{DEADLINE, Tracer, holder_pids, netns},
};

/// A network namespace, and the watch on it.
pub struct Scene {
    pub ns: Netns,
    tracer: Option<Tracer>,
    /// The sockets that were told of.
    named: HashSet<u64>,
}

/// A program that said where it listens.
pub struct Program {
    pub service: Service,
    pub port: u16,
    pub pid: u64,
}

impl Scene {
    /// One that is watched from the start.
    pub fn new() -> Self {
        let mut scene = Self::unwatched();
        scene.watch();
        scene
    }

    /// One in which something can happen before the watch.
    pub fn unwatched() -> Self {
        Self { ns: netns(), tracer: None, named: HashSet::new() }
    }

    /// Starts the watch.
    pub fn watch(&mut self) {
        self.tracer = Some(Tracer::watch(&self.ns, &["--origins", "--min-age", "500ms"]));
    }

    /// Starts a program of ours: `PROGRAM HOW COUNT PORT`.
    pub fn program(&self, command: Command, how: &str, count: usize, port: u16) -> Program {
        let mut command = command;
        command.args([how, &count.to_string(), &port.to_string()]);
        let mut service = Service::start(&self.ns, command);
        let said = service.says("ready");
        let (port, pid) = said.split_once(' ').expect("PORT PID");
        let (port, pid) = (port.parse().expect("a port"), pid.parse().expect("a pid"));
        Program { service, port, pid }
    }

    /// One that serves; so many customers come, say something, and go.
    pub fn server(&self, command: Command, how: &str, count: usize) -> Program {
        let program = self.program(command, how, count, 0);
        self.customers(program.port, count);
        program
    }

    /// One that is a client: what it connects to sends a page and closes.
    pub fn client(&self, command: Command, count: usize) -> Program {
        let supplier = self.inside(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let port = supplier.local_addr().expect("an address").port();
        let program = self.program(command, "connect", count, port);
        for _ in 0..count {
            let (mut connection, _) = supplier.accept().expect("accepts");
            connection.write_all(b"a page\n").expect("sends");
        }
        program
    }

    /// So many clients that connect, send a line and close.
    pub fn customers(&self, port: u16, count: usize) {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.inside(|| {
            (0..count).try_for_each(|_| TcpStream::connect(to)?.write_all(b"an order\n"))
        });
    }

    /// Waits until a program has accepted so many connections whose peers have gone.
    pub fn until_accepted(&self, program: &Program, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        let process = Process::new(program.service.pid().cast_signed()).expect("it runs");
        loop {
            let (v4, v6) = (process.tcp().expect("a table"), process.tcp6().unwrap_or_default());
            let all = v4.into_iter().chain(v6).filter(|e| e.state == TcpState::CloseWait);
            // Before accept() there is no inode.
            let accepted = all.filter(|e| e.inode != 0).count();
            if accepted == count {
                return;
            }
            assert!(Instant::now() < deadline, "{accepted} accepted, not {count}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Does something in the namespace, in a thread that it has to itself.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> io::Result<T> + Send) -> T {
        let ns = &self.ns;
        let acts = move || {
            ns.enter()?;
            act()
        };
        thread::scope(|scope| scope.spawn(acts).join().expect("it does not panic"))
            .expect("a network of our own")
    }

    /// What is said of so many leaks that nothing was said of before, once functions have their
    /// names: a leak is told again as it gets older.
    pub fn leaks(&mut self, count: usize) -> Vec<Value> {
        let tracer = self.tracer.as_mut().expect("a watch");
        let mut leaks = BTreeMap::new();
        while leaks.values().filter(|leak| is_whole(leak)).count() < count {
            let stuck = tracer.next("stuck");
            let cookie = stuck["cookie"].as_u64().expect("a cookie");
            if !self.named.contains(&cookie) {
                leaks.insert(cookie, stuck);
            }
        }
        assert_eq!(leaks.len(), count, "{leaks:#?}");
        self.named.extend(leaks.keys());
        leaks.into_values().collect()
    }

    /// What is said of a leak when it has got older.
    pub fn again(&mut self, leak: &Value) -> Value {
        let tracer = self.tracer.as_mut().expect("a watch");
        tracer.wait_for("older leak", |e| e["event"] == "stuck" && e["cookie"] == leak["cookie"])
    }

    /// Ends the watch: it lost nothing, and so many leaks are open.
    pub fn ends_with(self, open: usize) {
        let (summary, status) = self.tracer.expect("a watch").finish();
        assert_eq!(status.code(), Some(0), "{summary}");
        assert_eq!(summary["still_open"], open, "{summary}");
        for kind in ["ring_full", "storage_failed", "skipped"] {
            assert_eq!(summary["lost"][kind], 0, "{summary}");
        }
    }
}

/// Looking functions up may take longer than a scan waits: then it says so.
fn is_whole(record: &Value) -> bool {
    ["origin", "last_read", "end_read"].into_iter().all(|name| {
        let moment = &record[name];
        moment.is_null()
            || moment["frames"].is_array()
            || !moment["cut"].as_str().is_some_and(|why| why.contains("being looked up"))
    })
}

/// Why it sits there, whose it is, and that only this process holds it.
pub fn expect_leak(record: &Value, verdict: &str, role: &str, holder: u64) {
    assert_eq!(record["verdict"], verdict, "{record}");
    assert_eq!(record["role"], role, "{record}");
    assert_eq!(holder_pids(record), [holder], "{record}");
}

/// Who did something: the process and the name of its thread.
pub fn expect_thread(moment: &Value, pid: u64, name: &str) {
    assert_eq!(moment["pid"], pid, "{moment:#}");
    assert_eq!(moment["name"], name, "{moment:#}");
    assert!(moment["thread"].as_u64().is_some_and(|tid| tid >= pid), "{moment:#}");
    assert!(moment["time"].is_string(), "{moment:#}");
    // The thread may have ended since.
    let thread = format!("/proc/{pid}/task/{}/comm", moment["thread"]);
    if let Ok(comm) = fs::read_to_string(thread) {
        assert_eq!(comm.trim_end(), name, "{moment:#}");
    }
}

/// The functions of a stack, the innermost first; others may be between them.
pub fn expect_frames(moment: &Value, functions: &[&str]) {
    let frames = moment["frames"].as_array().unwrap_or_else(|| panic!("frames: {moment:#}"));
    let mut frames = frames.iter();
    for function in functions {
        assert!(frames.any(|frame| names(frame, function)), "{function} in {moment:#}");
    }
}

/// The frame of a function.
pub fn frame<'a>(moment: &'a Value, function: &str) -> &'a Value {
    let frames = moment["frames"].as_array().unwrap_or_else(|| panic!("frames: {moment:#}"));
    frames
        .iter()
        .find(|frame| names(frame, function))
        .unwrap_or_else(|| panic!("{function} in {moment:#}"))
}

/// Whether a frame is a function's: languages write more around a name.
fn names(frame: &Value, function: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |said: &str| {
        said.match_indices(function).any(|(at, _)| {
            !said[..at].ends_with(word) && !said[at + function.len()..].starts_with(word)
        })
    };
    frame["function"].as_str().is_some_and(whole)
}

/// None of the frames is of the program's own functions.
pub fn expect_no_own(moment: &Value) {
    let frames = moment["frames"].as_array().unwrap_or_else(|| panic!("frames: {moment:#}"));
    assert!(frames.iter().all(|frame| frame["code"] != "own"), "{moment:#}");
}

/// The module that frames are in, as the process sees it.
pub fn expect_module(frame: &Value, module: &Path) {
    assert_eq!(frame["module"].as_str().map(Path::new), Some(module), "{frame:#}");
}

/// Not known, with a reason that holds this text.
pub fn expect_unknown(record: &Value, what: &str, reason: impl Display) {
    assert!(record[what].is_null(), "{record}");
    let said = record["unknown"][what].as_str().unwrap_or_else(|| panic!("{what}: {record}"));
    assert!(said.contains(&reason.to_string()), "{said}");
}

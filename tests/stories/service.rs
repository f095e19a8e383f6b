//! The software of a story: processes in the test's network namespace, that end with the test.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use procfs::{
    net::TcpState,
    process::{Process, all_processes},
};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::{support::netns::Netns, tracer::DEADLINE};

/// Where `cargo xtask stories` keeps what it installed.
pub fn cache() -> Option<PathBuf> {
    std::env::var_os("TCPTRACE_STORIES").filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// A file of `tests/stories`.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/stories").join(name)
}

/// A process, and what it forked: one process group.
pub struct Service {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    stderr: File,
}

impl Service {
    /// A script of `tests/stories`, run by what its name says.
    pub fn script(netns: &Netns, name: &str, args: &[&str]) -> Self {
        let cache = cache().expect("the story is skipped without it");
        let mut command = match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("py") => Command::new(cache.join("venv/bin/python")),
            Some("js") => Command::new("node"),
            Some("php") => Command::new("php"),
            _ => panic!("what runs {name}?"),
        };
        command.arg(file(name)).args(args);
        Self::start(netns, command)
    }

    /// nginx with a configuration of `tests/stories`, all its files below a directory of the
    /// test's.
    pub fn nginx(netns: &Netns, configuration: &str, dir: &Path) -> Self {
        fs::create_dir_all(dir.join("tmp")).expect("a directory of our own");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir).arg("-c").arg(file(configuration)).args(["-e", "stderr"]);
        Self::start(netns, command)
    }

    /// mosquitto, likewise.
    pub fn mosquitto(netns: &Netns) -> Self {
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(file("mosquitto.conf"));
        Self::start(netns, command)
    }

    /// A command that was put together elsewhere.
    pub fn start(netns: &Netns, mut command: Command) -> Self {
        let stderr = tempfile::tempfile().expect("a file for stderr");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr.try_clone().expect("a descriptor"));
        // A Python that is started for the first time would leave files beside the scripts.
        command.env("PYTHONDONTWRITEBYTECODE", "1").process_group(0);
        netns.enter_in(&mut command).expect("a descriptor");
        // SAFETY: prctl is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                // If the test is killed, nobody is there to end the group; SIGTERM lets nginx end
                // its workers.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let input = child.stdin.take().expect("stdin");
        let stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, input, lines, stderr }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The pids of its children.
    pub fn children(&self) -> Vec<u32> {
        let all = all_processes().expect("/proc").flatten().filter_map(|p| p.stat().ok());
        all.filter(|s| s.ppid.cast_unsigned() == self.pid())
            .map(|s| s.pid.cast_unsigned())
            .collect()
    }

    /// Writes it a line.
    pub fn tell(&mut self, line: &str) {
        if let Err(e) = writeln!(self.input, "{line}") {
            panic!("{line:?} can't be told: {e}; {}", self.complaints());
        }
    }

    /// Waits for its next line, which must begin with `word`; returns the rest.
    pub fn says(&mut self, word: &str) -> String {
        let line = match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(e) => panic!("no {word:?} ({e}); {}", self.complaints()),
        };
        let rest = line.strip_prefix(word).unwrap_or_else(|| panic!("{line:?} is not {word:?}"));
        rest.trim_start().to_owned()
    }

    /// Tells it something and waits until it is done.
    pub fn does(&mut self, line: &str) {
        self.tell(line);
        self.says("done");
    }

    /// Waits until somebody in its namespace listens on a port.
    pub fn listens(&mut self, port: u16) {
        let listens = |pid: u32| -> bool {
            let table = Process::new(pid.cast_signed()).and_then(|p| p.tcp()).unwrap_or_default();
            table.iter().any(|e| e.state == TcpState::Listen && e.local_address.port() == port)
        };
        let deadline = Instant::now() + DEADLINE;
        while !listens(self.pid()) {
            let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            assert!(
                !ended && Instant::now() < deadline,
                "port {port} is not listened on; {}",
                self.complaints()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn complaints(&mut self) -> String {
        let mut text = Vec::new();
        let read = self.stderr.rewind().and_then(|()| self.stderr.read_to_end(&mut text));
        let read = read.map(|_| String::from_utf8_lossy(&text));
        format!("its stderr: {}", read.unwrap_or_else(|e: io::Error| e.to_string().into()))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Not waited for yet, so its pid is still its own, and its group's.
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

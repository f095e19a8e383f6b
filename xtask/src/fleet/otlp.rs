//! An agent that sends to a real collector (Rotel, of PyPI), over HTTP and gRPC. What the collector
//! sends on, and what the agent sends, is decoded by the messages that PyPI has of the protocol.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{DEADLINE, Directory, Started, say, wait};
use crate::{
    cargo::{cargo, check, root},
    setup::{self, quiet},
    support::{actor::Actor, agent::Agent, netns::Netns},
};

const DECODER: &str = "127.0.0.1:4319";
const HTTP: &str = "127.0.0.1:4318";
const GRPC: &str = "127.0.0.1:4317";

/// All ways, as far as what they need can be had.
pub fn run() -> Result<()> {
    let venv = match python() {
        Ok(venv) => venv,
        Err(e) => {
            eprintln!("SKIPPED: the collector can't be had: {e:#}");
            eprintln!("3 ways, 3 skipped");
            return Ok(());
        }
    };
    // With debug assertions: it dies of a system call that is not allowed.
    check(cargo()?.args(["build", "--locked", "--package", "tcptrace", "--bin", "tcptrace"]))?;
    let tcptrace = root().join("target/debug/tcptrace");
    let dir = Directory::new()?;
    let here = Netns::new().context("a network namespace")?;
    here.enter()?;
    let decoder = Decoder::start(&venv, &dir)?;
    let mut skipped = 0;
    let _rotel = match rotel(&venv, &dir) {
        Ok(rotel) => Some(rotel),
        Err(e) => {
            eprintln!("SKIPPED: Rotel does not run here: {e:#}");
            skipped = 2;
            None
        }
    };
    way("straight to the decoder", &tcptrace, &decoder, DECODER, "http/protobuf")?;
    if skipped == 0 {
        way("through Rotel by HTTP", &tcptrace, &decoder, HTTP, "http/protobuf")?;
        way("through Rotel by gRPC", &tcptrace, &decoder, GRPC, "grpc")?;
    }
    say(&format!("3 ways, {} well, {skipped} skipped", 3 - skipped));
    Ok(())
}

/// A leak, seen by an agent, arrives: as a log record, and in the metrics.
fn way(what: &str, tcptrace: &Path, decoder: &Decoder, at: &str, protocol: &str) -> Result<()> {
    let netns = Netns::new().context("a network namespace")?;
    let mut server = Actor::start(Some(&netns))?;
    server.tell("name leaky-server")?;
    let mut client = Actor::start(Some(&netns))?;
    let listener = server.number("listen 127.0.0.1:8080 64")?;
    let mut command = Command::new(tcptrace);
    command.args(["serve", "--min-age", "1s", "--listen", "127.0.0.1:0", "--netns"]);
    command.arg(netns.path()).args(["--otlp", &format!("http://{at}"), "--otlp-interval", "1s"]);
    command.args(["--otlp-protocol", protocol]);
    let _agent = Agent::serving(&mut command)?;
    let connected = client.number("connect 127.0.0.1:8080")?;
    server.number(&format!("accept {listener}"))?;
    client.tell(&format!("close {connected}"))?;
    let pid = server.pid().to_string();
    let record = decoder.find("a log record", |path, message| {
        let is = |record: &Value| attribute(record, "process.pid") == Some(&pid);
        let logs = list(message, &["resourceLogs", "scopeLogs", "logRecords"]);
        logs.into_iter().filter(|_| path == "/v1/logs").find(is)
    })?;
    let expected = [
        ("network.transport", "tcp"),
        ("network.connection.state", "close_wait"),
        ("process.title", "leaky-server"),
        ("tcptrace.verdict", "unread-fin"),
    ];
    for (key, value) in expected {
        ensure!(attribute(&record, key) == Some(value), "{what}: {key}: {record:#}");
    }
    for (key, value) in [("severityText", "WARN"), ("eventName", "tcptrace.stuck")] {
        ensure!(record[key] == value, "{what}: {key}: {record:#}");
    }
    decoder.find("a metric", |path, message| {
        let metrics = list(message, &["resourceMetrics", "scopeMetrics", "metrics"]);
        metrics.into_iter().filter(|_| path == "/v1/metrics").find(|metric| {
            let points = list(metric, &["gauge", "dataPoints"]);
            metric["name"] == "tcptrace.leaks"
                && points.iter().any(|point| {
                    attribute(point, "workload") == Some("leaky-server") && point["asInt"] == "1"
                })
        })
    })?;
    let body = record["body"]["stringValue"].as_str().unwrap_or_default();
    say(&format!("{what}: {body}"));
    say(&format!("{what}: tcptrace.leaks is 1"));
    if at == DECODER {
        let shown = serde_json::to_string_pretty(&record)?;
        fs::write(root().join("target/fleet/record.json"), shown)?;
    }
    Ok(())
}

/// What is in lists in lists.
fn list(value: &Value, keys: &[&str]) -> Vec<Value> {
    let Some((key, rest)) = keys.split_first() else { return vec![value.clone()] };
    match &value[*key] {
        Value::Array(values) => values.iter().flat_map(|value| list(value, rest)).collect(),
        Value::Null => Vec::new(),
        value => list(value, rest),
    }
}

fn attribute<'a>(of: &'a Value, key: &str) -> Option<&'a str> {
    let pair = of["attributes"].as_array()?.iter().find(|pair| pair["key"] == key)?;
    pair["value"].as_object()?.values().next()?.as_str()
}

/// Decodes what comes.
struct Decoder {
    received: Receiver<Value>,
    child: Child,
}

impl Drop for Decoder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Decoder {
    fn start(venv: &Path, dir: &Directory) -> Result<Self> {
        let script = root().join("xtask/src/fleet/decoder.py");
        let port = DECODER.rsplit(':').next().unwrap_or_default();
        let mut child = Command::new(venv.join("bin/python"))
            .arg(script)
            .arg(port)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(dir.0.join("decoder.log"))?)
            .spawn()
            .context("the decoder")?;
        let lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        let (tell, received) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Ok(told) = serde_json::from_str(&line) else { continue };
                if tell.send(told).is_err() {
                    return;
                }
            }
        });
        let decoder = Self { received, child };
        wait("the decoder", || Ok(std::net::TcpStream::connect(DECODER).is_ok()))?;
        Ok(decoder)
    }

    /// The first of what comes that fits.
    fn find(&self, what: &str, fits: impl Fn(&str, &Value) -> Option<Value>) -> Result<Value> {
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(told) = self.received.recv_timeout(left) else {
                bail!("{what} did not arrive; see target/fleet");
            };
            let path = told["path"].as_str().unwrap_or_default();
            if let Some(found) = fits(path, &told["message"]) {
                return Ok(found);
            }
        }
    }
}

/// The collector, which sends all on to the decoder.
fn rotel(venv: &Path, dir: &Directory) -> Result<Started> {
    let program = fs::read_dir(venv.join("lib"))?
        .flatten()
        .map(|python| python.path().join("site-packages/rotel/rotel-agent"))
        .find(|path| path.exists())
        .context("the package has no rotel-agent")?;
    let mut command = Command::new(program);
    command.args(["start", "--otlp-http-endpoint", HTTP, "--otlp-grpc-endpoint", GRPC]);
    command.args(["--debug-log", "logs", "--debug-log", "metrics"]);
    command.args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"]);
    command.args(["--otlp-exporter-endpoint", &format!("http://{DECODER}")]);
    let log = dir.0.join("rotel.log");
    let rotel = Started::new(&mut command, &log)?;
    let said = || fs::read_to_string(&log).unwrap_or_default();
    wait("Rotel", || Ok(std::net::TcpStream::connect(GRPC).is_ok()))
        .with_context(|| said().lines().last().unwrap_or_default().to_owned())?;
    Ok(rotel)
}

/// A virtual environment with the pinned packages.
fn python() -> Result<PathBuf> {
    let cache = root().join("target/otlp");
    let pinned = root().join("xtask/src/fleet/requirements.txt");
    let (venv, done) = (cache.join("venv"), cache.join("requirements.txt"));
    let wanted = fs::read(&pinned).with_context(|| pinned.display().to_string())?;
    if fs::read(&done).is_ok_and(|installed| installed == wanted) && venv.exists() {
        return Ok(venv);
    }
    fs::create_dir_all(&cache)?;
    eprintln!("installing Python packages into {}", venv.display());
    let make = || quiet(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
    // Debian's python3 comes without what venv needs, and no program says that it is there.
    if !make() {
        setup::packages(&[("python3-venv", "python3-venv", "python3")])?;
        ensure!(make(), "python3 -m venv {} fails", venv.display());
    }
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    check(pip.arg(&pinned))?;
    fs::write(done, wanted)?;
    Ok(venv)
}

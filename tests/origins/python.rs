//! Python: with `-X perf` each function has code of its own, which a map names; without, the
//! interpreter's functions are all there is.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::{
    build,
    perf_map::PerfMap,
    scene::{Scene, expect_frames, expect_leak, expect_no_own, expect_thread},
    service::Service,
    tests,
    tracer::holder_pids,
};

tests![
    perf,
    perf_never_read,
    perf_as_a_client,
    without_perf,
    gunicorn_forks_a_job,
    gunicorn_forks_a_job_perf,
];

/// Why a test of this module can't run here.
pub fn missing(name: &str) -> Option<String> {
    let Some(python) = python() else {
        return Some("cargo xtask origins brings the Python that it needs".to_owned());
    };
    let named =
        name.ends_with("perf") && !name.ends_with("without_perf") || name.contains("::perf");
    let able = !named || has_perf(&python);
    (!able).then(|| "no Python of 3.12 or newer, which has -X perf, could be had".to_owned())
}

/// Whether it has `-X perf`; the map that it writes is removed.
fn has_perf(python: &Path) -> bool {
    let asks = "import sys; sys.exit(not sys.is_stack_trampoline_active())";
    let child = Command::new(python).args(["-X", "perf", "-c", asks]).spawn();
    child.is_ok_and(|mut child| {
        let _map = PerfMap::of(child.id().into());
        child.wait().is_ok_and(|status| status.success())
    })
}

/// The Python of the virtual environment in which gunicorn is.
fn python() -> Option<PathBuf> {
    let cache = PathBuf::from(std::env::var_os("TCPTRACE_ORIGINS")?);
    Some(cache.join("venv/bin/python")).filter(|python| python.exists())
}

fn interpreter(flags: &[&str]) -> Command {
    let mut command = Command::new(python().expect("the test is skipped without it"));
    command.args(flags);
    command
}

fn orders(flags: &[&str]) -> Command {
    let mut command = interpreter(flags);
    command.arg(build::source("orders.py"));
    command
}

const PERF: &[&str] = &["-X", "perf"];

fn perf() {
    let mut scene = Scene::new();
    let server = scene.server(orders(PERF), "accept", 2);
    let _map = PerfMap::of(server.pid);
    for leak in scene.leaks(2) {
        expect_leak(&leak, "eof-not-closed", "server", server.pid);
        let accept = ["accept", "take_order", "get_request", "serve_forever", "serve_orders"];
        expect_frames(&leak["origin"], &accept);
        expect_frames(&leak["end_read"], &["fetch", "Crawler.handle"]);
    }
    scene.ends_with(2);
}

fn perf_never_read() {
    let mut scene = Scene::new();
    let server = scene.server(orders(PERF), "ignore", 2);
    let _map = PerfMap::of(server.pid);
    for leak in scene.leaks(2) {
        expect_leak(&leak, "unread-data", "server", server.pid);
        expect_frames(&leak["origin"], &["take_order", "serve_orders"]);
        assert!(leak["last_read"].is_null() && leak["end_read"].is_null(), "{leak:#}");
    }
    scene.ends_with(2);
}

fn perf_as_a_client() {
    let mut scene = Scene::new();
    let client = scene.client(orders(PERF), 2);
    let _map = PerfMap::of(client.pid);
    for leak in scene.leaks(2) {
        expect_leak(&leak, "eof-not-closed", "client", client.pid);
        expect_frames(&leak["origin"], &["dial_supplier", "dial_suppliers"]);
        expect_frames(&leak["end_read"], &["fetch", "dial_suppliers"]);
    }
    scene.ends_with(2);
}

/// The thread is named, and the C functions; the program's own are not.
fn without_perf() {
    let mut scene = Scene::new();
    let server = scene.server(orders(&[]), "accept", 1);
    let leak = scene.leaks(1).remove(0);
    expect_leak(&leak, "eof-not-closed", "server", server.pid);
    expect_thread(&leak["origin"], server.pid, &comm(server.pid));
    expect_frames(&leak["origin"], &["_PyEval_EvalFrameDefault"]);
    expect_no_own(&leak["origin"]);
    scene.ends_with(1);
}

/// What the kernel calls a process.
fn comm(pid: u64) -> String {
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("it runs");
    comm.trim_end().to_owned()
}

const PORT: u16 = 8000;

/// The worker accepts an order and forks a job, answers, and closes its own descriptor; the job has
/// another one.
fn gunicorn(flags: &[&str]) -> (Scene, Service, serde_json::Value, [u64; 2]) {
    let mut scene = Scene::new();
    let mut command = interpreter(flags);
    let folder = build::source("");
    command.args(["-m", "gunicorn", "--workers", "1", "--bind", &format!("127.0.0.1:{PORT}")]);
    command.arg("--chdir").arg(folder).arg("shop:app");
    let mut service = Service::start(&scene.ns, command);
    service.listens(PORT);
    scene.inside(|| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
        stream.write_all(
            b"POST /orders HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: 3\r\n\
              Expect: 100-continue\r\n\r\n",
        )?;
        let mut answer = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        answer.read_line(&mut line)?;
        assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
        stream.write_all(b"tea")?;
        line.clear();
        // The job keeps the connection open: no end comes, but what was answered does.
        while !line.ends_with("\r\n\r\n") {
            let mut byte = [0];
            answer.read_exact(&mut byte)?;
            line.push(byte[0].into());
        }
        Ok(())
    });
    let said = service.says("job");
    let (job, worker) = said.split_once(' ').expect("JOB WORKER");
    let (job, worker) = (job.parse().expect("a pid"), worker.parse().expect("a pid"));
    let leak = scene.leaks(1).remove(0);
    assert_eq!(holder_pids(&leak), [job], "{leak}");
    (scene, service, leak, [worker, job])
}

fn gunicorn_forks_a_job() {
    let (scene, _service, leak, [worker, _]) = gunicorn(&[]);
    expect_inherited(&leak, worker);
    scene.ends_with(1);
}

fn gunicorn_forks_a_job_perf() {
    let (scene, service, leak, [worker, job]) = gunicorn(PERF);
    let _maps = [worker, job, u64::from(service.pid())].map(PerfMap::of);
    expect_inherited(&leak, worker);
    expect_frames(&leak["origin"], &["accept", "run_for_one", "run"]);
    expect_frames(&leak["last_read"], &["recv", "take_order", "app", "handle_request"]);
    scene.ends_with(1);
}

/// The worker is named as the opener, though it closed before anybody looked.
fn expect_inherited(leak: &serde_json::Value, worker: u64) {
    assert_eq!(leak["verdict"], json!("inherited-fd"), "{leak:#}");
    assert_eq!(leak["origin"]["pid"], worker, "{leak:#}");
}

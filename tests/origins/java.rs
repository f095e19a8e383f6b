//! Java: threads have names, and a map of compiled code, written when asked, has the functions.

use std::{
    fs,
    io::ErrorKind,
    os::unix::net::UnixListener,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tcptrace::view::json::schema;

use crate::{
    build,
    perf_map::PerfMap,
    scene::{Program, Scene, expect_frames, expect_leak, expect_thread, expect_unknown, frame},
    tests,
    tracer::{DEADLINE, run},
};

tests![
    server_socket,
    channels,
    never_read,
    as_a_client,
    interpreted,
    a_map_that_comes_later,
    asked_where_its_threads_are,
    asked_in_a_container,
    asked_where_another_listens,
    not_asked_where_it_would_end,
    not_asked_where_it_refuses,
    not_asked_while_it_is_stopped,
];

/// Why tests of this module can't run here.
pub fn missing(_: &str) -> Option<String> {
    let there = build::has("javac", "-version") && build::has("jcmd", "-h");
    (!there).then(|| "no Java development kit of 17 or newer is here".to_owned())
}

/// All is compiled at its first call, by the compiler that never has to take code back, and each
/// function for itself: what is inlined into another has no name in the map.
const COMPILED: &[&str] = &[
    "-Xcomp",
    "-XX:TieredStopAtLevel=1",
    "-XX:CompileCommand=quiet",
    "-XX:CompileCommand=dontinline,Orders*::*",
];

fn orders(flags: &[&str]) -> Command {
    let classes = build::built("Orders.java", |out| {
        let mut javac = Command::new("javac");
        javac.args(["--release", "17", "-g", "-d"]).arg(out).arg(build::source("Orders.java"));
        javac
    });
    let mut java = Command::new("java");
    java.args(["-XX:+PreserveFramePointer", "-XX:+UseSerialGC", "-Xmx64m"]).args(flags);
    java.arg("-cp").arg(classes).arg("Orders");
    java
}

/// The virtual machine compiles a function when it is called, or often, and names in the map what
/// is compiled: two customers come, and what serves them is compiled and named. Then the watch
/// begins, and two more come; their records.
fn warm(how: &str) -> (Scene, Program, PerfMap, Vec<Value>) {
    let mut scene = Scene::unwatched();
    let server = scene.program(orders(COMPILED), how, 4, 0);
    scene.customers(server.port, 2);
    scene.until_accepted(&server, 2);
    let map = PerfMap::asked_of_java(server.pid);
    scene.watch();
    for old in scene.leaks(2) {
        expect_unknown(&old, "origin", "before");
    }
    scene.customers(server.port, 2);
    let leaks = scene.leaks(2);
    (scene, server, map, leaks)
}

fn reads_to_the_end(how: &str, acceptor: &str) {
    let (scene, server, map, leaks) = warm(how);
    for leak in leaks {
        expect_leak(&leak, "eof-not-closed", "server", server.pid);
        expect_thread(&leak["origin"], server.pid, acceptor);
        expect_frames(&leak["origin"], &["Orders.takeOrder", "Orders.serveOrders"]);
        expect_thread(&leak["end_read"], server.pid, "exec-3");
        expect_frames(&leak["end_read"], &["Orders$Crawler.fetch"]);
    }
    assert!(map.text().contains("Orders.serveOrders"), "{}", map.text());
    scene.ends_with(4);
}

fn server_socket() {
    reads_to_the_end("accept", "Acceptor");
}

/// The kernel keeps fifteen bytes of a thread's name.
fn channels() {
    reads_to_the_end("nio", "http-nio-8080-A");
}

fn never_read() {
    let (scene, server, _map, leaks) = warm("ignore");
    for leak in leaks {
        expect_leak(&leak, "unread-data", "server", server.pid);
        expect_frames(&leak["origin"], &["Orders.takeOrder", "Orders.serveOrders"]);
        assert!(leak["last_read"].is_null() && leak["end_read"].is_null(), "{leak:#}");
    }
    scene.ends_with(4);
}

fn as_a_client() {
    let mut scene = Scene::new();
    let client = scene.client(orders(COMPILED), 2);
    let _map = PerfMap::asked_of_java(client.pid);
    for leak in scene.leaks(2) {
        expect_leak(&leak, "eof-not-closed", "client", client.pid);
        expect_thread(&leak["origin"], client.pid, "dialer");
        expect_frames(&leak["origin"], &["Orders.dialSupplier", "Orders.dialSuppliers"]);
    }
    scene.ends_with(2);
}

/// Functions that are interpreted are all called Interpreter; the thread's name is left.
fn interpreted() {
    let mut scene = Scene::new();
    let server = scene.program(orders(&["-Xint"]), "accept", 1, 0);
    let _map = PerfMap::asked_of_java(server.pid);
    scene.customers(server.port, 1);
    let leak = scene.leaks(1).remove(0);
    expect_leak(&leak, "eof-not-closed", "server", server.pid);
    expect_thread(&leak["origin"], server.pid, "Acceptor");
    expect_frames(&leak["origin"], &["Interpreter"]);
    scene.ends_with(1);
}

/// The reason says how to get names; the next time that the leak is told of it has them.
fn a_map_that_comes_later() {
    let mut scene = Scene::new();
    let server = scene.server(orders(COMPILED), "accept", 1);
    let leak = scene.leaks(1).remove(0);
    let frames = leak["origin"]["frames"].as_array().expect("frames");
    let remedy = |f: &Value| f["unknown"].as_str().is_some_and(|why| why.contains("jcmd"));
    assert!(frames.iter().any(remedy), "{leak:#}");
    let _map = PerfMap::asked_of_java(server.pid);
    let mut older = scene.again(&leak);
    while older["origin"]["frames"].as_array().is_some_and(|frames| frames.iter().any(remedy)) {
        older = scene.again(&leak);
    }
    expect_frames(&older["origin"], &["Orders.takeOrder", "Orders.serveOrders"]);
    scene.ends_with(1);
}

/// What `explain --stacks --jvm-threads` says of a process.
fn asked(pid: u64) -> (Value, String) {
    let pid = pid.to_string();
    let args = ["explain", &pid, "--stacks", "--jvm-threads", "--no-bpf", "--format", "json"];
    let (status, out, err) = run(&args);
    assert_eq!(status.code(), Some(0), "{err}");
    let line = serde_json::from_str(out.lines().next().expect("a line")).expect("JSON");
    assert_eq!(schema::check(&line), Ok(()), "docs/json.md");
    (line, err)
}

/// The same, once its threads wait where they will.
fn asked_until_they_wait(pid: u64) -> Value {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (process, err) = asked(pid);
        let told = format!("--jvm-threads has the JVM {pid} write its own thread dump");
        assert!(err.contains(&told), "{err}");
        let has = |name: &str| thread_called(&process, name).is_some_and(waits);
        if has("http-nio-8080-Acceptor") && has("exec-3") {
            return process;
        }
        assert!(Instant::now() < deadline, "{process:#}");
    }
}

fn thread_called<'a>(process: &'a Value, name: &str) -> Option<&'a Value> {
    process["stacks"].as_array()?.iter().find(|t| t["name"] == name)
}

/// It is in the program's function, and that in Java's own.
fn waits(thread: &Value) -> bool {
    let frames = thread["frames"].as_array().map(Vec::as_slice).unwrap_or_default();
    let at = |name: &str| frames.iter().position(|f| f["function"] == name);
    at("Orders.serveOrders").or(at("Orders$Crawler.crawl")).is_some_and(|at| at > 0)
}

/// The line of the source that holds this, as `file:line` says it.
fn line_of(text: &str) -> usize {
    let source = include_str!("Orders.java");
    source.lines().position(|line| line.contains(text)).expect("it is there") + 1
}

/// Whole names, and each function with its line: the source's own.
fn expect_its_own_words(process: &Value) {
    assert_eq!(process["unknown"]["stacks.jvm"], Value::Null, "{process:#}");
    for (name, function, text) in [
        ("http-nio-8080-Acceptor", "Orders.serveOrders", "selector.select();"),
        ("exec-3", "Orders$Crawler.crawl", "handed.take();"),
    ] {
        let thread = thread_called(process, name).expect("by its whole name");
        let frame = frame(thread, function);
        assert_eq!(frame["file"], "Orders.java", "{thread:#}");
        assert_eq!((&frame["line"], &frame["code"]), (&json!(line_of(text)), &json!("own")));
        assert_eq!(thread["frames"][0]["code"], "library", "Java's own: {thread:#}");
        assert_eq!(thread["cut"], Value::Null, "to its beginning: {thread:#}");
    }
    // It runs no Java: what the machine's stack says is left.
    let thread = thread_called(process, "VM Thread").expect("HotSpot's own");
    assert!(thread["frames"][0]["module"].is_string(), "{thread:#}");
}

/// Interpreted, without a map, without frame pointers: the JVM itself knows all the same. The
/// second time nobody has to make it listen.
fn asked_where_its_threads_are() {
    let scene = Scene::unwatched();
    let server = scene.program(orders(&["-Xint", "-XX:-PreserveFramePointer"]), "nio", 1, 0);
    let _socket = Socket::of(&server);
    expect_its_own_words(&asked_until_they_wait(server.pid));
    expect_its_own_words(&asked_until_they_wait(server.pid));
    assert!(!request(server.pid).exists(), "taken back");
    let page = ["explain", &server.pid.to_string(), "--stacks", "--jvm-threads", "--no-bpf"];
    let (_, page, _) = run(&page);
    let line = format!("Orders.serveOrders Orders.java:{}", line_of("selector.select();"));
    assert!(page.contains(&line), "{page}");
}

/// With a pid, a `/tmp` and a user of its own.
fn asked_in_a_container() {
    let scene = Scene::unwatched();
    let java = orders(&["-Xint", "-XX:-UsePerfData"]);
    let mut inside = Command::new("unshare");
    inside.args(["--pid", "--fork", "--kill-child", "--mount", "sh", "-c"]);
    inside.arg(
        "mount -t tmpfs -o mode=1777 none /tmp && \
         exec setpriv --reuid 4711 --regid 4712 --clear-groups \"$@\"",
    );
    inside.arg("sh").arg(java.get_program()).args(java.get_args());
    let server = scene.program(inside, "nio", 1, 0);
    assert_eq!(server.pid, 1, "in its own namespace");
    let children = server.service.children();
    let [pid] = children[..] else { panic!("{children:?}") };
    let process = asked_until_they_wait(u64::from(pid));
    assert_eq!(process["inner_pid"], 1, "{process:#}");
    expect_its_own_words(&process);
    let tmp = fs::read_dir(format!("/proc/{pid}/root/tmp")).expect("its own");
    let names: Vec<_> = tmp.map(|e| e.expect("an entry").file_name()).collect();
    assert!(!names.iter().any(|name| name == ".attach_pid1"), "taken back: {names:?}");
    assert!(names.iter().any(|name| name == ".java_pid1"), "{names:?}");
}

/// Where a JVM of ours listens, or will: nobody left anything there before, nor will we.
struct Socket(PathBuf);

impl Socket {
    fn of(server: &Program) -> Self {
        let socket = Self(format!("/tmp/.java_pid{}", server.pid).into());
        // Of an earlier process with this pid.
        let _ = fs::remove_file(&socket.0);
        socket
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn request(pid: u64) -> PathBuf {
    format!("/tmp/.attach_pid{pid}").into()
}

/// Whoever else listens there is told nothing. The JVM takes the place when it is asked.
fn asked_where_another_listens() {
    let scene = Scene::unwatched();
    let server = scene.program(orders(&["-Xint"]), "nio", 1, 0);
    let socket = Socket::of(&server);
    let other = UnixListener::bind(&socket.0).expect("a place of nobody's");
    expect_its_own_words(&asked_until_they_wait(server.pid));
    let (mut heard, _) = other.accept().expect("a connection");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut heard, &mut bytes).expect("its end");
    assert_eq!(bytes, b"");
}

/// With -Xrs a JVM listens from the start, and would be ended by SIGQUIT.
fn not_asked_where_it_would_end() {
    let scene = Scene::unwatched();
    let server = scene.program(orders(&["-Xint", "-Xrs"]), "nio", 1, 0);
    let socket = Socket(format!("/tmp/.java_pid{}", server.pid).into());
    expect_its_own_words(&asked_until_they_wait(server.pid));
    fs::remove_file(&socket.0).expect("it listens");
    expect_no_dump(&server, "does not catch SIGQUIT");
}

fn not_asked_where_it_refuses() {
    let scene = Scene::unwatched();
    let refuses = "-XX:+DisableAttachMechanism";
    let server = scene.program(orders(&["-Xint", refuses]), "nio", 1, 0);
    until_it_serves(&server);
    expect_no_dump(&server, refuses);
}

/// It says where it listens before the thread begins that serves.
fn until_it_serves(server: &Program) {
    let deadline = Instant::now() + DEADLINE;
    let serves = || {
        let threads = fs::read_dir(format!("/proc/{}/task", server.pid)).expect("it runs");
        let names = threads.flatten().map(|t| fs::read_to_string(t.path().join("comm")));
        names.flatten().any(|name| name == "http-nio-8080-A\n")
    };
    while !serves() {
        assert!(Instant::now() < deadline, "no thread serves");
        thread::sleep(Duration::from_millis(5));
    }
}

/// It could not answer, and would write to its own output once it goes on.
fn not_asked_while_it_is_stopped() {
    let scene = Scene::unwatched();
    let server = scene.program(orders(&["-Xint"]), "nio", 1, 0);
    let _socket = Socket::of(&server);
    until_it_serves(&server);
    let pid = Pid::from_raw(i32::try_from(server.pid).expect("a pid")).expect("a pid");
    kill_process(pid, Signal::STOP).expect("it is ours");
    let stat = || fs::read_to_string(format!("/proc/{}/stat", server.pid)).expect("it is there");
    let deadline = Instant::now() + DEADLINE;
    while !stat().contains(") T ") {
        assert!(Instant::now() < deadline, "{}", stat());
    }
    expect_no_dump(&server, "it is stopped");
    kill_process(pid, Signal::CONT).expect("it is ours");
    expect_its_own_words(&asked_until_they_wait(server.pid));
}

/// The machine's stacks are there, and why there are no others; the JVM goes on.
fn expect_no_dump(server: &Program, why: &str) {
    let (process, _) = asked(server.pid);
    let said = process["unknown"]["stacks.jvm"].as_str().unwrap_or_default();
    assert!(said.contains(why), "{process:#}");
    let thread = thread_called(&process, "http-nio-8080-A").expect("as the kernel names it");
    assert!(thread["frames"].is_array(), "{thread:#}");
    let missing = |path| fs::metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound);
    assert!(missing(request(server.pid)), "nothing was asked for");
    let args = ["explain", &server.pid.to_string(), "--stacks", "--jvm-threads", "--no-bpf"];
    let (status, page, err) = run(&args);
    assert_eq!(status.code(), Some(0), "it runs: {err}");
    let words = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(why), "{page}");
}

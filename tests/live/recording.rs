//! Recordings: what is written, what is left of one that was not ended, and that a replay says what
//! the watch said.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tcptrace::{
    engine::{
        fact::Fact,
        watch::{Plan, Watch},
    },
    source::recording::file::Recording,
};

use crate::{
    support::netns::Netns,
    tests,
    tracer::{DEADLINE, Pair, Unaccepted, load, netns, start, tcptrace},
};

tests![
    a_replay_says_what_the_watch_said,
    a_replay_with_another_selection,
    one_that_was_killed,
    one_without_room,
    only_around_a_leak,
    files_that_rotate,
    what_threads_waited_in_and_no_arguments,
    through_a_pipe,
    refused,
];

/// A tcptrace that writes a recording.
struct Recorder(Child);

impl Recorder {
    /// Starts it in one namespace's scope, and waits until it is attached.
    fn start(ns: &Netns, args: &[&str], out: Stdio) -> Self {
        let mut command = tcptrace();
        command.args(args).args(["--min-age", "100ms", "--netns"]).arg(ns.path());
        let mut child =
            command.stdout(out).stderr(Stdio::piped()).spawn().expect("tcptrace starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("stderr"));
        let mut said = String::new();
        while !["watching ", "recording ", "waiting "].iter().any(|word| said.contains(word)) {
            let n = stderr.read_line(&mut said).expect("stderr");
            assert!(n > 0, "tcptrace ended before it was attached: {said}");
        }
        thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::stderr()));
        Self(child)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("it is there");
    }

    /// Ends it with Ctrl-C; its exit code.
    fn finish(mut self) -> Option<i32> {
        self.signal(Signal::INT);
        self.0.wait().expect("it ends").code()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a command says, and its exit code.
fn said(words: &[&str], files: &[PathBuf], args: &[&str]) -> (String, Option<i32>) {
    let output = tcptrace().args(words).args(files).args(args).output().expect("it runs");
    (String::from_utf8(output.stdout).expect("UTF-8"), output.status.code())
}

fn events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn count(events: &[Value], event: &str) -> usize {
    events.iter().filter(|e| e["event"] == event).count()
}

pub fn plain(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Leaks that end, that are passed on, that turn into ghosts, that nobody accepted. `said`: all
/// that was said so far.
fn much_happens(ns: &Netns, said: impl Fn() -> String) -> (Pair, Unaccepted) {
    let mut staying = Pair::new(ns);
    staying.client_closes();
    let mut ended = Pair::new(ns);
    ended.client_closes();
    let mut inherited = Pair::new(ns);
    inherited.server.number("fork").expect("forks");
    inherited.client_closes();
    let mut reset = Pair::new(ns);
    reset.server.tell(&format!("send {} 10", reset.served)).expect("sends");
    reset.client_closes();
    let mut unaccepted = Unaccepted::new(ns, 5);
    unaccepted.clients_give_up(3);
    load(ns, 500);
    // What is to end has been reported before: a line each, and again.
    let reported = |pid: u32| said().matches(&pid.to_string()).count() > 1;
    until("all are reported", || {
        [&ended, &inherited].iter().all(|pair| reported(pair.server.pid()))
            && said().contains("never-accepted")
    });
    ended.server_closes();
    inherited.server_closes();
    until("their ends are", || {
        let said = said();
        said.contains("inherited-fd") && said.contains("resolved")
    });
    (staying, unaccepted)
}

fn a_replay_says_what_the_watch_said() {
    let all = ["--transitions", "--state", "all"];
    for flags in [&["--json"][..], &["--format", "csv"], &[&["--json"][..], &all].concat()] {
        let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
        let (path, out) = (dir.path().join("x.tct"), dir.path().join("out"));
        let args = [&["watch", "--record", plain(&path)][..], flags].concat();
        let recorder = Recorder::start(&ns, &args, File::create(&out).expect("a file").into());
        let _there = much_happens(&ns, || fs::read_to_string(&out).unwrap_or_default());
        assert_eq!(recorder.finish(), Some(0));
        let live = fs::read_to_string(&out).expect("UTF-8");
        let (replayed, code) = said(&["replay"], std::slice::from_ref(&path), flags);
        assert!(live.lines().count() > 8, "{live}");
        assert_eq!(code, Some(0));
        let differ = live.lines().zip(replayed.lines()).find(|(live, replayed)| live != replayed);
        assert_eq!(differ, None, "{flags:?}");
        assert!(live == replayed, "{flags:?}: {} and {} bytes", live.len(), replayed.len());
    }
}

fn a_replay_with_another_selection() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let path = dir.path().join("x.tct");
    let recorder = Recorder::start(&ns, &["record", "-o", plain(&path)], Stdio::null());
    let files = [path];
    let (staying, unaccepted) = much_happens(&ns, || said(&["replay", "--json"], &files, &[]).0);
    let (pid, port) = (staying.server.pid().to_string(), unaccepted.address.port().to_string());
    assert_eq!(recorder.finish(), Some(0));
    let replay = |args: &[&str]| {
        let (text, code) = said(&["replay", "--json"], &files, args);
        assert_eq!(code, Some(0), "{args:?}");
        events(&text)
    };

    let all = replay(&[]);
    let of_one = replay(&["--pid", &pid]);
    let holders = |e: &Value| e["holders"].as_array().map(Vec::len);
    assert!(count(&of_one, "stuck") > 0 && count(&of_one, "stuck") < count(&all, "stuck"));
    let held = |e: &Value| e["event"] != "stuck" || e["holders"][0]["pid"] == staying.server.pid();
    assert!(of_one.iter().all(held), "{of_one:#?}");
    let queued = replay(&["--lport", &port]);
    let verdicts: Vec<_> = queued.iter().filter_map(|e| e["verdict"].as_str()).collect();
    assert!(!verdicts.is_empty() && verdicts.iter().all(|v| *v == "never-accepted"));
    let inherited = replay(&["--verdict", "inherited-fd"]);
    let two = inherited.iter().find(|e| e["event"] == "stuck").expect("the forked one");
    assert!(holders(two) >= Some(1), "{two}");
    // Longer stays only; none is as long as an hour.
    assert_eq!(count(&replay(&["--min-age", "1h"]), "stuck"), 0);
    // Nothing is said before, and nothing happens after.
    let mut late = replay(&["--from", "+1h"]);
    // On a busy machine something may have been lost, which is said at the end.
    late.retain(|e| e["event"] != "lost");
    assert_eq!((late.len(), &late[0]["event"]), (1, &Value::from("summary")));
    assert_eq!(late[0]["stuck"], all[all.len() - 1]["stuck"]);
    assert_eq!(count(&replay(&["--to", "+1ms"]), "stuck"), 0);
    assert_eq!(count(&replay(&["-n", "2"]), "summary"), 1);

    // The end of it, as a snapshot.
    let (text, code) = said(&["snapshot", "--json"], &files, &[]);
    let (sockets, summary) = (events(&text), &all[all.len() - 1]);
    assert_eq!(code, Some(0));
    assert_eq!(count(&sockets, "socket") as u64, summary["still_open"].as_u64().expect("a count"));
    let (text, code) = said(&["snapshot", "--json", "--at", "+1ms"], &files, &[]);
    assert_eq!((count(&events(&text), "socket"), code), (0, Some(0)));
    let (_, code) = said(&["snapshot", "--at", "+1h"], &files, &[]);
    assert_eq!(code, Some(2), "there is nothing of then in it");
}

fn one_that_was_killed() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let path = dir.path().join("x.tct");
    let mut recorder = Recorder::start(&ns, &["record", "-o", plain(&path)], Stdio::null());
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let files = [path];
    // It can be read while it is written.
    until("the leak is in the file", || {
        let (text, code) = said(&["replay", "--json"], &files, &[]);
        assert_eq!(code, Some(1), "it says that the end is missing");
        count(&events(&text), "stuck") > 0
    });
    recorder.signal(Signal::KILL);
    recorder.0.wait().expect("it is gone");
    let output = tcptrace().args(["replay", "--json"]).args(&files).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let lines = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(lines.lines().count() == 1 && lines.contains("ends in the middle"), "{lines}");
    let told = events(std::str::from_utf8(&output.stdout).expect("UTF-8"));
    let stuck = told.iter().find(|e| e["event"] == "stuck").expect("it is there");
    assert_eq!(stuck["holders"][0]["pid"], pair.server.pid());
    assert_eq!(count(&told, "summary"), 1);
}

/// A file system in memory, with little room.
pub struct Small(pub tempfile::TempDir);

impl Small {
    pub fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(dir.path());
        assert!(mount.status().is_ok_and(|status| status.success()), "root may mount");
        Self(dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

fn one_without_room() {
    let (ns, disk) = (netns(), Small::new("size=512k"));
    let path = disk.0.path().join("x.tct");
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let args = ["record", "--transitions", "--state", "all", "-o", plain(&path)];
    let mut recorder = Recorder::start(&ns, &args, Stdio::null());
    until("it ends by itself", || {
        load(&ns, 200);
        recorder.0.try_wait().expect("it is ours").is_some()
    });
    assert_eq!(recorder.0.wait().expect("it ended").code(), Some(1));
    let (text, code) = said(&["replay", "--json", "--transitions", "--state", "all"], &[path], &[]);
    assert_eq!(code, Some(1));
    assert!(count(&events(&text), "transition") > 100, "what there was room for");
}

fn only_around_a_leak() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let path = dir.path().join("x.tct");
    let args = ["record", "--on-leak", "20s", "-o", plain(&path)];
    let quiet = Recorder::start(&ns, &args, Stdio::null());
    load(&ns, 100);
    assert_eq!(quiet.finish(), Some(0));
    assert!(!path.exists(), "there was no leak");

    let recorder = Recorder::start(&ns, &args, Stdio::null());
    // What is no leak triggers nothing: it is in the file later.
    let mut pair = Pair::new(&ns);
    thread::sleep(Duration::from_millis(300));
    assert!(!path.exists());
    pair.client_closes();
    until("the leak is written", || path.exists());
    pair.server_closes();
    assert_eq!(recorder.finish(), Some(0));
    let (text, code) = said(&["replay", "--json"], &[path], &[]);
    let told = events(&text);
    assert_eq!((count(&told, "stuck"), count(&told, "resolved"), code), (1, 1, Some(0)), "{text}");
}

fn files_that_rotate() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let path = dir.path().join("x.tct");
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let args = ["record", "--rotate", "300ms", "--keep", "3", "-o", plain(&path)];
    let recorder = Recorder::start(&ns, &args, Stdio::null());
    let sixth = dir.path().join("x.tct.5");
    until("the sixth file is begun", || sixth.exists());
    assert_eq!(recorder.finish(), Some(0));
    let listed = fs::read_dir(dir.path()).expect("it is there").flatten();
    let mut files: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    let stuck = |files: &[PathBuf]| {
        let (text, code) = said(&["replay", "--json"], files, &[]);
        assert_eq!(code, Some(0), "{files:?}");
        events(&text).into_iter().find(|e| e["event"] == "stuck").expect("the leak")
    };
    let whole = stuck(&files);
    files.sort();
    for file in files {
        let one = stuck(&[file]);
        for same in ["cookie", "local", "remote", "verdict", "holders"] {
            assert_eq!(one[same], whole[same], "each file tells of it alone");
        }
    }
}

fn what_threads_waited_in_and_no_arguments() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let path = dir.path().join("x.tct");
    let args = ["record", "--redact", "args", "-o", plain(&path)];
    let recorder = Recorder::start(&ns, &args, Stdio::null());
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let pid = pair.server.pid();
    let facts = || -> Vec<Fact> {
        let Ok(mut recording) = Recording::open(std::slice::from_ref(&path)) else {
            return Vec::new();
        };
        let mut facts = Vec::new();
        while let Ok(Some(batch)) = recording.next_batch() {
            facts.extend(batch.facts.into_iter().map(|fact| fact.fact));
        }
        facts
    };
    until("what its threads wait in", || {
        facts().iter().any(|f| matches!(f, Fact::Threads(waiting) if waiting.pid == pid))
    });
    assert_eq!(recorder.finish(), Some(0));
    for fact in facts() {
        if let Fact::Process(process) = fact {
            assert!(process.command.len() <= 1, "{process:?}");
        }
    }
    let mut recording = Recording::open(&[path]).expect("a recording");
    let mut watch = Watch::new(Plan::default());
    while let Some(batch) = recording.next_batch().expect("whole") {
        batch.facts.iter().for_each(|fact| watch.take(fact, &mut Vec::new()));
    }
    let record = watch.rows().next().expect("the leak");
    let waiting = watch.waits_of(record.holders[0].process).expect("it was asked");
    let groups = waiting.threads.as_ref().as_ref().expect("root may read them");
    assert!(groups.of >= 1 && groups.read >= 1, "{groups:?}");
    // The actor waits for its next command.
    let place = format!("{:?}", groups.groups[0].place);
    assert_eq!(place, "Call(\"read\")", "{groups:?}");
}

fn through_a_pipe() {
    let ns = netns();
    let mut recorder = tcptrace()
        .args(["record", "-o", "-", "--min-age", "100ms", "--netns"])
        .arg(ns.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let recorded = recorder.stdout.take().expect("stdout");
    let replayer = tcptrace()
        .args(["replay", "-", "--json", "-n", "1"])
        .stdin(recorded)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let output = replayer.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    let told = events(std::str::from_utf8(&output.stdout).expect("UTF-8"));
    assert_eq!(told[0]["holders"][0]["pid"], pair.server.pid());
    // Nobody listens any more.
    let deadline = Instant::now() + DEADLINE;
    while recorder.try_wait().expect("it is ours").is_none() {
        assert!(Instant::now() < deadline, "it goes on for nobody");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(recorder.wait().expect("it ended").code(), Some(0));
}

fn refused() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let there = dir.path().join("there.tct");
    fs::write(&there, "evidence").expect("a file");
    let nowhere = dir.path().join("nowhere").join("x.tct");
    let server = start(&ns);
    let pid = server.pid().to_string();
    for (args, why) in [
        (["record", "-o", plain(&there)], "there is such a file already"),
        (["record", "-o", plain(&nowhere)], "there is no such directory"),
        (["watch", "--record", plain(&there)], "there is such a file already"),
    ] {
        let output = tcptrace().args(args).args(["--pid", &pid]).output().expect("it runs");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.lines().count() == 1 && said.contains(why), "{said}");
    }
    assert_eq!(fs::read(&there).expect("it is there"), b"evidence");
    let output = tcptrace().args(["replay", plain(&there)]).output().expect("it runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("this is no recording of tcptrace's"), "{said}");
}
